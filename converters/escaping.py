"""Texts of a stranger's file on their way out: a function for each place that gives text a meaning, and no other way.

A layer, blob, net, type, class or release may be called anything, and a server may say anything. Whatever of it goes
into Python, a file's name, a page, a table or a terminal goes through this module, so that it is seen and does
nothing. Functions that give text for people write what cannot be seen as Python would: a new line as \\n, a change of
writing direction as \\u202e, a lone surrogate as \\udc80.
"""

from __future__ import annotations

import json
import keyword
import math
import os
import re
import shlex
import textwrap
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from hashlib import blake2b
from html import escape
from numbers import Number
from typing import Any

MOST_NAME = 48
"""The number of a name's characters that are kept in an identifier of ours."""
MOST_SHOWN = 200
"""The most characters that a table or a page shows of a name."""
MOST_FILE_NAME = 120
"""The most bytes of a file name of ours; with an ending it stays below the 255 that file systems take."""

_PLAIN = re.compile(r"[A-Za-z][0-9A-Za-z_]*", re.ASCII)
_OURS = re.compile(r".*_x[0-9a-f]{32}", re.ASCII | re.DOTALL)
_OUR_FILE = re.compile(r".*~[0-9a-f]{8}", re.ASCII | re.DOTALL)
_WINDOWS = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]) *(\..*)?", re.ASCII | re.IGNORECASE | re.DOTALL)
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # also the wide ones, which some spreadsheets take


# Names


def identifier(name: str, taken: Collection[str] = (), *, prefix: str = "layer_") -> str:
    """An ASCII identifier for a name: two names never have the same one, whatever else is named.

    A name that begins with a letter, is no keyword of Python and is not in `taken` stays as it is. Every other one
    gets its letters and digits and a hash of the whole; so does a name that looks as if it had one. `prefix` goes
    before what begins with no letter.
    """
    if _stays(name) and name not in taken:
        return name
    return _hashed(name, taken, prefix)


def identifiers(names: Iterable[str], taken: Iterable[str] = (), *, prefix: str = "layer_") -> dict[str, str]:
    """A different ASCII identifier for each of the names, easier to read than `identifier`'s: a/b is a_b while free.

    Names that can stay as they are do; no two names, and none in `taken`, come to the same. Takes linear time.
    """
    wanted, taken = list(dict.fromkeys(names)), frozenset(taken)
    found = {name: name for name in wanted if _stays(name) and name not in taken}
    used = set(found.values())
    for name in wanted:
        if name in found:
            continue
        clean = _readable(name, prefix)
        if not _stays(clean) or clean in used or clean in taken:
            clean = _hashed(name, taken, prefix)
        used.add(clean)
        found[name] = clean
    return {name: found[name] for name in wanted}


def file_name(text: str, *, dots: bool = True) -> str:
    """A text as one component of a path, on every system; never empty, hidden, an option, or a device of Windows.

    Letters (also é and 中, not those written from the right), digits and ._-+~ stay. What had to be changed ends in a
    hash of the whole, so that two texts rarely have one name. Without `dots` none stays, for a part of a name that
    dots divide: x.score and a part stay apart from x and a part that begins with score.
    """
    clean = "".join(letter if _stays_in_a_file_name(letter) else "_" for letter in text)
    clean = clean if dots else clean.replace(".", "_")
    clean = clean.lstrip("._-+~ ").rstrip("._ ") if clean[:1] in "._-+~ " or clean[-1:] in ". " else clean
    kept = clean.encode()[:MOST_FILE_NAME].decode(errors="ignore")
    if kept == text and kept and not _WINDOWS.fullmatch(kept) and not _OUR_FILE.fullmatch(kept):
        return kept
    short = clean.encode()[: MOST_FILE_NAME - 14].decode(errors="ignore").rstrip("._ ") or "file"
    return f"{'file_' if _WINDOWS.fullmatch(short) else ''}{short}~{_digest(text)[:8]}"


def name_with_room(name: str) -> str:
    """A file's name as it is, or a shorter one where 15 more bytes around it are more than a file system takes.

    A name that is too long by itself stays so, as no file can be called so in the end.
    """
    return file_name(name) if 240 < len(os.fsencode(name)) <= 255 else name


def _stays(name: str) -> bool:
    """True for an identifier that nothing else uses: neither Python nor a name of ours."""
    return _PLAIN.fullmatch(name) is not None and not keyword.iskeyword(name) and not _OURS.fullmatch(name)


def _readable(name: str, prefix: str) -> str:
    clean = re.sub(r"[^0-9A-Za-z_]", "_", name[:MOST_NAME])
    return clean if clean[:1].isalpha() else f"{prefix}{clean}"


def _hashed(name: str, taken: Collection[str], prefix: str) -> str:
    """The name that looks like `name` with its hash; where even that is taken, with the hash of the hash."""
    digest = _digest(name)
    while (found := f"{_readable(name, prefix)}_x{digest}") in taken:
        digest = _digest(digest)
    return found


def _digest(text: str) -> str:
    """128 bits, 32 digits: nobody finds two names with the same."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _stays_in_a_file_name(letter: str) -> bool:
    if letter.isascii():
        return letter.isalnum() or letter in "._-+~ "
    right_to_left = unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT
    return letter.isalnum() and not right_to_left and unicodedata.normalize("NFKC", letter) == letter


# Text for people


def terminal(text: object) -> str:
    """A text on one line of a terminal, without anything that a terminal obeys; to a print without markup."""
    return _visible(str(text))


def shortened(text: object) -> str:
    """A text on one line, and not so long that what stands beside it is out of sight."""
    seen = terminal(text)
    return seen if len(seen) <= MOST_SHOWN else f"{seen[:MOST_SHOWN]}... ({len(seen):,} characters)"


def terminal_lines(text: object) -> str:
    """Like `terminal` for a text of several lines that is ours: its new lines stay; a stranger's part has been through
    `terminal`.
    """
    return "\n".join(map(_visible, str(text).split("\n")))


def terminal_message(text: object) -> str:
    """Like `terminal_lines`, with every line but the first indented: none can be taken for another message."""
    first, *more = terminal_lines(text).split("\n")
    return "\n".join([first, *(line if line.startswith("  ") else f"  {line}" for line in more)])


def shell_word(text: str) -> str:
    """A text as one word of a command that a person pastes into bash, zsh or ksh; all of it can be seen.

    What cannot be seen stands in $'' by its bytes, as in a name with a new line: `terminal` would make two characters
    of it, and the shell another name.
    """
    if terminal(text) == text:
        return shlex.quote(text)
    return f"$'{''.join(map(_in_dollar_quotes, text))}'"


def _in_dollar_quotes(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if terminal(letter) == letter:
        return letter
    errors = "surrogateescape" if "\udc80" <= letter <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in letter.encode("utf-8", errors))


def html(value: object) -> str:
    """Anything as text that a browser shows as it is, also inside an attribute's quotes."""
    return escape(_visible(str(value)), quote=True)


def markdown_cell(value: object) -> str:
    """Anything as text in a cell of a Markdown table, or elsewhere in a line of Markdown."""
    text = escape(_visible(str(value)), quote=False)
    text = re.sub(r"([\\`*\[\]|~$])", r"\\\1", text)
    return re.sub(r"(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", r"\\_", text)


def markdown_code(value: object) -> str:
    """Anything as a code span in a line of Markdown, in more backticks than it has in a row."""
    text = _visible(str(value))
    ticks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text[:1] in ("", "`", " ") or text[-1:] in ("`", " ") else ""
    return f"{ticks}{space}{text or ' '}{space}{ticks}"


def csv_cell(value: object) -> object:
    """A cell for the `csv` module: numbers as they are, text so that no spreadsheet takes it for a formula."""
    if value is None or isinstance(value, Number):
        return value
    text = _visible(str(value))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def _visible(text: str) -> str:
    """Text in which everything can be seen, spaces of all widths too: all else is written as Python escapes it."""
    if text.isprintable():
        return text
    return "".join(letter if _is_seen(letter) else _escaped(letter) for letter in text)


def _is_seen(letter: str) -> bool:
    return letter.isprintable() or unicodedata.category(letter) == "Zs"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


# Text for programs


def json_text(
    value: Any, *, indent: int | None = None, compact: bool = False, default: Callable[[Any], Any] = str
) -> str:
    """A value as strict JSON in ASCII, which RFC 8259 and every parser take.

    JSON has no NaN and no infinity: they become null. A lone surrogate is written out as in a text for people.
    `default` turns what JSON does not know into what it does.
    """
    separators = (",", ":") if compact else None
    return json.dumps(_strict(value, default), indent=indent, separators=separators, allow_nan=False)


def _strict(value: Any, default: Callable[[Any], Any]) -> Any:
    if isinstance(value, str):
        return _without_surrogates(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_without_surrogates(str(key)): _strict(each, default) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each, default) for each in value]
    return _strict(default(value), default)


def _without_surrogates(text: str) -> str:
    return re.sub("[\ud800-\udfff]", lambda found: _escaped(found[0]), text)


def python_literal(value: Any) -> str:
    """A string, number, bool, None, or a tuple, list or mapping of such as Python that gives it back.

    Strings are in double quotes unless single ones need fewer escapes. Raises TypeError for anything else.
    """
    if isinstance(value, str):
        return _quoted(str(value))
    if isinstance(value, float):
        return repr(float(value)) if math.isfinite(value) else f'float("{float(value)}")'
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    if isinstance(value, tuple):
        inside = ", ".join(map(python_literal, value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, list):
        return f"[{', '.join(map(python_literal, value))}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{python_literal(k)}: {python_literal(v)}" for k, v in value.items()) + "}"
    raise TypeError(f"{type(value).__name__} has no literal")


def _quoted(text: str) -> str:
    literal = repr(text)  # escapes whatever cannot be printed
    if literal.startswith('"') or text.count('"') > text.count("'"):
        return literal
    inside = literal[1:-1].replace("\\'", "'").replace('"', '\\"')
    return f'"{inside}"'


def docstring_lines(text: str, *, width: int) -> list[str]:
    """A paragraph as lines of a docstring in triple double quotes, broken at `width`."""
    lines: Sequence[str] = textwrap.wrap(_visible(text), width)
    return [line.replace("\\", "\\\\").replace('"', "'") for line in lines]
