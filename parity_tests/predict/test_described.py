"""`predict --data`: names, colours and inputs of a description, as `evaluate` takes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.data import open_dataset
from fcn_port.data.described import described
from fcn_port.evaluation import evaluate
from parity_tests.datasets import noise, save
from parity_tests.predict.output_nets import files_of, net_of

IMAGE = noise(6, (8, 9, 3))
TOML = """
title = "Colours"
classes = ["red", "green", "blue"]
colours = ["#ff0000", "#00ff00", "#0000ff"]
mean = [40, 20, 10]
"""


def test_predict_sees_what_evaluate_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The means of the description move the labels, so that the same labels show the same inputs."""
    (tmp_path / "dataset.toml").write_text(TOML)
    save(tmp_path / "images" / "a.png", IMAGE)
    weights, _, prototxt, *_ = files_of("argmax", tmp_path)
    image = str(tmp_path / "images" / "a.png")
    call = ["predict", weights, "--prototxt", prototxt, image, "-o", str(tmp_path)]
    assert run([*call, "--data", str(tmp_path / "dataset.toml"), "--json"]) == 0
    out, err = capsys.readouterr()
    labels = Image.open(tmp_path / "a.labels.png")
    found = np.asarray(labels)
    assert np.array_equal(found, (IMAGE - np.array([10.0, 20, 40])).argmax(axis=2))  # means are in the net's order, BGR
    assert not np.array_equal(found, IMAGE.argmax(axis=2))
    assert labels.getpalette()[:9] == [255, 0, 0, 0, 255, 0, 0, 0, 255]
    (output,) = json.loads(out)["images"][0]["outputs"]
    assert set(output["classes"]) == {"red", "green", "blue"} and "taking those of Colours" in err
    recoloured = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)[found]
    save(tmp_path / "labels" / "a.png", recoloured)
    net = net_of("argmax", told=False)
    result = evaluate(net, open_dataset(tmp_path))
    assert result.tasks[0].scores(result.images[0].histograms["score"]).overall_accuracy == 1
    assert run([*call, "--data", str(tmp_path)]) == 0, "the folder of a description is as good"


def test_a_net_that_says_its_inputs_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text(TOML)
    save(tmp_path / "a.png", IMAGE)
    call = ["predict", *files_of("argmax", tmp_path), str(tmp_path / "a.png"), "-o", str(tmp_path)]
    assert run([*call, "--data", str(tmp_path / "dataset.toml")]) == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.labels.png")), IMAGE.argmax(axis=2))


def test_a_description_needs_no_images(tmp_path: Path) -> None:
    (tmp_path / "some.toml").write_text(TOML)
    assert described(tmp_path / "some.toml").classes == {"score": ("red", "green", "blue")}


@pytest.mark.parametrize(
    ("net", "toml", "status", "message"),
    [
        ("scores", 'classes = ["a", "b"]', 2, "the net scores 3 classes, and .* has 2"),
        ("sigmoid", TOML, 2, "the net scores 2 classes, and Colours has 3"),
        ("scores", "klasses = []", 3, "klasses"),
        ("scores", "classes = [", 3, "not TOML"),
        ("scores", None, 2, "no such"),
    ],
)
def test_what_does_not_fit(
    net: str, toml: str | None, status: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if toml is not None:
        (tmp_path / "some.toml").write_text(toml)
    save(tmp_path / "a.png", IMAGE)
    call = ["predict", *files_of(net, tmp_path), str(tmp_path / "a.png"), "-o", str(tmp_path)]
    got = run([*call, "--data", str(tmp_path / "some.toml")])
    assert got == status
    assert re.search(message, capsys.readouterr().err)
