"""The links of README and docs, and the catalogue's; `make check-links` asks the ones that lead elsewhere."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from parity_tests.docs.blocks import BLOCK, GENERATED, PAGES
from parity_tests.test_architecture import ROOT
from weights.catalogue import famous, init_nets, releases
from weights.download import addresses as resolved

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
ADDRESS = re.compile(r"https?://[^\s)>\"'`\]]+")
ALL_PAGES = [*PAGES, *(ROOT / "docs" / name for name in sorted(GENERATED))]


def links_of(page: Path) -> list[str]:
    """Targets of the links of a page, pictures included, outside of its code."""
    return LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8")))


def anchors_of(page: Path) -> set[str]:
    """The names under which GitHub and the site know a page's headings."""
    return anchors_in(page.read_text(encoding="utf-8"))


def anchors_in(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken_in(page: Path) -> list[str]:
    """The links of a page to files and headings that are not there."""
    bad = []
    for link in links_of(page):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            bad.append(link)
    return bad


def addresses() -> dict[str, list[str]]:
    """Addresses on the network, and the pages and nets that have them."""
    found: dict[str, list[str]] = {}
    for page in [*ALL_PAGES, ROOT / "pyproject.toml"]:
        for address in ADDRESS.findall(page.read_text(encoding="utf-8")):
            found.setdefault(address.rstrip(".,;"), []).append(page.relative_to(ROOT).as_posix())
    for address, names in catalogue_addresses().items():
        found.setdefault(address, []).extend(names)
    return found


def catalogue_addresses() -> dict[str, list[str]]:
    """Where the catalogue says that weights and net definitions are, with the nets; a hub's as it is really asked."""
    found: dict[str, list[str]] = {}
    for each in (*releases().values(), *init_nets().values(), *famous().values()):
        asked = (*resolved(each.urls, each.file), *resolved(each.prototxts, f"{each.name}.prototxt"))
        for address in (*asked, *ADDRESS.findall(each.about.by_hand or "" if each.about else "")):
            found.setdefault(address.rstrip(".,;"), []).append(each.name)
    return found


def main() -> int:
    """Ask every address; status 1 where one is gone. One that does not answer at all is told and not counted."""
    import requests

    def ask(address: str) -> int | str:
        try:
            with requests.get(address, timeout=30, stream=True, headers={"User-Agent": "check-links"}) as answer:
                return answer.status_code
        except requests.RequestException as error:
            return type(error).__name__

    found = addresses()
    with ThreadPoolExecutor(8) as pool:
        answers = dict(zip(found, pool.map(ask, found), strict=True))
    gone = {address: answer for address, answer in answers.items() if answer in (404, 410)}
    for address, answer in answers.items():
        if not isinstance(answer, int) or answer >= 400:
            print(f"{answer}  {address}  ({', '.join(found[address])})")
    silent = sum(not isinstance(answer, int) for answer in answers.values())
    print(f"{len(found)} addresses asked, {len(gone)} gone, {silent} without an answer")
    return 1 if gone else 0


if __name__ == "__main__":
    sys.exit(main())
