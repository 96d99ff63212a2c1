"""`pytest --fast`: the suite without the modules that slow.txt names, and the processor time of each module.

Judged is processor time, a test's own and that of the processes it waited for: it says the same on a busy machine. A
module that takes more than `TOLD` seconds is named at the end; one over `MOST` fails the run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

LIST = Path(__file__).with_name("slow.txt")
TOLD, MOST = 5.0, 15.0
"""Seconds of processor time of a module; the list has those over 3."""

_spent: Counter[str] = Counter()


def slow_modules() -> set[str]:
    """The names of the test modules that --fast leaves out; a line may end in a comment."""
    lines = (line.partition("#")[0].strip() for line in LIST.read_text(encoding="utf-8").splitlines())
    return {line for line in lines if line}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="leave out the modules in parity_tests/slow.txt")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if config.getoption("--fast") and collection_path.suffix == ".py" and collection_path.stem in slow_modules():
        return True
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep the time before a test with it; its teardown's report takes the difference to the process that tells."""
    item.stash[_BEFORE] = _processor_time()
    return (yield)


_BEFORE = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "teardown":
        report.user_properties.append(("processor time", _processor_time() - item.stash[_BEFORE]))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":
        _spent[report.nodeid.partition("::")[0]] += dict(report.user_properties).get("processor time", 0.0)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--fast") and _over(MOST) and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not terminalreporter.config.getoption("--fast"):
        return
    terminalreporter.write_line(f"{sum(_spent.values()):.0f} s of processor time in {len(_spent)} modules")
    for module in _over(TOLD):
        order = "put it into parity_tests/slow.txt" if _spent[module] > MOST else "is it slow?"
        terminalreporter.write_line(f"{module} took {_spent[module]:.1f} s of it: {order}")


def _over(seconds: float) -> list[str]:
    return [module for module, spent in _spent.most_common() if spent > seconds]


def _processor_time() -> float:
    return sum(os.times()[:4])
