"""Small training runs: a narrow FCN-8s on seeded shapes, and the recorded batches of Caffe as a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from converters.formats.solver import SolverSpec
from fcn_port.data import DataSet, make_shapes, open_dataset
from fcn_port.data.records import Files
from fcn_port.nets import FCN8s, Widths
from fcn_port.training import CaffeSolver, Feed, TrainingTask, parameter_groups, task_for
from fcn_port.training.initial import begin
from fcn_port.training.multipliers import definition
from parity_tests import solving
from weights.catalogue import datasets
from weights.records import InputRecipe, Preprocessing

NARROW = Widths(4, 8, 8, 16, 16, 16, 16)
SGD = SolverSpec(base_lr=1e-3, momentum=0.9, weight_decay=0.0005, max_iter=8)
RECIPE = """
about = "a narrow FCN-8s on shapes"
source = "this test"
like = "voc-fcn32s"
net = "voc-fcn8s"
init = "none"
widths = [4, 8, 8, 16, 16, 16, 16]
val_split = "val"
normalization = "VALID"

[solver]
base_lr = 1e-3
momentum = 0.9
max_iter = 8
snapshot = 4
display = 2
"""


def write_recipe(folder: Path, text: str = RECIPE, *, name: str = "narrow") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def shapes(folder: Path, *, count: int = 16, size: tuple[int, int] = (40, 56), split: str = "train") -> DataSet:
    """A split of a small set of shapes, which is made the first time."""
    root = folder / "shapes"
    if not root.exists():
        make_shapes(root, count=count, seed=3, size=size)
    return open_dataset(root, split=split)


def narrow_task(data: DataSet, *, normalization: str = "VALID") -> TrainingTask:
    """A narrow FCN-8s, dropout included, with random first weights."""
    net: nn.Module = FCN8s(len(data.classes["score"]), widths=NARROW)
    begin(net, definition(net), seed=5)
    return task_for(net, ["score"], normalization=normalization)  # type: ignore[arg-type]


def solver_of(task: TrainingTask, spec: SolverSpec = SGD) -> CaffeSolver:
    groups = parameter_groups(task.net, task.spec)
    for group in groups:
        group["params"][0].requires_grad_(group["lr_mult"] != 0)
    return CaffeSolver(groups, spec)


def feed_of(data: DataSet, task: TrainingTask, **settings: object) -> Feed:
    """The data set's images as the VOC nets see them, none read ahead."""
    colour = datasets()["voc"].inputs["color"]
    recipe = Preprocessing((InputRecipe("data", colour.kind, colour.channels, colour.mean),))
    return Feed(data, recipe, task.losses, **{"workers": 0, **settings})  # type: ignore[arg-type]


def state_of(net: nn.Module) -> dict[str, np.ndarray]:
    """Every blob, copied."""
    return {key: value.detach().numpy().copy() for key, value in net.state_dict().items()}


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key, blob in expected.items():
        np.testing.assert_array_equal(found[key], blob, err_msg=key)


# Caffe's batches


def recorded_data(steps: int, *, iter_size: int) -> DataSet:
    """The batches of golden/solver/solver-* as a data set: images 0, 1, 2 ..., each once for each pass of its step."""
    batches = solving.fcn_batches(steps)

    def image(path: Path) -> np.ndarray:
        return np.ascontiguousarray(batches[int(path.name)]["data"][0].transpose(1, 2, 0))

    def label(path: Path) -> np.ndarray:
        return batches[int(path.name)]["label"][0, 0].astype(np.uint8)

    ids = tuple(str(step) for step in range(steps) for _ in range(iter_size))
    return DataSet(
        name="voc",
        kind="voc",
        title="recorded batches",
        root=Path(),
        split="train",
        ids=ids,
        images={"color": Files(Path(), "{}", image)},
        labels={"score": Files(Path(), "{}", label)},
        classes={"score": tuple("0123456")},
    )


def recorded_feed(data: DataSet, task: TrainingTask) -> Feed:
    """The images as they are: no mean, no other order of channels."""
    recipe = Preprocessing((InputRecipe("data", "color", "file", (0.0, 0.0, 0.0)),))
    return Feed(data, recipe, task.losses, order="listed", workers=0)
