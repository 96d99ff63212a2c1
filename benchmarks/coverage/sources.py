"""The prototxt files of a folder or a .zip."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A net's definition as somebody published it: its name, relative to the folder, and its text as bytes."""

    name: str
    content: bytes


def sources(place: Path) -> list[Source]:
    """Every .prototxt of a folder, at any depth, or of a .zip, by name; FileNotFoundError where there is none."""
    if place.is_dir():
        files = sorted(path for path in place.rglob("*.prototxt") if path.is_file())
        found = [Source(path.relative_to(place).as_posix(), path.read_bytes()) for path in files]
    else:
        with zipfile.ZipFile(place) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(".prototxt"))
            found = [Source(name, archive.read(name)) for name in names]
    if not found:
        raise FileNotFoundError(2, "there is no .prototxt in it", str(place))
    return found
