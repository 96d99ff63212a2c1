"""The list of slow test modules names what is there, and a module that has become slow is told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from parity_tests import fast

HERE = Path(fast.__file__).parent


def test_every_module_on_the_list_is_there_once() -> None:
    there = Counter(path.stem for path in HERE.rglob("test_*.py"))
    assert {name: there[name] for name in fast.slow_modules() if there[name] != 1} == {}
    assert len(fast.slow_modules()) < len(there) / 2, "the fast part is the larger one"


@pytest.mark.parametrize("seconds, told, status", [(0.0, "", 0), (9.0, "is it slow?", 0), (99.0, "put it into", 1)])
def test_a_module_that_has_become_slow_is_told(
    seconds: float, told: str, status: int, pytester: pytest.Pytester
) -> None:
    """In a process of its own, whose clock is moved on by a test."""
    pytester.makeconftest('pytest_plugins = ["parity_tests.fast"]')
    pytester.makepyfile(
        test_clock=f"from parity_tests import fast\ndef test_it(monkeypatch):\n"
        f"    now = fast._processor_time()\n    fast._processor_time = lambda: now + {seconds}\n"
    )
    pytester.makepyfile(test_kills="raise SystemExit('not to be imported: it is on the list')")
    done = pytester.runpytest_subprocess("--fast", "-p", "no:cacheprovider", "-q")
    out = done.stdout.str()
    assert done.ret == status and "1 passed" in out and "of processor time in 1 modules" in out
    assert ("test_clock.py took" in out) == bool(told) and told in out
