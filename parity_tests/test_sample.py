"""The bundled release scores what is recorded, on images that it has not seen, and everybody says the same of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import converters
import fcn_port
from converters.net.shapes import infer_shapes
from fcn_port.cli import run
from fcn_port.data import DataSet, make_shapes, open_dataset
from fcn_port.evaluation.running import EvaluationPlan, evaluate
from fcn_port.nets import FCN8s, Widths
from fcn_port.training import find_recipe
from parity_tests.record_sample import CATALOGUE, WEIGHTS, with_entry
from parity_tests.test_architecture import ROOT
from weights import release
from weights.records import METRICS

CARD = json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("held-out") / "set", count=60, seed=2, size=(240, 320), val=1.0)


def mean_iu(net: torch.nn.Module, data: DataSet, *, limit: int) -> float:
    result = evaluate(net, data, plan=EvaluationPlan(limit=limit))
    return result.scores(result.tasks[0]).mean_iu


def test_it_reaches_its_recorded_scores(
    held_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path))
    assert run(["evaluate", "sample", "--data", str(held_out), "--no-cache", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"]["ok"] and "reproduced: mean IU" in found["verdict"]["text"]
    (published,) = found["published"]
    for metric in METRICS:
        assert published[metric] == CARD["scores"][metric]
    assert CARD["scores"]["mean_iu"] >= 90


def exchange_red_and_blue(net: FCN8s) -> None:
    net.conv1_1.weight.copy_(net.conv1_1.weight.flip(1))


def forget_what_pool3_sees(net: FCN8s) -> None:
    net.score_pool3.weight.zero_()


def crop_elsewhere(net: FCN8s) -> None:
    net.score.offset = 21


@pytest.mark.parametrize("damage", [exchange_red_and_blue, forget_what_pool3_sees, crop_elsewhere])
def test_a_damaged_one_does_not(damage: Callable[[FCN8s], None], held_out: Path) -> None:
    net = fcn_port.load(WEIGHTS)
    data = open_dataset(held_out, split="val")
    assert isinstance(net, FCN8s)
    whole = mean_iu(net, data, limit=6)
    with torch.no_grad():
        damage(net)
    assert mean_iu(net, data, limit=6) < whole - 0.02


def test_everybody_says_the_same_of_it() -> None:
    """The card beside it, the catalogue, the definition and the recipe that made it."""
    sample = release("sample")
    digest = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert digest == CARD["sha256"] == sample.checksums[0].digest and sample.size == WEIGHTS.stat().st_size < 1_500_000
    text = CATALOGUE.read_text(encoding="utf-8")
    assert with_entry(text, size=sample.size, sha256=digest, scores=CARD["scores"]) == text
    recipe = find_recipe("shapes-fcn8s")
    assert (CARD["seed"], CARD["updates"]) == (recipe.seed, recipe.solver.max_iter)
    model = converters.read_caffemodel(WEIGHTS)
    spec = converters.read_prototxt(WEIGHTS.with_suffix(".prototxt"))
    assert infer_shapes(spec)["score"] == (1, 7, 500, 500)
    assert set(converters.to_state_dict(model)) == set(FCN8s(7, widths=Widths(*recipe.widths)).state_dict())


def test_its_picture_is_a_held_out_one(held_out: Path) -> None:
    ours = Image.open(ROOT / "weights" / "sample" / "shapes.png").convert("RGB")
    theirs = Image.open(held_out / "JPEGImages" / "shapes_0002_00008.jpg")
    difference = np.asarray(ours, np.float32) - np.asarray(theirs, np.float32)
    assert np.abs(difference).mean() < 0.1, "but for how a JPEG is decoded"
