"""Links between pages, headings and files lead somewhere, and every page is in the site's navigation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parity_tests.docs.links import ALL_PAGES, addresses, broken_in, links_of
from parity_tests.test_architecture import ROOT


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert broken_in(page) == []


def test_broken_links_are_noticed(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# One two\n[a](#one-two) [b](#one) [c](b.md) [d](a.md#one-two) [e](a.md#two) ![f](p.png)\n")
    assert broken_in(page) == ["#one", "b.md", "a.md#two", "p.png"]


def test_there_are_links_to_look_at() -> None:
    assert sum(len(links_of(page)) for page in ALL_PAGES) > 60
    assert all(address.startswith(("https://", "http://")) for address in addresses())


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"[:-] ([\w-]+\.md)$", text, re.M))
    there = {path.name for path in (ROOT / "docs").glob("*.md")} - {"api.md", "package.md"}
    assert there - named == set(), "add them to `nav` in mkdocs.yml"
    assert named - there == {"index.md", "security.md", "contributing.md", "changelog.md"}
