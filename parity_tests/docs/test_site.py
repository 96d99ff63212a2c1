"""The pages of the site (`make docs`), read without mkdocs: their links lead to pages and headings of the site."""

from __future__ import annotations

import functools
import posixpath
import re

import pytest

from docs.generate.site import ROOT_PAGES, api_pages, as_page, notebooks, with_site_links
from parity_tests.docs.blocks import BLOCK
from parity_tests.docs.links import LINK, anchors_in
from parity_tests.test_architecture import ROOT

EXCLUDED = ("generate/", "package.md", "api.md", "pictures/upsampling.py")


@functools.cache
def files() -> dict[str, str]:
    """The files of the site by name, with the text of the pages."""
    docs = {path.relative_to(ROOT / "docs").as_posix(): path for path in (ROOT / "docs").rglob("*") if path.is_file()}
    found = {
        name: path.read_text(encoding="utf-8") if path.suffix == ".md" else ""
        for name, path in docs.items()
        if not name.startswith(EXCLUDED) and "__pycache__" not in name
    }
    found |= {name: (ROOT / source).read_text(encoding="utf-8") for name, source in ROOT_PAGES.items()}
    found |= {f"api/{name}.md": text for name, text in api_pages()}
    for path in notebooks():
        text, pictures = as_page(path)
        found |= {f"notebooks/{path.stem}.md": text} | {f"notebooks/{name}": "" for name in pictures}
    return {name: with_site_links(text, name, found.__contains__) for name, text in found.items()}


def broken(name: str) -> list[str]:
    bad = []
    for link in LINK.findall(BLOCK.sub("", files()[name])):
        path, _, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
        if re.match(r"[a-z]+:", link):
            continue
        if target not in files() or (anchor and anchor not in anchors_in(files()[target])):
            bad.append(link)
    return bad


@pytest.mark.parametrize("name", [name for name in files() if name.endswith(".md")])
def test_links_lead_to_pages_of_the_site(name: str) -> None:
    assert broken(name) == []


def test_what_is_no_page_of_the_site_is_named() -> None:
    text = "[a](pictures/upsampling.py) [b](formats.md#limits) [c](../Makefile)"
    assert with_site_links(text, "x.md", {"formats.md"}.__contains__) == "`a` [b](formats.md#limits) `c`"


def test_a_notebooks_links_are_relative_to_it() -> None:
    text = with_site_links("[a](../docs/training.md)", "notebooks/x.md", {"training.md"}.__contains__)
    assert text == "[a](../training.md)"


def test_every_section_of_the_interface_has_its_own_name() -> None:
    names = [name for name, _ in api_pages()]
    assert len(set(names)) == len(names) and names[-1] == "old-names"


def test_warnings_end_make_docs() -> None:
    """mkdocs counts those that it writes, and writes none with --quiet, where --strict then finds none."""
    (line,) = re.findall(r"mkdocs build.*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert "--strict" in line and "--quiet" not in line.partition("#")[0]
