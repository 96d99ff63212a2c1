"""A LevelDB that is damaged, cut or made to do harm gives records or an error that names the file, in little memory."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.errors import CaffeFormatError, LimitError
from converters.formats import read_leveldb
from converters.formats.wire import write_varint
from parity_tests.leveldb_files import (
    batch,
    block,
    changed_table,
    database,
    edit,
    fragment,
    internal,
    log,
    resummed_log,
    sliced,
    snappy_packed,
    table,
)

Change = Callable[[Path], object]


def a_block(*keys: bytes, mark: int = 257) -> bytes:
    return block((internal(key, mark), b"value of " + key) for key in keys)


GOOD_TABLE = table([a_block(b"a", b"ab"), a_block(b"abc", b"b")])
PACKED_TABLE = table(
    [snappy_packed(a_block(b"a", b"ab", b"b", mark=513)), snappy_packed(a_block(b"c" * 200, mark=513))], packing=1
)
GOOD_LOG = log([batch(300, [(b"l", b"x" * 50), (b"a", None)]), batch(302, [(b"m", b"")])])


def whole(folder: Path) -> Path:
    return database(folder, logs={3: GOOD_LOG}, tables={5: GOOD_TABLE, 7: PACKED_TABLE})


def read(folder: Path) -> int:
    found = read_leveldb(folder)
    return sum(len(key) + len(found.value(number)) for number, key in enumerate(found.keys))


def test_what_the_damaged_ones_are_made_of_is_read(tmp_path: Path) -> None:
    found = read_leveldb(whole(tmp_path / "db"))
    assert found.keys == (b"ab", b"abc", b"b", b"c" * 200, b"l", b"m")
    assert [found.value(i) for i in (1, 3, 4)] == [b"value of abc", b"value of " + b"c" * 200, b"x" * 50]


def manifest(*records: bytes) -> Change:
    return lambda folder: (folder / "MANIFEST-000002").write_bytes(log(records))


def written(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def one_table(data: bytes) -> Change:
    return lambda folder: database(folder, tables={5: data})


def one_log(data: bytes) -> Change:
    return lambda folder: database(folder, logs={3: data})


ENTRY = b"\1" + sliced(b"k") + sliced(b"v")
BAD: dict[str, tuple[Change, str]] = {
    # which files there are
    "no CURRENT": (lambda folder: (folder / "CURRENT").unlink(), "CURRENT is not there\n  this is no LevelDB"),
    "CURRENT of nothing": (written("CURRENT", b""), "CURRENT: expected the name of a manifest"),
    "CURRENT without its end": (written("CURRENT", b"MANIFEST-000002"), "CURRENT: expected the name of a manifest"),
    "CURRENT elsewhere": (written("CURRENT", b"../../etc/passwd\n"), "CURRENT: expected the name of a manifest"),
    "no manifest": (written("CURRENT", b"MANIFEST-000009\n"), "CURRENT names MANIFEST-000009, which is not there"),
    "no table": (lambda folder: (folder / "000005.ldb").unlink(), "names the table 000005.ldb, which is not there"),
    "a folder as table": (
        lambda folder: ((folder / "000005.ldb").unlink(), (folder / "000005.ldb").mkdir()), "this is a folder",
    ),
    # manifests
    "an order of its own": (manifest(edit(comparator=b"i\x1b")), r"keys in the order of 'i\\x1b'; expected 'leveldb"),
    "an unknown edit": (manifest(edit() + b"\x08\1"), "MANIFEST-000002: an edit of kind 8"),
    "no log number": (manifest(edit(log_number=None)), "the number of the log is not said"),
    "no last number": (manifest(edit(sequence=None)), "the number of the last record is not said"),
    "level 7": (manifest(edit(tables=[(7, 5, 9)])), "level 7 of 7"),
    "a number cut": (manifest(edit() + b"\2\x80"), "the bytes end inside a varint"),
    "a key cut": (manifest(edit(tables=[(0, 5, 9)])[:-3]), "9 bytes at offset .* of "),
    # logs
    "a checksum": (one_log(GOOD_LOG[:-1] + b"?"), "000003.log, offset .*: checksum mismatch"),
    "a middle alone": (one_log(fragment(3, b"x")), "a record without its beginning"),
    "a beginning alone": (one_log(fragment(2, b"x") + fragment(1, batch(1, []))), "a record without its end"),
    "kind 0": (one_log(fragment(0, b"x")), "a fragment of kind 0"),
    "kind 5": (one_log(fragment(5, b"x")), "a fragment of kind 5"),
    "past its block": (one_log(struct.pack("<IHB", 0, 40_000, 1) + bytes(1 << 15)), "runs past its block"),
    "a short batch": (one_log(log([bytes(11)])), "a batch of 11 bytes"),
    "an unknown entry": (one_log(log([batch(1, [], count=1) + b"\2\1k"])), "an entry of kind 2 in a batch"),
    "an entry less": (one_log(log([batch(1, [(b"a", b"")], count=2)])), "a batch of 2 entries that has others"),
    "an entry more": (one_log(log([batch(1, [(b"a", b"")]) + ENTRY])), "a batch of 1 entries that has others"),
    "a value cut": (one_log(log([batch(1, [], count=1) + b"\1\1k\5v"])), "5 bytes at offset 16 of 17"),
    "no such number": (one_log(log([batch((1 << 64) - 1, [(b"a", b"")])])), "sequence number 18446744073709551615"),
    # tables
    "a shorter table": (written("000005.ldb", GOOD_TABLE[:-9]), "000005.ldb: .* bytes, and the manifest says"),
    "an index past its table": (
        one_table(GOOD_TABLE[:-48] + (b"\0\0" + write_varint(99) + write_varint(1 << 60)).ljust(40) + GOOD_TABLE[-8:]),
        f"000005.ldb: an index of {1 << 60} bytes at offset 99, in a table of",
    ),
    "a table of 2**60 bytes": (manifest(edit(tables=[(0, 5, 1 << 60)])), f"199 bytes, and the manifest says {1 << 60}"),
    "a table's end": (one_table(GOOD_TABLE[:-1] + b"?"), "000005.ldb: no table of LevelDB"),
    "no bytes": (one_table(b""), "000005.ldb: a table of 0 bytes"),
    "a block's checksum": (one_table(b"?" + GOOD_TABLE[1:]), "000005.ldb, block at 0: checksum mismatch"),
    "Zstandard": (one_table(table([a_block(b"a")], packing=2)), "a block that is packed by Zstandard"),
    "a new packing": (one_table(table([a_block(b"a")], packing=9)), "packed in a way of number 9"),
    "not Snappy's": (one_table(table([a_block(b"a")], packing=1)), "000005.ldb, block at 0: a copy of"),
    "a block twice": (
        one_table(table([a_block(b"a")], handles=[(0, 30), (0, 30)])), "a block of 30 bytes at offset 0.* 35 bytes are",
    ),
    "a block past the end": (one_table(table([a_block(b"a")], handles=[(0, 1 << 60)])), f"a block of {1 << 60} bytes"),
    "a short key": (one_table(table([block([(b"short", b"")])])), "a key that is too short"),
    "more shared than is": (one_table(table([b"\x09\0\0" + struct.pack("<II", 0, 1)])), "a key that is too short"),
    "a key of kind 2": (one_table(table([a_block(b"a", mark=258)])), "a key of kind 2"),
    "an entry past the end": (one_table(table([b"\0\x09\x7f" + a_block(b"a")[3:]])), "runs past its block"),
    "restarts": (one_table(table([struct.pack("<I", 1 << 30)])), "block at 0: 4 bytes for 1073741824 restarts"),
    "a late restart": (one_table(table([a_block(b"a")[:-8] + struct.pack("<II", 9, 1)])), "before its first restart"),
    "no restarts": (one_table(table([bytes(4)])), "4 bytes for 0 restarts"),
    "an empty block": (one_table(table([b""])), "0 bytes for 0 restarts"),
    # records
    "no records": (lambda folder: database(folder, logs={3: b""}, tables={}), "the database has no records"),
    "deleted ones": (one_log(log([batch(1, [(b"a", b"x"), (b"a", None)])])), "the database has no records"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_read_is_refused_in_words(kind: str, tmp_path: Path) -> None:
    change, expected = BAD[kind]
    folder = tmp_path / "db"
    if "one_" in change.__qualname__ or kind == "no records":
        folder.mkdir()
    else:
        whole(folder)
    change(folder)
    with pytest.raises(CaffeFormatError, match=expected) as caught:
        read_leveldb(folder)
    assert str(caught.value).startswith(str(folder)) and "\x1b" not in str(caught.value)


def test_a_value_whose_file_was_cut_or_is_gone_is_an_error(tmp_path: Path) -> None:
    folder = whole(tmp_path / "db")
    found = read_leveldb(folder)
    for name, number in (("000005.ldb", 1), ("000003.log", 4)):
        (folder / name).write_bytes((folder / name).read_bytes()[:9])
        with pytest.raises(CaffeFormatError, match=f"{name}.*: the file ends inside a"):
            found.value(number)
        (folder / name).unlink()
        with pytest.raises(CaffeFormatError, match=f"{name} is not there"):
            found.value(number)


FILES = ("CURRENT", "MANIFEST-000002", "000003.log", "000005.ldb", "000007.ldb")


@pytest.mark.parametrize("name", FILES)
def test_every_cut_gives_records_or_an_error(name: str, tmp_path: Path) -> None:
    """What a table or CURRENT loses is always told; a manifest and a log may end earlier."""
    folder = whole(tmp_path / "db")
    data = (folder / name).read_bytes()
    for length in range(len(data)):
        (folder / name).write_bytes(data[:length])
        try:
            read(folder)
            assert name in FILES[1:3]
        except CaffeFormatError:
            continue


def changed(data: bytes, r: random.Random) -> bytes:
    out = bytearray(data or b"\0")
    for _ in range(r.choice((1, 1, 2, 5))):
        out[r.randrange(len(out))] = r.choice((0, 1, 127, 128, 255, r.randrange(256)))
    return bytes(out)


@pytest.mark.parametrize("name", FILES[1:])
@pytest.mark.parametrize("summed", [False, True])
def test_changed_bytes_give_records_or_an_error(name: str, summed: bool, tmp_path: Path) -> None:
    """With the checksums put right, too, which then tell nothing."""
    folder, r = whole(tmp_path / "db"), random.Random(f"{name} {summed}")
    data = (folder / name).read_bytes()
    expected, read_ones, count = read(folder), 0, 500
    started = time.process_time()
    tracemalloc.start()
    for case in range(count):
        if summed and name.endswith("ldb"):
            new = changed_table(data, case, lambda block: changed(block, r))
        else:
            new = resummed_log(changed(data, r)) if summed else changed(data, r)
        (folder / name).write_bytes(new)
        try:
            found = read(folder)
            read_ones += 1
            assert found == expected or (found < 4096 and (summed or not name.endswith("ldb")))
        except CaffeFormatError as error:
            assert str(folder) in str(error)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 << 20 and time.process_time() - started < 60
    assert count > read_ones > 20 * summed


def test_a_few_bytes_do_not_ask_for_many(tmp_path: Path) -> None:
    """Keys that share nearly all with the one before; a packed block of entries without bytes of their own."""
    long = block((internal(bytes(60_000) + b"%08d" % n, 257), b"") for n in range(2000))
    same = block([(internal(bytes(1000), 257), b"")])[:-8] + b"\xf0\x07\0\0" * 58_000 + struct.pack("<II", 0, 1)
    for number, data in enumerate((table([long]), table([same]), table([snappy_packed(same)], packing=1))):
        folder = database(tmp_path / str(number), tables={5: data})
        tracemalloc.start()
        try:
            read(folder)
            assert number == 1
        except LimitError as error:
            assert "its keys would take" in str(error) and number != 1
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < (64 << 20) + (24 + 22) * len(data)  # entries, and a block of them
