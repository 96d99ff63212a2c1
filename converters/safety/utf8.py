"""Paths for libraries in other languages, which take no name but one in UTF-8: old disks have others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def is_utf8(name: str) -> bool:
    """True for a name that is text; of a file's other bytes Python makes surrogates (PEP 383), which UTF-8 has not."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def path_text(path: str | bytes) -> str:
    """A path that a file says, of any bytes, as Python has it: with surrogates for what is no text (PEP 383)."""
    return path if isinstance(path, str) else path.decode(errors="surrogateescape")


@contextmanager
def utf8_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path in UTF-8 to a file that is there: its own, or that of a link to it, or to its folder, for the block."""
    given = os.fspath(path)
    if is_utf8(given):
        yield given
        return
    whole = Path(given).absolute()
    with tempfile.TemporaryDirectory(prefix="fcn-port-") as folder:
        if is_utf8(whole.name):  # what lies beside is found there, too
            link = Path(folder) / "folder"
            link.symlink_to(whole.parent, target_is_directory=True)
            yield str(link / whole.name)
        else:
            link = Path(folder) / f"file{whole.suffix if is_utf8(whole.suffix) else ''}"
            link.symlink_to(whole)
            yield str(link)
