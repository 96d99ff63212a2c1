"""Any LevelDB is read as LevelDB reads it (plyvel, where it is installed), and reading changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from converters.errors import CaffeFormatError
from converters.formats import read_leveldb
from parity_tests.goldens import GOLDEN
from parity_tests.leveldb_files import batch, block, database, edit, fragment, internal, log, table

Records = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def plyvel() -> ModuleType:
    return pytest.importorskip("plyvel", reason="what LevelDB itself says: pip install 'plyvel>=1.5'")


def records(folder: Path) -> Records:
    found = read_leveldb(folder)
    return [(key, found.value(number)) for number, key in enumerate(found.keys)]


def by_plyvel(plyvel: ModuleType, folder: Path) -> Records:
    """What LevelDB reads of a copy, as it changes what it opens."""
    copy = folder.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    with plyvel.DB(str(copy), create_if_missing=False, paranoid_checks=True) as database:
        return [(bytes(key), bytes(value)) for key, value in database.iterator(verify_checksums=True)]


SETTINGS: dict[str, dict[str, object]] = {
    "many small tables": {"write_buffer_size": 1 << 16, "max_file_size": 1 << 20, "block_size": 4096},
    "tiny blocks": {"write_buffer_size": 1 << 18, "block_size": 256, "block_restart_interval": 1},
    "not packed": {"write_buffer_size": 1 << 17, "compression": None, "block_restart_interval": 1000},
    "a filter": {"write_buffer_size": 1 << 17, "bloom_filter_bits": 10},
    "Caffe's": {"write_buffer_size": 1 << 28, "block_size": 1 << 16},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_any_leveldb_is_read_as_leveldb_reads_it(plyvel: ModuleType, kind: str, tmp_path: Path) -> None:
    """Overwritten and deleted keys, small and large values, smooth and random; opened again and again."""
    draw = np.random.default_rng(len(kind))
    folder = tmp_path / "db"
    compared = 0
    for opened in range(4):
        with plyvel.DB(str(folder), create_if_missing=True, **SETTINGS[kind]) as store:
            for _ in range(6):
                with store.write_batch() as batch:
                    for number in draw.integers(0, 4000, 250).tolist():
                        key = b"%08d_%s" % (number, b"x" * (number % 60))
                        if draw.random() < 0.3:
                            batch.delete(key)
                        elif draw.random() < 0.5:
                            batch.put(key, draw.bytes(int(draw.integers(0, 900))))
                        else:
                            batch.put(key, b"%d " % number * int(draw.integers(0, 400)))
                if draw.random() < 0.1:
                    store.put(b"%d" % number, draw.bytes(200_000))
            if opened == 1:
                store.compact_range()
        expected = by_plyvel(plyvel, folder)
        assert records(folder) == expected
        compared += len(expected)
    assert compared > 4000
    if kind == "many small tables":
        assert len(list(folder.glob("*.ldb"))) > 3


def test_a_batch_of_caffes_in_a_log(plyvel: ModuleType, tmp_path: Path) -> None:
    """A thousand records are one record of the log, in fragments of 32 KB."""
    folder, draw = tmp_path / "db", np.random.default_rng(0)
    with plyvel.DB(str(folder), create_if_missing=True, write_buffer_size=1 << 28) as store:
        for start in (0, 300):
            with store.write_batch() as batch:
                for number in range(start, start + 300):
                    batch.put(b"%08d" % number, draw.bytes(int(draw.integers(0, 40_000))))
    assert not list(folder.glob("*.ldb")) and records(folder) == by_plyvel(plyvel, folder)


def state(folder: Path) -> list[tuple[str, int, int, bytes]]:
    files = sorted(folder.iterdir())
    return [(p.name, p.stat().st_mtime_ns, p.stat().st_mode, p.read_bytes()) for p in (folder, *files) if p.is_file()]


def test_reading_changes_nothing_and_needs_no_right_to_write(tmp_path: Path) -> None:
    """Also while another program has the lock."""
    folder = tmp_path / "db"
    shutil.copytree(GOLDEN / "stores" / "leveldb", folder)
    database(tmp_path / "tables", tables={5: table([block([(internal(b"a", 257), b"x")])])})
    for place, count in ((folder, 3), (tmp_path / "tables", 1)):
        (place / "LOCK").touch()
        for path in (*place.iterdir(), place):
            path.chmod(0o555 if path.is_dir() else 0o444)
        before, names = state(place), sorted(place.iterdir())
        folder_time = place.stat().st_mtime_ns
        assert len(records(place)) == count
        assert state(place) == before and sorted(place.iterdir()) == names and place.stat().st_mtime_ns == folder_time
        place.chmod(0o755)


def test_a_database_that_is_open_is_read(plyvel: ModuleType, tmp_path: Path) -> None:
    with plyvel.DB(str(tmp_path / "db"), create_if_missing=True) as store:
        store.put(b"a", b"x")
        assert records(tmp_path / "db") == [(b"a", b"x")]


def test_the_newest_of_each_key_counts(tmp_path: Path) -> None:
    """In whatever file, and of entries with higher numbers than the manifest's last one none."""
    older = table([block([(internal(b"a", 1 << 8 | 1), b"old"), (internal(b"b", 2 << 8 | 1), b"b")])])
    newer = table(
        [
            block([(internal(b"a", 5 << 8 | 1), b"new"), (internal(b"a", 4 << 8 | 1), b"between")]),
            block([(internal(b"b", 6 << 8), b""), (internal(b"c", 9 << 8 | 1), b"not yet")]),
        ]
    )
    tables = {7: older, 6: newer}
    place = database(tmp_path / "db", tables=tables, sequence=8)
    assert records(place) == [(b"a", b"new")]
    place = database(tmp_path / "db", tables=tables, sequence=8, logs={3: log([batch(9, [(b"b", b"again")])])})
    assert records(place) == [(b"a", b"new"), (b"b", b"again"), (b"c", b"not yet")]


def test_logs_and_tables_that_are_not_the_manifests_do_not_count(tmp_path: Path) -> None:
    """Tables that an edit takes away, by their level; logs before the manifest's, but for the previous one."""
    one, two = (table([block([(internal(b"%d" % n, n << 8 | 1), b"")])]) for n in (1, 2))
    logs = {number: log([batch(number, [(b"log %d" % number, b"")])]) for number in (3, 5, 9)}
    place = database(tmp_path / "db", tables={11: one, 12: two, 13: one}, logs=logs)
    edits = [
        edit(tables=[(0, 11, len(one)), (0, 12, len(two))], log_number=2),
        edit(gone=[(0, 11), (0, 12)], tables=[(1, 12, len(two))], log_number=5, comparator=None, sequence=None)
        + b"\x09\3",
    ]
    (place / "MANIFEST-000002").write_bytes(log(edits))
    assert [key for key, _ in records(place)] == [b"2", b"log 3", b"log 5", b"log 9"]
    (place / "000012.ldb").rename(place / "000012.sst")
    (place / "MANIFEST-000002").write_bytes(log([*edits[:1], edits[1][:-2] + b"\x09\0"]))
    assert [key for key, _ in records(place)] == [b"2", b"log 5", b"log 9"]


def test_what_was_read_is_not_shown_again_when_the_folder_is_another(tmp_path: Path) -> None:
    """Blocks that are kept belong to a file as it was."""
    for value in (b"first", b"other"):
        place = database(tmp_path / "db", tables={5: table([block([(internal(b"a", 257), value)])])})
        assert records(place) == [(b"a", value)]


def outcome(read: object, *arguments: object) -> Records | None:
    try:
        return read(*arguments)  # type: ignore[operator]
    except CaffeFormatError as error:
        return [] if "no records" in str(error) else None
    except Exception:  # plyvel's own
        return None


def test_a_log_that_was_cut_is_read_as_leveldb_recovers_it(plyvel: ModuleType, tmp_path: Path) -> None:
    """What the end of the file cuts is left out: no record more and none fewer."""
    draw = np.random.default_rng(0)
    sizes = enumerate([5, 3000, 29_700, 12, 70_000, 9, 400])
    batches = [batch(10 * n, [(b"%d" % n, draw.bytes(size)), (b"%d also" % n, b"")]) for n, size in sizes]
    whole, edge = log(batches), 1 << 15
    ends = {len(log(batches[:n])) for n in range(8)} | {edge, 2 * edge, 3 * edge}
    place, seen = tmp_path / "db", set()
    for cut in sorted({end + more for end in ends for more in (-1, 0, 1, 6, 7, 8)}):
        database(place, logs={3: whole[: max(0, cut)]})
        found = outcome(records, place)
        assert found is not None and found == outcome(by_plyvel, plyvel, place), cut
        seen.add(len(found))
    assert seen == set(range(0, 15, 2))


@pytest.mark.parametrize("before", [fragment(2, b""), bytes(1 << 15), fragment(1, batch(1, [])) + bytes(40_000)])
def test_what_old_versions_left_in_logs_is_passed_over(plyvel: ModuleType, before: bytes, tmp_path: Path) -> None:
    """A beginning without bytes at the end of a block, and room that was reserved and not written."""
    tail = bytes(-len(before) % (1 << 15)) if len(before) > 100 else b""
    place = database(tmp_path / "db", logs={3: before + tail + log([batch(1, [(b"a", b"x")])])})
    assert records(place) == by_plyvel(plyvel, place) == [(b"a", b"x")]


def test_a_damaged_log_is_told_where_leveldb_tells_it(plyvel: ModuleType, tmp_path: Path) -> None:
    """With paranoid checks, by which LevelDB passes over nothing."""
    draw = np.random.default_rng(1)
    whole = log(batch(10 * n, [(b"%d" % n, draw.bytes(9000)), (b"%d also" % n, b"x")]) for n in range(8))
    place, told = tmp_path / "db", 0
    for case in range(150):
        damaged = bytearray(whole)
        heads = [0, 9045, 18090, 27135, 32768]
        for _ in range(1 + case % 2):
            damaged[draw.choice(heads) + draw.integers(0, 24)] = draw.integers(0, 256)
        cut = len(whole) if case % 3 else int(draw.integers(len(whole)))
        database(place, logs={3: bytes(damaged[:cut])})
        found = outcome(records, place)
        assert found == outcome(by_plyvel, plyvel, place), case
        told += found is None
    assert 50 < told < 150
