"""Files that name classes with their ids or colours, as data sets and labelling tools write them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.errors import CaffeFormatError
from converters.safety import read_json

from .errors import DataError
from .lists import read_lines
from .masks import Colour

_VOID = frozenset(("void", "unlabelled", "unlabeled", "ignore", "ignored", "unknown", "dontcare"))
_MOST = 255
_LONGEST = 1000
"""Characters of a line; the forms that it may have are tried in the square of its length."""


@dataclass(frozen=True)
class LabelMapEntry:
    """A class in a label map file: its name, and its id or colour where the file says one."""

    name: str
    id: int | None = None
    colour: Colour | None = None

    @property
    def is_void(self) -> bool:
        """True for a name that stands for pixels that do not count."""
        return re.sub(r"[\W_]", "", self.name.lower()) in _VOID


def read_label_map(path: Path) -> tuple[LabelMapEntry, ...]:
    """The classes of a file, in its order.

    A line is a name; an id and a name, in either order; a name and a colour, in either order (`label_colors.txt`,
    `class_dict.csv`, CVAT's `labelmap.txt`); or the file is JSON, {name: id}, {id: name} or a list of names. A line
    that begins with # and one of column titles are passed over. DataError names the line that is none of these.
    """
    if path.suffix.lower() == ".json":
        return _checked(_of_json(path), path)
    entries = []
    for number, line in enumerate(read_lines(path), start=1):
        text = line.strip()
        if not text or re.match(r"#(?![0-9a-fA-F]{6}\b)", text) or (number == 1 and _is_header(text)):
            continue
        entry = _of_line(text) if len(text) <= _LONGEST else None
        if entry is None:
            raise DataError(f"{text[:80]!r} is no class with an id or a colour", path=path, where=f"line {number}")
        entries.append(entry)
    return _checked(entries, path)


def parse_colour(text: str) -> Colour | None:
    """A colour written #rrggbb or as three numbers; None for anything else."""
    if found := re.fullmatch(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", text.strip()):
        r, g, b = (int(part, 16) for part in found.groups())
        return r, g, b
    numbers = re.findall(r"\d+", text)
    if len(numbers) == 3 and re.fullmatch(r"[\d\s,()\[\]]+", text) and all(int(each) < 256 for each in numbers):
        return int(numbers[0]), int(numbers[1]), int(numbers[2])
    return None


_THREE = r"(\d{1,3}[\s,]+\d{1,3}[\s,]+\d{1,3})"


def _of_line(text: str) -> LabelMapEntry | None:
    if found := re.match(rf"{_THREE}[\s,:]+(.*\S)$", text):
        return LabelMapEntry(found[2].strip('" '), colour=parse_colour(found[1]))
    if found := re.match(rf"(.*?\S)[\s,:]+{_THREE}\s*(?:[:,].*)?$", text):
        return LabelMapEntry(found[1].strip('":, '), colour=parse_colour(found[2]))
    if found := re.match(r"(.*?\S)[\s,:]+(#[0-9a-fA-F]{6})$", text):
        return LabelMapEntry(found[1].strip('":, '), colour=parse_colour(found[2]))
    if found := re.match(r"(-?\d{1,5})[\s,:=]+(.*\S)$", text):
        return LabelMapEntry(found[2].strip('" '), id=int(found[1]))
    if found := re.match(r"(.*?\S)[\s,:=]+(-?\d{1,5})$", text):
        return LabelMapEntry(found[1].strip('":,= '), id=int(found[2]))
    return LabelMapEntry(text) if not re.fullmatch(r"[-\d\s,.]+", text) else None


def _of_json(path: Path) -> list[LabelMapEntry]:
    try:
        found = read_json(path, most_bytes=1 << 20)
    except CaffeFormatError as error:
        raise DataError(f"not a label map: {error.problem}", path=path) from None
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return [LabelMapEntry(each) for each in found]
    if isinstance(found, dict):
        if all(type(value) is int for value in found.values()):
            return [LabelMapEntry(name, id=value) for name, value in found.items()]
        if all(isinstance(value, str) and re.fullmatch(r"-?\d{1,5}", key) for key, value in found.items()):
            return [LabelMapEntry(value, id=int(key)) for key, value in found.items()]
    raise DataError(f"{json.dumps(found)[:60]} is no label map: expected {{name: id}} or a list of names", path=path)


def _is_header(text: str) -> bool:
    words = [word.strip().lower() for word in re.split(r"[,\t;:]", text)]
    return (len(words) > 1 and {"r", "g", "b"} <= set(words)) or words[0] in ("idx", "id", "name", "class_name")


def _checked(entries: Sequence[LabelMapEntry], path: Path) -> tuple[LabelMapEntry, ...]:
    if not 1 <= len(entries) <= _MOST + 1:
        raise DataError(f"{len(entries)} classes; expected 1 to {_MOST}", path=path)
    for what, values in (
        ("name", [entry.name for entry in entries]),
        ("id", [entry.id for entry in entries if entry.id is not None]),
        ("colour", [entry.colour for entry in entries if entry.colour is not None]),
    ):
        twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
        if twice is not None:
            raise DataError(f"the {what} {twice} stands there twice", path=path)
    return tuple(entries)
