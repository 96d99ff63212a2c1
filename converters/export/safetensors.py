"""Safetensors, written as a stream and the same to the byte every time.

The library's own writer wants every tensor in memory at once and orders metadata as it likes; this one copies from
the mapped Caffe file straight to the disk. Files are read with the library. Source: the format's README: eight bytes
of header length, a JSON header padded with spaces to a multiple of eight, then the tensors back to back.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import CaffeFormatError, LimitError
from ..safety.limits import check_memory
from ..safety.utf8 import utf8_path

_DTYPES = {"f2": "F16", "f4": "F32", "f8": "F64", "i4": "I32", "u4": "U32"}
_CHUNK = 1 << 20
_MOST_HEADER = 100_000_000
"""The library reads no longer header."""
_KEY = re.compile(rb'"\s*:')
_KEY_BYTES = 300
"""About what the library and Python take for each key of the header; a tensor has four."""


def write_safetensors(
    file: BinaryIO,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
    *,
    watch: Callable[[str, np.ndarray], None] | None = None,
) -> None:
    """Write `tensors` at the start of `file`; `watch` sees each piece, flat, as it goes by and before it is reused."""
    file.write(header_bytes(tensors, metadata))
    for name, tensor in _aligned(tensors):
        for piece in _pieces(tensor):
            file.write(piece.data)
            if watch is not None:
                watch(name, piece)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The metadata of a safetensors file; CaffeFormatError where it is none, or where its keys would take too much."""
    _check_keys(path)
    try:
        with utf8_path(path) as there, safe_open(there, framework="numpy") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise CaffeFormatError(f"a damaged safetensors file: {error}", path=path, hint="convert it again") from error


def map_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file as read-only views of the mapped file; raises as `read_metadata` does.

    Of the types that Caffe files have; CaffeFormatError for a tensor of another.
    """
    read_metadata(path)  # by the library, which checks the header against the file
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    types = {name: np.dtype(f"<{code}") for code, name in _DTYPES.items()}
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in types:
            raise CaffeFormatError(f"{name[:80]!a} is {entry['dtype']}; expected {', '.join(types)}", path=path)
        start, count = 8 + length + entry["data_offsets"][0], prod(entry["shape"])
        found[name] = np.frombuffer(buffer, types[entry["dtype"]], count, start).reshape(entry["shape"])
    return found


def _check_keys(path: str | os.PathLike[str]) -> None:
    """LimitError if there are many more tensors or entries than a file of this size may have; 52,000 tensors are fine.

    Text in the header has its quotes escaped, and hardly one of them is before a colon.
    """
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, _MOST_HEADER))
    needed = _KEY_BYTES * sum(1 for _ in _KEY.finditer(header))
    try:
        check_memory(needed, file_size=len(header), what="the keys of its header would take")
    except LimitError as error:
        raise error.in_file(path) from None


def header_bytes(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """The header; its length does not depend on the letters of the metadata, only on how many there are."""
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for name, tensor in _aligned(tensors):
        end = offset + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype.str[1:]], "shape": tensor.shape, "data_offsets": [offset, end]}
        offset = end
    _refuse_halves_of_pairs((*tensors, *metadata, *metadata.values()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _MOST_HEADER:
        raise CaffeFormatError(f"names and net definition take {len(text)} bytes; safetensors holds {_MOST_HEADER}")
    return len(text).to_bytes(8, "little") + text


def _refuse_halves_of_pairs(texts: Iterable[str]) -> None:
    """Lone surrogates are no Unicode, and the library refuses a file that has one."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise CaffeFormatError(f"the name {text[:80]!a} is not Unicode; safetensors holds no such") from None


def _aligned(tensors: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Wide types first, else in the order given: then every tensor lies at a multiple of its item size."""
    return sorted(tensors.items(), key=lambda item: -item[1].itemsize)


def _pieces(tensor: np.ndarray) -> Iterator[np.ndarray]:
    """The values by the MiB, in one buffer that is used again: in a Caffe file they lie at odd addresses, from which
    arithmetic is three times slower, and a buffer of this size stays in the processor's cache.
    """
    flat = tensor.reshape(-1)
    buffer = np.empty(min(flat.size, _CHUNK // tensor.itemsize), tensor.dtype)
    for start in range(0, flat.size, max(buffer.size, 1)):
        piece = buffer[: flat.size - start]
        np.copyto(piece, flat[start : start + buffer.size])
        yield piece
