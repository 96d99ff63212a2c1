"""The trees of an HDF5 file that lead on and on: found before libhdf5 goes through them, which ends the program.

Names of a group and chunks of a dataset lie in B-trees of version 1, through which the library goes by recursion: a
node that is below itself takes all of the stack, and one below many others is read for each. Here the levels have to go
down by one, and each node has one parent; `hdf5_indexes` has what came after them. Source: HDF5's file format
specification, version 3, III.A.1 and IV.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

from ..errors import WireError
from .hdf5_indexes import check_chunks, check_names, is_extensible

_LINKS, _TYPE, _LAYOUT, _FILTERS, _CONTINUATION, _SYMBOLS = 2, 3, 8, 11, 16, 17
_CHUNKED = 2
_ENUM = 8
_NESTING = (6, _ENUM, 9, 10, 11)
"""The classes of types that others are in: records, names for numbers, lists, arrays, complex numbers."""
_LONGEST_TYPE = 512
_MOST_BLOCKS = 1 << 10
"""Parts of the header of one object."""


def root_header(mapped: mmap.mmap) -> int:
    """The place of the root group's header, as the superblock says."""
    version, address = mapped[8], _sizes(mapped)[0]
    at = 12 + 3 * address if version > 1 else 24 + 4 * version + 5 * address
    return _number(mapped[at : at + address])


def check_trees(mapped: mmap.mmap, header: int) -> None:
    """WireError where a tree of the object whose header is there is none."""
    sizes = _sizes(mapped)
    filters = next((message[1:2] for kind, message in _messages(mapped, header, sizes) if kind == _FILTERS), b"\0")
    for kind, message in _messages(mapped, header, sizes):
        if kind == _SYMBOLS:
            _check(mapped, _number(message[: sizes[0]]), sizes[1], sizes[0])
        elif kind == _LAYOUT and message[:1] in (b"\1", b"\2") and message[2:3] == bytes([_CHUNKED]):
            _check(mapped, _number(message[8 : 8 + sizes[0]]), 8 + 8 * message[1], sizes[0])
        elif kind == _LAYOUT and message[:2] == bytes([3, _CHUNKED]) and len(message) > 2:
            _check(mapped, _number(message[3 : 3 + sizes[0]]), 8 + 8 * message[2], sizes[0])
        elif kind == _LAYOUT and message[1:2] == bytes([_CHUNKED]):
            check_chunks(mapped, message, sizes, packed=filters > b"\0")
        elif kind == _LINKS:
            check_names(mapped, message, sizes)
        elif kind == _TYPE and len(message) > 8:
            _check_type(message)


def in_an_extensible_array(mapped: mmap.mmap, header: int) -> bool:
    """True for a dataset, whose header is there, with its chunks in the index for those that grow along one axis."""
    layouts = (message for kind, message in _messages(mapped, header, _sizes(mapped)) if kind == _LAYOUT)
    return any(
        message[:1] > b"\3" and message[1:2] == bytes([_CHUNKED]) and is_extensible(message) for message in layouts
    )


def _check_type(message: bytes) -> None:
    """WireError for a type that lies elsewhere, or has more types in it than the library should go through.

    It keeps each of them once more for every one above it: 64 KB of types in types take it GBs.
    """
    if not message[0] >> 4:
        raise WireError("its type is one with a name, or shared; Caffe writes none like that")
    names_of_numbers = message[0] & 15 == _ENUM and message[8] & 15 == 0
    if message[0] & 15 in _NESTING and not names_of_numbers and len(message) > _LONGEST_TYPE:
        raise WireError(f"a type of {len(message)} bytes of other types; expected numbers")


def _sizes(mapped: mmap.mmap) -> tuple[int, int]:
    """The bytes of an address and of a length, as the superblock says."""
    at = 13 if mapped[8] < 2 else 9
    return mapped[at], mapped[at + 1]


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _messages(mapped: mmap.mmap, header: int, sizes: tuple[int, int]) -> Iterator[tuple[int, bytes]]:
    """The kind and the body of each message of an object's header; what is no header is left to the library."""
    is_new = mapped[header : header + 4] == b"OHDR"
    if is_new:
        flags = mapped[header + 5]
        at = header + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        blocks, head = [(at + width, _number(mapped[at : at + width]))], 6 if flags & 4 else 4
    else:
        blocks, head = [(header + 16, _number(mapped[header + 8 : header + 12]))], 8
    left = len(mapped)
    for at, length in blocks:  # grows by the continuations
        left -= length
        if left < 0 or len(blocks) > _MOST_BLOCKS:
            raise WireError("the header of an object goes on and on", hint="the file is damaged: get it again")
        end = at + length
        while at + head <= end:
            kind = mapped[at] if is_new else _number(mapped[at : at + 2])
            size = _number(mapped[at + 1 : at + 3] if is_new else mapped[at + 2 : at + 4])
            body = mapped[at + head : at + head + size]
            if kind == _CONTINUATION:
                place, more = _number(body[: sizes[0]]), _number(body[sizes[0] : sum(sizes)])
                blocks.append((place + 4, more - 8) if is_new else (place, more))
            else:
                yield kind, body
            at += head + size


def _check(mapped: mmap.mmap, root: int, key: int, address: int) -> None:
    """WireError unless the nodes below `root` are a tree; `key` and `address` are bytes of an entry's two parts."""
    nodes, seen = [root], {root}
    left = len(mapped)
    while nodes:
        node = nodes.pop()
        if mapped[node : node + 4] != b"TREE":
            continue
        level, begin = mapped[node + 5], node + 8 + 2 * address
        entries = _number(mapped[node + 6 : node + 8]) if level else 0
        left -= entries * (key + address)
        if left < 0:
            raise WireError("the nodes of a tree share bytes", hint="the file is damaged: get it again")
        for entry in range(entries):
            at = begin + entry * (key + address) + key
            child = _number(mapped[at : at + address])
            if mapped[child : child + 4] != b"TREE":
                continue  # the library says what it is then
            if child in seen or mapped[child + 5] != level - 1:
                raise WireError(
                    f"a tree that leads to the node at {child} again", hint="the file is damaged: get it again"
                )
            seen.add(child)
            nodes.append(child)
