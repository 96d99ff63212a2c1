"""Write converters/layers/homes.py, docs/cli.md, docs/api.md and docs/layers.md; --check only says which are stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from .homes import HOMES, homes_module

DOCS = Path(__file__).parents[1]
COMMAND = "make docs-generated"


def due() -> Iterator[tuple[Path, str]]:
    """Each generated file with the text that is due: the table of layer types first, which the pages need."""
    yield HOMES, homes_module()
    from .api import api_page
    from .commands import cli_page
    from .layers import layers_page

    yield DOCS / "cli.md", cli_page()
    yield DOCS / "api.md", api_page()
    yield DOCS / "layers.md", layers_page()


def main(argv: list[str] | None = None) -> int:
    """Status 0, or 1 where --check found a stale file."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where a file is stale")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a folder for all of them, in place of their own")
    options = parser.parse_args(argv)
    status = 0
    for path, text in due():
        place = options.out / path.name if options.out else path
        if place.is_file() and place.read_text(encoding="utf-8") == text:
            continue
        if options.check:
            print(f"{place} is stale: run `{COMMAND}` and commit it", file=sys.stderr)
            status = 1
            if path == HOMES:
                break
        else:
            place.write_text(text, encoding="utf-8")
            print(f"{place} written")
    return status


if __name__ == "__main__":
    sys.exit(main())
