"""A solver's TEST net on the way, as the recording of Caffe's own program has it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from fcn_port.cli import run
from fcn_port.training.testing import CaffeAccuracy
from parity_tests.goldens import GOLDEN
from parity_tests.oracle.record_tests import FOLDER, write_first

RECORDED = json.loads((FOLDER / "outputs.json").read_text())


def prepared(root: Path, *, solver: str = "") -> list[str]:
    """The arguments of the recorded run, in Caffe's own stores."""
    for name in ("raw", "labels"):
        shutil.copytree(GOLDEN / "stores" / name, root / name)
    shutil.copyfile(FOLDER / "net.prototxt", root / "net.prototxt")
    (root / "solver.prototxt").write_text((FOLDER / "solver.prototxt").read_text() + solver)
    write_first(root / "first.caffemodel")
    (root / "dataset.toml").write_text('images = "raw"\nlabels = "labels"\nclasses = ["a", "b", "c"]\n')
    return [
        "train", "--solver", str(root / "solver.prototxt"), "--data", str(root), "--split", "all", "--val-split", "all",
        "--init", str(root / "first.caffemodel"), "--order", "listed", "-o", str(root / "run"),
    ]  # fmt: skip


def told_in(root: Path) -> list[dict]:
    lines = map(json.loads, (root / "run" / "log.jsonl").read_text().splitlines())
    return [each for each in lines if each["event"] == "tested"]


def test_a_test_net_gives_caffes_outputs_when_caffe_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 0, 2 and 4 updates, two batches of two images of three, cut in the middle, going on in the list each time."""
    assert run(prepared(tmp_path)) == 0
    found = told_in(tmp_path)
    assert [each["iteration"] for each in found] == [each["iteration"] for each in RECORDED] == [0, 2, 4]
    for mine, caffes in zip(found, RECORDED, strict=True):
        assert list(mine["outputs"]) == list(caffes["outputs"])
        for name, value in caffes["outputs"].items():
            assert mine["outputs"][name] == pytest.approx(value, rel=2e-5), (mine["iteration"], name)
    assert len({each["outputs"]["loss"] for each in found}) == 3
    assert "TEST net #0, 2 batches: a_top2" in capsys.readouterr().err


def test_no_test_before_the_first_update_and_no_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = prepared(tmp_path, solver="test_initialization: false")
    assert run([*given, "--max-iter", "3"]) == 0
    assert [each["iteration"] for each in told_in(tmp_path)] == [2]
    again = [*given[:-1], str(tmp_path / "other"), "--val-split", "none", "--max-iter", "1"]
    assert run(again) == 0
    assert "TEST net is not run: there is no split" in capsys.readouterr().err


def test_accuracy_counts_ties_against_the_label_and_nothing_as_none() -> None:
    """accuracy_layer.cpp: a score that equals the label's counts as better; 0 where no pixel counts."""
    scores = torch.tensor([[1.0, 1.0, 0.0], [3.0, 2.0, 1.0], [0.0, 1.0, 2.0]]).T[None, :, :, None]
    labels = torch.tensor([[0, 0, 255]])[..., None]
    blobs = {"s": scores, "l": labels}
    assert CaffeAccuracy("a", "s", "l", ignore_label=255)(blobs) == 0.5  # a tie, a hit
    assert CaffeAccuracy("a", "s", "l", top_k=2, ignore_label=255)(blobs) == 1.0
    assert CaffeAccuracy("a", "s", "l", ignore_label=255)({**blobs, "l": labels * 0 + 255}) == 0.0


@pytest.mark.parametrize(
    ("change", "expected"),
    {
        ("test_iter: 2", "test_iter: 0"): "test_iter is 0",
        ("test_iter: 2", 'test_net: "net.prototxt"'): "test_iter is missing",
    }.items(),
    ids=["zero", "missing"],
)
def test_a_solver_whose_tests_cannot_be(
    change: tuple[str, str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = prepared(tmp_path)
    text = (tmp_path / "solver.prototxt").read_text()
    (tmp_path / "solver.prototxt").write_text(text.replace(*change))
    assert run(given) in (1, 3)
    assert expected in capsys.readouterr().err
