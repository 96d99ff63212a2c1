"""JSON from somebody else: what is no JSON, or none that every program reads, ends in one error of ours."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.errors import CaffeFormatError
from converters.safety.json_file import DEEPEST, parse_json, read_json

REFUSED = {
    "deep": ("[" * 100_000 + "]" * 100_000, "within lists"),
    "deep objects": ('{"a":' * 1_000 + "1" + "}" * 1_000, "within lists"),
    "one too deep": ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "within lists"),
    "many digits": ("9" * 100_000, "64 bits"),
    "beyond int64": (str(1 << 63), "64 bits"),
    "beyond a double": ("1e400", "double"),
    "NaN": ('{"a": NaN}', "NaN"),
    "infinity": ("[-Infinity]", "Infinity"),
    "twice": ('{"a": 1, "a": 2}', "twice"),
    "half a pair": (r'{"a": ["\ud800"]}', "surrogate"),
    "half a pair in a name": (r'{"\udc00": 1}', "surrogate"),
    "cut": ('{"a": ', "not JSON"),
    "nothing": ("", "not JSON"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_names_the_file_and_the_reason(name: str, tmp_path: Path) -> None:
    text, reason = REFUSED[name]
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(CaffeFormatError, match=reason) as error:
        read_json(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 400


def test_bytes_that_are_not_utf8_and_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    with pytest.raises(CaffeFormatError, match="UTF-8"):
        read_json(tmp_path / "latin.json")
    (tmp_path / "long.json").write_text("1" * 101)
    with pytest.raises(CaffeFormatError, match="100 bytes"):
        read_json(tmp_path / "long.json", most_bytes=100)
    with pytest.raises(CaffeFormatError, match="folder"):
        read_json(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CaffeFormatError, match="regular"):
        read_json(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "none.json")


NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_everything_else_is_read_as_it_was_written(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False)) == value


def test_a_name_that_is_there_twice_is_found_in_one_look() -> None:
    """Of 200,000 names the last one; each was counted among all, which took an hour."""
    names = ",".join(f'"{number}": 0' for number in range(200_000))
    began = time.process_time()
    with pytest.raises(CaffeFormatError, match="'z' is given twice"):
        parse_json(f'{{{names}, "z": 1, "z": 2}}')
    assert time.process_time() - began < 10
