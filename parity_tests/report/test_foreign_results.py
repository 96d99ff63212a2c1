"""Results of another data set, or that nobody's evaluation wrote: one line says so, and no page shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from fcn_port.cli import run
from fcn_port.nets import FCN8s
from parity_tests.datasets import noise, save
from parity_tests.evaluation.test_evaluate import NARROW, filled

THREE = {"score": ["ground", "wall", "sky"]}


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "own" / "images" / "a.png", noise(0, (16, 24, 3)))
    save(tmp_path / "own" / "labels" / "a.png", noise(1, (16, 24)) % 3)
    (tmp_path / "own" / "dataset.toml").write_text('classes = ["ground", "wall", "sky"]\n')
    save_file(filled(FCN8s(3, widths=NARROW)).state_dict(), tmp_path / "net.safetensors")
    return tmp_path / "own"


def written(**changed: Any) -> str:
    """The file of an evaluation of one image, with some fields otherwise."""
    found = {
        "weights": "net", "release": None, "dataset": "own", "title": "Other", "split": "val", "complete": False,
        "classes": THREE, "skipped": {}, "seconds": 1.0, "computed": 1, "settings": {},
        "images": [{"id": "a", "histograms": {next(iter(changed.get("classes", THREE)), "score"): [0, 0, 9]}}],
    }  # fmt: skip
    Path("found.json").write_text(json.dumps({**found, **changed}))
    return "found.json"


REPORT = ["report", "net.safetensors", "--results", "found.json"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dataset": "pascalcontext", "classes": {"other": ["a"]}}, "expected the output score"),
        ({"dataset": "pascalcontext", "classes": {"score": []}, "images": []}, "an output without classes"),
        ({"classes": {"score": []}, "images": []}, "an output without classes"),
        ({"images": [{"id": "a", "histograms": {}}] * 2}, "the image 'a' is there twice"),
    ],
    ids=["no score", "context of nothing", "no classes", "an image twice"],
)
def test_what_no_evaluation_wrote(changed: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    written(**changed)
    assert run(REPORT) == 3
    assert said in (err := capsys.readouterr().err) and "found.json: not an evaluation" in err
    assert not Path("report.html").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"classes": {"other": ["a", "b", "c"]}}, "3 classes of other; own has 3 of score"),
        ({"classes": {"score": ["a", "b"]}}, "2 classes of score; own has 3 of score"),
        ({"classes": {"score_sem": ["a"] * 33, "score_geo": ["b"] * 3}}, "33 classes of score_sem and 3 classes of sc"),
        ({"images": [{"id": "zz", "histograms": {"score": [0, 0, 9]}}]}, "none of the 1 images of the results is in"),
    ],
    ids=["another output", "fewer classes", "two outputs", "other images"],
)
def test_results_of_another_data_set(changed: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    written(**changed)
    assert run([*REPORT, "--data", "own"]) == 3
    assert said in (err := capsys.readouterr().err) and "the results are of Other, val" in err
    assert run(REPORT) == 0  # by themselves they can be shown


def test_results_with_other_names_of_the_same_classes_are_its_own() -> None:
    written(classes={"score": ["x", "y", "z"]})
    assert run([*REPORT, "--data", "own"]) == 0
    assert "<h3>a " in Path("report.html").read_text()
