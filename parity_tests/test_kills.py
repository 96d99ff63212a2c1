"""A few of the kills of `make test-kill`; and that its checks see what they are for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from parity_tests import kills

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks")


def test_killed_at_random_moments_nothing_is_half_there() -> None:
    found = kills.kill(2, seed=3, names=("fetch", "data --make"))
    assert found.wrong == [] and sum(found.kills.values()) >= 2


def test_the_checks_see_half_files_strangers_leftovers_and_torn_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("whole")
    before = kills.contents(tmp_path)
    (tmp_path / "a").write_text("who")
    assert kills.contents(tmp_path) != before
    (tmp_path / ".b.0123.part").write_text("")
    (tmp_path / "c.lock").write_text("")
    assert kills.leftovers(tmp_path) == [".b.0123.part"] and set(kills.contents(tmp_path)) == {"a"}
    (tmp_path / "log.jsonl").write_text('{"a": 1}\n{"a": \n{"a": 2}\n{"a"')
    assert kills.torn_lines(tmp_path) == ['log.jsonl: {"a": ']
