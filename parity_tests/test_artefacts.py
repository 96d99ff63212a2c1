"""What engines compile is kept: by weights and versions, whole or not at all, and not for ever."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import fcn_port
from fcn_port.inference import engines
from fcn_port.inference.engines import artefacts
from fcn_port.inference.lossless import Lossless
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
    crop = next(module for name, module in shifted.named_modules() if type(module).__name__ == "Crop")
    crop.offset += 1
    assert keep(shifted, value="another crop") == "another crop"


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


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(artefacts, "cache_folder", lambda: tmp_path / "file" / "engines")
    assert keep(narrow(FCN8s), value="made all the same") == "made all the same"


def test_the_oldest_goes(folder: Path) -> None:
    for version in range(artefacts.KEPT + 2):
        keep(narrow(FCN8s), version=str(version))
    assert len(list(folder.iterdir())) == artefacts.KEPT


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_engines_start_from_what_is_kept(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = narrow(FCN8s)
    engines.make(name, net)
    monkeypatch.setattr(Lossless, "state", lambda self: pytest.fail("built again"))
    again = engines.make(name, net)
    monkeypatch.undo()
    inputs = image(net, (75, 122))
    assert same(again(**inputs), net(**inputs), claim="engines")
