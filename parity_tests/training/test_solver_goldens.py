"""The recipes of the FCNs, step by step as real Caffe trained a narrow FCN-8s with them (golden/solver)."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from converters import parse_prototxt, read_caffemodel, read_prototxt
from converters.formats.solver import SolverSpec, read_solver
from fcn_port.nets import FCN8s, Widths
from fcn_port.training import TrainingTask, task_of
from fcn_port.training.losses import softmax
from parity_tests import solving
from parity_tests.fill import fill_state
from parity_tests.goldens import GOLDEN
from parity_tests.solving import Trained
from parity_tests.undecided import SameSides, Sides

RECIPES = ("heavy", "accum", "adam", "rms")
FOLDER = GOLDEN / "solver"


def recipe(name: str) -> tuple[SolverSpec, Trained]:
    """The solver of a recipe, and what Caffe did with it."""
    spec = read_solver(FOLDER / f"solver-{name}.prototxt")
    final = read_caffemodel(FOLDER / f"solver-{name}.iter{spec.max_iter}.caffemodel").blobs
    init = fill_state({layer: [blob.shape for blob in own] for layer, own in final.items()})
    with np.load(FOLDER / f"solver-{name}.npz") as arrays:
        return spec, Trained({"loss": arrays["loss"]}, init, final)


def caffe_task(spec: SolverSpec) -> TrainingTask:
    return task_of(read_prototxt(spec.net_file()))


def hand_written_task(spec: SolverSpec) -> TrainingTask:
    """The same net by hand; it stays in eval mode, because the recorded one has no dropout."""
    net = FCN8s(7, widths=Widths(4, 8, 16, 32, 32, 64, 64)).eval()
    return TrainingTask(net, caffe_task(spec).losses)


@functools.cache
def in_double(name: str) -> tuple[Trained, tuple[Tensor, ...]]:
    """What a recipe does in double precision, and the sides that its ReLUs and maxima take."""
    spec, caffes = recipe(name)
    task = solving.start(caffe_task(spec), caffes.init)
    task.net.double()
    batches = [{**batch, "data": batch["data"].astype(np.float64)} for batch in solving.fcn_batches(spec.max_iter)]
    with Sides() as sides:
        trained = solving.train(task, spec, batches)
    return trained, tuple(sides.noted)


def sides_of(name: str) -> tuple[Tensor, ...]:
    return in_double(name)[1]


@pytest.mark.parametrize("name", RECIPES)
def test_in_double_precision_it_is_caffes(name: str) -> None:
    spec, caffes = recipe(name)
    assert not solving.differences(in_double(name)[0], caffes, elementwise=spec.type in solving.ELEMENTWISE)


@pytest.mark.parametrize("make", [caffe_task, hand_written_task], ids=["from its prototxt", "hand-written"])
@pytest.mark.parametrize("name", RECIPES)
def test_every_loss_and_every_weight_is_caffes(name: str, make: Callable[[SolverSpec], TrainingTask]) -> None:
    spec, caffes = recipe(name)
    task = solving.start(make(spec), caffes.init)
    with SameSides(sides_of(name)):
        ours = solving.train(task, spec, solving.fcn_batches(spec.max_iter))
    assert not solving.differences(ours, caffes, elementwise=spec.type in solving.ELEMENTWISE)


def test_the_other_side_of_one_row_is_seen() -> None:
    """What two threads without AVX-512 had: float32 cannot tell rows 24 and 25 of conv4_3, of which pool4 takes one."""
    noted = list(sides_of("heavy"))
    step, pool4, width = 4, 13, 32
    places = noted[step * 20 + pool4].clone()  # 15 ReLUs and 5 poolings in each of the passes
    assert places[0, 20, 12, 3] == 24 * width + 6
    places[0, 20, 12, 3:13] += width
    noted[step * 20 + pool4] = places
    spec, caffes = recipe("heavy")
    task = solving.start(caffe_task(spec), caffes.init)
    with SameSides(noted):
        ours = solving.train(task, spec, solving.fcn_batches(spec.max_iter))
    assert "conv2_1.bias norm" in solving.differences(ours, caffes, elementwise=True)


def clamp_with_gradient(x: Tensor, *, largest: float) -> Tensor:
    """The clamp of the loss as anybody would write it: beyond the end it also has no gradient."""
    return x.clamp(max=largest)


@pytest.mark.parametrize(
    ("name", "wrong", "seen"),
    [("LARGEST_LOSS", float("inf"), "loss loss"), ("clamp_value", clamp_with_gradient, "conv1_1.weight norm")],
    ids=["no clamp", "clamp in the gradient too"],
)
def test_another_clamp_is_seen(name: str, wrong: object, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first losses are near it: 74 on average for each pixel, where 87 is the most."""
    monkeypatch.setattr(softmax, name, wrong)
    spec, caffes = recipe("heavy")
    task = solving.start(caffe_task(spec), caffes.init)
    with SameSides(sides_of("heavy")):
        ours = solving.train(task, spec, solving.fcn_batches(spec.max_iter))
    assert seen in solving.differences(ours, caffes, elementwise=True)


def test_dropout_in_training_is_caffes() -> None:
    """What is kept is divided by 1 - ratio, so that nothing is scaled in use (dropout_layer.cpp)."""
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 50 dim: 50 } } }
    layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 1 dim: 1 dim: 50 dim: 50 } } }
    layer { name: "drop" type: "Dropout" bottom: "x" top: "y" dropout_param { dropout_ratio: 0.2 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" }"""
    task = task_of(parse_prototxt(text))
    torch.manual_seed(0)
    y = task.net.train()(torch.ones(1, 2, 50, 50))
    assert set(y.unique().tolist()) == {0.0, 1.25}
    assert 0.17 < (y == 0).float().mean() < 0.23
    assert torch.equal(task.net.eval()(torch.ones(1, 2, 50, 50)), torch.ones(1, 2, 50, 50))
