"""Servers that have the file; a test module asks for them with `pytest_plugins = ["parity_tests.fetch_fixtures"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from parity_tests.fetching import BODY
from parity_tests.http_server import HostileServer, Served, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    """A server that has BODY."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("FCN_PORT_OFFLINE", raising=False)
    with serving(Served(BODY)) as running:
        yield running


@pytest.fixture
def mirror() -> Iterator[HostileServer]:
    """Another one."""
    with serving(Served(BODY, etag='"elsewhere"')) as running:
        yield running
