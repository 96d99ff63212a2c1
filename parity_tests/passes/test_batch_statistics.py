"""A lone snapshot that says use_global_stats: false is run as Caffe runs it, and that is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import fcn_port
from converters import CaffeModel, CaffeNet, parse_prototxt, read_caffemodel, to_state_dict, write_caffemodel
from converters.passes import choosing, prepare
from fcn_port.cli import run

NET = """
name: "snapshot"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 9 } } }
layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" batch_norm_param { use_global_stats: false } }
"""
MEAN, VARIANCE = np.array([1, 2, 3], np.float32), np.array([4, 1, 0.25], np.float32)


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    blobs = {"bn": (MEAN, VARIANCE, np.ones(1, np.float32))}
    write_caffemodel(CaffeModel(spec=parse_prototxt(NET), blobs=blobs), tmp_path / "snapshot.caffemodel")
    return tmp_path / "snapshot.caffemodel"


def test_the_stored_statistics_can_be_chosen(snapshot: Path) -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 8, 9)).astype(np.float32))
    as_caffe = fcn_port.load(snapshot)(x)
    assert abs(float(as_caffe.mean())) < 1e-6
    with choosing(global_stats=True):
        stored = fcn_port.load(snapshot)(x)
    expected = (x.numpy() - MEAN.reshape(3, 1, 1)) / np.sqrt(VARIANCE.reshape(3, 1, 1) + 1e-5)
    np.testing.assert_allclose(stored.detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_it_is_told_of_snapshots_alone(snapshot: Path) -> None:
    told: list[str] = []
    model = read_caffemodel(snapshot)
    assert model.spec is not None
    with choosing(warn=told.append):
        assert any("--global-stats" in note for note in prepare(model.spec).notes)
        assert not prepare(parse_prototxt(NET, path="deploy.prototxt")).notes, "somebody wrote it there"
    assert len(told) == 1
    CaffeNet(model.spec).load_state_dict(to_state_dict(model))


@pytest.mark.parametrize("verb", [["inspect"], ["trace"], ["convert", "-o", "{out}"]])
def test_every_verb_warns(verb: list[str], snapshot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = [verb[0], str(snapshot), *(part.format(out=tmp_path / "x.safetensors") for part in verb[1:])]
    assert run(arguments) == 0
    assert "--global-stats" in capfd.readouterr().err
    for choice in ("--global-stats", "--no-global-stats"):
        assert run([*arguments, choice]) == 0
        assert "--global-stats" not in capfd.readouterr().err


def test_an_export_asks_for_the_choice(snapshot: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(snapshot), "--to", "caffe", "--out", str(tmp_path / "out.caffemodel")]
    assert run(arguments) == 2
    assert "--[no-]global-stats" in capfd.readouterr().err and not (tmp_path / "out.caffemodel").exists()
    assert run([*arguments, "--global-stats"]) == 0
    assert "use_global_stats: true" in (tmp_path / "out.prototxt").read_text()
