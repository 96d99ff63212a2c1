"""What a file is, told by its first bytes and never by its name."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import CaffeFormatError

HDF5 = "HDF5 file"
SAFETENSORS = "safetensors file"
TEXT = "text file"
PROTOBUF = "protobuf message"
PICKLE = "Python pickle"
ZIP = "zip archive"
HTML = "HTML page"

_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\x1f\x8b", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ\x00", "xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"Rar!\x1a\x07", "rar archive"),
    (b"version https://git-lfs", "Git LFS pointer, not the file that it stands for"),
    (b"\x89PNG", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"%PDF", "PDF document"),
    (b"\x80\x02", PICKLE),
)
_HINTS = {
    ZIP: "if it is a download, unpack it first; a .pth of PyTorch is read by fcn_port.load",
    HTML: "a server sent an error or login page in place of the file: get the file again from another place",
    "Git LFS pointer, not the file that it stands for": "run `git lfs pull` where it came from",
}
_MARKUP = re.compile(rb"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)


def sniff(head: bytes) -> str:
    """The kind of a file whose first bytes (512 or more, where there are so many) are `head`, as a plain noun."""
    if not head:
        return "empty file"
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if _MARKUP.match(head.removeprefix(b"\xef\xbb\xbf")):
        return HTML
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27:
        return SAFETENSORS
    if not re.search(rb"[^\t\n\r\x0c\x20-\x7e\x80-\xff]", head):
        return TEXT
    return PROTOBUF


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; FileNotFoundError where there is none, CaffeFormatError for a folder or pipe."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            raise CaffeFormatError(f"this is {what}; expected a file", path=path)
        return Path(path).open("rb")
    except PermissionError as error:
        raise CaffeFormatError("the file may not be read", path=path, hint="check its permissions") from error


def sniff_file(path: str | os.PathLike[str]) -> str:
    """The kind of the file at `path`."""
    with open_file(path) as file:
        return sniff(file.read(4096))


def not_a(expected: str, kind: str) -> CaffeFormatError:
    """The error for a file that is plainly of another kind."""
    article = "an" if kind[0] in "aeiouH" else "a"
    return CaffeFormatError(f"this is {article} {kind}; expected {expected}", hint=_HINTS.get(kind))
