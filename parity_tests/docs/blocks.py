"""The blocks of code in README and docs, with where they stand and why one is not run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from parity_tests.test_architecture import ROOT

GENERATED = {"api.md", "cli.md", "layers.md"}
"""Pages that docs/generate writes; their tests are their own."""
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in GENERATED),
]
BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.M | re.S)
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*\Z")
_OURS = r"fcn-port|make|pip install|python -m (?:fcn_port|parity_tests|benchmarks|docs)[^`\s]*"
INLINE = re.compile(rf"(?<!`)`((?:{_OURS}) [^`\n]+)`(?!`)")
PAGE_NOT_RUN = re.compile(r"<!-- the Python blocks from here on: not run: (.+?) -->")


@dataclass(frozen=True)
class Block:
    """A block of a page: its language, its lines, and the reason for which it is not run, if one is given."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def place(self) -> str:
        """Page and line, as a test is called."""
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Every block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        before = text[: match.start()]
        reason = NOT_RUN.search(before)
        if match[1] == "python":
            reason = reason or PAGE_NOT_RUN.search(before)
        found.append(Block(page, before.count("\n") + 1, match[1], match[2], reason[1] if reason else None))
    return found


def lines_in_text(page: Path) -> dict[int, str]:
    """The command lines between backquotes in the text and tables of a page, outside its blocks, by line."""
    text = BLOCK.sub(lambda block: "\n" * block[0].count("\n"), page.read_text(encoding="utf-8"))
    return {text.count("\n", 0, match.start()) + 1: match[1].replace("\\|", "|") for match in INLINE.finditer(text)}


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
