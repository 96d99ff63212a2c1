"""Packed weights on disk: found again to the bit, by the same net of the same file alone, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fcn_port.fastpath.flow import Flow
from fcn_port.fastpath.native.memory import Floats
from fcn_port.fastpath.program import kept_weights
from fcn_port.fastpath.program.kept_weights import KeptWeights, Piece

PAGE = 4096


def floats(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


PIECES: dict[str, Piece] = {
    "several": (floats(2, 1500), None, floats(3)),
    "of the other order": (floats(40, 30).T, None, None),
    "empty": (floats(0), None, None),
    "none but one": (None, floats(15), None),
}


def same(found: Piece | None, expected: Piece) -> bool:
    return found is not None and len(found) == len(expected) and all(
        a is b if a is None or b is None else a.shape == b.shape and np.array_equal(a, b)
        for a, b in zip(found, expected, strict=True)
    )  # fmt: skip


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.packed")
    return path


def test_pieces_come_back_as_they_were(tmp_path: Path) -> None:
    """Of one file or of many, read-only, and each array where vectors like it."""
    kept = KeptWeights(tmp_path / "net")
    kept.add(PIECES)
    others: dict[str, Piece] = {f"n{number}": (floats(5, seed=number),) for number in range(40)}
    for name, piece in others.items():
        kept.add({name: piece})
    again = KeptWeights(tmp_path / "net")
    for name, piece in {**PIECES, **others}.items():
        found = again.get(name)
        assert same(found, piece), name
        arrays = [array for array in found or () if array is not None]
        assert not any(array.flags.writeable for array in arrays)
        assert all(array.ctypes.data % 64 == 0 for array in arrays if array.size)
    assert again.get("another") is None and kept.get("several") is None


@pytest.mark.parametrize("more", [-1, 0, 1, PAGE, 3 * PAGE + 5])
def test_headers_of_every_length(more: int, tmp_path: Path) -> None:
    """Also of a page to the byte."""
    KeptWeights(tmp_path).add({"x": (floats(9),)})
    with only_file(tmp_path).open("rb") as file:
        length = len(file.readline())
    only_file(tmp_path).unlink()
    name = "x" * (1 + (PAGE - length + more) // 2)  # it is there twice, and what is odd is left to the offset
    piece = (floats(9), *[None] * ((PAGE - length + more) % 2))
    KeptWeights(tmp_path).add({name: piece})
    assert same(KeptWeights(tmp_path).get(name), piece)


def test_the_same_pieces_are_one_file(tmp_path: Path) -> None:
    """Whichever was packed first: two processes that begin at once do not fill the disk twice."""
    kept = KeptWeights(tmp_path)
    kept.add(PIECES)
    kept.add(dict(reversed(PIECES.items())))
    assert same(KeptWeights(tmp_path).get("several"), PIECES["several"]) and only_file(tmp_path)


@pytest.mark.parametrize("at", [0, 4095, PAGE, 2 * PAGE - 1, 2 * PAGE, 2999 * 4, 3000 * 4 - 1])
def test_a_bit_of_an_array_is_another(at: int, tmp_path: Path) -> None:
    """That piece is packed again, the others of the file are used, and the file is gone for the next process."""
    KeptWeights(tmp_path).add(PIECES)
    path = only_file(tmp_path)
    whole = bytearray(path.read_bytes())
    whole[PAGE + at] ^= 4
    path.write_bytes(whole)
    kept = KeptWeights(tmp_path)
    assert same(kept.get("of the other order"), PIECES["of the other order"]) and path.exists()
    assert kept.get("several") is None and not path.exists()
    assert same(kept.get("none but one"), PIECES["none but one"])


def test_a_bit_of_a_later_array_is_another(tmp_path: Path) -> None:
    KeptWeights(tmp_path).add({"p": (floats(1024), floats(1024), floats(7))})
    whole = bytearray(only_file(tmp_path).read_bytes())
    for at in (2 * PAGE + 9, 3 * PAGE + 27):
        made = whole.copy()
        made[at] ^= 1
        (tmp_path / "p.packed").write_bytes(made)
        only = KeptWeights(tmp_path)
        assert only.get("p") is None


def _line(header: object) -> bytes:
    about = json.dumps(header).encode()
    return (b"%08x %s\n" % (zlib.crc32(about), about)).ljust(PAGE)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[:-PAGE],
    "cut behind the last value": lambda whole: whole[:-1],
    "longer": lambda whole: whole + b"\0",
    "a line without an end": lambda whole: b"\0" * len(whole),
    "another header": lambda whole: whole.replace(b'"several"', b'"revesal"'),
    "a list": lambda whole: _line([]),
    "no pieces": lambda whole: _line({"size": 0}),
    "an array behind the end": lambda whole: _line({"size": 0, "pieces": {"a": [[64, [4]]]}, "sums": {"a": 0}}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_not_as_it_was_written_is_taken_away(damage: str, tmp_path: Path) -> None:
    KeptWeights(tmp_path).add(PIECES)
    path = only_file(tmp_path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    kept = KeptWeights(tmp_path)
    assert not path.exists() and all(kept.get(name) is None for name in (*PIECES, "a", "revesal"))


def _pipe(path: Path, other: Path) -> None:
    os.mkfifo(path)


PLANTED: dict[str, Callable[[Path, Path], None]] = {
    "a link": lambda path, other: path.symlink_to(other),
    "a second name": lambda path, other: path.hardlink_to(other),
    "a folder": lambda path, other: path.mkdir(),
    "a pipe": _pipe,
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_is_no_file_of_ours_is_passed_over(what: str, tmp_path: Path) -> None:
    """And is not written through: a link that has the name of a file to be written is replaced."""
    KeptWeights(tmp_path / "other").add({"a": (floats(4, seed=1),)})
    other = only_file(tmp_path / "other")
    content = other.read_bytes()
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / other.name
    PLANTED[what](path, other)
    kept = KeptWeights(tmp_path / "mine")
    assert kept.get("a") is None
    if what == "a link":
        path.symlink_to(other)
    kept.add({"a": (floats(4, seed=2),)})
    assert other.read_bytes() == content
    found = KeptWeights(tmp_path / "mine").get("a")
    assert found is None if what == "a folder" else same(found, (floats(4, seed=2),))


def test_parts_of_other_writers_are_not_read(tmp_path: Path) -> None:
    """What another process has in the making is whole only under its final name."""
    KeptWeights(tmp_path).add(PIECES)
    path = only_file(tmp_path)
    part = path.rename(tmp_path / f".{path.name}.00000000.part")
    assert KeptWeights(tmp_path).get("several") is None and part.exists()


def test_a_folder_that_another_process_forgot_is_made_for_this_user_alone(tmp_path: Path) -> None:
    """Where a group may write by default (umask 002), it was its, too, and nothing of that net was kept ever after."""
    folder = tmp_path / "packed" / "net"
    folder.mkdir(parents=True, mode=0o700)
    kept = KeptWeights(folder)
    shutil.rmtree(folder)
    before = os.umask(0o002)
    try:
        kept.add(PIECES)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o77 == 0 and same(KeptWeights(folder).get("several"), PIECES["several"])


# Which net of which file


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of weights that was written long ago; what is kept of it depends on nothing but what a test says."""
    monkeypatch.setattr(kept_weights, "cache_folder", lambda: tmp_path / "packed")
    monkeypatch.setattr(kept_weights, "SETTLED", -1.0)
    monkeypatch.setattr(kept_weights, "_SOURCES", (tmp_path / "source.py",))
    monkeypatch.setattr(kept_weights.build, "library", lambda: SimpleNamespace(_name="/there/native.so"))
    (tmp_path / "source.py").write_text("a = 1")
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"weights")
    return path


def folder_of(path: Path, *operations: object) -> Path:
    kept = kept_weights.kept_weights(path, cast(Flow, SimpleNamespace(operations=operations)))
    assert kept is not None
    return kept._folder


VERSION_OF_FILE = (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    "what", ["release", "source", "library", "operations", "path", *(f"version {at}" for at in range(5))]
)
def test_all_that_packed_weights_depend_on(what: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = VERSION_OF_FILE
    monkeypatch.setattr(kept_weights, "file_version", lambda _: numbers)
    before, operations, path = folder_of(file, "conv"), ["conv"], file
    if what == "release":
        monkeypatch.setattr(kept_weights, "VERSION", "0.0.1")
    elif what == "source":
        (file.parent / "source.py").write_text("a = 2")
    elif what == "library":
        monkeypatch.setattr(kept_weights.build, "library", lambda: SimpleNamespace(_name="/there/of-another-cpu.so"))
    elif what == "operations":
        operations = ["conv", "relu"]
    elif what == "path":
        path = file.rename(file.with_name("moved"))
    else:
        at = int(what[-1])
        numbers = (*numbers[:at], 9, *numbers[at + 1 :])
    assert folder_of(path, *operations) != before


@pytest.mark.parametrize("way", ["link", "relative", "library"])
def test_ways_to_the_same_file(way: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of that name is the same one in any folder: its name is a sum of its sources and the processor."""
    before, path = folder_of(file), file
    if way == "link":
        path = file.with_name("link")
        path.symlink_to(file)
    elif way == "relative":
        monkeypatch.chdir(file.parent)
        path = Path(file.name)
    else:
        monkeypatch.setattr(kept_weights.build, "library", lambda: SimpleNamespace(_name="/elsewhere/native.so"))
    assert folder_of(path) == before


def test_sources_on_which_packing_depends() -> None:
    """Whoever changes one of them is not given what the one before packed."""
    names = {path.relative_to(Path(kept_weights.__file__).parent.parent).as_posix() for path in kept_weights._SOURCES}
    assert names == {
        "program/kept_weights.py", "flow/affine.py", "program/phases.py", "program/volumes.py", "program/weights.py",
        "native/division.py", "native/packing.py",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "now", "is_kept"),
    [(-100, 1, False), (-100, 3, True), (100, 50, False), (100, 101, False), (100, 103, True)],
)
def test_times_that_tell_nothing_yet(
    written: float, now: float, is_kept: bool, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file whose contents or own data changed within two seconds; `written` and `now` count from the latter."""
    monkeypatch.undo()
    changed = file.stat().st_ctime
    monkeypatch.setattr(kept_weights, "cache_folder", lambda: file.parent / "packed")
    monkeypatch.setattr(kept_weights.build, "library", lambda: SimpleNamespace(_name="native.so"))
    monkeypatch.setattr(kept_weights, "time", SimpleNamespace(time=lambda: changed + now))
    os.utime(file, (changed + written, changed + written))
    found = kept_weights.kept_weights(file, cast(Flow, SimpleNamespace(operations=())))
    assert (found is not None) == is_kept


@pytest.mark.parametrize("which", ["root", "net"])
def test_a_folder_where_others_write(which: str, file: Path) -> None:
    folder = folder_of(file)
    (folder.parent if which == "root" else folder).chmod(0o1777)
    folder.rmdir() if which == "root" else None
    assert kept_weights.kept_weights(file, cast(Flow, SimpleNamespace(operations=()))) is None
    assert folder.exists() == (which == "net")


# How much


def net_of(root: Path, name: str, size: int, used: float) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "a.packed").write_bytes(bytes(size))
    (folder / "something else").write_bytes(bytes(1000))
    os.utime(folder, (used, used))
    return folder


@pytest.mark.parametrize("names", ["mine old middle new", "mine new middle old"])
@pytest.mark.parametrize(
    ("room", "left"),
    [
        (0, "mine"), (99, "mine"), (149, "mine"), (150, "mine new"), (179, "mine new"), (180, "mine new middle"),
        (200, "mine new middle old"), (199, "mine new middle"),
    ],
)  # fmt: skip
def test_the_nets_that_are_forgotten(
    room: int, left: str, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those used longest ago, never the one at work, though it was used before all others; whatever they are called."""
    monkeypatch.setattr(kept_weights, "MOST_BYTES", room)
    root, nets = tmp_path / "packed", {"mine": (100, 0), "old": (20, 1), "middle": (30, 2), "new": (50, 3)}
    called = dict(zip(nets, names.split(), strict=True))
    folders = {net: net_of(root, called[net], *about) for net, about in nets.items()}
    kept_weights._forget(folders["mine"])
    assert {net for net, folder in folders.items() if folder.exists()} == set(left.split())


def test_what_cannot_be_forgotten_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is not followed, one that leads nowhere does no harm, and the next net is forgotten all the same."""
    monkeypatch.setattr(kept_weights, "MOST_BYTES", 100)
    root = tmp_path / "packed"
    mine, old = net_of(root, "mine", 100, 5), net_of(root, "old", 10, 1)
    elsewhere = net_of(tmp_path, "elsewhere", 10, 2)
    (root / "link").symlink_to(elsewhere)
    (root / "nowhere").symlink_to(tmp_path / "gone")
    kept_weights._forget(mine)
    assert mine.exists() and not old.exists() and (elsewhere / "a.packed").exists()


def test_use_is_seen_by_the_folder_s_time(tmp_path: Path) -> None:
    KeptWeights(tmp_path).add(PIECES)
    os.utime(tmp_path, (1e9, 1e9))
    KeptWeights(tmp_path)
    assert tmp_path.stat().st_mtime > 1e9 + 1


def test_what_else_the_disk_refuses_does_not_reach_the_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(kept_weights, "_forget", refuse)
    KeptWeights(tmp_path).add(PIECES)
    assert same(KeptWeights(tmp_path).get("several"), PIECES["several"])
