"""Write docs/cli.md, docs/api.md and docs/layers.md, or with --check only say which of them are stale."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .api import api_page
from .commands import cli_page
from .layers import layers_page

DOCS = Path(__file__).parents[1]
PAGES = {"cli.md": cli_page, "api.md": api_page, "layers.md": layers_page}
COMMAND = "make docs-generated"


def stale(folder: Path) -> dict[str, str]:
    """The pages that are not in `folder` as the code would make them now: their names and the text that is due."""
    due = {name: make() for name, make in PAGES.items()}
    return {
        name: text
        for name, text in due.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    }


def main(argv: list[str] | None = None) -> int:
    """Status 0, or 1 where --check found a stale page."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where a page is stale")
    parser.add_argument("--out", type=Path, default=DOCS, metavar="FOLDER", help="where the pages are (default: docs)")
    options = parser.parse_args(argv)
    pages = stale(options.out)
    for name, text in pages.items():
        if options.check:
            print(f"{options.out / name} is stale: run `{COMMAND}` and commit it", file=sys.stderr)
        else:
            (options.out / name).write_text(text, encoding="utf-8")
            print(f"{options.out / name} written")
    return 1 if pages and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
