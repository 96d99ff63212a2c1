"""In a folder where others write: what lies under a name that can be foreseen is neither followed nor believed."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from converters.safety import files
from converters.safety.files import fresh_file, is_own, open_own, open_part, unlinked, whole_file, write_whole
from fcn_port.data.shapes import make_shapes
from fcn_port.evaluation.cache import Cache
from fcn_port.evaluation.labels import save_labels
from fcn_port.evaluation.results import ImageResult
from fcn_port.evaluation.submission import write_submission
from fcn_port.predict.outputs import write_outputs
from fcn_port.predict.segmentation import Segmentation
from fcn_port.training.events import Begun
from fcn_port.training.logs import JsonLines
from parity_tests.fetching import BODY, assert_whole, get, published
from parity_tests.http_server import HostileServer, Served
from weights.download.partial import Origin, Partial
from weights.errors import FetchError
from weights.sidecar import Record, read_record, write_record
from weights.store import place_of

pytest_plugins = ["parity_tests.fetch_fixtures"]

SECRET = b"what the user keeps for himself\n"
ENDINGS = (".new", ".tmp", ".part", ".import", ".part.json", ".sha256", ".sha256.new", ".sha256.part", "")
"""Of the names that files went by while they were made, now or once, and of what lies beside them."""


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file of the user's elsewhere, which is as it was afterwards."""
    path = tmp_path / "elsewhere" / "secret"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    yield path
    assert path.read_bytes() == SECRET and stat.S_IMODE(path.stat().st_mode) & 0o200
    assert [each.name for each in path.parent.iterdir()] == ["secret"]


def plant(folder: Path, victim: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).symlink_to(victim)


def beside(name: str) -> list[str]:
    return [name + ending for ending in ENDINGS if ending] + [f".{name}{ending}" for ending in ENDINGS]


# --- fetching ---


def test_a_download(server: HostileServer, tmp_path: Path, victim: Path) -> None:
    folder = tmp_path / "shared"
    plant(folder, victim, *(name for name in beside("x.caffemodel") if not name.endswith(".lock")))
    server.served = Served(BODY)
    get(published([server.url("x")], checksums=["sha1"]), folder)
    assert (folder / "x.caffemodel").read_bytes() == BODY and not (folder / "x.caffemodel").is_symlink()
    assert not (folder / "x.caffemodel.sha256").is_symlink()


def test_a_copy(tmp_path: Path, victim: Path) -> None:
    folder, source = tmp_path / "shared", tmp_path / "source"
    source.write_bytes(BODY)
    plant(folder, victim, *beside("x.caffemodel"))
    get(published([], checksums=["sha1"]), folder, from_file=source)
    assert (folder / "x.caffemodel").read_bytes() == BODY and not (folder / "x.caffemodel").is_symlink()


def test_a_lock(tmp_path: Path, victim: Path) -> None:
    folder, source = tmp_path / "shared", tmp_path / "source"
    source.write_bytes(BODY)
    plant(folder, victim, "x.caffemodel.lock")
    with pytest.raises(FetchError, match=r"x\.caffemodel\.lock"):
        get(published([]), folder, from_file=source)


@pytest.mark.parametrize("kind", ["link", "name", "pipe"])
def test_what_somebody_else_began_to_download_is_not_gone_on_with(
    server: HostileServer, tmp_path: Path, kind: str
) -> None:
    """The wrong first half would come out as a file that was never published."""
    place = place_of(published([]), directory=tmp_path / "shared")
    place.folder.mkdir()
    other = tmp_path / "half"
    other.write_bytes(bytes(len(BODY) // 2))
    url = server.url("x")
    Partial.of(place).start(Origin(url, '"1"', None, len(BODY)))
    make = {"link": place.part.symlink_to, "name": place.part.hardlink_to, "pipe": lambda _: os.mkfifo(place.part)}
    make[kind](other)
    assert Partial.of(place).size() == 0
    server.served = Served(BODY, etag='"1"')
    assert_whole(get(published([url]), place.folder))
    assert other.read_bytes() == bytes(len(BODY) // 2)


def test_a_record(tmp_path: Path, victim: Path) -> None:
    plant(tmp_path / "shared", victim, *beside("x"))
    path = tmp_path / "shared" / "x.sha256"
    write_record(path, Record("0" * 64), file="x")
    found = read_record(path)
    assert found is not None and found.sha256 == "0" * 64


# --- results ---


def seen() -> Segmentation:
    return Segmentation(
        labels=np.zeros((2, 2), np.uint8),
        image=np.zeros((2, 2, 3), np.uint8),
        classes=("a", "b"),
        palette=np.zeros((256, 3), np.uint8),
        scores=np.zeros((2, 2, 2), np.float32),
    )


def _predicted(folder: Path) -> None:
    write_outputs(seen(), folder / "x", scores=True)


def _labels(folder: Path) -> None:
    save_labels(folder, "x", {"score": np.zeros((2, 2), np.uint8)})


def _submission(folder: Path) -> None:
    source = folder / "label.png"
    source.write_bytes(b"png")
    write_submission(folder / "x.tar.gz", lambda id_: source, ["a"], year=2012)


def _demo(folder: Path) -> None:
    make_shapes(folder, count=4, size=(8, 8))


@pytest.mark.parametrize(
    ("write", "names"),
    [
        (_predicted, ["x.labels.png", "x.labels.json", "x.overlay.png", "x.scores.npz"]),
        (_labels, ["x.png"]),
        (_demo, ["classes.txt"]),
    ],
)
def test_results(write: Callable[[Path], None], names: list[str], tmp_path: Path, victim: Path) -> None:
    folder = tmp_path / "shared"
    for name in names:
        plant(folder, victim, name, *beside(name))
    write(folder)
    for name in names:
        assert (folder / name).is_file() and not (folder / name).is_symlink()


def test_an_archive_that_a_person_named(tmp_path: Path, victim: Path) -> None:
    plant(tmp_path / "shared", victim, *beside("x.tar.gz"))
    _submission(tmp_path / "shared")
    assert (tmp_path / "shared" / "x.tar.gz").stat().st_size > 0


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda folder: JsonLines(folder / "log.jsonl")(Begun(0, 1, None)), "log.jsonl"),
        (lambda folder: Cache(folder).append(ImageResult("a", {}), []), "0000.jsonl"),
    ],
    ids=["log", "cache"],
)
def test_files_that_grow(write: Callable[[Path], None], name: str, tmp_path: Path, victim: Path) -> None:
    """They cannot be replaced, so what is in the way is named."""
    plant(tmp_path / "shared", victim, name)
    with pytest.raises(OSError, match="found a link") as caught:
        write(tmp_path / "shared")
    assert caught.value.filename == str(tmp_path / "shared" / name)
    (tmp_path / "shared" / name).unlink()
    for _ in range(2):
        write(tmp_path / "shared")
    assert (tmp_path / "shared" / name).read_bytes().count(b"\n") == 2


# --- the functions behind ---


def test_a_name_that_no_person_chose(tmp_path: Path, victim: Path) -> None:
    plant(tmp_path / "shared", victim, "a", "b")
    write_whole(tmp_path / "shared" / "a", b"new", follow=False)
    assert (tmp_path / "shared" / "a").read_bytes() == b"new"
    assert not unlinked(tmp_path / "shared" / "b").is_symlink()


@pytest.mark.parametrize("which", ["file", "folder", "link to a link"])
def test_a_link_of_another_user_where_everybody_writes(
    which: str, tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Linux has it for open() (fs.protected_symlinks); a rename would get around that."""
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    own.mkdir()
    path = {"file": shared / "x", "folder": shared / "x" / "secret", "link to a link": own / "x"}[which]
    (shared / "x").symlink_to(victim.parent if which == "folder" else victim)
    (own / "x").symlink_to(shared / "x")
    lstat = Path.lstat

    def of_another(self: Path) -> os.stat_result:
        found = lstat(self)
        return os.stat_result((*found[:4], found.st_uid + 7, *found[5:])) if self == shared / "x" else found

    monkeypatch.setattr(Path, "lstat", of_another)
    shared.chmod(0o1777)
    with pytest.raises(PermissionError, match="another user made") as caught:
        write_whole(path, b"new")
    assert caught.value.filename == str(shared / "x")


def test_a_persons_own_links_are_followed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "there").write_bytes(b"")
    (shared / "x").symlink_to(tmp_path / "there")
    write_whole(shared / "x", b"new")
    assert (shared / "x").is_symlink() and (tmp_path / "there").read_bytes() == b"new"


def test_links_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        write_whole(tmp_path / "a", b"new")
    assert caught.value.errno == errno.ELOOP


def test_parts_have_names_that_nobody_knows(tmp_path: Path) -> None:
    names = set()
    for _ in range(20):
        with fresh_file(tmp_path / "x") as file:
            names.add(file.name)
            assert is_own(Path(file.name))
    assert len(names) == 20 and not list(tmp_path.iterdir())


def test_a_part_whose_name_was_guessed(tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "01234567")
    plant(tmp_path / "shared", victim, ".x.01234567.part")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "shared" / "x", b"new")


@pytest.mark.parametrize("what", ["link", "dangling link", "name", "pipe", "folder", "another user's"])
def test_only_a_file_of_ones_own_is_added_to(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = tmp_path / "x", tmp_path / "other"
    other.write_bytes(SECRET)
    if what == "link":
        path.symlink_to(other)
    elif what == "dangling link":
        path.symlink_to(tmp_path / "not there")
    elif what == "name":
        path.hardlink_to(other)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.write_bytes(SECRET)
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 7)
    assert not is_own(path)
    for opened in (open_part, open_own):
        with pytest.raises(OSError) as caught:
            opened(path)
        assert caught.value.filename == str(path)
    assert other.read_bytes() == SECRET and not (tmp_path / "not there").exists()


def test_a_file_that_grows(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        for _ in range(2):
            with open_part(tmp_path / "x") as file:
                file.write(b"ab")
    finally:
        os.umask(old)
    assert (tmp_path / "x").read_bytes() == b"abab" and stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    with open_own(tmp_path / "x") as file:
        assert file.read() == b"abab"


def test_nobody_takes_a_part_away_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that writes the same file looks for parts that no living process holds at any moment."""
    replace = Path.replace

    def after_a_cleaner(self: Path, target: Path) -> Path:
        files.remove_abandoned(tmp_path / "x")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", after_a_cleaner)
    write_whole(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


def _write_by_path(path: Path) -> None:
    with whole_file(path) as file, Path(file.name).open("wb") as again:
        again.write(bytes(1 << 20))


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_whole(path, bytes(1 << 20)),
        lambda path: write_whole(path, bytes(1 << 20), durable=False),
        lambda path: write_whole(path, bytes((1 << 18) + 100), durable=False),
        _write_by_path,
    ],
    ids=["durable", "not durable", "at the last flush", "by path"],
)
def test_no_room_names_the_file_that_was_meant(write: Callable[[Path], None], tmp_path: Path) -> None:
    """A limit on the size of files stands for the end of a disk: both end a write in the middle."""
    path = tmp_path / "x"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG and caught.value.filename == str(path)
    assert not list(tmp_path.iterdir())
