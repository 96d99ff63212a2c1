"""`pytest -p parity_tests.without_torch`: where torch is not installed, what needs it is skipped and not failed.

Readers, diff and the program's help promise to do without torch; `make check-oldest` tries that where an old torch
cannot be had. Where torch is installed this changes nothing.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

REASON = "needs torch, which is not installed"


def _is_torch(error: BaseException) -> bool:
    return isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "torch"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.failed and "No module named 'torch'" in str(report.longrepr):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, REASON)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if _is_torch(error):
            pytest.skip(REASON)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    try:
        return (yield)
    except Exception as error:
        if _is_torch(error):
            pytest.skip(REASON)
        raise
