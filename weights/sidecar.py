"""Records of what was verified about a file: `<file>.sha256` beside it.

    # fcn-port {"size": 538..., "mtime_ns": ..., "verified_by": "sha1", "published": "sha1 c449...", "source": "http://..."}
    e3b0c442...  fcn8s-heavy-pascal.caffemodel

The second line is what `sha256sum -c` reads; the first makes the next look quick (a file of the same size and time is
the same file) and is optional, so a record can be written by hand. The record outlives the file: where no checksum was
ever published, any later copy must match it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from converters.escaping import json_text
from converters.safety import parse_json, to_record, write_whole
from weights.errors import ChecksumError

VerifiedBy = Literal["sha256", "sha1", "md5", "git", "record", "structure", "size"]
_MARK = "# fcn-port "


@dataclass(frozen=True)
class Record:
    """`sha256` of a verified file; the rest is None in a record that was written by hand.

    `verified_by` says how: a published checksum, an earlier record, the file's structure, or its size alone;
    `published` is the checksum that was published then, `source` the address or file that it came from.
    """

    sha256: str
    size: int | None = None
    mtime_ns: int | None = None
    verified_by: VerifiedBy | None = None
    published: str | None = None
    source: str | None = None

    def is_of(self, stat: os.stat_result) -> bool:
        """True if a file with this `stat` is the one that was verified."""
        return (self.size, self.mtime_ns) == (stat.st_size, stat.st_mtime_ns)


def read_record(path: Path) -> Record | None:
    """The record at `path`, or None if there is none; ChecksumError if it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    sums = [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]
    if len(sums) != 1 or not re.fullmatch("[0-9a-f]{64}", sums[0]):
        raise ChecksumError(
            f"{path}: one line with a sha256 is expected, as `sha256sum` writes it\n"
            "  delete it, and the next copy of the file that passes its checks is recorded anew"
        )
    marked = [line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)]
    return _with_details(sums[0], marked[0] if marked else "{}")


def _with_details(sha256: str, text: str) -> Record:
    """The record, with what the optional line says; without it if that is damaged: then the file is hashed again."""
    try:
        details = parse_json(text)
        return to_record({**details, "sha256": sha256}, Record, ignore_unknown=True)
    except (ValueError, TypeError):
        return Record(sha256)


def write_record(path: Path, record: Record, *, file: str) -> None:
    """Write the record of `file`, whole or not at all."""
    details = {key: value for key, value in vars(record).items() if key != "sha256"}
    text = f"{_MARK}{json_text(details)}\n{record.sha256}  {file}\n"
    write_whole(path, text.encode(), follow=False)
