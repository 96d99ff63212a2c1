"""What engines compile is kept: by weights and versions, whole or not at all, and not for ever."""

from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

import fcn_port
from fcn_port.errors import EngineError
from fcn_port.fastpath import engines
from fcn_port.fastpath.engines import artefacts
from fcn_port.fastpath.known_engines import EXTRAS
from fcn_port.fastpath.lossless import Lossless
from fcn_port.nets import FCN8s, FCN16s
from parity_tests.narrow import image, narrow, same


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(artefacts, "cache_folder", lambda: tmp_path / "engines")
    return tmp_path / "engines"


def keep(net: torch.nn.Module, *, version: str = "1", value: str = "made", fails: bool = False) -> str:
    """What an engine would do, with a word in place of a model."""

    def make(place: Path) -> None:
        (place / "model").write_text(value)
        if fails:
            raise RuntimeError("out of memory")

    def load(place: Path) -> str:
        text = (place / "model").read_text()
        if text == "damaged":
            raise ValueError(text)
        return text

    return artefacts.kept(fcn_port.fast(net), engine="words", version=version, make=make, load=load)


KILLED = """
import os, pathlib, sys
import fcn_port
from fcn_port.fastpath.engines import artefacts
from fcn_port.nets import FCN8s
from parity_tests.narrow import narrow
artefacts.cache_folder = lambda: pathlib.Path(sys.argv[1])
net = fcn_port.fast(narrow(FCN8s))
artefacts.kept(net, engine="words", version="1", make=lambda place: os._exit(9), load=str)
"""


def test_by_net_weights_and_version() -> None:
    net = narrow(FCN8s)
    assert keep(net, value="first") == "first"
    assert keep(net, value="second") == "first"
    assert keep(net, version="2", value="second") == "second"
    other = copy.deepcopy(net)
    other.score_fr.bias[0] += 1e-6
    assert keep(other, value="other weights") == "other weights"
    assert keep(narrow(FCN16s), value="another net") == "another net"
    shifted = copy.deepcopy(net)
    crop = next(module for name, module in shifted.named_modules() if type(module).__name__ == "CropLike")
    crop.offset += 1
    assert keep(shifted, value="another crop") == "another crop"


def test_by_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines may share a cache folder, and what is compiled for one may not run on the other."""
    net = narrow(FCN8s)
    assert keep(net, value="first") == "first"
    monkeypatch.setattr(artefacts, "processor", lambda: "another")
    assert keep(net, value="second") == "second"


def test_a_damaged_one_is_made_again(folder: Path) -> None:
    keep(narrow(FCN8s))
    (path,) = folder.glob("words-*/model")
    path.write_text("damaged")
    assert keep(narrow(FCN8s), value="mended") == "mended"
    assert keep(narrow(FCN8s), value="not asked") == "mended"


def test_an_unfinished_one_is_not_kept(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        keep(narrow(FCN8s), fails=True)
    assert not list(folder.iterdir())


def test_what_a_killed_process_left_goes_when_it_is_made_again(folder: Path) -> None:
    net = narrow(FCN8s)
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    (left,) = folder.iterdir()
    assert keep(net) == "made"
    assert [each.name.startswith("words-") for each in folder.iterdir()] == [True] and not left.exists()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(artefacts, "cache_folder", lambda: tmp_path / "file" / "engines")
    assert keep(narrow(FCN8s), value="made all the same") == "made all the same"


def test_the_oldest_goes(folder: Path) -> None:
    for version in range(artefacts.KEPT + 2):
        keep(narrow(FCN8s), version=str(version))
    assert len(list(folder.iterdir())) == artefacts.KEPT


@pytest.mark.parametrize("what", ["another byte", "another file", "no digests", "a link", "a name", "a file less"])
def test_one_that_is_not_what_was_kept_is_not_loaded(what: str, folder: Path, tmp_path: Path) -> None:
    """An engine that runs what it reads is never asked."""
    keep(narrow(FCN8s), value="kept")
    (path,) = folder.glob("words-*/model")
    if what == "another byte":
        path.write_text("Kept")
    elif what == "another file":
        (path.parent / "more").write_text("")
    elif what == "no digests":
        (path.parent / "sha256.json").unlink()
    elif what == "a file less":
        path.unlink()
    else:
        other = tmp_path / "other"
        other.write_text("kept")
        path.unlink()
        (path.symlink_to if what == "a link" else path.hardlink_to)(other)
    assert keep(narrow(FCN8s), value="made again") == "made again"
    assert keep(narrow(FCN8s), value="not asked") == "made again"


@pytest.mark.parametrize("place", ["root", "artefact", "above"])
def test_where_others_write_nothing_is_loaded(place: str, folder: Path, tmp_path: Path) -> None:
    keep(narrow(FCN8s), value="planted")
    (artefact,) = folder.glob("words-*")
    {"root": folder, "artefact": artefact, "above": tmp_path}[place].chmod(0o777)
    assert keep(narrow(FCN8s), value="made for this process") == "made for this process"
    assert (artefact / "model").read_text() == ("planted" if place != "artefact" else "made for this process")


def test_pytorchs_own_folder_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile loads what it finds there, by default under a name in /tmp that everybody knows."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    tmp_path.chmod(0o777)
    with pytest.raises(EngineError, match=r"others may write in it.*set TORCHINDUCTOR_CACHE_DIR"):
        engines.make("compile", narrow(FCN8s))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(EngineError, match=r"others may write in it.*set TORCHINDUCTOR_CACHE_DIR"):
        engines.make("compile", narrow(FCN8s))
    tmp_path.chmod(0o700)
    engines.make("compile", narrow(FCN8s))


@pytest.mark.parametrize("name", EXTRAS)
def test_engines_start_from_what_is_kept(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = narrow(FCN8s)
    engines.make(name, net)
    monkeypatch.setattr(Lossless, "state", lambda self: pytest.fail("built again"))
    again = engines.make(name, net)
    monkeypatch.undo()
    inputs = image(net, (75, 122))
    assert same(again(**inputs), net(**inputs), claim="engines")
