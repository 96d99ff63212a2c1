"""Names of modules, functions and classes that the pages say with their module: each is there."""

from __future__ import annotations

import importlib
import re
import warnings
from pathlib import Path

import pytest

from converters.formats import hdf5_file

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_THE_PAST = ("log.md", "api.md")
"""A log, and a page that is generated and lists old names with their new ones."""
NO_NAMES = {"fcn_port.json"}
"""A key in a file of torch.export's."""
NAME = re.compile(r"`((?:converters|weights|fcn_port|parity_tests|benchmarks)(?:\.\w+)+)(?:\([^`]*\))?`")


def is_there(name: str) -> bool:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OF_THE_PAST], ids=lambda page: page.name)
def test_every_dotted_name_is_there(page: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        missing = [name for name in sorted(set(NAME.findall(page.read_text())) - NO_NAMES) if not is_there(name)]
    assert not missing
    assert not is_there("converters.formats.caffemodel.LEFT_OUT") and is_there("converters.formats.model.LEFT_OUT")


def test_the_limit_on_an_h5_is_as_said() -> None:
    assert f"64 MiB and {hdf5_file._EXPANSION} times the file" in (ROOT / "docs" / "formats.md").read_text()
