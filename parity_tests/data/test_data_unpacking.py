"""Archives from anywhere: nothing outside the target, no link, no bomb, and all or nothing."""

from __future__ import annotations

import contextlib
import gzip
import io
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from converters.safety.limits import VARIABLE
from fcn_port.data.errors import DataError
from fcn_port.data.unpacking import unpack

GOOD = {"VOCdevkit/VOC2011/JPEGImages/a.jpg": b"image", "VOCdevkit/VOC2011/readme": b"text"}


def tar(path: Path, files: dict[str, bytes], *, extra: Iterable[tarfile.TarInfo] = (), mode: str = "w") -> Path:
    """A tar with files, and members that hold nothing."""
    with tarfile.open(path, mode) as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
        for info in extra:
            archive.addfile(info)
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    """A zip with files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return path


def member(name: str, type_: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is no plain file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, target
    return info


def attempt(archive: Path, folder: Path, *, largest: int = 1_000_000) -> Path:
    """Unpack to `folder/home/VOC2011`."""
    unpack(archive, folder / "home" / "VOC2011", marker="JPEGImages", largest=largest)
    return folder / "home" / "VOC2011"


def refused(archive: Path, folder: Path, says: str, *, largest: int = 1_000_000) -> None:
    """Refused with words that name the archive, and nothing is left."""
    before = set(folder.iterdir())
    with pytest.raises(DataError, match=says) as caught:
        attempt(archive, folder, largest=largest)
    assert str(archive) in str(caught.value)
    assert set(folder.iterdir()) <= before | {folder / "home"} and not list((folder / "home").iterdir())


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_the_folder_with_the_marker_becomes_home(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive"
    archive = zipped(path, GOOD) if kind == "zip" else tar(path, GOOD, mode=kind)
    home = attempt(archive, tmp_path)
    found = {str(each.relative_to(home)): each.read_bytes() for each in home.rglob("*") if each.is_file()}
    assert found == {"JPEGImages/a.jpg": b"image", "readme": b"text"}
    assert [each.name for each in home.parent.iterdir()] == ["VOC2011"]


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "C:/x", "C:x", "..\\x", "\\x", "a\\..\\..\\x", "a" * 256, "b/" * 60 + "x"]
)
@pytest.mark.parametrize("make", [tar, zipped])
def test_paths_that_lead_outside(tmp_path: Path, make: Callable[..., Path], name: str) -> None:
    archive = make(tmp_path / "archive", {**GOOD, name: b"evil"})
    refused(archive, tmp_path, "leads outside of the folder")
    assert not (tmp_path.parent / "x").exists()


def test_windows_paths_are_folders(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {name.replace("/", "\\"): body for name, body in GOOD.items()})
    assert (attempt(archive, tmp_path) / "JPEGImages" / "a.jpg").read_bytes() == b"image"


@pytest.mark.parametrize(
    "extra",
    [
        member("VOC2011/out", tarfile.SYMTYPE, "/etc"),
        member("VOC2011/in", tarfile.SYMTYPE, "readme"),
        member("VOC2011/hard", tarfile.LNKTYPE, "VOCdevkit/VOC2011/readme"),
        member("VOC2011/pipe", tarfile.FIFOTYPE),
        member("VOC2011/device", tarfile.CHRTYPE),
    ],
)
def test_links_and_devices_in_a_tar(tmp_path: Path, extra: tarfile.TarInfo) -> None:
    refused(tar(tmp_path / "archive", GOOD, extra=[extra]), tmp_path, "is a link, a device or a sparse file")


def test_a_link_in_a_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("VOC2011/out")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(zipped(tmp_path / "archive", GOOD), "a") as archive:
        archive.writestr(info, "/etc")
    refused(tmp_path / "archive", tmp_path, "is a link or a device")


@pytest.mark.parametrize("name", ["", ".", "//", "a\0b", "\udce9"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    """tarfile makes surrogates of bytes that are not UTF-8."""
    archive = tmp_path / "archive"
    raw = tar(archive, {**GOOD, "VOCdevkit/x": b"evil"}).read_bytes()
    at = raw.index(b"VOCdevkit/x\0")
    header = bytearray(raw[at : at + 512])
    header[:100] = name.encode(errors="surrogateescape").ljust(100, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive.write_bytes(raw[:at] + header + raw[at + 512 :])
    if "\0" in name:
        attempt(archive, tmp_path)  # which ends the name in a tar
    else:
        refused(archive, tmp_path, "leads outside of the folder, or is none|is not UTF-8|damaged")


@pytest.mark.parametrize("place", [0, 1], ids=["header", "directory"])
def test_a_zip_with_a_name_that_is_not_utf8(tmp_path: Path, place: int) -> None:
    raw = zipped(tmp_path / "zip", {**GOOD, "VOCdevkit/\u00e9": b""}).read_bytes()
    parts = raw.split("\u00e9".encode())
    (tmp_path / "zip").write_bytes("\u00e9".encode().join(parts[: place + 1]) + b"\xff\xff" + parts[place + 1] + (
        b"" if place else "\u00e9".encode() + parts[2]
    ))  # fmt: skip
    refused(tmp_path / "zip", tmp_path, "damaged, or not an archive")


def test_a_zip_with_an_empty_name(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("x")
    info.filename = ""
    with zipfile.ZipFile(zipped(tmp_path / "zip", GOOD), "a") as archive:
        archive.writestr(info, b"evil")
    refused(tmp_path / "zip", tmp_path, "is none")


@pytest.mark.parametrize("value", ["x", "-1", "1" * 30, "1,2,3", ""])
@pytest.mark.parametrize("key", ["GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.major", "size", "mtime", "path"])
def test_odd_headers_of_pax(tmp_path: Path, key: str, value: str) -> None:
    """Sparse ones let ValueError escape from tarfile; a size below 0 let older ones turn in circles."""
    with tarfile.open(tmp_path / "archive", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, body in GOOD.items():
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(body), {"GNU.sparse.realsize": "5", "GNU.sparse.minor": "0", key: value}
            archive.addfile(info, io.BytesIO(body))
    with contextlib.suppress(DataError):
        attempt(tmp_path / "archive", tmp_path)


@pytest.mark.parametrize(
    ("body", "says"),
    [(b"7" * 60_000, "a number of 40 digits"), (b"x" * 70_000, "a header of 7.... bytes")],
    ids=["digits", "large"],
)
def test_large_headers_cost_no_time(tmp_path: Path, body: bytes, says: str) -> None:
    """A header of 60 kB of digits takes tarfile 15 seconds before Python 3.11.10."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(body)
    with tarfile.open(tmp_path / "archive", "w") as archive:
        archive.addfile(info, io.BytesIO(body))
    started = time.process_time()
    refused(tmp_path / "archive", tmp_path, says)
    assert time.process_time() - started < 5


def test_the_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "archive", {**GOOD, "VOCdevkit/VOC2011/zeros": bytes(1_500_000)})
    refused(archive, tmp_path, f"more than 1 MB come out of it(.|\\n)*{VARIABLE}")
    monkeypatch.setenv(VARIABLE, "2")
    attempt(archive, tmp_path)


def test_bombs(tmp_path: Path) -> None:
    zeros = {**GOOD, "VOCdevkit/VOC2011/zeros": bytes(5_000_000)}
    for archive in (zipped(tmp_path / "zip", zeros), tar(tmp_path / "tgz", zeros, mode="w:gz")):
        assert archive.stat().st_size < 50_000
        refused(archive, tmp_path, "more than 1 MB come out of it")


def test_a_zip_that_lies_about_a_size(tmp_path: Path) -> None:
    """zipfile stops at the size in the directory, so nothing more can come; the checksum then fails."""
    zeros = {**GOOD, "VOCdevkit/VOC2011/zeros": bytes(5_000_000)}
    archive = zipped(tmp_path / "zip", zeros)
    body = archive.read_bytes().replace((5_000_000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    archive.write_bytes(body)
    refused(archive, tmp_path, "damaged, or not an archive")


def test_a_header_of_absurd_size(tmp_path: Path) -> None:
    """A PAX header claims 200 MB, which compress to nothing: it must not be read into memory."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 200_000_000
    with gzip.open(tmp_path / "archive", "wb", compresslevel=1) as out:
        out.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1_000_000))
    refused(tmp_path / "archive", tmp_path, "a header of 200")


def test_a_file_twice(tmp_path: Path) -> None:
    with tarfile.open(tar(tmp_path / "archive", GOOD), "a") as archive:
        archive.addfile(tarfile.TarInfo("VOCdevkit/VOC2011/readme"))
    refused(tmp_path / "archive", tmp_path, "'VOCdevkit/VOC2011/readme' is in it twice")


def test_another_archive(tmp_path: Path) -> None:
    refused(tar(tmp_path / "archive", {"cat.txt": b"miaow"}), tmp_path, "no JPEGImages in it, so it is not this")


@pytest.mark.parametrize("kind", ["w", "w:gz", "zip"])
def test_truncated_at_many_places(tmp_path: Path, kind: str) -> None:
    files = {**GOOD, **{f"VOCdevkit/VOC2011/{i}": bytes([i]) * 700 for i in range(20)}}
    path = tmp_path / "archive"
    whole = (zipped(path, files) if kind == "zip" else tar(path, files, mode=kind)).read_bytes()
    end = len(whole) if kind != "w" else 1536 * 21  # behind that, a tar is only padding
    for length in range(0, end - 1, max(1, end // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="archive"):
            attempt(path, tmp_path)
        assert not list((tmp_path / "home").iterdir())


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    (tmp_path / "home" / "VOC2011").mkdir(parents=True)
    (tmp_path / "home" / "VOC2011" / "mine").write_text("work of years")
    with pytest.raises(DataError, match="in the way"):
        attempt(tar(tmp_path / "archive", GOOD), tmp_path)
    assert (tmp_path / "home" / "VOC2011" / "mine").read_text() == "work of years"


def test_a_damaged_header_in_the_middle(tmp_path: Path) -> None:
    """tarfile takes it for the end of the archive and says nothing."""
    path = tar(tmp_path / "archive", {**GOOD, "VOCdevkit/VOC2011/last": b"x"})
    body = bytearray(path.read_bytes())
    body[1024 + 5] ^= 1
    path.write_bytes(body)
    refused(path, tmp_path, "cut off, or damaged")
