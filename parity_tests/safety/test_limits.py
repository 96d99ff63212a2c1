"""Limits on what a file may ask for: counted, named in the error, and raised by one environment variable."""

from __future__ import annotations

import pytest

from converters import CaffeFormatError, LimitError
from converters.safety.limits import SPARE, VARIABLE, check_limit, check_memory, memory_limit, scaled


@pytest.fixture(autouse=True)
def _as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_the_limit_itself_is_allowed() -> None:
    check_limit(100, 100, what="takes")
    with pytest.raises(LimitError, match=r"\('x'\): takes 101 nodes, and the limit is 100"):
        check_limit(101, 100, what="takes", unit="nodes", where="('x')")


def test_memory_follows_the_size_of_the_file() -> None:
    check_memory(SPARE + 30, file_size=10, expansion=3)
    with pytest.raises(CaffeFormatError, match=f"would take {SPARE + 31} bytes"):
        check_memory(SPARE + 31, file_size=10, expansion=3)


@pytest.mark.parametrize("needed", [101, 199, 200, 201, 12345])
def test_the_hint_is_true(monkeypatch: pytest.MonkeyPatch, needed: int) -> None:
    with pytest.raises(LimitError) as caught:
        check_limit(needed, 100, what="takes")
    factor = str(caught.value).split(f"{VARIABLE}=")[1].split(",")[0]
    monkeypatch.setenv(VARIABLE, factor)
    check_limit(needed, 100, what="takes")
    monkeypatch.setenv(VARIABLE, str(max(1, int(factor) - 1)))
    with pytest.raises(LimitError):
        check_limit(needed, 100, what="takes")


@pytest.mark.parametrize("text", ["x", "0", "-1", "0.5", "nan", "inf", "1e999"])
def test_a_factor_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(LimitError, match=f"{VARIABLE} is '{text}'; expected a number"):
        scaled(10)


def test_a_factor_may_be_a_fraction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1.5")
    assert scaled(10) == 15


def test_memory_is_64_mib_and_the_size_of_the_file() -> None:
    assert memory_limit(100) == SPARE + 100
    assert memory_limit(100, expansion=8) == SPARE + 800
