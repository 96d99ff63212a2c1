"""The file of several pictures that was read last, still open: the next one is decoded from the one before.

Pillow finds a picture of an animation by decoding all before it, so that a file opened anew for each took the square of
its length: 400 pictures of 200x200 pixels 28 to 98 s, and 0.2 to 0.9 so.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from converters.safety import file_version


@dataclass(frozen=True)
class Animation:
    """A file of several pictures, open at the one that was read last, and its size in bytes."""

    file: tuple[int, ...]
    size: int
    image: Image.Image


class LastAnimation:
    """At most one file between two reads; whoever takes it has it alone until it is put back."""

    def __init__(self) -> None:
        self._kept: Animation | None = None
        self._lock = threading.Lock()

    def take(self, path: Path, frame: int) -> Animation | None:
        """The kept one if it is this file, unchanged, and not beyond `frame`; else it is let go."""
        with self._lock:
            kept, self._kept = self._kept, None
        return kept if kept is not None and kept.file == file_version(path) and kept.image.tell() <= frame else None

    def put(self, animation: Animation) -> None:
        """Keep it for who reads its next picture."""
        with self._lock:
            self._kept = animation
