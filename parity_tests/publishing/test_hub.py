"""Nets from a model hub: the library's own cache without a network, and a hub of a few lines on loopback."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import fcn_port
from fcn_port.cli import run
from fcn_port.publishing import publish
from fcn_port.publishing.records import CONFIG, GOLDEN, WEIGHTS
from parity_tests.serving.nets import largest_channel, write_largest_channel
from parity_tests.verbs import PICTURE
from weights import FetchError

constants = pytest.importorskip("huggingface_hub.constants", reason="the extra `hub`")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hub") / "net"
    write_largest_channel(out.with_name("x.caffemodel"))
    publish(out.with_name("x.caffemodel"), out, card=replace(largest_channel().card, licence="MIT"), onnx=False)
    return out


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("HF_ENDPOINT", "FCN_PORT_MIRROR", "FCN_PORT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def test_without_a_network_the_cache_is_taken(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_OFFLINE", "1")
    with pytest.raises(FetchError, match="hf:me/net: FCN_PORT_OFFLINE is set"):
        fcn_port.load("hf:me/net")
    place = cache / "models--me--net"
    shutil.copytree(folder, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    assert fcn_port.load("hf:me/net").card.licence == "MIT"
    assert fcn_port.load(f"hf:me/net@{COMMIT}").card.licence == "MIT"
    with pytest.raises(FetchError):
        fcn_port.load("hf:me/net@v2")


class Hub(BaseHTTPRequestHandler):
    """A hub with one net: what huggingface_hub asks of /api/models and /resolve."""

    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            files = {path.relative_to(self.folder).as_posix(): path.stat().st_size for path in self.folder.rglob("*.*")}
            tree = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in files.items()]
            about = {"id": "me/net", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            content = json.dumps(tree if parts[4:5] == ["tree"] else about).encode()
            self._answer(content, known=parts[2:4] == ["me", "net"])
        else:
            path = self.folder / "/".join(parts[4:])
            self._answer(path.read_bytes(), known=parts[:2] == ["me", "net"])

    do_HEAD = do_GET

    def _answer(self, content: bytes, *, known: bool) -> None:
        self.send_response(200 if known else 404)
        if known:
            self.send_header("ETag", f'"{len(content)}"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            self.send_header("X-Error-Code", "RepoNotFound")
            content = b""
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def endpoint(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("Own", (Hub,), {"folder": folder, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("NO_PROXY", "*")
        yield handler
        server.shutdown()
        thread.join()


def test_a_net_is_fetched_once_and_without_what_is_not_needed(endpoint: type[Hub], tmp_path: Path) -> None:
    assert fcn_port.load("hf:me/net").card.licence == "MIT"
    brought = {each.rpartition("/")[2] for each in endpoint.asked if "/resolve/" in each}
    assert brought == {CONFIG, WEIGHTS, GOLDEN}
    assert run(["predict", "hf:me/net", PICTURE, "-o", str(tmp_path / "out"), "--padded"]) == 0
    again = [each for each in endpoint.asked if each.endswith(WEIGHTS)]
    assert len(again) <= 2, "a HEAD and a GET"


@pytest.mark.parametrize("given", ["junk", "hub.example.org", "http://", "file:///tmp"])
def test_a_hub_that_is_no_address_is_named(given: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was the words of a library about its own "request URL"."""
    monkeypatch.setenv("HF_ENDPOINT", given)
    with pytest.raises(FetchError, match=f"^HF_ENDPOINT: '{given}' is no address such as https://"):
        fcn_port.load("hf:me/net")


def test_what_a_hub_lacks_and_what_is_no_address_is_told(
    endpoint: type[Hub], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "hf:you/other", PICTURE]) == 1
    assert "hf:you/other: " in capsys.readouterr().err
    for name in ("hf:", "hf:net", "hf:a/b/c", "hf:../../x", "hf:a/b@", "hf:a/\x1b[31m"):
        with pytest.raises(FetchError) as error:
            fcn_port.load(name)
        assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("content", [b"<html>log in", b"", b"[]", b'{"siblings": [1]}', b'"net"'])
def test_an_answer_that_is_no_hub_s_is_told(
    content: bytes, endpoint: type[Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Hub._answer
    monkeypatch.setattr(endpoint, "_answer", lambda self, _, *, known: answer(self, content, known=True))
    with pytest.raises(FetchError, match=r"hf:me/net: the answer of http://.* is not that of a hub: ") as error:
        fcn_port.load("hf:me/net")
    assert "\n" not in str(error.value)


def test_other_weights_from_a_hub_are_refused(
    endpoint: type[Hub], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, tmp_path / "other")
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / "other" / WEIGHTS).write_bytes(content)
    endpoint.folder = tmp_path / "other"
    assert run(["predict", "hf:me/net", PICTURE]) == 3
    assert "its sha256 is" in capsys.readouterr().err


def test_with_a_mirror_the_public_hub_is_not_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_MIRROR", "https://mirror.example/caffe")
    with pytest.raises(FetchError, match="FCN_PORT_MIRROR is set"):
        fcn_port.load("hf:me/net")


def test_what_is_missing_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from converters.export import checking

    monkeypatch.setattr(checking, "find_spec", lambda name: None)
    assert run(["predict", "hf:me/net", PICTURE]) == 1
    assert "pip install 'fcn-port[hub]'" in capsys.readouterr().err
