"""Every verb that needs a release that is not here says what it brings, from where, how large; output stays data."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
from PIL import Image

from fcn_port.cli import data, run
from fcn_port.data import archives, make_shapes
from fcn_port.data.archives import ARCHIVES
from fcn_port.nets import NETS
from parity_tests.datasets import make_voc
from parity_tests.http_server import HostileServer, Served, serving
from parity_tests.record_sample import WEIGHTS
from weights import catalogue
from weights.store import converted_path, place_of

FILE = WEIGHTS.name


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    """It has the release `elsewhere`, which is the sample under another name; nothing of it is here."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("FCN_PORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FCN_PORT_OFFLINE", raising=False)
    known = catalogue._catalogue()
    assert NETS  # made of the catalogue when first asked for: of the real one
    with serving(Served(WEIGHTS.read_bytes())) as running:
        entry = replace(known.bundled["sample"], name="elsewhere", kind="fcn", bundled=None, urls=(running.url(FILE),))
        more = replace(known, releases=MappingProxyType({**known.releases, "elsewhere": entry}))
        monkeypatch.setattr(catalogue, "_catalogue", lambda: more)
        yield running


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("set") / "shapes", count=4, seed=1, size=(48, 64), val=0.5)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 48), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


VERBS = {
    "fetch": "fetch elsewhere --json",
    "convert": "convert elsewhere --json",
    "inspect": "inspect elsewhere --json",
    "trace": "trace elsewhere --json",
    "verify": "verify elsewhere --json",
    "predict": "predict elsewhere {picture} --out {tmp}/out --json",
    "evaluate": "evaluate elsewhere --data {shapes} --no-cache --json",
    "report": "report elsewhere --data {shapes} --out {tmp}/report.html --limit 1",
    "export": "export elsewhere --to safetensors --out {tmp}/net.safetensors --json",
    "surgery": "surgery voc-fcn32s --init elsewhere --out {tmp}/init.safetensors --json",
    "train": "train shapes-fcn8s --init elsewhere --data {shapes} --out {tmp}/run --max-iter 1 --val-split none "
    "--snapshot 0 --json",
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_what_it_brings(
    server: HostileServer,
    shapes: Path,
    picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
) -> None:
    status = run(VERBS[verb].format(picture=picture, shapes=shapes, tmp=tmp_path).split())
    out, err = capsys.readouterr()
    if verb == "surgery":
        assert status == 3 and "conv1_1" in err  # the sample is narrow; what counts here is that it was brought
    else:
        assert status in (0, 1), err
        assert verb == "report" or json.loads(out)
    (announced,) = [line for line in err.splitlines() if line.startswith("elsewhere is not here")]
    assert FILE in announced and "about 1.26 MB" in announced and server.url(FILE) in announced
    (began,) = [line for line in err.splitlines() if line.startswith(f"downloading {FILE}")]
    assert server.url(FILE) in began and "1.26 MB" in began
    assert "downloading" not in out and len(server.seen) == 1
    assert place_of(catalogue.release("elsewhere")).path.read_bytes() == WEIGHTS.read_bytes()


@pytest.mark.parametrize("verb", ["predict", "evaluate", "report", "verify", "export"])
def test_nothing_is_announced_that_is_here(
    server: HostileServer,
    shapes: Path,
    picture: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
) -> None:
    assert run(["convert", "elsewhere"]) == 0
    assert converted_path(catalogue.release("elsewhere")).is_file()
    capsys.readouterr()
    assert run(VERBS[verb].format(picture=picture, shapes=shapes, tmp=tmp_path).split()) in (0, 1)
    err = capsys.readouterr().err
    assert "not here" not in err and "downloading" not in err and len(server.seen) == 1


def test_of_several_processes_one_speaks(server: HostileServer, capsys: pytest.CaptureFixture[str]) -> None:
    from fcn_port.cli.bringing import here

    assert here("elsewhere", active=False).is_file()
    assert capsys.readouterr().err == ""


def test_a_data_set_says_what_it_brings(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_voc(tmp_path / "made" / "VOCdevkit" / "VOC2011")
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        archive.add(tmp_path / "made", "TrainVal")
    server.served = Served(body.getvalue())
    entry = replace(ARCHIVES["voc2010"], urls=(server.url("voc.tar"),), checksum=None, home="VOCdevkit/VOC2011")
    monkeypatch.setattr(archives, "ARCHIVES", {**ARCHIVES, "voc2010": entry})
    monkeypatch.setattr(data, "ARCHIVES", {**ARCHIVES, "voc2010": entry})
    assert run(["data", "voc2010", "--fetch", "--root", str(tmp_path / "root"), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    (announced,) = [line for line in err.splitlines() if line.startswith("voc2010 is not here")]
    assert entry.file in announced and server.url("voc.tar") in announced and "up to 4 GB" in announced
    (began,) = [line for line in err.splitlines() if line.startswith("downloading")]
    assert server.url("voc.tar") in began and "kB" in began
