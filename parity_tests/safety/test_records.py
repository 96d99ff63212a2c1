"""Records from JSON and TOML: what is read, and errors that name the place, what was expected and what was found."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from converters import CaffeFormatError
from converters.errors import MismatchError
from converters.safety import sha256_of, to_record
from parity_tests.safety.test_json_files import EVALUATION, SNAPSHOT, replaced, results, snapshot


@dataclass(frozen=True)
class Inner:
    rate: float
    name: str = "a"

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise MismatchError("a rate below 0")


@dataclass(frozen=True)
class Outer:
    count: int
    inner: Inner
    flag: bool = False
    kind: Literal["x", "y", "z"] | None = None
    each: tuple[Inner, ...] = ()
    table: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    anything: Any = None


WHOLE = {"count": 3, "inner": {"rate": 1}, "kind": "y", "each": [{"rate": 0.5, "name": "b"}],
         "table": {"a b": {"c": 1}}, "anything": [1, None]}  # fmt: skip


def test_values_become_what_the_record_declares() -> None:
    found = to_record(WHOLE, Outer)
    assert found == Outer(3, Inner(1.0), False, "y", (Inner(0.5, "b"),), {"a b": {"c": 1}}, [1, None])
    assert type(found.inner.rate) is float
    assert to_record({"a": ["b"]}, dict[str, tuple[str, ...]]) == {"a": ("b",)}


@pytest.mark.parametrize(
    ("place", "odd", "said"),
    [
        (("count",), "3", "here.count: expected a whole number, found '3'"),
        (("count",), True, "here.count: expected a whole number, found True"),
        (("count",), 3.0, "here.count: expected a whole number, found 3.0"),
        (("count",), 1 << 63, "here.count: expected a whole number, found 9223372036854775808"),
        (("inner",), [], "here.inner: expected a table, found []"),
        (("inner", "rate"), None, "here.inner.rate: expected a number, found None"),
        (("inner", "rate"), math.nan, "here.inner.rate: expected a number, found nan"),
        (("inner", "rate"), 10**400, "here.inner.rate: expected a number, found 1000"),
        (("inner", "rate"), -1, "here.inner: a rate below 0"),
        (("inner", "nam"), "b", "here.inner: unknown field 'nam'; did you mean 'name'?"),
        (
            ("other",),
            1,
            "here: unknown field 'other'; there are count, inner, flag, kind, each, table, anything",
        ),
        (("flag",), 1, "here.flag: expected true or false, found 1"),
        (("kind",), "w", "here.kind: expected 'x', 'y' or 'z', found 'w'"),
        (("kind",), ["x"], "here.kind: expected 'x', 'y' or 'z', found ['x']"),
        (("each",), "ab", "here.each: expected a list, found 'ab'"),
        (("each", 0), 5, "here.each[0]: expected a table, found 5"),
        (("each", 0), {}, "here.each[0]: rate is missing"),
        (("table", "a b"), 7, "here.table.a b: expected a table, found 7"),
        (("table", "a b", "c"), "", "here.table.a b.c: expected a whole number, found ''"),
        (("count",), "9" * 5000, "here.count: expected a whole number, found '99"),
        (("table", "t" * 5000), 1, f"here.table.{'t' * 80}: expected a table"),
    ],
)
def test_an_error_says_where_what_was_expected_and_what_was_found(place: Any, odd: Any, said: str) -> None:
    with pytest.raises(CaffeFormatError) as error:
        to_record(replaced(WHOLE, place, odd), Outer, where="here")
    assert str(error.value).replace(", a rate", ": a rate").startswith(said) and len(str(error.value)) < 300


def test_the_class_of_a_records_own_error_stays() -> None:
    with pytest.raises(MismatchError):
        to_record(replaced(WHOLE, ("inner", "rate"), -1), Outer)


def test_unknown_fields_are_ignored_only_where_that_is_asked_for() -> None:
    more = {**WHOLE, "later": 1, "inner": {"rate": 1, "later": 2}}
    assert to_record(more, Outer, ignore_unknown=True) == to_record(WHOLE, Outer)
    with pytest.raises(CaffeFormatError, match="unknown field 'later'"):
        to_record(more, Outer)


@pytest.mark.parametrize(
    ("place", "odd", "said"),
    [
        (("weights",), 3, "not an evaluation: weights: expected text, found 3"),
        (("classes", "score"), "ab", "not an evaluation: classes.score: expected a list, found 'ab'"),
        (("images", 1, "id"), 5, "not an evaluation: images[1].id: expected text, found 5"),
        (
            ("images", 1, "histograms"),
            {"x": []},
            "images[1], histograms.x: there is no such output; there are score",
        ),
        (
            ("images", 1, "histograms", "score"),
            [2, 0, 1],
            "images[1], histograms.score: class 2; the output has 2",
        ),
    ],
)
def test_an_error_in_an_evaluation_names_its_place(place: Any, odd: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(CaffeFormatError) as error:
        results(replaced(EVALUATION.to_json(), place, odd), tmp_path)
    assert said in str(error.value) and "x.json" in str(error.value) and "write one with" in str(error.value)


@pytest.mark.parametrize(
    ("place", "odd", "said"),
    [
        (("format",), 2, "no snapshot of a run: format: expected 1, found 2"),
        (("iteration",), -1, "no snapshot of a run: iteration: expected a count, found -1"),
        (("losses", 0), "x", "no snapshot of a run: losses[0]: expected a number, found 'x'"),
        (
            ("card", "palette"),
            "rainbow",
            "no snapshot of a run: card, palette: 'rainbow' is none of voc, cityscapes",
        ),
        (("card", "palette"), "", "no snapshot of a run: card, palette: '' is none of voc, cityscapes"),
        (("random", "cpu", 0), "**", "no snapshot of a run: random: expected base64"),
        (("files",), {}, "no snapshot of a run: files: expected the names of two files"),
        (("files", "x.caffemodel", "sha256"), 3, "files.x.caffemodel.sha256: expected text, found 3"),
    ],
)
def test_an_error_in_a_snapshot_names_its_place(place: Any, odd: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(CaffeFormatError) as error:
        snapshot(replaced(SNAPSHOT, place, odd), tmp_path)
    assert said in str(error.value) and "x_iter_1.json" in str(error.value)


@pytest.mark.parametrize("size", [0, 3, 4 << 20, (4 << 20) + 1], ids=str)
def test_the_digest_of_a_file(size: int, tmp_path: Path) -> None:
    content = random.Random(size).randbytes(size)
    path = tmp_path / "a"
    path.write_bytes(content)
    with path.open("rb") as file:
        assert sha256_of(path) == sha256_of(file) == hashlib.sha256(content).hexdigest()
