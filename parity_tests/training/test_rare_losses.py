"""What few nets have of losses and accuracies: a matrix as a bottom, two blobs of data, a number for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from converters import NetError, parse_prototxt
from converters.formats.caffemodel import parse_caffemodel
from converters.formats.solver import parse_solver
from fcn_port.data import open_dataset
from fcn_port.data.inputs import inputs_of
from fcn_port.training import task_of
from fcn_port.training.errors import TrainingError
from fcn_port.training.feed import Feed
from fcn_port.training.testing import CaffeAccuracy
from parity_tests import loss_cases, solving
from parity_tests.datasets import noise, save
from parity_tests.fill import rs
from parity_tests.oracle.client import Oracle
from parity_tests.tolerances import tolerance

CASE = loss_cases.CASES["infogain"]
H = np.array(loss_cases.BlobProto.FromString(loss_cases.matrix()).data, np.float32).reshape(loss_cases.CLASSES, -1)


def with_matrix(bottom: str = "H", more: str = "") -> str:
    """The net of the case "infogain", its matrix a third bottom."""
    text = loss_cases.net_of(CASE).replace('infogain_loss_param { source: "H.binaryproto" }', f'bottom: "{bottom}"')
    dims = " ".join(f"dim: {size}" for size in H.shape)
    return f'layer {{ name: "H" type: "Input" top: "H" input_param {{ shape {{ {dims} }} }} }} {more} {text}'


def fed() -> list[dict[str, np.ndarray]]:
    return [{**batch, "H": H} for batch in loss_cases.batches(CASE)]


def trained(text: str) -> dict[str, np.ndarray]:
    task = task_of(parse_prototxt(text))
    solving.start(task, loss_cases.first(CASE, task))
    task.net.train()
    done = solving.train(task, parse_solver(loss_cases.SOLVER), fed())
    return {"loss": done.losses["loss"], **loss_cases.blobs_of(done.blobs)}


def test_a_matrix_may_be_a_bottom() -> None:
    assert loss_cases.furthest(trained(with_matrix()), loss_cases.recorded("infogain")) <= tolerance("oracle-live")


@pytest.mark.oracle
def test_caffe_takes_the_matrix_from_a_bottom(oracle: Oracle) -> None:
    inputs = {name: np.stack([batch[name] for batch in fed()]) for name in ("data", "label", "H")}
    done = oracle.solve(loss_cases.SOLVER, with_matrix(), inputs, filling="random")
    caffes = {"loss": done.losses["loss"], **loss_cases.blobs_of(parse_caffemodel(done.model).blobs)}
    assert loss_cases.furthest(trained(with_matrix()), caffes) <= tolerance("oracle-live")


IGNORING = f"""
layer {{ name: "data" type: "Input" top: "data" top: "label" top: "H" input_param {{
  shape {{ dim: [2, 4, 3] }} shape {{ dim: [2, 3] }} shape {{ dim: {list(H.shape)} }} }} }}
layer {{ name: "score" type: "Bias" bottom: "data" top: "score" }}
layer {{ name: "loss" type: "InfogainLoss" bottom: "score" bottom: "label" bottom: "H" top: "loss"
  loss_param {{ ignore_label: 255 }} }}
"""


def ignoring() -> dict[str, np.ndarray]:
    """Scores that are no numbers, or infinite, where the label is ignored."""
    data, label = rs("ignoring").standard_normal((2, 4, 3)), np.array([[0, 255, 3], [255, 2, 1]])
    data[0, 1, 1], data[1, :2, 0] = np.nan, np.inf
    return {"data": data.astype(np.float32), "label": label.astype(np.float32), "H": H}


def test_what_is_ignored_may_be_no_number() -> None:
    """Neither the loss nor the gradient has it (infogain_loss_layer.cpp, Forward_cpu and Backward_cpu)."""
    task, blobs = task_of(parse_prototxt(IGNORING)), ignoring()
    finite = {**blobs, "data": np.nan_to_num(blobs["data"], posinf=0)}
    found = []
    for each in (blobs, finite):
        loss = task.losses_of({name: torch.from_numpy(blob) for name, blob in each.items()})["loss"]
        (slope,) = torch.autograd.grad(loss, task.net.parameters())
        found.append(torch.stack([loss.detach(), *slope]))
    assert found[0].isfinite().all() and torch.equal(*found)


@pytest.mark.oracle
def test_caffes_loss_of_what_is_ignored(oracle: Oracle) -> None:
    found = oracle.forward(IGNORING, inputs=ignoring(), phase="TRAIN").blobs["loss"]
    ours = task_of(parse_prototxt(IGNORING)).losses_of({k: torch.from_numpy(v) for k, v in ignoring().items()})["loss"]
    np.testing.assert_allclose(ours.detach().numpy(), found, rtol=tolerance("oracle-live"))


def test_a_matrix_that_is_computed_is_refused() -> None:
    """Caffe computes it, and ends where it would have to learn from it (infogain_loss_layer.cpp, Backward_cpu)."""
    made = 'layer { name: "G" type: "Power" bottom: "H" top: "G" power_param { scale: 2 } }'
    with pytest.raises(NetError, match="'G' must be data, not computed"):
        task_of(parse_prototxt(with_matrix("G", made)))


def test_a_matrix_of_other_classes_is_refused() -> None:
    task = task_of(parse_prototxt(with_matrix()))
    blobs = {name: torch.from_numpy(blob) for name, blob in {**fed()[0], "H": H[:3, :3]}.items()}
    with pytest.raises(NetError, match=r"a matrix of \(3, 3\); the net scores 4 classes"):
        task.losses_of(blobs)


TWO_OF_DATA = """
layer { name: "data" type: "Input" top: "data" top: "label" top: "one" top: "two" input_param {
  shape { dim: [4, 3] } shape { dim: 4 } shape { dim: [4, 5] } shape { dim: [4, 5] } } }
layer { name: "row" type: "InnerProduct" bottom: "data" top: "row" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "row" bottom: "label" top: "loss" }
layer { name: "apart" type: "EuclideanLoss" bottom: "one" bottom: "two" top: "apart" loss_weight: 2 }
"""


def two_of_data() -> dict[str, np.ndarray]:
    r = rs("two of data")
    found = {name: r.standard_normal(shape) for name, shape in {"data": (4, 3), "one": (4, 5), "two": (4, 5)}.items()}
    return {name: blob.astype(np.float32) for name, blob in {**found, "label": r.randint(0, 5, 4)}.items()}


def test_two_blobs_of_data_are_told_their_distance() -> None:
    """euclidean_loss_layer.cpp, Forward_cpu; nothing learns of it."""
    task = task_of(parse_prototxt(TWO_OF_DATA))
    blobs = two_of_data()
    found = task.losses_of({name: torch.from_numpy(blob) for name, blob in blobs.items()})
    assert not found["apart"].requires_grad and found["loss"].requires_grad
    expected = 2 * ((blobs["one"] - blobs["two"]) ** 2).sum() / 4 / 2
    np.testing.assert_allclose(found["apart"].numpy(), expected, rtol=tolerance("oracle-live"))


@pytest.mark.oracle
def test_caffe_tells_the_same_distance(oracle: Oracle) -> None:
    blobs = two_of_data()
    inputs = {name: blob[None] for name, blob in blobs.items()}
    done = oracle.solve(loss_cases.SOLVER, TWO_OF_DATA, inputs, losses=("apart",), filling="random")
    expected = ((blobs["one"] - blobs["two"]) ** 2).sum() / 4 / 2
    np.testing.assert_allclose(done.losses["apart"], [expected], rtol=tolerance("oracle-live"))


COMPUTED = """
layer { name: "data" type: "Input" top: "data" top: "label" input_param {
  shape { dim: [4, 3] } shape { dim: [4, 5] } } }
layer { name: "row" type: "InnerProduct" bottom: "data" top: "row" inner_product_param { num_output: 5 } }
layer { name: "half" type: "Power" bottom: "label" top: "half" power_param { scale: 0.5 shift: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "row" bottom: "half" top: "loss" }
"""


def computed() -> dict[str, np.ndarray]:
    blobs = two_of_data()
    return {"data": blobs["data"], "label": blobs["one"]}


def learned_of_computed() -> dict[str, np.ndarray]:
    task = task_of(parse_prototxt(COMPUTED))
    case = loss_cases.CASES["hinge"]  # the same filling of an InnerProduct
    solving.start(task, loss_cases.first(case, task))
    done = solving.train(task, parse_solver(loss_cases.SOLVER), [computed()] * 3)
    return {"loss": done.losses["loss"], **loss_cases.blobs_of(done.blobs)}


def test_labels_of_a_euclidean_loss_may_be_computed() -> None:
    """The sum of squares, and no gradient for what is computed of the labels."""
    task = task_of(parse_prototxt(COMPUTED))
    blobs = {name: torch.from_numpy(blob) for name, blob in computed().items()}
    (loss,) = task.losses_of(blobs).values()
    row = torch.nn.functional.linear(blobs["data"], *task.net.state_dict().values())
    expected = (row - (blobs["label"] / 2 + 1)).square().sum() / 8
    torch.testing.assert_close(loss.detach(), expected)


@pytest.mark.parametrize(("text", "blob"), [(COMPUTED, "label"), (TWO_OF_DATA, "one"), (with_matrix(), "H")])
def test_what_no_data_set_has_is_not_fed_an_image(text: str, blob: str, tmp_path: Path) -> None:
    """The program would take an input of any name for the image."""
    losses = task_of(parse_prototxt(text)).losses
    save(tmp_path / "images" / "a.png", noise(0, (2, 4, 3)))
    save(tmp_path / "labels" / "a.png", np.zeros((2, 4), np.uint8))
    (tmp_path / "dataset.toml").write_text('classes = ["a", "b"]\n')
    data = open_dataset(tmp_path)
    with pytest.raises(TrainingError, match=f"takes '{blob}' from a data layer"):
        Feed(data=data, preprocessing=inputs_of(data, ["data"]), losses=losses)


@pytest.mark.oracle
def test_caffe_learns_the_same_of_computed_labels(oracle: Oracle) -> None:
    inputs = {name: np.stack([blob] * 3) for name, blob in computed().items()}
    done = oracle.solve(loss_cases.SOLVER, COMPUTED, inputs, filling="random")
    caffes = {"loss": done.losses["loss"], **loss_cases.blobs_of(parse_caffemodel(done.model).blobs)}
    assert loss_cases.furthest(learned_of_computed(), caffes) <= tolerance("oracle-live")


SCORES = """
layer { name: "data" type: "Input" top: "s" top: "l" input_param {
  shape { dim: [2, 5, 3, 4] } shape { dim: [2, 1, 3, 4] } } }
layer { name: "it" type: "Accuracy" bottom: "s" bottom: "l" top: "whole" top: "each"
  accuracy_param { top_k: 2 ignore_label: 1 } }
"""


def scores() -> dict[str, np.ndarray]:
    """Scores with ties, labels of which class 1 is ignored and class 4 has none."""
    r = rs("accuracies")
    found = {"s": r.randint(0, 4, (2, 5, 3, 4)), "l": r.randint(0, 4, (2, 1, 3, 4))}
    return {name: blob.astype(np.float32) for name, blob in found.items()}


def test_the_accuracy_of_each_class() -> None:
    """accuracy_layer.cpp, Forward_cpu: the second top."""
    blobs = scores()
    rows, labels = np.moveaxis(blobs["s"], 1, -1).reshape(-1, 5), blobs["l"].ravel().astype(int)
    better = (rows >= rows[np.arange(len(labels)), labels][:, None]).sum(1) - 1
    expected = [0.0] * 5
    for label in (0, 2, 3):
        expected[label] = (better[labels == label] < 2).mean()
    found = accuracy(of_classes=True)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def accuracy(*, of_classes: bool) -> torch.Tensor:
    blobs = {name: torch.from_numpy(blob) for name, blob in scores().items()}
    return CaffeAccuracy("it", "s", "l", top_k=2, ignore_label=1, of_classes=of_classes)(blobs)


@pytest.mark.oracle
def test_accuracies_are_caffes(oracle: Oracle) -> None:
    blobs = oracle.forward(SCORES, inputs=scores()).blobs
    np.testing.assert_allclose(accuracy(of_classes=False).numpy(), blobs["whole"], rtol=1e-6)
    np.testing.assert_allclose(accuracy(of_classes=True).numpy(), blobs["each"], rtol=1e-6)
