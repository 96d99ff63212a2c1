"""Published archives: downloaded with the releases' downloader, verified, unpacked, and what `fcn-port data` says."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_port.cli import run
from fcn_port.data import archives, data_dir
from fcn_port.data.archives import ARCHIVES, BELONG_TOGETHER, Archive, find_archives
from fcn_port.data.errors import DataError
from fcn_port.data.fetching import fetch_archive
from parity_tests.datasets import make_voc
from parity_tests.fetching import HURRY, PAGE
from parity_tests.http_server import HostileServer, Served, always, cut, hang_up, honest, serving
from weights.errors import ChecksumError, FetchError, OfflineError
from weights.records import Checksum


def packed(folder: Path) -> bytes:
    """A .tgz of a small VOC2011, as the real one lies in its archive."""
    make_voc(folder / "TrainVal" / "VOCdevkit" / "VOC2011")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(folder / "TrainVal", "TrainVal")
    return out.getvalue()


@pytest.fixture
def body(tmp_path: Path) -> bytes:
    return packed(tmp_path / "made")


@pytest.fixture
def server(body: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("FCN_PORT_OFFLINE", raising=False)
    with serving(Served(body)) as running:
        yield running


@pytest.fixture
def voc2011(server: HostileServer, body: bytes) -> Archive:
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return replace(ARCHIVES["voc2011"], urls=(server.url("voc.tar"),), checksum=Checksum("md5", md5), largest=1_000_000)


def test_fetched_verified_unpacked_and_not_again(tmp_path: Path, voc2011: Archive, server: HostileServer) -> None:
    root, told = tmp_path / "root", []
    home = fetch_archive(voc2011, root=root, patience=HURRY, unpacked=lambda files, done: told.append((files, done)))
    assert home == root / "VOCdevkit" / "VOC2011" and (home / "JPEGImages" / "a.jpg").is_file()
    assert [each.name for each in (root / "downloads").iterdir() if each.suffix != ".lock"] == []
    assert told[-1][0] == 7 and len(server.seen) == 1
    assert fetch_archive(voc2011, root=root) == home and len(server.seen) == 1


def test_an_interrupted_download_goes_on(tmp_path: Path, voc2011: Archive, server: HostileServer) -> None:
    server.script = [cut(after=1500), hang_up]
    with pytest.raises(FetchError, match=r"1\.5 kB have arrived and are kept"):
        fetch_archive(voc2011, root=tmp_path, patience=HURRY)
    before = len(server.seen)
    server.script = [honest]
    fetch_archive(voc2011, root=tmp_path, patience=HURRY)
    assert server.starts()[before:] == [1500]


def test_another_file_is_refused(tmp_path: Path, voc2011: Archive) -> None:
    wrong = replace(voc2011, checksum=Checksum("md5", "0" * 32))
    with pytest.raises(ChecksumError, match=f"{'0' * 32} was published"):
        fetch_archive(wrong, root=tmp_path, patience=HURRY)
    assert not (tmp_path / "VOCdevkit").exists()


def test_a_web_page_is_refused(tmp_path: Path, voc2011: Archive, server: HostileServer) -> None:
    server.script = [always(PAGE, kind="application/octet-stream")]
    with pytest.raises(FetchError, match="it is a web page"):
        fetch_archive(replace(voc2011, checksum=None), root=tmp_path, patience=HURRY)


def test_a_file_obtained_elsewhere(tmp_path: Path, voc2011: Archive, body: bytes, server: HostileServer) -> None:
    mine = tmp_path / "mine.tar"
    mine.write_bytes(body)
    home = fetch_archive(voc2011, root=tmp_path / "root", from_file=mine)
    assert (home / "JPEGImages").is_dir() and mine.read_bytes() == body and not server.seen
    mine.write_bytes(body + b"x")
    with pytest.raises(ChecksumError, match=r"mine\.tar: not VOCtrainval_25-May-2011\.tar of voc2011"):
        fetch_archive(voc2011, root=tmp_path / "other", from_file=mine)
    with pytest.raises(FileNotFoundError, match=r"none\.tar: there is no such file"):
        fetch_archive(voc2011, root=tmp_path / "other", from_file=tmp_path / "none.tar")


def test_kept_when_asked_and_taken_the_next_time(tmp_path: Path, voc2011: Archive, server: HostileServer) -> None:
    home = fetch_archive(voc2011, root=tmp_path, keep=True, patience=HURRY)
    assert (tmp_path / "downloads" / voc2011.file).is_file()
    home.rename(tmp_path / "away")
    fetch_archive(voc2011, root=tmp_path, patience=HURRY)
    assert len(server.seen) == 1


def test_offline(tmp_path: Path, voc2011: Archive) -> None:
    with pytest.raises(OfflineError, match=r"(?s)the network may not be used.*--from-file FILE"):
        fetch_archive(voc2011, root=tmp_path, offline=True)


def test_a_list_goes_into_the_folder_of_its_data_set(tmp_path: Path, server: HostileServer) -> None:
    server.served = Served(b"a\nb\n")
    checksum = Checksum("sha256", hashlib.sha256(b"a\nb\n").hexdigest())
    lists = replace(ARCHIVES["seg11valid"], urls=(server.url("list"),), checksum=checksum)
    with pytest.raises(FetchError, match="goes into the folder of voc2011"):
        fetch_archive(lists, root=tmp_path, patience=HURRY)
    make_voc(tmp_path / "VOCdevkit" / "VOC2011")
    path = fetch_archive(lists, root=tmp_path, patience=HURRY)
    assert path.read_bytes() == b"a\nb\n" and lists.here(tmp_path)
    path.write_bytes(b"mine\n")
    assert not lists.here(tmp_path)
    with pytest.raises(DataError, match=r"another seg11valid\.txt is in the way"):
        fetch_archive(lists, root=tmp_path, patience=HURRY)
    assert path.read_bytes() == b"mine\n"


def test_the_published_checksums() -> None:
    known = {
        "voc2012": "6cd6e144f989b92b3379bac3b3de84fd",
        "voc2011": "6c3384ef61512963050cb5d687e5bf1e",
        "sbd": "82b4d87ceb2ed10f6038a1cba92111cb",
    }
    assert {name: ARCHIVES[name].checksum for name in known} == {n: Checksum("md5", d) for n, d in known.items()}
    assert all(each.urls and each.page for each in ARCHIVES.values())
    assert {each for group in BELONG_TOGETHER.values() for each in group} <= set(ARCHIVES)
    assert all(each.after is None or each.home.startswith(ARCHIVES[each.after].home) for each in ARCHIVES.values())
    assert [each.name for each in find_archives("voc2011")] == ["voc2011", "seg11valid"]


# --- fcn-port data ---------------------------------------------------------------------------------------------------


def test_what_is_here_and_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FCN_PORT_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    make_voc(tmp_path / "VOCdevkit" / "VOC2012")
    (tmp_path / "VOCdevkit" / "VOC2010" / "JPEGImages").mkdir(parents=True)
    assert run(["data"]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert rows["voc2012"].endswith("yes") and rows["sbd"].endswith("-")
    assert rows["voc2010"].endswith("in part: no SegmentationClass, no ImageSets")
    assert str(tmp_path) in err
    assert run(["data", "--json"]) == 0
    listed = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert listed["voc2012"]["here"] and not listed["sbd"]["here"]
    assert listed["sbd"]["checksum"] == "md5 82b4d87ceb2ed10f6038a1cba92111cb"


def test_one_data_set_in_detail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = make_voc(tmp_path / "VOCdevkit" / "VOC2012")
    (home / "SegmentationClass" / "b.png").unlink()
    assert run(["data", "voc2012", "--root", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "md5 6cd6e144f989b92b3379bac3b3de84fd" in out and "host.robots.ox.ac.uk" in out
    assert " ".join(out.splitlines()[-1].split()) == "val 3 1 lack an image or a label map"


def test_fetching_from_the_command_line(
    tmp_path: Path, voc2011: Archive, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    monkeypatch.setattr(archives, "ARCHIVES", {**ARCHIVES, "voc2011": voc2011})
    monkeypatch.setattr("fcn_port.cli.data.ARCHIVES", {**ARCHIVES, "voc2011": voc2011})
    mine = tmp_path / "mine.tar"
    mine.write_bytes(body)
    assert run(["data", "voc2011", "--root", str(tmp_path), "--from-file", str(mine)]) == 0
    out, err = capsys.readouterr()
    assert "it had the published md5" in err and "val" in out
    assert run(["data", "voc2011", "--root", str(tmp_path), "--from-file", str(mine)]) == 0
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["data", "voc2013"], 2, "did you mean voc2012 or voc2011 or voc2010?"),
        (["data", "--fetch"], 2, "which one? Name it"),
        (["data", "sbd", "--fetch", "--root", "ROOT"], 1, "the network may not be used"),
        (["data", "sbd", "--from-file", "ROOT/none.tgz", "--root", "ROOT"], 2, "does not exist"),
    ],
)
def test_mistakes(
    arguments: list[str], status: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("FCN_PORT_OFFLINE", "1")
    assert run([each.replace("ROOT", str(tmp_path)) for each in arguments]) == status
    out, err = capsys.readouterr()
    assert says in err and out == ""
