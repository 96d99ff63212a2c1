"""Results of images, kept as they come, so that an interrupted evaluation goes on where it was.

A folder for each combination of weights and settings; in it, a file for each process, one JSON line an image. A line
that a kill tore is ignored. A result counts as long as the image and its label maps are the files they were, with the
size and time they had, and the label maps that were written with it, where they are asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from converters.escaping import json_text
from converters.safety import append, make_folder, open_own, open_part, parse_json
from weights.cache import cache_folder

from .results import ImageResult

FORMAT = 1
"""Part of every key: raise it when results mean something else."""


def cache_dir() -> Path:
    """The folder in which results are kept by default, in the user's cache."""
    return cache_folder("evaluations")


def cache_key(settings: Mapping[str, Any]) -> str:
    """The name of the folder of a combination of settings, which JSON can write."""
    text = json.dumps({"format": FORMAT, **settings}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Cache:
    """The results in `folder`; `rank` is this process among those that write at the same time."""

    folder: Path
    rank: int = 0

    def read(self, classes: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[ImageResult, list[Any], Any]]:
        """Every whole result by id, the latest of several, with `fingerprint`s of its files and of what was saved."""
        found: dict[str, tuple[ImageResult, list[Any], Any]] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in _text_of(path).splitlines():
                try:
                    data = parse_json(line)
                    result = ImageResult.from_json(data, classes)
                    found[result.id] = (result, data["files"], data.get("saved"))
                except (ValueError, KeyError):  # a line that a kill tore, or of another version
                    continue
        return found

    def append(self, result: ImageResult, files: list[Any], *, saved: list[Any] | None = None) -> None:
        """Keep a result; it is on its way to the disk when this returns."""
        make_folder(self.folder)
        line = json_text({**result.to_json(), "files": files, "saved": saved}, compact=True)
        with open_part(self.folder / f"{self.rank:04d}.jsonl") as out:
            torn = out.seek(0, os.SEEK_END) > 0 and not self._ends_a_line(out)
            append(out, b"\n" * torn + line.encode() + b"\n")

    @staticmethod
    def _ends_a_line(file: BinaryIO) -> bool:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _text_of(path: Path) -> str:
    """The text of a file of this user's; nothing for a link, a pipe or what somebody else put there."""
    with suppress(OSError), open_own(path) as file:
        return file.read().decode(errors="replace")
    return ""


def fingerprint(paths: Iterable[Path]) -> list[Any] | None:
    """Place, size and time of files, as JSON has them; None if one is missing.

    Size and time alone are those of many files of one archive: lists may call another pair of them by the same id.
    """
    found = []
    try:
        for path in paths:
            stat = path.stat()
            found.append([str(path.resolve()), stat.st_size, stat.st_mtime_ns])
    except OSError:
        return None
    return found
