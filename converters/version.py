"""The version of this project, for provenance and bug reports; pyproject.toml says it."""

from __future__ import annotations

import re
from pathlib import Path

NAME = "fcn-port"


def _of_checkout() -> str | None:
    """The version in the pyproject.toml of a checkout, which is there at once; None where this is installed."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    text = project.read_text(encoding="utf-8") if project.is_file() else ""
    said = re.search(r'(?m)^version = "(.+)"$', text)
    return said[1] if said and f'name = "{NAME}"' in text else None


def _of_package() -> str:
    """The version in the metadata of the installed package, whose library takes a while."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(NAME)
    except PackageNotFoundError:
        return "unknown"


VERSION = _of_checkout() or _of_package()
