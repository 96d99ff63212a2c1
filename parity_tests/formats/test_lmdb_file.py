"""An LMDB in which one number is wrong: each check of its pages, nodes and lengths, by what it says."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from converters import CaffeFormatError
from converters.formats import read_lmdb

PAGE = 4096
ROOT, LEAF, OTHER, VALUE = 2, 3, 4, 5
FLAGS, LOWER, PLACES = 10, 12, 16
"""Places in a page: its flags, the end of its list of nodes, and that list."""
NODE = PAGE - 64
"""The place of the first node of each page here."""


def page(number: int, flags: int, *nodes: tuple[bytes, bytes, int, int]) -> bytes:
    """A page of nodes: key, what follows it, the size of a value or the page's number, and flags."""
    made = bytearray(PAGE)
    struct.pack_into("<QHHHH", made, 0, number, 0, flags, 16 + 2 * len(nodes), NODE)
    for i, (key, body, size, marks) in enumerate(nodes):
        at = NODE + 32 * i
        struct.pack_into("<H", made, PLACES + 2 * i, at)
        struct.pack_into("<HHHH", made, at, size & 0xFFFF, size >> 16, marks, len(key))
        made[at + 8 : at + 8 + len(key) + len(body)] = key + body
    return bytes(made)


def database(path: Path, *wrong: tuple[int, int, str, int]) -> Path:
    """Two records below a root, the second in a page of its own, with numbers put in at places of pages."""
    meta = bytearray(PAGE)
    struct.pack_into("<QHHHH", meta, 0, 0, 0, 8, 0, 0)
    struct.pack_into("<II", meta, 16, 0xBEEFC0DE, 1)
    struct.pack_into("<I", meta, 40, PAGE)
    struct.pack_into("<QQQQ", meta, 120, 2, ROOT, VALUE, 1)
    older = bytearray(meta)
    struct.pack_into("<QQQQ", older, 120, 0, (1 << 64) - 1, 1, 0)
    root = page(ROOT, 1, (b"", b"", LEAF, 0), (b"b", b"", OTHER, 0))
    leaf = page(LEAF, 2, (b"a", b"one", 3, 0))
    other = page(OTHER, 2, (b"b", struct.pack("<Q", VALUE), 5, 1))
    large = struct.pack("<QHHI", VALUE, 0, 4, 1) + b"large"
    content = bytearray(bytes(older) + bytes(meta) + root + leaf + other + large.ljust(PAGE, b"\0"))
    for number, at, form, value in wrong:
        struct.pack_into(form, content, number * PAGE + at, value)
    path.write_bytes(content)
    return path


def test_the_newer_meta_page_and_every_kind_of_node(tmp_path: Path) -> None:
    found = read_lmdb(database(tmp_path / "data.mdb"))
    assert found.keys == (b"a", b"b") and [found.value(i) for i in range(2)] == [b"one", b"large"]
    dirty = read_lmdb(database(tmp_path / "data.mdb", (LEAF, FLAGS, "<H", 0x12)))
    assert dirty.keys == (b"a", b"b")


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ((1, 20, "<I", 2), "version 2 of LMDB; 1 is read"),
        ((0, 40, "<I", 100), "pages of 100 bytes"),
        ((1, 120, "<Q", 3), "2 records, and the database says 3"),
        ((1, 136, "<Q", 6), "7 pages of 4096 bytes, and the file has 24576 bytes"),
        ((1, 128, "<Q", 1), "page 1 is asked for; there are 6"),
        ((ROOT, NODE, "<H", 6), "page 6 is asked for; there are 6"),
        ((ROOT, NODE + 4, "<H", 1), f"page {LEAF + (1 << 32)} is asked for"),
        ((ROOT, NODE, "<H", OTHER), "page 4: two branches of the tree have one page"),
        ((ROOT, NODE, "<H", ROOT), "page 2: two branches of the tree have one page"),
        ((LEAF, 0, "<Q", OTHER), "page 3: no page of a tree of records"),
        ((LEAF, FLAGS, "<H", 4), "page 3: no page of a tree of records"),
        ((LEAF, LOWER, "<H", 15), "page 3: a page that holds more than it can"),
        ((LEAF, LOWER, "<H", 19), "page 3: a page that holds more than it can"),
        ((LEAF, LOWER, "<H", PAGE + 2), "page 3: a page that holds more than it can"),
        ((LEAF, PLACES, "<H", 16), "page 3: a node outside its page"),
        ((LEAF, PLACES, "<H", PAGE - 7), "page 3: a node outside its page"),
        ((LEAF, NODE + 6, "<H", 57), "page 3: a key runs past the end of its page"),
        ((LEAF, NODE, "<H", 56), "page 3: a value runs past the end of its page"),
        ((LEAF, NODE + 4, "<H", 2), "a database of tables or of several values for a key"),
        ((OTHER, NODE + 6, "<H", 49), "page 4: a node runs past the end of its page"),
        ((OTHER, NODE + 9, "<Q", 1), "page 4: a value of 5 bytes at page 1 of 6"),
        ((OTHER, NODE, "<H", PAGE - 15), "page 4: a value of 4081 bytes at page 5 of 6"),
    ],
)
def test_a_number_that_is_wrong(wrong: tuple[int, int, str, int], problem: str, tmp_path: Path) -> None:
    with pytest.raises(CaffeFormatError, match=problem):
        read_lmdb(database(tmp_path / "data.mdb", wrong))


def test_a_database_that_becomes_shorter(tmp_path: Path) -> None:
    found = read_lmdb(database(tmp_path / "data.mdb"))
    found.path.write_bytes(found.path.read_bytes()[: VALUE * PAGE + 18])
    with pytest.raises(CaffeFormatError, match="the file ends inside record 1"):
        found.value(1)


@pytest.mark.parametrize("size", [0, 20, 151, PAGE + 151, PAGE * 5])
def test_a_database_that_was_cut(size: int, tmp_path: Path) -> None:
    path = database(tmp_path / "data.mdb")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CaffeFormatError, match="the database was cut, or is still being written: copy it again"):
        read_lmdb(path)


def test_a_tree_of_very_many_levels(tmp_path: Path) -> None:
    """Of a page each, through which Python would go by recursion."""
    path, levels = database(tmp_path / "data.mdb", (1, 128, "<Q", VALUE + 1), (1, 136, "<Q", VALUE + 2000)), 2000
    chain = (page(VALUE + 1 + i, 1, (b"", b"", min(VALUE + 2 + i, VALUE + levels), 0)) for i in range(levels))
    path.write_bytes(path.read_bytes() + b"".join(chain))
    with pytest.raises(CaffeFormatError, match="the tree is deeper than 33 levels, and the limit is 32"):
        read_lmdb(path)
