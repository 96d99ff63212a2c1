"""A solver's TEST net on the way, as the recording of Caffe's own program has it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from converters import CaffeModel, read_caffemodel, write_caffemodel
from converters.formats.prototxt import read_prototxt
from converters.passes import filter_phase
from fcn_port.cli import run
from fcn_port.training.testing import CaffeAccuracy
from parity_tests.goldens import GOLDEN
from parity_tests.oracle.record_tests import FOLDER, LAYERS, write_first, write_mean

RECORDED, OF_LAYERS = (json.loads((folder / "outputs.json").read_text()) for folder in (FOLDER, LAYERS))


def prepared(root: Path, *, solver: str = "", folder: Path = FOLDER, images: str = "raw") -> list[str]:
    """The arguments of the recorded run, in Caffe's own stores."""
    for name in (images, "labels"):
        shutil.copytree(GOLDEN / "stores" / name, root / name)
    shutil.copyfile(folder / "net.prototxt", root / "net.prototxt")
    (root / "solver.prototxt").write_text((folder / "solver.prototxt").read_text() + solver)
    write_first(root / "first.caffemodel", folder)
    (root / "dataset.toml").write_text(f'images = "{images}"\nlabels = "labels"\nclasses = ["a", "b", "c"]\n')
    return [
        "train", "--solver", str(root / "solver.prototxt"), "--data", str(root), "--split", "all", "--val-split", "all",
        "--init", str(root / "first.caffemodel"), "-o", str(root / "run"),
    ]  # fmt: skip


def told_in(root: Path, event: str = "tested", *, folder: str = "run") -> list[dict]:
    lines = map(json.loads, (root / folder / "log.jsonl").read_text().splitlines())
    return [each for each in lines if each["event"] == event]


def compared(found: list[dict], recorded: list[dict], *, rel: float) -> None:
    """Tests of nets as a log has them beside those that Caffe's has."""
    assert [each["iteration"] for each in found] == [each["iteration"] for each in recorded]
    for mine, caffes in zip(found, recorded, strict=True):
        assert list(mine["outputs"]) == list(caffes["outputs"])
        for name, value in caffes["outputs"].items():
            assert mine["outputs"][name] == pytest.approx(value, rel=rel), (mine["iteration"], name)


def test_a_test_net_gives_caffes_outputs_when_caffe_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 0, 2 and 4 updates, two batches of two images of three, cut in the middle, going on in the list each time."""
    assert run(prepared(tmp_path)) == 0
    found = told_in(tmp_path)
    assert [each["iteration"] for each in found] == [0, 2, 4]
    compared(found, RECORDED["tested"], rel=2e-5)
    assert len({each["outputs"]["loss"] for each in found}) == 3
    assert "TEST net #0, 2 batches: a_top2" in capsys.readouterr().err


def test_what_data_layers_say_is_what_caffe_does(tmp_path: Path) -> None:
    """Means of each pixel with crops, force_gray, ImageData's sizes and grey, test_state's stages and level, the order.

    The grey is libpng's, which cuts off where Pillow and cv2.cvtColor round: that was 2e-3 away.
    """
    given = prepared(tmp_path, folder=LAYERS, images="encoded")
    write_mean(tmp_path / "mean.binaryproto")
    assert run([*given, "--workers", "0"]) == 0
    compared(told_in(tmp_path), OF_LAYERS["tested"], rel=2e-5)
    mine = [each["losses"] for each in told_in(tmp_path, "updated")]
    for name in ("loss", "loss_grey"):
        losses = [each[name] for each in OF_LAYERS["trained"]]
        assert [each[name] for each in mine] == pytest.approx(losses, rel=2e-5)


def test_a_solver_s_weights_are_begun_with(tmp_path: Path) -> None:
    """solver.cpp, LoadNetWeights: the files in turn, a later one counting: the first test is Caffe's."""
    given = [*prepared(tmp_path, solver='weights: "other.caffemodel, first.caffemodel"'), "--max-iter", "1"]
    spec, first = read_prototxt(FOLDER / "net.prototxt"), read_caffemodel(tmp_path / "first.caffemodel")
    changed = {name: tuple(3 * blob for blob in blobs) for name, blobs in first.blobs.items()}
    write_caffemodel(CaffeModel(filter_phase(spec, phase="TRAIN"), changed), tmp_path / "other.caffemodel")
    place = given.index("--init")
    own = [*given[:place], *given[place + 2 :]]
    assert run(own) == 0
    compared(told_in(tmp_path), RECORDED["tested"][:1], rel=2e-5)
    assert run([*own, "-o", str(tmp_path / "run2"), "--init", str(tmp_path / "other.caffemodel")]) == 0
    with pytest.raises(AssertionError):  # --init comes before it, as --weights does (caffe.cpp)
        compared(told_in(tmp_path, folder="run2"), RECORDED["tested"][:1], rel=2e-5)


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


def test_a_snapshot_format_that_is_not_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*prepared(tmp_path, solver="snapshot_format: HDF5"), "--max-iter", "1"]) == 0
    assert "snapshots are a .caffemodel and a .solverstate, which Caffe reads too, not HDF5" in capsys.readouterr().err
    assert (tmp_path / "run" / "tested_iter_1.solverstate").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    {
        ("crop_size: 5 }", "crop_size: 5 mirorr: true }"): "field 'transform_param.mirorr' is unknown",
        ("mean_value: 100", "mean_value: 100 rotate: 30"): "field 'transform_param.rotate' is unknown",
        (
            'layer { name: "score" type: "Convolution"',
            'layer { name: "score" type: "Convolution" include { phase: TEST } bottom: "data" top: "score" '
            "convolution_param { num_output: 3 kernel_size: 5 pad: 2 } }\n"
            'layer { name: "score" type: "Convolution" include { phase: TRAIN }',
        ): "the TEST net has score.weight in the shape (3, 3, 5, 5); (3, 3, 3, 3) is trained",
    }.items(),
    ids=["mistyped", "of a fork", "shape"],
)
def test_a_net_whose_tests_would_differ_is_refused(
    change: tuple[str, str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = prepared(tmp_path)
    text = (tmp_path / "net.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(text.replace(*change))
    assert run(given) in (1, 3)
    assert expected in capsys.readouterr().err


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
