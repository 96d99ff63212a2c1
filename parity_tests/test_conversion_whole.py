"""A converted file is whole or not there, whatever comes between: no disk, no rights, Ctrl-C, a kill, two at once."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from converters import CaffeFormatError, convert
from converters.safety import files
from converters.safety.files import whole_file
from parity_tests.goldens import formats
from parity_tests.small_files import small_v2
from parity_tests.test_conversion import left_in, metadata_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "small.caffemodel"
    path.write_bytes(small_v2().SerializeToString())
    return path


def test_source_and_destination_may_not_be_one_file(source: Path) -> None:
    raw = source.read_bytes()
    link, hard = source.with_name("link"), source.with_name("hard")
    link.symlink_to(source)
    hard.hardlink_to(source)
    for out in (source, link, hard, source.parent / "." / source.name):
        with pytest.raises(CaffeFormatError, match="source and destination are the same file"):
            convert(source, out)
    assert source.read_bytes() == raw
    net = source.with_name("net.prototxt")
    net.write_text("")
    with pytest.raises(CaffeFormatError, match="source and destination are the same file"):
        convert(source, net, prototxt=net)


def fail(*_: int) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("before", [None, b"what was there before"])
def test_an_interruption_leaves_what_was_there(source: Path, before: bytes | None) -> None:
    out = source.with_name("out")
    if before is not None:
        out.write_bytes(before)
    names = left_in(source.parent)
    with pytest.raises(KeyboardInterrupt):
        convert(source, out, progress=fail)
    assert left_in(source.parent) == names
    assert before is None or out.read_bytes() == before


def test_a_full_disk_is_an_oserror_and_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("converters.conversion.write_safetensors", full)
    with pytest.raises(OSError, match="No space left"):
        convert(source, source.with_name("out"))
    assert left_in(source.parent) == [source.name]


def test_a_place_that_cannot_be_written(source: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="this is a folder"):
        convert(source, tmp_path / "folder")
    with pytest.raises(OSError, match=r"not a directory|Not a directory|File exists"):
        convert(source, source / "out")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="device or pipe"):
        convert(source, tmp_path / "pipe")
    if Path("/dev/null").is_char_device():  # root could replace it
        with pytest.raises(OSError, match="device or pipe"):
            convert(source, "/dev/null")
        assert Path("/dev/null").is_char_device()
    assert left_in(tmp_path) == ["folder", "pipe", source.name]


def test_folders_on_the_way_are_made_and_links_followed(source: Path) -> None:
    deep = source.parent / "a" / "b" / "out"
    convert(source, deep)
    link = source.with_name("link")
    link.symlink_to(deep)
    convert(source, link, metadata={"new": "yes"})
    assert link.is_symlink() and metadata_of(deep)["new"] == "yes"


def test_the_umask_holds(source: Path) -> None:
    old = os.umask(0o027)
    try:
        convert(source, source.with_name("out"))
    finally:
        os.umask(old)
    assert source.with_name("out").stat().st_mode & 0o777 == 0o640


def test_a_file_that_changes_meanwhile_is_not_converted(source: Path) -> None:
    """The checksum in the metadata would be that of other bytes."""

    def change(*_: int) -> None:
        os.utime(source, ns=(1, 1))

    with pytest.raises(CaffeFormatError, match="changed while it was being converted"):
        convert(source, source.with_name("out"), progress=change)
    assert left_in(source.parent) == [source.name]


@pytest.mark.parametrize("clock", [-7200, 0, 7200], ids=["hours ago", "now", "in the future"])
def test_a_part_stays_while_its_writer_lives_whatever_the_clock_says(tmp_path: Path, clock: int) -> None:
    """A file server's clock may be hours off; and a part of a killed writer need not wait for any time to pass."""
    out = tmp_path / "out.safetensors"
    code = (
        "import converters, sys, time\n"
        f"converters.convert({str(formats('fcn8s-mini.caffemodel'))!r}, {str(out)!r},\n"
        "    progress=lambda *_: (print('half way', flush=True), time.sleep(60)))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "half way\n"
            (part,) = left_in(tmp_path)
            assert part.startswith(".out.safetensors.") and part.endswith(".part")
            os.utime(tmp_path / part, (time.time() + clock, time.time() + clock))
            convert(formats("fcn8s-mini.caffemodel"), out)
            assert left_in(tmp_path) == sorted([part, out.name])  # its writer is alive
        finally:
            process.send_signal(signal.SIGKILL)
    convert(formats("fcn8s-mini.caffemodel"), out)
    assert left_in(tmp_path) == [out.name]


def test_a_part_that_a_cleaner_took_before_it_was_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, seen = files._locked, list[Path]()

    def late(file: int, *, shared: bool = False) -> bool | None:
        if not seen:
            seen.extend(tmp_path.iterdir())
            seen[0].unlink()  # the other process, in between
        return lock(file, shared=shared)

    monkeypatch.setattr(files, "_locked", late)
    with whole_file(tmp_path / "out") as file:
        file.write(b"new")
    assert (tmp_path / "out").read_bytes() == b"new" and left_in(tmp_path) == ["out"]


def test_a_planted_link_is_not_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / ".out.01234567.part").symlink_to(tmp_path / "mine")
    os.mkfifo(tmp_path / ".out.89abcdef.part")
    with whole_file(tmp_path / "out") as file:
        file.write(b"new")
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_parts_of_other_files_stay(tmp_path: Path) -> None:
    names = [".out.part", ".outer.01234567.part", ".out.0123456789.part", "out.01234567.part"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    with whole_file(tmp_path / "out") as file:
        file.write(b"new")
    assert left_in(tmp_path) == sorted([*names, "out"])


def test_two_at_once_make_one_whole_file(source: Path) -> None:
    out = source.with_name("out")
    threads = [threading.Thread(target=convert, args=(source, out)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left_in(source.parent) == sorted([out.name, source.name])
    assert load_file(out).keys() == {"conv.weight", "conv.bias", "fc.weight", "fc.bias"}
