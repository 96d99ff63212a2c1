"""Nets of one and four channels, of one output channel, and of several outputs: trained, validated, evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import CaffeModel, parse_prototxt, write_caffemodel
from fcn_port.cli import run
from fcn_port.data import DataError, net_inputs, open_dataset
from fcn_port.data.inputs import InputChange, inputs_of
from fcn_port.evaluation.predicting import predicted_labels
from fcn_port.predict.meaning import NetOutputs
from fcn_port.training.transforms import Variation, varied
from parity_tests.datasets import noise, save

HEAD = """
name: "tiny"
layer {{ name: "data" type: "Input" top: "data" top: "label" input_param {{
  shape {{ dim: 1 dim: {channels} dim: 12 dim: 16 }} shape {{ dim: 1 dim: 1 dim: 12 dim: 16 }} }} }}
"""
SCORE = """
layer {{ name: "{name}" type: "Convolution" bottom: "data" top: "{name}"
  convolution_param {{ num_output: {classes} kernel_size: 1 weight_filler {{ type: "constant" value: {value} }} }} }}
layer {{ name: "{name}_loss" type: "{loss}" bottom: "{name}" bottom: "label" top: "{name}_loss"
  loss_param {{ ignore_label: 255 normalization: VALID }} }}
"""


def made(
    folder: Path, *, channels: int, classes: int, toml: str = "", outputs: str = "score", **settings: object
) -> Path:
    """A set of three images whose label is 1 where their first channel is above 127, and a net with its solver."""
    for number in range(3):
        stored = noise(number, (12, 16, 4 if channels == 4 else 3))
        save(folder / "images" / f"i{number}.png", stored)
        save(folder / "labels" / f"i{number}.png", (stored[:, :, 0] > 127).astype(np.uint8))
    (folder / "dataset.toml").write_text('classes = ["low", "high"]\nmean = [127.5]\n' + toml)
    filled = {"classes": classes, "value": 0, "loss": "SoftmaxWithLoss", **settings}
    text = HEAD.format(channels=channels) + SCORE.format(name="score", **filled)
    (folder / "net.prototxt").write_text(text)
    solver = folder / "solver.prototxt"
    solver.write_text(f'net: "{folder}/net.prototxt"\nbase_lr: 1e-4\nmax_iter: 2\nlr_policy: "fixed"\n')
    return solver


def train(folder: Path, solver: Path, *more: str) -> int:
    words = ["train", "--solver", str(solver), "--data", str(folder), "--out", str(folder / "run"), "--workers", "0"]
    return run([*words, "--val-split", "val", *more])


def scores(folder: Path) -> dict[str, float]:
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    return next(iter(next(each for each in log if each["event"] == "validated")["scores"].values()))


@pytest.mark.parametrize(("channels", "toml"), [(1, ""), (4, 'channels = "all"\n')])
def test_nets_of_one_and_four_channels(
    channels: int, toml: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = made(tmp_path, channels=channels, classes=2, toml=toml)
    assert train(tmp_path, solver) == 0, capsys.readouterr().err
    assert run(["evaluate", str(tmp_path / "run" / "tiny.safetensors"), "--data", str(tmp_path), "--no-cache"]) == 0
    out = capsys.readouterr()
    assert "Traceback" not in out.err and "low" in out.out


def test_every_channel_comes_as_it_is_stored(tmp_path: Path) -> None:
    made(tmp_path, channels=4, classes=2, toml='channels = "all"\n')
    data = open_dataset(tmp_path)
    recipes = inputs_of(data, {"data": (1, 4, 12, 16)})
    blob = net_inputs(data, data.read("i1", kinds=["bands"]), recipes)["data"]
    assert np.allclose(blob[0].numpy(), noise(1, (12, 16, 4)).transpose(2, 0, 1) - 127.5)
    with pytest.raises(DataError, match=r"i1.png: 4 channels; input 'data' has 3"):
        net_inputs(data, data.read("i1", kinds=["bands"]), inputs_of(data, {"data": (1, 3, 12, 16)}))


def test_a_net_of_more_channels_than_the_images_have_ends_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = made(tmp_path, channels=5, classes=2, toml='channels = "all"\n')
    assert train(tmp_path, solver) == 3
    assert "i0.png: 3 channels; input 'data' has 5" in capsys.readouterr().err.replace("i1", "i0").replace("i2", "i0")


def test_one_channel_of_a_sigmoid_loss_is_scored_as_two_classes(tmp_path: Path) -> None:
    """With weights of one on all channels less the mean the score is above 0 where the sum is: often where one is."""
    solver = made(tmp_path, channels=3, classes=1, loss="SigmoidCrossEntropyLoss", value=0.001)
    assert train(tmp_path, solver, "--lr", "1e-9") == 0
    images = [noise(number, (12, 16, 3)).astype(float) for number in range(3)]
    right = [((each - 127.5).sum(-1) > 0) == (each[:, :, 0] > 127) for each in images]
    assert scores(tmp_path)["overall_accuracy"] == pytest.approx(np.mean(right), abs=0.01)


class Outputs(torch.nn.Module):
    """Scores of two classes under each name: the one after the other says class 0, 1, 0 ... everywhere."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def forward(self, data: torch.Tensor) -> dict[str, torch.Tensor]:
        class_of = torch.eye(2)[:, :, None, None].expand(2, 2, *data.shape[-2:])
        return {name: class_of[number % 2][None] for number, name in enumerate(self.names)}


@pytest.mark.parametrize(("names", "answer"), [("side answer", 1), ("score side", 0), ("side score last", 1)])
def test_of_several_outputs_the_one_of_the_name_or_the_last_is_the_answer(
    names: str, answer: int, tmp_path: Path
) -> None:
    made(tmp_path, channels=3, classes=2)
    found = predicted_labels(
        Outputs(*names.split()), NetOutputs(), {"data": torch.zeros(1, 3, 12, 16)}, open_dataset(tmp_path)
    )
    assert set(found) == {"score"} and (found["score"] == answer).all()


def test_scales_resize_images_and_labels_alike() -> None:
    image = torch.arange(12 * 16, dtype=torch.float32).reshape(1, 12, 16)
    label = (image[0] > 90).to(torch.uint8)
    sizes = set()
    for position in range(12):
        found = varied(
            {"data": image, "label": label}, Variation(scales=(0.5, 2.0)), labels=["label"], seed=1, position=position
        )
        assert found["data"].shape[-2:] == found["label"].shape and found["label"].dtype == torch.uint8
        assert set(found["label"].unique().tolist()) <= {0, 1}
        sizes.add(found["label"].shape[0])
        agree = ((found["data"][0] > 90).to(torch.uint8) == found["label"]).float().mean()
        assert agree > 0.9
    assert min(sizes) < 10 and max(sizes) > 15


def test_changes_of_inputs() -> None:
    from weights.records import InputRecipe, Preprocessing

    own = Preprocessing((InputRecipe("data", "color", "bgr", (1, 2, 3)), InputRecipe("depth", "depth", "file", (9,))))
    color = lambda **given: InputChange(**given).applied(own).inputs[0]  # type: ignore[arg-type]  # noqa: E731
    assert InputChange().applied(own) == own
    assert (color(channels="rgb").mean, color(channels="rgb").channels) == ((3, 2, 1), "file")
    assert color(mean=(5.0,)).mean == (5, 5, 5) and color(scale=2.0).scale == 2
    assert color(channels="rgb", mean=(7.0, 8.0, 9.0)).mean == (7, 8, 9)
    assert InputChange(mean=(5.0,)).applied(own).inputs[1].mean == (9,)
    with pytest.raises(DataError, match="2 means"):
        color(mean=(1.0, 2.0))


def test_evaluate_takes_another_way_to_make_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A score of the first channel beside a constant: which pixels are class 1 moves with --mean and --channels."""
    made(tmp_path, channels=3, classes=2)
    weights = np.zeros((2, 3, 1, 1), np.float32)
    weights[1, 0] = 1
    text = HEAD.format(channels=3).replace('top: "label"', "").replace(" shape { dim: 1 dim: 1 dim: 12 dim: 16 }", "")
    score = SCORE.format(name="score", classes=2, value=0, loss="SoftmaxWithLoss")
    text += score.partition('layer { name: "score_loss"')[0]
    spec = parse_prototxt(text)
    write_caffemodel(CaffeModel(spec, {"score": (weights, np.zeros(2, np.float32))}), tmp_path / "net.caffemodel")
    words = ["evaluate", str(tmp_path / "net.caffemodel"), "--data", str(tmp_path), "--no-cache", "--json"]
    images = np.concatenate([noise(number, (12, 16, 3)).reshape(-1, 3) for number in range(3)])
    for more, order, mean in ((["--mean", "90"], 2, 90), (["--mean", "1,2,90", "--channels", "rgb"], 0, 1)):
        assert run([*words, *more]) == 0
        (found,) = json.loads(capsys.readouterr().out)["tasks"]
        expected = ((images[:, order] > mean) == (images[:, 0] > 127)).mean()
        assert found["overall_accuracy"] == pytest.approx(expected, abs=1e-9), more
    assert run([*words, "--mean", "no.binaryproto"]) == 2
    assert "neither numbers such as 104,117,123 nor a file" in capsys.readouterr().err
