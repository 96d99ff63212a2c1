"""The newer indexes of an HDF5 file: B-trees of version 2, heaps of names, and arrays of chunks, before libhdf5's use.

The library divides by the sizes of records and blocks, takes a node's as memory, goes through a tree as often as its
nodes are named, and through an array for as long as its header says. It takes the kind and size of records from an
index, too, and puts them down where it has room for those that it looks for. Source: HDF5's file format specification,
version 3, III.A.2, III.G, VII.C and VII.D.
"""

from __future__ import annotations

import itertools
import mmap
from math import prod

from ..errors import WireError
from ..safety.limits import check_limit, check_memory

MOST_CHUNKS, CHUNK = 1 << 16, 64
"""Chunks that any file may have, and the bytes of a file that account for another one."""

_DEEPEST = 32
_DAMAGED = "the file is damaged: get it again"
_HEADER, _PREFIX = 16, 10
"""Bytes of a tree's header before the address of its root; and of a node that are no records: its checksum, too."""
_EXTENSIBLE = b"\4"
_INDEXES = {b"\3": 1, _EXTENSIBLE: 5, b"\5": 6}
"""Bytes of what a layout says of its index: a fixed array, an extensible one, a tree."""
_HUGE, _HUGE_DIRECT, _BY_NAME, _BY_ORDER, _CHUNKS, _PACKED_CHUNKS = 1, 3, 5, 6, 10, 11
"""The kinds of trees: by what their records are of."""
_NAME_RECORD, _ORDER_RECORD = 11, 15
"""Bytes of a record of a name: a hash, or a number, before the place in the heap."""


def check_names(mapped: mmap.mmap, message: bytes, sizes: tuple[int, int]) -> None:
    """WireError where the trees that a group's link info names are none; `sizes` are bytes of address and length."""
    address, length = sizes
    at = 10 if message[1:2] and message[1] & 1 else 2
    heap, *trees = (_number(message[i : i + address]) for i in range(at, len(message), address))
    if mapped[heap : heap + 4] == b"FRHP":
        _check_heap(mapped, heap, sizes)
        is_direct = address + length < _number(mapped[heap + 5 : heap + 7])
        kind, record = (_HUGE_DIRECT, address + length) if is_direct else (_HUGE, address + 2 * length)
        _check_tree(mapped, _number(mapped[heap + 14 + length : heap + 14 + length + address]), sizes, kind, record)
    for tree, kind, record in zip(trees, (_BY_NAME, _BY_ORDER), (_NAME_RECORD, _ORDER_RECORD), strict=False):
        _check_tree(mapped, tree, sizes, kind, record)


def _check_heap(mapped: mmap.mmap, heap: int, sizes: tuple[int, int]) -> None:
    """WireError where the blocks of a heap are packed, or of sizes that it cannot have: from row to row they double."""
    address, length = sizes
    if mapped[heap + 7 : heap + 9] != b"\0\0":
        raise WireError("a group whose names are packed; Caffe writes none like that")
    at = heap + 14 + 10 * length + 2 * address
    ends = (0, 2, 2 + length, 2 + 2 * length, 4 + 2 * length)
    width, first, largest, bits = (_number(mapped[at + i : at + j]) for i, j in itertools.pairwise(ends))
    rows = _number(mapped[at + 6 + 2 * length + address : at + 8 + 2 * length + address])
    doubling = all(each.bit_count() == 1 for each in (width, first, largest)) and first <= largest
    if not doubling or bits > 8 * length or width * first > 1 << bits or rows * width * address > len(mapped):
        problem = f"a heap of {rows} rows of {width} blocks, of {first} to {largest} bytes, in all of 2^{bits}"
        raise WireError(problem, where=f"offset {heap}", hint=_DAMAGED)
    check_memory(largest, file_size=len(mapped), what="a block of names would take", where=f"offset {heap}")


def check_chunks(mapped: mmap.mmap, message: bytes, sizes: tuple[int, int], *, packed: bool) -> None:
    """WireError where the index of the chunks that a layout of version 4 or 5 names leads on and on, or is of others.

    `packed`: the chunks have filters, and their records their sizes.
    """
    axes, width, kind = _number(message[3:4]), _number(message[4:5]), _kind_at(message)
    at = kind + 1 + _INDEXES.get(message[kind : kind + 1], 0)
    index = _number(message[at : at + sizes[0]])
    chunk = prod(_number(message[i : i + width]) for i in range(5, kind, max(1, width)))
    least = sizes[0] + (4 + min(8, 2 + (chunk.bit_length() - 1) // 8) if packed else 0)
    signature = mapped[index : index + 4]
    if signature in (b"EAHD", b"FAHD"):
        if mapped[index + 5] != packed or mapped[index + 6] < least:
            problem = f"an index of elements of kind {mapped[index + 5]} and {mapped[index + 6]} bytes"
            raise WireError(f"{problem}; expected {int(packed)} and {least}", where=f"offset {index}", hint=_DAMAGED)
        begin = index + (12 + 4 * sizes[1] if signature == b"EAHD" else 8)
        most = MOST_CHUNKS + len(mapped) // CHUNK
        check_limit(_number(mapped[begin : begin + sizes[1]]), most, what="its index has", unit="chunks")
    else:
        _check_tree(mapped, index, sizes, _PACKED_CHUNKS if packed else _CHUNKS, least + 8 * (axes - 1))


def is_extensible(message: bytes) -> bool:
    """True for a layout of version 4 or 5 that names an extensible array."""
    at = _kind_at(message)
    return message[at : at + 1] == _EXTENSIBLE


def _kind_at(message: bytes) -> int:
    """The place in a layout of the kind of its index, behind the shape of a chunk."""
    return 5 + message[3] * message[4] if len(message) > 4 else len(message)


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _check_tree(mapped: mmap.mmap, header: int, sizes: tuple[int, int], kind: int, least: int) -> None:
    """WireError unless a tree's nodes lie in the file, each once, with as many records as it says, of `least` bytes."""
    if mapped[header : header + 4] != b"BTHD":
        return  # the library says what it is then
    node, record, depth = (_number(mapped[header + at : header + end]) for at, end in ((6, 10), (10, 12), (12, 14)))
    root = header + _HEADER + sizes[0]
    if mapped[header + 5] != kind:
        problem = f"a tree of kind {mapped[header + 5]}; expected {kind}"
        raise WireError(problem, where=f"offset {header}", hint=_DAMAGED)
    if not least <= record <= node - _PREFIX or node > len(mapped) or depth > _DEEPEST:
        problem = f"a tree of {depth + 1} levels, nodes of {node} bytes and records of {record}"
        raise WireError(problem, where=f"offset {header}", hint=_DAMAGED)
    pointers = _pointers(node, record, depth, sizes[0])
    nodes = [(_number(mapped[root - sizes[0] : root]), _number(mapped[root : root + 2]), depth)]
    left, records = len(mapped), 0
    while nodes:
        at, own, level = nodes.pop()
        left, records = left - node, records + own
        if left < 0:
            raise WireError("the nodes of a tree share bytes", where=f"offset {header}", hint=_DAMAGED)
        if not level or not own:
            continue
        count, size = pointers[level]
        begin, width = at + 6 + own * record, (own + 1) * size
        if own * (record + size) + size > node - _PREFIX:
            raise WireError(f"a node of {own} records", where=f"offset {at}", hint=_DAMAGED)
        children = mapped[begin : begin + width]
        for i in range(0, len(children), size):
            child = children[i : i + size]
            nodes.append((_number(child[: sizes[0]]), _number(child[sizes[0] : sizes[0] + count]), level - 1))
    total = _number(mapped[root + 2 : root + 2 + sizes[1]])
    if records != total:
        raise WireError(f"{records} records in a tree of {total}", where=f"offset {header}", hint=_DAMAGED)


def _pointers(node: int, record: int, depth: int, address: int) -> list[tuple[int, int]]:
    """For the nodes of each level, the lowest first, the bytes of a child's number of records, and of all of a child.

    A number takes as many bytes as the largest that there can be: of records in a node without children, and from the
    second level on of all those below the child.
    """
    below = most = (node - _PREFIX) // record
    count, below_bytes = _bytes(most), 0
    found = [(0, 0)]
    for _ in range(depth):
        size = address + count + below_bytes
        found.append((count, size))
        most = (node - _PREFIX - size) // (record + size)
        below = (most + 1) * below + most
        below_bytes = _bytes(below)
    return found


def _bytes(largest: int) -> int:
    return (largest.bit_length() + 7) // 8
