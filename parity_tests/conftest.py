"""What all tests share: a hypothesis profile that is the same on every run, a cache folder of their own, and real Caffe
where it was asked for."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec

import pytest
from hypothesis import settings

from parity_tests.opencv5 import environment as opencv5
from parity_tests.oracle.client import Oracle, open_oracle
from parity_tests.oracle.folder import oracle_folder, why_not_ready

pytest_plugins = ["parity_tests.fast", "pytester"]

settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--oracle", action="store_true", help="also run the tests that ask real Caffe")


def pytest_configure(config: pytest.Config) -> None:
    cache = tempfile.TemporaryDirectory(prefix="fcn-port-tests-", ignore_cleanup_errors=True)
    os.environ["XDG_CACHE_HOME"] = cache.name
    config.add_cleanup(cache.cleanup)
    # Read when torch is imported. OpenMP's threads turn in a loop else while they wait for each other, which takes the
    # cores from those that they wait for as soon as two workers share them; no number depends on it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored, by children too
    if _oracle_wanted(config) and (reason := why_not_ready(oracle_folder())):
        raise pytest.UsageError(reason)
    if _wanted(config, "opencv5") and (reason := opencv5.why_not_ready()):
        raise pytest.UsageError(reason)
    if _wanted(config, "ray") and find_spec("ray") is None:
        raise pytest.UsageError("no Ray in this environment: `make test-ray` makes one with it, and runs these tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    away = {name for name in ("opencv5", "ray", "sanitized", "aarch64") if not _wanted(config, name)}
    if not _oracle_wanted(config):
        away.add("oracle")
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in away)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _oracle_wanted(config: pytest.Config) -> bool:
    return config.getoption("--oracle") or _wanted(config, "oracle")


def _wanted(config: pytest.Config, marker: str) -> bool:
    """Whether `-m` asks for the tests with this marker."""
    return bool(re.search(rf"(?<!not )\b{marker}\b", config.option.markexpr))


@pytest.fixture(scope="session")
def oracle() -> Oracle:
    """Real Caffe."""
    return open_oracle()


@pytest.fixture(scope="session", autouse=True)
def no_half_modules() -> None:
    """No process that a test starts writes modules: where its files may not grow, half of one passes for a whole one.

    In a fixture, since workers inherit what is set before they start, and keep the modules that they collect.
    """
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """What a test makes of signals ends with it: the next one may send itself a Ctrl-C."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """What a test makes of PyTorch's threads ends with it: `serve` takes one, and others round otherwise."""
    before = torch_threads()
    yield
    if before is not None and torch_threads() != before:
        sys.modules["torch"].set_num_threads(before)


def torch_threads() -> int | None:
    """The threads of PyTorch, which is not imported for the answer; None where it is not there yet."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None and hasattr(torch, "get_num_threads") else None
