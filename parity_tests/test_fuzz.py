"""What fuzzing found stays mended: kept inputs and seeds, in every target; and the judge sees what is wrong."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from converters.errors import CaffeFormatError
from parity_tests.fuzz import mutators
from parity_tests.fuzz.judge import Target, judge
from parity_tests.fuzz.names import NAMES
from parity_tests.fuzz.targets import TARGETS
from parity_tests.limited import linux_only

pytestmark = pytest.mark.filterwarnings("ignore")

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
SLOW_TARGETS = ("onnx", "export", "fast")
"""Of these a few seeds are enough here; each has tests of its own."""


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "onnx"])
def test_what_was_found_stays_mended(name: str, tmp_path: Path) -> None:
    """Every kept input in every target, whichever it was found with."""
    for path in KEPT:
        found = judge(TARGETS[name], path.read_bytes(), tmp_path).finding
        assert found is None, f"{path}: {found.text}"


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in SLOW_TARGETS])
def test_seeds_and_what_becomes_of_them(name: str, tmp_path: Path) -> None:
    """Each seed as it is, some are read; and a dozen changes that a seed decides."""
    target, r = TARGETS[name], random.Random(0)
    seeds = list(target.seeds())
    for data in seeds:
        found = judge(target, data, tmp_path).finding
        assert found is None, found.text
        assert len(data) < 16_384
    for number in range(12):
        data = target.mutate(r.choice(seeds), number, mutators.at_random(r))
        found = judge(target, data, tmp_path).finding
        assert found is None, f"{found.text}: {data!r}"


def test_names_are_the_table_s() -> None:
    assert tuple(TARGETS) == NAMES
    assert {path.parent.name for path in KEPT} <= set(NAMES)


# The judge


def judged(read: object, tmp_path: Path, **rest: object) -> str | None:
    target = Target("made-up", read, lambda: (), mutators.plain, **rest)  # type: ignore[arg-type]
    found = judge(target, b"input", tmp_path).finding
    return None if found is None else found.kind


def raises(error: Exception) -> object:
    def read(path: Path) -> None:
        raise error

    return read


def test_what_a_reader_may_do(tmp_path: Path) -> None:
    assert judged(lambda path: path.read_bytes(), tmp_path) is None
    assert judged(raises(CaffeFormatError("why")), tmp_path) is None
    assert judged(raises(KeyError("why")), tmp_path, errors=(KeyError,)) is None


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), MemoryError(), RecursionError(), AssertionError()])
def test_a_foreign_error_is_found(error: Exception, tmp_path: Path) -> None:
    assert judged(raises(error), tmp_path) == "foreign"


def test_an_error_must_say_something_fit_for_a_terminal(tmp_path: Path) -> None:
    assert judged(raises(CaffeFormatError("")), tmp_path) == "silent"
    assert judged(raises(FileNotFoundError("\x1b[2J")), tmp_path, errors=(FileNotFoundError,)) == "raw"


@linux_only
def test_memory_beyond_the_bound_is_found_though_it_is_given_back(tmp_path: Path) -> None:
    assert judged(lambda path: len(b"x" * (130 << 20)), tmp_path) == "memory"
    assert judged(lambda path: len(b"x" * (40 << 20)), tmp_path) is None


def test_time_beyond_the_bound_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parity_tests.fuzz.judge.SLOW", 0.05)

    def spin(path: Path) -> None:
        until = time.process_time() + 0.1  # as the judge counts: so many turns of a loop are over sooner elsewhere
        while time.process_time() < until:
            pass

    assert judged(spin, tmp_path) == "slow"
