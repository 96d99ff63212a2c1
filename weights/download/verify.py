"""Checks that a file is the one that was published: its size, its checksum, or at least what it looks like."""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from weights.download.digests import CHUNK, RunningDigests
from weights.download.wording import shown
from weights.records import Checksum, Release
from weights.sidecar import Record, VerifiedBy

FileCheck = Callable[[Path], None]
"""Looks at the structure of a file, and raises ValueError (as CaffeFormatError is) if it is not what it should be."""

HEAD = 512
"""Bytes from the start of a file that are enough to recognise a web page."""

_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class WrongFile(Exception):
    """The file that is there, or that came, is not the one wanted; `str()` says why, without the name of the file."""


@dataclass(frozen=True)
class Wanted:
    """The known facts of a file: bounds of its size in bytes, its checksum; `recorded` if that is our own record."""

    size: int | None = None
    at_least: int = 1
    at_most: int = (1 << 31) - 1
    checksum: Checksum | None = None
    recorded: bool = False

    @classmethod
    def of(cls, release: Release, record: Record | None) -> Wanted:
        """The known facts of a release's caffemodel; `record` counts where no checksum was published.

        Without a published size it is between the float32 blobs less a percent, in case the net in the file is not
        quite ours, and twice that, for a snapshot may hold the diffs too; and protobuf ends below 2 GiB.
        """
        checksum, recorded = release.checksum, False
        if checksum is None and record is not None:
            checksum, recorded = Checksum("sha256", record.sha256), True
        if release.size is not None:
            return cls(release.size, 1, release.size, checksum, recorded)
        if release.blob_bytes is None:
            return cls(checksum=checksum, recorded=recorded)
        at_least = release.blob_bytes - release.blob_bytes // 100
        at_most = min(2 * release.blob_bytes + (16 << 20), cls.at_most)
        return cls(None, at_least, at_most, checksum, recorded)

    def objection(self, size: int) -> str | None:
        """The reason why a file of `size` bytes cannot be it, or None."""
        if self.size is not None and size != self.size:
            return f"{size} bytes, and the file has {self.size}"
        if size < self.at_least:
            return f"{size} bytes, and the file has at least {self.at_least}"
        if size > self.at_most:
            return f"{size} bytes, and the file has at most {self.at_most}"
        return None


def judge(path: Path, digests: RunningDigests, wanted: Wanted, check: FileCheck | None) -> VerifiedBy:
    """The way the file at `path`, whose bytes `digests` has seen, was found to be right; WrongFile if it is not."""
    with path.open("rb") as file:
        refuse_web_page(file.read(HEAD))
    objection = wanted.objection(digests.count)
    if objection is not None:
        raise WrongFile(objection)
    if wanted.checksum is not None:
        return _compared(path, digests, wanted.checksum, recorded=wanted.recorded)
    if check is None:
        return "size"
    try:
        check(path)
    except ValueError as error:
        raise WrongFile(str(error)) from error
    return "structure"


def _compared(path: Path, digests: RunningDigests, checksum: Checksum, *, recorded: bool) -> VerifiedBy:
    found = _git_id(path) if checksum.algorithm == "git" else digests.hexdigest(checksum.algorithm)
    if found != checksum.digest:
        known = "was recorded when it was first fetched" if recorded else "was published"
        raise WrongFile(f"its {checksum.algorithm} is {found}, and {checksum.digest} {known}")
    return "record" if recorded else checksum.algorithm


def _git_id(path: Path) -> str:
    """git's id of a file, which begins with its size: it is taken when all has arrived, and not on the way."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def refuse_web_page(head: bytes) -> None:
    """WrongFile if a file that begins with `head` is a web page; names its title."""
    from converters.formats import sniff  # takes a while, and is not needed to read the catalogue

    if not sniff.is_web_page(head):
        return
    title = _TITLE.search(head)
    words = " ".join(html.unescape(title[1].decode("utf-8", "replace")).split()) if title else ""
    called = f" ('{shown(words, most=80)}')" if words else ""
    raise WrongFile(f"it is a web page{called} instead of the file")
