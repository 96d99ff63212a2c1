"""Where files live, and the authors' net definitions that are kept there too."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

import weights
from parity_tests.fetching import BODY, HURRY, published
from parity_tests.http_server import HostileServer, Served, always, honest, status
from weights import store
from weights.errors import FetchError, OfflineError
from weights.store import place_of

pytest_plugins = ["parity_tests.fetch_fixtures"]


def test_weights_live_where_the_variable_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FCN_PORT_WEIGHTS", "here")
    entry = weights.release("voc-fcn8s")
    assert weights.weights_dir() == tmp_path / "here"
    assert place_of(entry).path == tmp_path / "here" / "fcn8s-heavy-pascal.caffemodel"
    assert store.converted_path(entry) == tmp_path / "here" / "voc-fcn8s.safetensors"


def test_weights_live_in_the_checkout_else_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FCN_PORT_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = tmp_path / "lib" / "weights"
    package.mkdir(parents=True)
    monkeypatch.setattr(store, "__file__", str(package / "store.py"))
    assert package not in weights.weights_dir().parents and "fcn-port" in str(weights.weights_dir())
    (tmp_path / "lib" / "pyproject.toml").write_text('[project]\nname = "somebody-elses"\n')
    assert package not in weights.weights_dir().parents
    (tmp_path / "lib" / "pyproject.toml").write_text('[project]\nname = "fcn-port"\n')
    assert weights.weights_dir() == package / "files"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert package not in weights.weights_dir().parents


# --- net definitions ---

PROTOTXT = b'name: "FCN"\nlayer { name: "conv1" type: "Convolution" }\n'


def prototxt(server: HostileServer, folder: Path, **options: bool) -> Path:
    entry = replace(published([]), prototxts=(server.url("deploy.prototxt"), server.url("val.prototxt")))
    return weights.fetch_prototxt(entry, directory=folder, patience=HURRY, **options)


def test_the_prototxt_comes_with_its_release(server: HostileServer, tmp_path: Path) -> None:
    server.served = Served(PROTOTXT)
    server.script = [status(404), honest]
    path = prototxt(server, tmp_path)
    assert path == tmp_path / "voc-fcn8s.prototxt" and path.read_bytes() == PROTOTXT
    assert [each.path for each in server.seen] == ["/deploy.prototxt", "/val.prototxt"]
    assert prototxt(server, tmp_path) == path and len(server.seen) == 2
    assert sorted(each.name for each in tmp_path.iterdir()) in (
        ["voc-fcn8s.prototxt"],
        ["voc-fcn8s.prototxt", "voc-fcn8s.prototxt.lock"],
    )


@pytest.mark.parametrize(
    ("body", "problem"),
    [(b"404: Not Found", "defines no layer"), (BODY, "not text"), (b"<html>", "web page"), (bytes(2 << 20), "at most")],
    ids=["words", "binary", "page", "huge"],
)
def test_something_else_than_a_prototxt(server: HostileServer, tmp_path: Path, body: bytes, problem: str) -> None:
    server.script = [always(body, kind="text/plain")]
    with pytest.raises(FetchError, match=problem):
        prototxt(server, tmp_path)
    assert not (tmp_path / "voc-fcn8s.prototxt").exists()


def test_a_prototxt_that_cannot_be_kept_is_told(server: HostileServer, tmp_path: Path) -> None:
    server.served = Served(PROTOTXT)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FetchError, match=r"voc-fcn8s: .*file.*: (Not a directory|File exists)"):
        prototxt(server, tmp_path / "file" / "folder")


def test_no_prototxt_without_network(server: HostileServer, tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"voc-fcn8s\.prototxt is not here"):
        prototxt(server, tmp_path, offline=True)
    assert server.seen == []
