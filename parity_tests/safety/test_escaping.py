"""converters.escaping: what a stranger's text becomes in Python, in file names, pages, tables and on a terminal."""

from __future__ import annotations

import ast
import csv
import io
import json
import keyword
import re
import shutil
import subprocess
import time
import unicodedata
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from converters.escaping import (
    csv_cell,
    docstring_lines,
    file_name,
    html,
    identifier,
    identifiers,
    json_text,
    markdown_cell,
    markdown_code,
    python_literal,
    shell_word,
    terminal,
    terminal_lines,
)
from parity_tests.hostile import NAMES

ANY_TEXT = st.text(st.characters(), max_size=30) | st.sampled_from(NAMES)  # lone surrogates too
TAKEN = frozenset(dir(nn.Module()))
hostile = pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:30]))


def seen(text: str) -> bool:
    return all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in text)


# Names


def is_safe(found: str) -> bool:
    plain = found.isascii() and found.isidentifier() and not keyword.iskeyword(found)
    return plain and not found.startswith("_") and found not in TAKEN


@hostile
def test_every_name_has_a_safe_identifier(name: str) -> None:
    assert is_safe(identifier(name, TAKEN))


def test_all_hostile_names_at_once_have_identifiers_of_their_own() -> None:
    alone = {identifier(name, TAKEN) for name in NAMES}
    together = identifiers(NAMES, TAKEN)
    assert len(alone) == len(set(together.values())) == len(set(NAMES))
    assert all(map(is_safe, together.values()))


@pytest.mark.parametrize("name", ["conv1_1", "score_pool4c", "fc6", "A", "match"])
def test_plain_names_stay(name: str) -> None:
    assert identifier(name, TAKEN) == identifiers([name], TAKEN)[name] == file_name(name) == name


@given(st.lists(ANY_TEXT, unique=True, max_size=20))
@settings(max_examples=300, deadline=None)
@example(["a/b", "a_b", identifier("a/b"), identifier(identifier("a/b"))])
def test_identifiers_are_injective(names: list[str]) -> None:
    alone = [identifier(name, TAKEN) for name in names]
    together = identifiers(names, TAKEN)
    assert len(set(alone)) == len(names) == len(set(together.values()))
    assert all(map(is_safe, [*alone, *together.values()]))


def test_a_name_made_like_ours_does_not_take_ours() -> None:
    ours = identifier("a/b")
    assert identifier(ours) != ours
    found = identifiers([ours, "a/b", "a_b", "a.b"])
    assert len(set(found.values())) == 4


def test_readable_where_free() -> None:
    assert identifiers(["conv1/7x7_s2", "1st"]) == {"conv1/7x7_s2": "conv1_7x7_s2", "1st": "layer_1st"}
    assert identifiers(["conv1/7x7_s2", "conv1_7x7_s2"])["conv1_7x7_s2"] == "conv1_7x7_s2"


def test_colliding_names_take_linear_time() -> None:
    """40,000 names that all look alike; with underscores appended until one is free they took minutes."""
    names = ["a" + "".join("/."[i >> bit & 1] for bit in range(16)) for i in range(40_000)]
    began = time.process_time()
    assert len(set(identifiers(names).values())) == len(names)
    assert time.process_time() - began < 5


# File names


def check_file_name(found: str) -> None:
    assert found and "/" not in found and "\\" not in found and ":" not in found
    assert not found.startswith((".", "-", "~", " ")) and not found.endswith((".", " "))
    assert len(found.encode()) <= 120
    assert found.split(".")[0].strip().lower() not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
    assert seen(found) and not set(found) & set('<>"|?*')


@hostile
def test_file_names_are_one_safe_component(name: str) -> None:
    check_file_name(file_name(name))


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_file_names_of_any_text(text: str) -> None:
    check_file_name(file_name(text))
    assert file_name(file_name(text)).count("~") >= file_name(text).count("~")


def test_file_names_differ() -> None:
    assert len(set(map(file_name, NAMES))) == len(NAMES)
    assert file_name("inception_3a/1x1") != file_name("inception_3a_1x1") == "inception_3a_1x1"
    assert file_name("voc-fcn8s v1.2") == "voc-fcn8s v1.2" and file_name("卷积é") == "卷积é"
    assert file_name(file_name("a/b")) != file_name("a/b")


# Text for people


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_nothing_unseen_reaches_a_terminal(text: str) -> None:
    assert seen(terminal(text))
    assert all(map(seen, terminal_lines(text).split("\n")))
    assert terminal_lines(text).count("\n") == text.count("\n")


def test_terminal_text_is_readable() -> None:
    assert terminal("conv1_1 'é' 卷积 😀 [red]") == "conv1_1 'é' 卷积 😀 [red]"
    assert terminal("a\x1b]0;t\x07\r\nb\u202e\udc80\x9b") == "a\\x1b]0;t\\x07\\r\\nb\\u202e\\udc80\\x9b"


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[Any] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_shell_reads_a_word_as_the_text_that_it_is() -> None:
    assert all(terminal(shell_word(name)) == shell_word(name) for name in NAMES)
    more = ("a b", "new\nline", "it's\t\\n", "\udc80\x1b[2Jé日", "$(x) `y` !z", "")
    texts = [text for text in (*NAMES, *more) if not re.search("[\0\ud800-\udc7f\udd00-\udfff]", text)]
    words = " ".join(map(shell_word, texts))
    command = b"printf '%s\\0' " + words.encode()
    said = subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout
    assert said.decode("utf-8", "surrogateescape").split("\0")[:-1] == texts


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_html_is_text(text: str) -> None:
    page = Page()
    page.feed(f'<p title="{html(text)}">{html(text)}</p>')
    page.close()
    assert page.tags == [("p", [("title", terminal(text))])]
    assert page.text == terminal(text)


@hostile
def test_markdown_is_text(name: str) -> None:
    cell = markdown_cell(name)
    assert seen(cell) and "<" not in cell
    bare = cell.replace("\\\\", "")  # what is left behind a backslash has no meaning
    assert all(bare[i - 1] == "\\" for i, letter in enumerate(bare) if letter in "|`*[]~")


@hostile
def test_markdown_code_is_one_span(name: str) -> None:
    span = markdown_code(name)
    ticks = len(span) - len(span.lstrip("`"))
    assert seen(span) and len(span) - len(span.rstrip("`")) == ticks
    assert not re.search("`" * ticks, span[ticks:-ticks])
    assert terminal(name).strip() in span


def test_markdown_of_usual_names_is_plain() -> None:
    assert markdown_cell("upscore_2 mean_iu voc-fcn8s 62.5") == "upscore_2 mean_iu voc-fcn8s 62.5"
    assert markdown_cell("_it_ a|b") == "\\_it\\_ a\\|b"


@hostile
def test_csv_has_no_formulas(name: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([csv_cell(name), -1.5, "end"])
    out.getvalue().encode()
    rows = list(csv.reader(io.StringIO(out.getvalue())))
    assert len(rows) == 1 and rows[0][1:] == ["-1.5", "end"]
    assert not rows[0][0].lstrip().startswith(tuple("=+-@\t\r＝＋－＠"))


def test_csv_numbers_stay_numbers() -> None:
    assert (csv_cell(-1), csv_cell(-0.5), csv_cell(None), csv_cell("a-b")) == (-1, -0.5, None, "a-b")


# Text for programs


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(text, parse_constant=refuse)


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_json_is_strict(text: str) -> None:
    found = json_text({text: [text, float("nan"), float("inf"), {"a": (1, None, True)}]})
    assert found.isascii() and seen(found)
    ((key, (value, *rest)),) = strict(found).items()
    key.encode(), value.encode()
    assert rest == [None, None, {"a": [1, None, True]}]
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert key == value == text


LITERALS = st.recursive(
    ANY_TEXT | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(LITERALS)
@settings(max_examples=300, deadline=None)
def test_python_literals_give_the_value_back(value: Any) -> None:
    text = python_literal(value)
    text.encode()
    assert seen(text)
    assert repr(eval(text, {"__builtins__": {"float": float}})) == repr(value)


@given(ANY_TEXT, st.integers(1, 90))
@settings(max_examples=300, deadline=None)
@example("\\u202e " * 30, 7)
@example("a\u202e" * 60, 10)
def test_docstrings_hold_any_text(text: str, width: int) -> None:
    lines = docstring_lines(text, width=width)
    source = '"""' + "\n".join(lines) + '"""'
    source.encode()
    (statement,) = ast.parse(source).body
    assert isinstance(statement, ast.Expr)
    found = ast.literal_eval(statement.value)
    assert "".join(found.split()) == "".join(terminal(text).replace('"', "'").split())


def test_long_texts_take_linear_time() -> None:
    began = time.process_time()
    for text in ("-" * 300_000, "a-" * 150_000, "\x1b" * 100_000, "\\" * 300_000, '"' * 300_000, "(" * 300_000):
        for function in (identifier, file_name, terminal, html, markdown_cell, csv_cell, json_text, python_literal):
            function(text)
        docstring_lines(text, width=80)
    assert time.process_time() - began < 10
