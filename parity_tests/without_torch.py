"""`pytest -p parity_tests.without_torch`: where torch is not installed, what needs it is skipped and not failed.

Readers, diff and the program's help promise to do without torch; `make check-oldest` tries that where an old torch
cannot be had. Where torch is installed this changes nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from importlib.util import find_spec

import pytest

from fcn_port.cli import program

REASON = "needs torch, which is not installed"

needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason=REASON)
"""For a test whose own processes need it: what they say reaches no hook."""


def pytest_configure() -> None:
    """Let the program's one line about a missing torch be an error, which skips the test; subprocesses say the line."""
    if find_spec("torch") is not None:
        return
    say = program._say

    def raise_or_say(message: str, status: int) -> int:
        if "needs PyTorch" in message:
            raise ModuleNotFoundError(message, name="torch")
        return say(message, status)

    program._say = raise_or_say


def _is_torch(error: BaseException) -> bool:
    return isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "torch"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.failed and any(words in str(report.longrepr) for words in ("No module named 'torch'", "needs PyTorch")):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, REASON)
    return report


def _skip_without_torch() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if _is_torch(error):
            pytest.skip(REASON)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _skip_without_torch())


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    return (yield from _skip_without_torch())
