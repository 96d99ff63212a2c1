"""The catalogue's files as they are: looked into without parsing, which takes a while."""

from __future__ import annotations

import functools
import importlib.resources


def mentions(text: str) -> bool:
    """True where releases.toml or famous.toml have this text anywhere."""
    return text in catalogue_text("releases.toml") or text in catalogue_text("famous.toml")


@functools.cache
def catalogue_text(name: str) -> str:
    """The text of a file beside this one, UTF-8."""
    return importlib.resources.files("weights").joinpath(name).read_text(encoding="utf-8")
