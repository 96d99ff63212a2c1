"""What a killed process leaves is taken away by the next run of the same thing; never what a living one works on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import filelock
import pytest

from converters.safety import files
from converters.safety.files import fresh_folder
from fcn_port.data.archives import ARCHIVES, Archive
from fcn_port.data.fetching import fetch_archive
from parity_tests.datasets import make_voc
from parity_tests.fetching import BODY, get, published
from parity_tests.http_server import HostileServer, Served, cut, hang_up, honest
from parity_tests.test_conversion import left_in
from weights.errors import FetchError
from weights.store import place_of

pytest_plugins = ["parity_tests.fetch_fixtures"]


def of_any_time(folder: Path, *, clock: int = 7200) -> None:
    """Have the unfinished files there be of the past or the future: clocks differ, and tell nothing."""
    for path in folder.iterdir():
        if ".part" in path.name:
            os.utime(path, (time.time() + clock,) * 2, follow_symlinks=False)


@contextmanager
def living(code: str, *arguments: object) -> Iterator[None]:
    """Another process, from where it prints a line until the block ends: then it is killed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "half way\n"
            yield
        finally:
            process.send_signal(signal.SIGKILL)


# --- weights ---

IMPORT = """
import sys, time
from pathlib import Path
from parity_tests.fetching import get, published
def wait(moment):
    if moment.stage == "copying" and moment.done:
        print("half way", flush=True)
        time.sleep(60)
get(published([]), Path(sys.argv[1]), from_file=sys.argv[2], progress=wait)
"""


def test_a_killed_import_is_cleared_by_the_next_fetch(server: HostileServer, tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "weights"
    elsewhere.write_bytes(BODY)
    entry = published([server.url("x")])
    get(entry, folder)
    with living(IMPORT, folder, elsewhere):
        of_any_time(folder)
        before = left_in(folder)
        assert len(before) == 4  # file, record, lock, part
        assert get(entry, folder).already_there and left_in(folder) == before
    assert get(entry, folder).already_there
    assert set(left_in(folder)) == {"x.caffemodel", "x.caffemodel.sha256", "x.caffemodel.lock"}


def test_a_download_of_a_file_that_came_otherwise_goes(server: HostileServer, tmp_path: Path) -> None:
    """Killed between giving the file its name and taking its note away; or somebody put the file there."""
    entry = published([server.url("x")], checksums=["sha1"])
    place = place_of(entry, directory=tmp_path)
    get(entry, tmp_path)
    for path in (place.origin, place.part, tmp_path / f".{place.origin.name}.01234567.part"):
        path.write_bytes(b"{}")
    of_any_time(tmp_path, clock=-7200)
    with filelock.FileLock(place.lock):
        before = left_in(tmp_path)
        assert get(entry, tmp_path).already_there and left_in(tmp_path) == before  # somebody is at work
    (tmp_path / "mine").write_bytes(b"mine")
    assert get(entry, tmp_path).already_there
    assert set(left_in(tmp_path)) == {"x.caffemodel", "x.caffemodel.sha256", "x.caffemodel.lock", "mine"}


def test_a_download_of_a_file_that_somebody_put_there_goes(server: HostileServer, tmp_path: Path) -> None:
    """With no record of it: it is hashed first."""
    entry = published([server.url("x")], checksums=["sha1"])
    place = place_of(entry, directory=tmp_path)
    place.path.write_bytes(BODY)
    for path in (place.origin, place.part):
        path.write_bytes(b"{}")
    assert get(entry, tmp_path).already_there and not server.seen
    assert set(left_in(tmp_path)) == {"x.caffemodel", "x.caffemodel.sha256", "x.caffemodel.lock"}


def test_a_download_that_goes_on_is_no_leftover(server: HostileServer, tmp_path: Path) -> None:
    server.script = [cut(after=150_000), hang_up]
    entry = published([server.url("x")], checksums=["sha1"])
    with pytest.raises(FetchError):
        get(entry, tmp_path)
    of_any_time(tmp_path)
    server.script = [honest]
    get(entry, tmp_path)
    assert server.seen[-1].start == 150_000


# --- folders ---

FOLDER = """
import sys, time
from pathlib import Path
from converters.safety.files import fresh_folder
with fresh_folder(Path(sys.argv[1])) as folder:
    (folder / "x").write_bytes(b"x")
    print("half way", flush=True)
    time.sleep(60)
"""


def test_a_folder_stays_while_its_process_lives(tmp_path: Path) -> None:
    target = tmp_path / "VOC"
    with living(FOLDER, target):
        of_any_time(tmp_path)
        (other,) = left_in(tmp_path)
        with fresh_folder(target) as mine:
            assert sorted(left_in(tmp_path)) == sorted([other, mine.name])
        assert left_in(tmp_path) == [other]
    with fresh_folder(target) as mine:
        assert left_in(tmp_path) == [mine.name]
    assert left_in(tmp_path) == []


def test_a_folder_that_a_cleaner_took_before_it_was_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, seen = files._locked, list[Path]()

    def late(file: int) -> bool | None:
        if not seen:
            seen.extend(tmp_path.iterdir())
            seen[0].rmdir()
        return lock(file)

    monkeypatch.setattr(files, "_locked", late)
    with fresh_folder(tmp_path / "VOC") as folder:
        assert folder.is_dir() and folder not in seen


def test_a_planted_link_to_a_folder_stays(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "x").write_bytes(b"mine")
    (tmp_path / ".VOC.01234567.part").symlink_to(mine, target_is_directory=True)
    with fresh_folder(tmp_path / "VOC"):
        pass
    assert (mine / "x").read_bytes() == b"mine"


# --- data ---


@pytest.fixture
def voc(tmp_path: Path, server: HostileServer) -> Archive:
    make_voc(tmp_path / "made" / "VOCdevkit" / "VOC2011")
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        archive.add(tmp_path / "made", "TrainVal")
    server.served = Served(body.getvalue())
    return replace(ARCHIVES["voc2011"], urls=(server.url("voc.tar"),), checksum=None, largest=1_000_000)


UNPACK = """
import sys, time
from pathlib import Path
from dataclasses import replace
from fcn_port.data.archives import ARCHIVES
from fcn_port.data.fetching import fetch_archive
def wait(files, done):
    print("half way", flush=True)
    time.sleep(60)
archive = replace(ARCHIVES["voc2011"], urls=(sys.argv[2],), checksum=None, largest=1_000_000)
fetch_archive(archive, root=sys.argv[1], unpacked=wait)
"""


@pytest.mark.parametrize("then", ["again", "here"])
def test_a_killed_unpacking_is_cleared(tmp_path: Path, voc: Archive, then: str) -> None:
    """By the next run, whether it unpacks again or finds the data set there."""
    root = tmp_path / "root"
    with living(UNPACK, root, voc.urls[0]):
        of_any_time(root / "VOCdevkit", clock=-7200)
        (part,) = left_in(root / "VOCdevkit")
        if then == "here":
            make_voc(root / "VOCdevkit" / "VOC2011")
            fetch_archive(voc, root=root)
            assert left_in(root / "VOCdevkit") == [part, "VOC2011"]
    old = root / "VOCdevkit" / ".VOC2011.unpacking"  # as earlier versions left it
    old.mkdir()
    (root / "downloads" / f"{voc.file}.part.json").write_bytes(b"{}")
    fetch_archive(voc, root=root)
    assert left_in(root / "VOCdevkit") == ["VOC2011"]
    assert not (root / "downloads" / f"{voc.file}.part.json").exists()


def test_by_the_clock_a_living_folder_would_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Liveness as it was told before: the tests above notice."""
    with fresh_folder(tmp_path / "VOC") as folder:
        os.utime(folder, (0, 0))
        files.remove_abandoned(tmp_path / "VOC")
        assert folder.exists()
        monkeypatch.setattr(files, "_locked", lambda file: time.time() - os.fstat(file).st_mtime > 3600)
        files.remove_abandoned(tmp_path / "VOC")
        assert not folder.exists()
