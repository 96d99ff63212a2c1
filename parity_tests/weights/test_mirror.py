"""A mirror is asked instead of every published address, and what it gives goes through the same checks.

Also git's id of a file as a checksum, nets that no program can fetch, and a famous net end to end, all on the loopback.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fcn_port.loading import load
from fcn_port.porting import port_release
from parity_tests.fetching import BODY, OTHER, get, published
from parity_tests.http_server import Served, serving
from parity_tests.small_files import PROTOTXT, small_v2
from weights import ChecksumError, FetchError, release
from weights.card import Card
from weights.download import addresses
from weights.records import Checksum, Release

NOWHERE = ("http://127.0.0.1:9/x.caffemodel",)
"""The discard port: who asks there has not understood that there is a mirror."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """An institution's server: a folder, and its address."""
    root = tmp_path / "served"
    root.mkdir()
    handler = functools.partial(_Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield root, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_mirror_is_asked_and_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(Served(BODY)) as server:
        monkeypatch.setenv("FCN_PORT_MIRROR", server.url("caffe/"))
        result = get(published(NOWHERE, checksums=["sha1"]), tmp_path)
    assert result.path.read_bytes() == BODY and result.source == server.url("caffe/x.caffemodel")
    assert [each.path for each in server.seen] == ["/caffe/x.caffemodel"]


def test_mirrors_file_is_checked_as_any_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(Served(OTHER)) as server:
        monkeypatch.setenv("FCN_PORT_MIRROR", server.url(""))
        with pytest.raises(ChecksumError, match="sha1 is"):
            get(published(NOWHERE, checksums=["sha1"]), tmp_path)
    assert not list(tmp_path.glob("x.caffemodel"))


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        ("https://mirror.example.org/caffe", "https://mirror.example.org/caffe/a%20b.txt"),
        (" https://mirror.example.org/caffe/ ", "https://mirror.example.org/caffe/a%20b.txt"),
        ("hf:owner/name", "https://huggingface.co/owner/name/resolve/main/a%20b.txt"),
        ("hf:owner/name@v1/x", "https://huggingface.co/owner/name/resolve/v1%2Fx/a%20b.txt"),
    ],
)
def test_addresses_of_a_mirror(monkeypatch: pytest.MonkeyPatch, mirror: str, expected: str) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv("FCN_PORT_MIRROR", mirror)
    assert addresses(["http://example.org/x"], "a b.txt") == (expected,)


def test_repository_of_a_model_hub_among_the_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(Served(BODY)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url(""))
        result = get(published(["hf:owner/name@abc"], checksums=["md5"]), tmp_path)
    assert result.source == server.url("owner/name/resolve/abc/x.caffemodel")


@pytest.mark.parametrize("mirror", ["mirror.example.org", "ftp://example.org/x", "hf:owner", "/srv/caffe", "http://"])
def test_mirror_that_is_no_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mirror: str) -> None:
    monkeypatch.setenv("FCN_PORT_MIRROR", mirror)
    with pytest.raises(FetchError, match=f"FCN_PORT_MIRROR: '{mirror}' is no address of a folder such as https"):
        get(published(NOWHERE), tmp_path)


def test_a_password_in_a_bad_mirror_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FCN_PORT_MIRROR", "me:secret@example.org/x")
    with pytest.raises(FetchError, match="not shown") as caught:
        get(published(NOWHERE), tmp_path)
    assert "secret" not in str(caught.value)


# --- git's id ---


def git_id(body: bytes) -> Checksum:
    """As `git hash-object` has it."""
    return Checksum("git", hashlib.sha1(b"blob %d\0%s" % (len(body), body)).hexdigest())


def test_git_id_is_gits_own() -> None:
    assert git_id(b"hello\n").digest == "ce013625030ba8dba906f756967f9e9ca394464a"  # git-scm.com/book, Git Objects


@pytest.mark.parametrize("body", [BODY, OTHER])
def test_git_id_is_checked(tmp_path: Path, body: bytes) -> None:
    with serving(Served(body)) as server:
        entry = replace(published([server.url("x")]), checksums=(git_id(BODY),))
        if body == BODY:
            assert get(entry, tmp_path).verified_by == "git"
        else:
            with pytest.raises(ChecksumError, match="its git is"):
                get(entry, tmp_path)


# --- famous nets ---


def test_what_no_program_can_fetch_says_how_it_is_come_by(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no program can fetch VGG_VOC0712Plus") as caught:
        get(release("ssd300-voc"), tmp_path)
    assert "unpack models/VGGNet/VOC0712Plus/SSD_300x300_ft/" in str(caught.value)
    assert "fcn-port fetch ssd300-voc --from-file FILE" in str(caught.value)


@pytest.fixture
def small_net(monkeypatch: pytest.MonkeyPatch) -> Release:
    """A famous net of a few bytes: the small net of the tests, as if squeezenet-1-1 were that."""
    body = small_v2().SerializeToString()
    entry = replace(
        release("squeezenet-1-1"), name="small", file="small.caffemodel", size=len(body), checksums=(git_id(body),)
    )
    monkeypatch.setattr("fcn_port.porting.find_release", lambda name: entry)
    monkeypatch.setattr("weights.catalogue.release", lambda name: entry)
    return entry


def test_famous_net_end_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: tuple[Path, str], small_net: Release
) -> None:
    """Fetched with its authors' definition from a mirror, converted, loaded: a card that says how inputs are made."""
    root, url = folder
    (root / small_net.file).write_bytes(small_v2().SerializeToString())
    (root / "small.prototxt").write_text(PROTOTXT + 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }')
    monkeypatch.setenv("FCN_PORT_MIRROR", url)
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    ported = port_release("small")
    net = load(ported.path)
    assert ported.fetched.verified_by == "git" and net.card == Card.of(small_net)
    assert net.preprocessing == small_net.preprocessing and len(net.classes["prob"]) == 1000
    assert (tmp_path / "weights" / "small.prototxt").is_file() and net.spec.outputs == ("prob",)
