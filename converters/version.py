"""The version of this project, for provenance and bug reports; pyproject.toml says it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def _of_checkout() -> str:
    """The version in the pyproject.toml of a checkout, where nothing is installed."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    said = re.search(r'(?m)^version = "(.+)"$', project.read_text(encoding="utf-8")) if project.is_file() else None
    return said[1] if said else "unknown"


try:
    VERSION = version("fcn-port")
except PackageNotFoundError:
    VERSION = _of_checkout()
