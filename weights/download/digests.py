"""Digests of a file, taken while its bytes pass, so that nothing has to be read twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

CHUNK = 1 << 20


class RunningDigests:
    """SHA-256, and other algorithms, of the first `count` bytes of a file."""

    def __init__(self, algorithms: Iterable[str] = ()) -> None:
        self._algorithms = tuple(dict.fromkeys(("sha256", *algorithms)))
        self.reset()

    def reset(self) -> None:
        """Back to no bytes."""
        # A checksum against damage, not against an attacker: MD5 and SHA-1 are what was published.
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in self._algorithms}
        self.count = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        for each in self._hashes.values():
            each.update(data)
        self.count += len(data)

    def catch_up(self, path: Path, *, on_bytes: Callable[[int], None] = lambda done: None) -> None:
        """Take what `path` holds beyond the bytes already taken; start over if it holds less."""
        if path.stat().st_size < self.count:
            self.reset()
        with path.open("rb") as file:
            file.seek(self.count)
            while data := file.read(CHUNK):
                self.update(data)
                on_bytes(self.count)

    def hexdigest(self, algorithm: str) -> str:
        """The digest so far, in lower-case hex."""
        return self._hashes[algorithm].hexdigest()
