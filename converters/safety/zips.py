"""Zip archives whose entries lie upon each other: of a file of a few bytes each would be read for hours."""

from __future__ import annotations

import os
import zipfile


def entries_share_bytes(archive: zipfile.ZipFile) -> bool:
    """True where the packed entries of an archive that is open have more bytes together than its file.

    Others may unpack to as little as nothing, so that what they unpack to says nothing of the time that it takes.
    """
    assert archive.fp is not None
    return sum(record.compress_size for record in archive.infolist()) > os.fstat(archive.fp.fileno()).st_size
