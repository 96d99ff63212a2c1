"""A download that is under way, on disk: what has arrived, and a note that says where it came from.

The note is written before the first byte and the bytes are removed before the note changes, so that whatever happens
in between, bytes never stand beside the note of another file.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from converters.escaping import json_text
from converters.safety import is_own, open_own, open_part, parse_json, to_record, write_whole
from weights.store import StoredFile

_MOST_NOTE = 1 << 16
"""Bytes of a note that are read."""


@dataclass(frozen=True)
class Origin:
    """The version of the file that the bytes belong to, in the server's words (RFC 9110, section 8.8)."""

    url: str
    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """The value for `If-Range`: a strong ETag, else the date, else None."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified

    def contradicts(self, other: Origin) -> bool:
        """True if the two cannot be of the same bytes: another length, or from one address another version."""
        if self.total is not None and other.total is not None and self.total != other.total:
            return True
        if self.url != other.url:
            return False
        pairs = ((self.etag, other.etag), (self.last_modified, other.last_modified))
        return any(mine is not None and theirs is not None and mine != theirs for mine, theirs in pairs)


@dataclass(frozen=True)
class Partial:
    """The bytes at `path` and the note at `note`."""

    path: Path
    note: Path

    @classmethod
    def of(cls, place: StoredFile) -> Partial:
        """The download for a place."""
        return cls(place.part, place.origin)

    def size(self) -> int:
        """Bytes that have arrived; 0 if their origin is not known, for then they are worth nothing."""
        if self.origin() is None or not is_own(self.path):  # what somebody else put there is worth nothing, too
            return 0
        return self.path.stat().st_size

    def origin(self) -> Origin | None:
        """The origin of the bytes; None if there is no note, or none that makes sense."""
        try:
            with open_own(self.note) as file:
                return to_record(parse_json(file.read(_MOST_NOTE).decode()), Origin)
        except (OSError, ValueError):
            return None

    def start(self, origin: Origin) -> None:
        """Begin again with no bytes, from `origin`."""
        self.discard()
        write_whole(self.note, json_text(asdict(origin)).encode(), durable=False, follow=False)

    def append(self) -> BinaryIO:
        """The file, open for more bytes; unbuffered, so that what was written survives a kill."""
        return open_part(self.path)

    def sync(self) -> None:
        """Have the bytes on the disk before anything relies on them."""
        with open_part(self.path) as file:
            os.fsync(file.fileno())

    def discard(self) -> None:
        """Throw everything away."""
        for path in (self.path, self.note):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
