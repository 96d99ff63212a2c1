"""SECURITY.md is true where it can be checked: each promise names tests that are there, and commands that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PROMISES = [line.split("|")[1:3] for line in PAGE.splitlines() if line.startswith("| ") and "test_" in line]
NAMED = sorted({test for _, held in PROMISES for test in re.findall(r"`(test_[^`]+)`", held)})


def test_every_promise_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))]
    assert len(rows) == len(PROMISES) > 7


@pytest.mark.parametrize("test", NAMED)
def test_the_test_is_there(test: str) -> None:
    file, _, function = test.partition("::")
    (path,) = (ROOT / "parity_tests").rglob(file)
    text = path.read_text(encoding="utf-8")
    assert f"\ndef {function}(" in text if function else "\ndef test_" in text


def test_the_commands_are_the_makefile_s() -> None:
    targets = re.findall(r"^    make ([\w-]+)", PAGE, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets and all(f"\n{target}:" in makefile for target in targets)


def test_links_lead_to_files() -> None:
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", PAGE)]
    assert links and all((ROOT / link).exists() for link in links)
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
