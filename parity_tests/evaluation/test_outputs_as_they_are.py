"""Evaluation reads a net's output as what it is, as prediction does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters import CaffeNet, parse_prototxt
from converters.errors import MismatchError
from fcn_port.data import DataError, open_dataset
from fcn_port.data.records import DataSet
from fcn_port.evaluation import EvaluationPlan, evaluate, predicting
from fcn_port.report.examples import best_and_worst
from parity_tests.datasets import noise, save
from parity_tests.predict.output_nets import net_of, text

IMAGE = noise(3, (8, 8, 3))
LABELS = {
    "scores": IMAGE.argmax(axis=2),
    "argmax": IMAGE.argmax(axis=2),
    "softmax": IMAGE.argmax(axis=2),
    "sigmoid": IMAGE[:, :, 0] / 255 >= 0.5,
    "threshold": IMAGE[:, :, 0] / 255 > 0.5,
}


def data_set(folder: Path, labels: np.ndarray, classes: int) -> DataSet:
    save(folder / "images" / "a.png", IMAGE)
    save(folder / "labels" / "a.png", labels.astype(np.uint8))
    names = ", ".join(f'"{i}"' for i in range(classes))
    (folder / "dataset.toml").write_text(f"classes = [{names}]\nmean = [0, 0, 0]\n")
    return open_dataset(folder)


@pytest.mark.parametrize("net", LABELS)
def test_each_kind_is_scored(net: str, tmp_path: Path) -> None:
    """Before, the labels of an ArgMax and a probability were the scores of one class, and refused or all background."""
    data = data_set(tmp_path, LABELS[net], int(LABELS[net].max()) + 1)
    found = evaluate(net_of(net), data)
    assert found.tasks[0].scores(found.images[0].histograms["score"]).overall_accuracy > 0.98  # ties aside
    (best,), _ = best_and_worst(net_of(net), data, found, count=1)
    assert (best.predictions == LABELS[net]).mean() > 0.98


def test_a_threshold_counts(tmp_path: Path) -> None:
    data = data_set(tmp_path, 1 / (1 + np.exp(-(IMAGE[:, :, 0] / 255 * 8 - 4))) >= 0.9, 2)
    for threshold, right in ((0.9, True), (None, False)):
        found = evaluate(net_of("sigmoid"), data, plan=EvaluationPlan(threshold=threshold))
        assert (found.tasks[0].scores(found.images[0].histograms["score"]).overall_accuracy == 1) == right


@pytest.mark.parametrize("one", ["values", "settings"])
def test_what_was_kept_of_another_net_with_the_same_weights_does_not_count(one: str, tmp_path: Path) -> None:
    """Layers without weights make another net: a map of values had the score of the Threshold of the same values."""
    data, plan = data_set(tmp_path, LABELS["threshold"], 2), EvaluationPlan(cache=tmp_path / "kept")
    net = net_of("threshold")
    assert evaluate(net, data, plan=plan).computed == 1 and evaluate(net, data, plan=plan).computed == 0
    if one == "values":
        with pytest.raises(MismatchError, match="a map of values"):
            evaluate(net_of("map"), data, plan=plan)
        return
    other = CaffeNet(parse_prototxt(text("threshold").replace("threshold: 0.5", "threshold: 0.9"))).eval()
    other.load_state_dict(net.state_dict())
    assert evaluate(other, data, plan=plan).computed == 1


def test_coarse_scores_are_upsampled_and_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(predicting._log, "warning", lambda text, *given: told.append(text % given))
    data = data_set(tmp_path, np.arange(64).reshape(8, 8) % 3, 3)
    save(tmp_path / "images" / "b.png", IMAGE)
    save(tmp_path / "labels" / "b.png", np.zeros((8, 8), np.uint8))
    found = evaluate(net_of("coarse"), open_dataset(tmp_path))
    assert len(data.ids) == 1 and [image.histograms["score"].sum() for image in found.images] == [64, 64]
    assert told == ["the net's output is 2x2 for 8x8 pixels: it is upsampled bilinearly"]


@pytest.mark.parametrize(
    ("net", "classes", "message"),
    [
        ("map", 2, "a map of values"),
        ("inner", 3, "for the image as a whole"),
        ("scores", 4, "scores 3 classes, and .* has 4"),
        ("sigmoid", 3, "scores 2 classes, and .* has 3"),
        ("argmax", 2, "gives label 2, and .* has 2 classes"),
    ],
)
def test_what_is_not_the_data_sets_is_refused(net: str, classes: int, message: str, tmp_path: Path) -> None:
    data = data_set(tmp_path, np.arange(64).reshape(8, 8) % classes, classes)
    with pytest.raises(MismatchError, match=message):
        evaluate(net_of(net), data)


def test_an_image_that_a_net_does_not_take_is_named_and_the_rest_is_scored(tmp_path: Path) -> None:
    """It ended the evaluation with the data set's name before, with `skip_bad`, too."""
    data_set(tmp_path, LABELS["scores"], 3)
    save(tmp_path / "images" / "b.png", noise(1, (9, 7, 3)))
    save(tmp_path / "labels" / "b.png", np.zeros((9, 7), np.uint8))
    net, data = net_of("fixed"), open_dataset(tmp_path)
    with pytest.raises(DataError, match=r"b\.png: this net does not take an image of 9x7 pixels.*\n.*--skip-bad"):
        evaluate(net, data)
    found = evaluate(net, data, plan=EvaluationPlan(skip_bad=True))
    assert [each.id for each in found.images] == ["a"] and list(found.skipped) == ["b"]
    with pytest.raises(DataError, match="none of 1 images can be scored"):
        evaluate(net, replace(data, ids=("b",)), plan=EvaluationPlan(skip_bad=True))
