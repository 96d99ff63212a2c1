"""The kind of a file, told by its first bytes and never by its name."""

from __future__ import annotations

import codecs
import os
import re
from contextlib import suppress

from ..errors import CaffeFormatError, LimitError, WireError
from ..safety.opening import open_file
from .wire import BYTES, FIXED32, FIXED64, VARINT, Message

HDF5 = "HDF5 file"
SAFETENSORS = "safetensors file"
TEXT = "text file"
PROTOBUF = "protobuf message"
PICKLE = "Python pickle"
ZIP = "zip archive"
HTML = "HTML page"
UTF_16, UTF_32 = "file of UTF-16 text", "file of UTF-32 text"
LFS_POINTER = "Git LFS pointer, not the file that it stands for"

MEAN = "blob by itself, such as a mean (.binaryproto)"
SOLVER_STATE = "solver's state (.solverstate)"
NET = "net (.caffemodel)"
ONNX = "ONNX model"
TFLITE = "TensorFlow Lite model (.tflite)"

_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\x1f\x8b", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ\x00", "xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"Rar!\x1a\x07", "RAR archive"),
    (b"version https://git-lfs", LFS_POINTER),
    (b"\x89PNG", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"%PDF", "PDF document"),
    (b"\x93NUMPY", "NumPy array (.npy)"),
    *((bytes((0x80, protocol)), PICKLE) for protocol in range(2, 6)),
    *((mark, UTF_32) for mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),  # the first begins as UTF-16's does
    *((mark, UTF_16) for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)
_UNPACK = "if it is a download, unpack it first"
_HINTS = {
    **{kind: _UNPACK for _, kind in _SIGNATURES if kind.endswith("archive")},
    "tar archive": _UNPACK,
    **dict.fromkeys((UTF_16, UTF_32), "save it as UTF-8"),
    ZIP: f"{_UNPACK}; a .pth of PyTorch is read by fcn_port.load",
    PICKLE: "a .pth of PyTorch is read by fcn_port.load",
    SAFETENSORS: "a file that was converted already is read by fcn_port.load",
    HTML: "a server sent an error or login page in place of the file: get the file again from another place",
    LFS_POINTER: "run `git lfs pull` where it came from",
    MEAN: "a mean is read by read_mean",
    SOLVER_STATE: "the weights are in the .caffemodel that was saved with it",
    NET: "a net is read by read_caffemodel",
}
_LONG_NAME = re.compile(rb"\n[\x80-\xff]")
"""The beginning of a net whose name is longer than the head: its tag reads as a new line, its length as letters."""
_MARKUP = re.compile(rb"\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)


def sniff(head: bytes) -> str:
    """The kind of a file whose first bytes (4096, where there are so many) are `head`, as a plain noun."""
    if not head:
        return "empty file"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27:  # first: the length can look like others
        return SAFETENSORS
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[2:8] == b"\0\0TFL3":  # FlatBuffers: the place of the root, then what the file is
        return TFLITE
    if is_web_page(head):
        return HTML
    if head[257:262] == b"ustar":
        return "tar archive"
    if not re.search(rb"[^\t\n\r\x0c\x20-\x7e\x80-\xff]", head) and not _LONG_NAME.match(head):
        return TEXT
    return PROTOBUF


def is_web_page(head: bytes) -> bool:
    """True for the `head` of an HTML page, which servers send in place of what they do not have."""
    return _MARKUP.match(head.removeprefix(b"\xef\xbb\xbf")) is not None


def kind_of_message(message: Message) -> str:
    """NET, MEAN, SOLVER_STATE, ONNX, or PROTOBUF for any other: the same numbers have different types in each.

    Number 1 is the name of a net and an int in the others. A damaged message is judged by its fields up to the damage.
    """
    seen: set[tuple[int, int]] = set()
    with suppress(WireError, LimitError):
        seen.update((field.number, field.wire_type) for field in message.fields())
    if (1, VARINT) not in seen and seen & {(1, BYTES), (2, BYTES), (100, BYTES)}:
        return NET
    if (1, VARINT) in seen and (2, VARINT) not in seen:
        if seen >= {(7, BYTES), (8, BYTES)}:
            return ONNX
        if seen & {(2, BYTES), (3, BYTES)}:
            return SOLVER_STATE
    values = {(number, wire_type) for number in (5, 6, 8, 9, 12) for wire_type in (BYTES, FIXED32, FIXED64)}
    return MEAN if seen & {*values, (7, BYTES), (2, VARINT), (3, VARINT)} else PROTOBUF


def sniff_file(path: str | os.PathLike[str]) -> str:
    """The kind of the file at `path`."""
    with open_file(path) as file:
        return sniff(file.read(4096))


def not_a(expected: str, kind: str) -> CaffeFormatError:
    """The error for a file that is plainly of another kind."""
    article = "an" if kind[0] in "aeiouHO" else "a"
    return CaffeFormatError(f"this is {article} {kind}; expected {expected}", hint=_HINTS.get(kind))
