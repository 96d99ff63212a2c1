"""One description and the same options in `predict`, `evaluate` and `report`: images, inputs, views and class names."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from fcn_port import load, prepare
from fcn_port.cli import run
from fcn_port.training.transforms import Variation, varied
from parity_tests.datasets import noise, save
from weights.card import Card

NET = """
name: "n" layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 1 dim: {0} dim: 8 dim: 9 }} }} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score"
        convolution_param {{ num_output: 2 kernel_size: 3 pad: 1 weight_filler {{ type: "gaussian" std: 1 }} }} }}
"""


def net_of(path: Path, channels: int) -> str:
    """A file of a net with random weights, which does not say how its input is made."""
    made = torch.Generator().manual_seed(channels)
    weights = {"score.weight": torch.randn(2, channels, 3, 3, generator=made), "score.bias": torch.zeros(2)}
    save_file(weights, path, metadata={"prototxt": NET.format(channels)})
    return str(path)


def described(root: Path, channels: int = 3) -> Path:
    """A data set of three images of 8x9 pixels in two classes."""
    mode = {3: "RGB", 4: "RGBA"}[channels]
    for i in range(3):
        save(root / "images" / f"i{i}.png", Image.fromarray(noise(i, (8, 9, channels)), mode))
        save(root / "labels" / f"i{i}.png", noise(i + 9, (8, 9)) % 2)
    extra = 'channels = "all"\n' if channels == 4 else ""
    (root / "dataset.toml").write_text(f'classes = ["ground", "wall"]\nmean = [9]\n{extra}')
    return root


def test_values_that_are_no_bytes_are_segmented_as_they_are_scored(tmp_path: Path) -> None:
    """HDF5Data's floats, below 0 and above 255, too; `predict` refused what `evaluate` took."""
    draw = np.random.default_rng(1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = draw.normal(100, 200, (2, 3, 8, 9)).astype(np.float32)
        file["label"] = draw.integers(0, 2, (2, 1, 8, 9)).astype(np.float32)
    (tmp_path / "dataset.toml").write_text('images = "a.h5"\nlabels = "a.h5"\nclasses = ["ground", "wall"]\n')
    weights, data = net_of(tmp_path / "net.safetensors", 3), ["--data", str(tmp_path)]
    assert run(["predict", weights, *data, "-o", str(tmp_path / "seen")]) == 0
    assert run(["evaluate", weights, *data, "--no-cache", "--save-labels", str(tmp_path / "scored")]) == 0
    for name in ("a-000000", "a-000001"):
        seen = np.asarray(Image.open(tmp_path / "seen" / f"{name}.labels.png"))
        assert np.array_equal(seen, np.asarray(Image.open(tmp_path / "scored" / f"{name}.png")))
        assert len(np.unique(seen)) == 2 and (tmp_path / "seen" / f"{name}.overlay.png").is_file()


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("views", [(), ("--flip", "--scales", "1,1.5"), ("--crf",)], ids=["", "views", "crf"])
def test_predict_of_a_data_set_is_what_evaluate_scores(channels: int, views: tuple[str, ...], tmp_path: Path) -> None:
    weights = net_of(tmp_path / "net.safetensors", channels)
    data = described(tmp_path / "data", channels)
    given = ["--data", str(data), *views]
    assert run(["predict", weights, *given, "-o", str(tmp_path / "seen")]) == 0
    out = tmp_path / "scores.json"
    with out.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        labels = tmp_path / "labels"
        assert run(["evaluate", weights, *given, "--json", "--no-cache", "--save-labels", str(labels)]) == 0
    found = json.loads(out.read_text())
    assert len(found["images"]) == 3
    for i in range(3):
        seen = np.asarray(Image.open(tmp_path / "seen" / f"i{i}.labels.png"))
        assert np.array_equal(seen, np.asarray(Image.open(labels / f"i{i}.png"))) and len(np.unique(seen)) == 2


def test_mean_of_a_file_scale_and_order(tmp_path: Path) -> None:
    """What --mean, --scale and --channels make of a net is in its inputs: of four channels, and RGB."""
    from converters.schema import BlobProto

    weights = net_of(tmp_path / "net.safetensors", 4)
    save(tmp_path / "a.png", Image.fromarray(noise(1, (8, 9, 4)), "RGBA"))
    blob = BlobProto(num=1, channels=4, height=2, width=2, data=np.repeat([1.0, 2, 3, 4], 4))
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    given = ["--mean", str(tmp_path / "mean.binaryproto"), "--scale", "0.5", "--scores"]
    assert run(["predict", weights, str(tmp_path / "a.png"), *given, "-o", str(tmp_path)]) == 0
    scores = np.load(tmp_path / "a.scores.npz")["scores"]
    x = (np.asarray(Image.open(tmp_path / "a.png")).astype(np.float64) - [1, 2, 3, 4]) * 0.5
    with torch.no_grad():
        expected = load(weights)(torch.from_numpy(x.astype(np.float32).transpose(2, 0, 1)[None]))
    assert np.allclose(scores, expected[0].numpy(), atol=1e-3)


def test_channels_that_do_not_fit_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = net_of(tmp_path / "net.safetensors", 4)
    for i in range(2):
        save(tmp_path / f"{i}.png", noise(i, (8, 9, 3)))
    given = [str(tmp_path / "0.png"), str(tmp_path / "1.png"), "-o", str(tmp_path)]
    assert run(["predict", weights, "--mean", "0", *given]) == 1
    said = capsys.readouterr().err
    assert "0.png: 3 channels; input 'data' has 4" in said and "2 of 2 images" in said
    assert run(["predict", weights, "--mean", "0,0,0", *given]) == 2
    assert run(["predict", weights, "--scale", "2", *given]) == 2
    assert "need --mean" in capsys.readouterr().err


def test_prepare_takes_every_channel(tmp_path: Path) -> None:
    from weights.records import InputRecipe, Preprocessing

    weights = net_of(tmp_path / "net.safetensors", 4)
    save(tmp_path / "a.png", Image.fromarray(noise(1, (8, 9, 4)), "RGBA"))
    recipe = Preprocessing((InputRecipe("data", "bands", "file", (0.0,) * 4),))
    x = prepare(load(weights), tmp_path / "a.png", preprocessing=recipe)
    assert np.array_equal(x[0].numpy().transpose(1, 2, 0), np.asarray(Image.open(tmp_path / "a.png")))
    np.save(tmp_path / "b.npy", noise(2, (8, 9, 4)))
    y = prepare(load(weights), tmp_path / "b.npy", preprocessing=recipe)
    assert np.array_equal(y[0].numpy().transpose(1, 2, 0), noise(2, (8, 9, 4)))


def test_classes_of_a_file_are_those_of_the_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = net_of(tmp_path / "net.safetensors", 3)
    data = described(tmp_path / "data")
    (tmp_path / "names.txt").write_text("floor\nroof\n")
    given = ["--data", str(data), "--classes", str(tmp_path / "names.txt")]
    assert run(["evaluate", weights, *given, "--no-cache", "--csv"]) == 0
    said = capsys.readouterr().out
    assert "floor" in said and "roof" in said and "wall" not in said
    page = tmp_path / "page.html"
    assert run(["report", weights, *given, "--flip", "--scale", "0.1", "-o", str(page)]) == 0
    assert "roof" in page.read_text() and "wall" not in page.read_text()
    (tmp_path / "names.txt").write_text("floor\nroof\nroof\n")
    assert run(["evaluate", weights, *given, "--no-cache"]) == 2


def test_void_of_the_training_does_not_count_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A card keeps the labels that did not count; `evaluate` of that file leaves them out, too."""
    card = Card(void=(1, 7))
    assert Card.from_metadata(card.to_metadata()) == card and "void" not in Card().to_metadata()
    made = {"score.weight": torch.ones(2, 3, 3, 3), "score.bias": torch.zeros(2)}
    save_file(made, tmp_path / "n.safetensors", metadata={"prototxt": NET.format(3), "void": "[1, 7]"})
    data = described(tmp_path / "data")
    assert run(["evaluate", str(tmp_path / "n.safetensors"), "--data", str(data), "--no-cache", "--json"]) == 0
    captured = capsys.readouterr()
    assert "only one class is labelled, 'ground'" in captured.err
    save_file(made, tmp_path / "n.safetensors", metadata={"prototxt": NET.format(3), "void": "x"})
    assert run(["evaluate", str(tmp_path / "n.safetensors"), "--data", str(data), "--no-cache"]) == 3


def test_resize_is_the_net_on_the_resized_image_and_back(tmp_path: Path) -> None:
    """--resize in `predict`, `segment` and `evaluate`: the image at that size, probabilities at the image's own."""
    weights = net_of(tmp_path / "net.safetensors", 3)
    data = described(tmp_path / "data")
    image = tmp_path / "data" / "images" / "i0.png"
    given = ["--data", str(data), "--resize", "16x18"]
    assert run(["predict", weights, str(image), *given, "--scores", "-o", str(tmp_path)]) == 0
    found = np.load(tmp_path / "i0.scores.npz")["scores"]
    pixels = torch.from_numpy(np.asarray(Image.open(image)).copy()).permute(2, 0, 1)[None].float()
    larger = interpolate(pixels, (16, 18), mode="bilinear").round().flip(1) - 9
    with torch.no_grad():
        expected = interpolate(load(weights)(larger).softmax(1), (8, 9), mode="bilinear")[0]
    assert np.abs(found - expected.numpy()).max() < 0.2 and (found.argmax(0) == expected.argmax(0).numpy()).mean() > 0.9
    with torch.no_grad():
        plain = load(weights)(pixels.flip(1) - 9).argmax(1)[0].numpy()
    assert (found.argmax(0) != plain).any()
    labels = tmp_path / "labels"
    assert run(["evaluate", weights, *given, "--no-cache", "--save-labels", str(labels)]) == 0
    assert np.array_equal(np.asarray(Image.open(labels / "i0.png")), np.asarray(Image.open(tmp_path / "i0.labels.png")))


def test_training_at_a_size_brings_labels_along() -> None:
    image = torch.arange(48.0).reshape(1, 6, 8)
    labels = torch.arange(48).reshape(6, 8) % 3
    found = varied({"x": image, "l": labels}, Variation(size=(3, 4)), labels=("l",), seed=0, position=0)
    assert found["x"].shape == (1, 3, 4) and torch.equal(found["l"], labels[1::2, 1::2])
    assert varied({"x": image}, Variation(size=(3, 4), crop=2), seed=0, position=0)["x"].shape == (1, 2, 2)
