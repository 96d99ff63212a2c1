"""The TEST nets of a solver, run on the way as Caffe's solver does (src/caffe/solver.cpp of BVLC Caffe).

Before the update of an iteration that test_interval divides, also before the first one where test_initialization says
so, and after the last one (Step, lines 212-221; Solve, 329-331), each TEST net takes over the weights
(ShareTrainedLayersWith) and runs test_iter batches; each output is averaged over them (Test, 345-417). Its data layer
goes on where it was in its list, as a data layer does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from converters.errors import NetError
from converters.execution import CaffeNet, key_of
from converters.formats import SolverSpec
from converters.net import LayerSpec, NetSpec, known_params, validate
from converters.passes import chosen, filter_phase, level_of, prepare

from ..data.inputs import inputs_of
from ..data.records import DataSet
from .data_layer import batch_size_of, order_of
from .errors import TrainingError
from .feed import Batch, Feed
from .losses import Loss, SoftmaxWithLoss, axis_of, known_labels, label_of, labels_in, losses_by_layer, without_pairs
from .task import TrainingTask, check_phase, with_source
from .transforms import Variation, reading_of, transforms_in, variation_in


@dataclass(frozen=True)
class CaffeAccuracy:
    """Caffe's Accuracy: the share of pixels whose label is among the `top_k` best (accuracy_layer.cpp, Forward_cpu).

    A score equal to the label's own counts as better, as there; without a pixel that counts it is 0. NetError where
    the scores have fewer classes than top_k.
    """

    name: str
    score: str
    label: str
    top_k: int = 1
    axis: int = 1
    ignore_label: int | None = None
    of_classes: bool = False
    """True for the second top: the share of each class's own pixels, 0 for a class without any."""

    @property
    def computed(self) -> tuple[str, ...]:
        """The blobs that the net computes for it."""
        return (self.score,)

    def __call__(self, blobs: Mapping[str, Tensor]) -> Tensor:
        """The accuracy of these scores (n, classes, h, w) for labels (n, h, w); with `of_classes` one for each."""
        scores = blobs[self.score]
        axis = axis_of(self.axis, scores.shape)
        if self.top_k > scores.shape[axis]:  # Reshape
            raise NetError(f"{self.name}: top_k is {self.top_k}; the net scores {scores.shape[axis]} classes")
        shape = (*scores.shape[:axis], 1, *scores.shape[axis + 1 :])
        labels = blobs[self.label].reshape(shape).long()
        counted = torch.ones_like(labels, dtype=torch.bool)
        if self.ignore_label is not None:
            counted = labels != self.ignore_label
        known = known_labels(labels, self.ignore_label, scores.shape[axis])
        better = (scores >= scores.gather(axis, known)).sum(axis, keepdim=True) - 1
        right = (better < self.top_k) & counted
        if not self.of_classes:
            return right.sum() / counted.sum().clamp(min=1)
        counts = torch.bincount(known[counted], minlength=scores.shape[axis])
        return torch.bincount(known[right], minlength=scores.shape[axis]) / counts.clamp(min=1)


@dataclass(frozen=True, eq=False)
class TestNet:
    """A TEST net: its losses and accuracies by the blob that each makes, the batches it is fed, and how many a test."""

    __test__ = False  # no test of pytest's

    net: CaffeNet
    outputs: Mapping[str, Loss | CaffeAccuracy]
    batches: Iterator[Batch]
    count: int
    crop: int = 0
    gathered: tuple[str, ...] = ()
    """The keys of what its layers gather in tests, too."""

    def run(self, weights: Mapping[str, Tensor], device: torch.device) -> dict[str, float]:
        """The mean of each output over `count` batches, by blob in the order of names, as Caffe has them.

        Of an output with a number for each class they are NAME[0], NAME[1] and so on. What BatchNorm gathers of these
        batches is written to `weights`, which Caffe's TEST nets share.
        """
        self.net.load_state_dict(dict(weights), strict=False)
        self.net.to(device).eval()
        self.net.gathers = True
        sums: dict[str, Tensor] = {name: torch.zeros((), dtype=torch.float64) for name in sorted(self.outputs)}
        with torch.no_grad():
            for batch in islice(self.batches, self.count):
                blobs = {name: _centre(blob, self.crop).to(device) for name, blob in batch.blobs.items()}
                found = self.net(**{name: blobs[name] for name in self.net.inputs})
                named = found if isinstance(found, Mapping) else {self.net.outputs[0]: found}
                for name in sums:
                    sums[name] = sums[name] + self.outputs[name]({**blobs, **named}).cpu()
            now = self.net.state_dict()
            for key in self.gathered:
                weights[key].copy_(now[key])
        means = {name: total / self.count for name, total in sums.items()}
        return {key: value for name, mean in means.items() for key, value in _numbers(name, mean)}

    def loss(self, found: Mapping[str, float]) -> float:
        """The losses of what was found, with their weights, added up: Caffe's "Test loss"."""
        return sum(each.weight * found[name] for name, each in self.outputs.items() if isinstance(each, Loss))


@dataclass(frozen=True)
class TestSchedule:
    """The tests of a run: every `interval` updates each of `nets`; before the first one with `first`."""

    __test__ = False

    interval: int = 0
    first: bool = True
    nets: tuple[TestNet, ...] = field(default=())

    def is_due(self, iteration: int) -> bool:
        """True where Caffe tests before the update that follows `iteration` of them."""
        return bool(self.nets) and iteration % self.interval == 0 and (iteration > 0 or self.first)


def tests_of(solver: SolverSpec, task: TrainingTask, data: DataSet, *, workers: int, seed: int = 0) -> TestSchedule:
    """The TEST nets that a solver asks for, on the images of `data` in the order of their list, or shuffled as said.

    Raises NetError for a TEST net that judges nothing or has a layer with weights that is not trained, and where the
    solver does not say how many batches each test has.
    """
    made = [
        _test_net(net, task, data, count=count, workers=workers, seed=seed)
        for net, count in zip(solver.read_test_nets(), solver.test_iter, strict=True)
    ]
    return TestSchedule(solver.test_interval, solver.test_initialization, tuple(made))


def _test_net(net: NetSpec, task: TrainingTask, data: DataSet, *, count: int, workers: int, seed: int) -> TestNet:
    spec = filter_phase(net, phase="TEST", level=chosen().level or level_of(net), stages=chosen().stages)
    validate(with_source(spec))
    outputs = _outputs(with_source(spec))
    judged = list(dict.fromkeys(name for each in outputs.values() for name in each.computed))
    deploy = prepare(without_pairs(spec, judged), phase="TEST")
    for layer in deploy.layers:
        check_phase(layer, "TEST")
    test = CaffeNet(deploy, outputs=judged)
    _check_weights(test.state_dict(), task.net.state_dict(), net.path)
    transforms = transforms_in(spec)
    said = variation_in(transforms, test.inputs)
    made = inputs_of(data, test.inputs)
    recipes = tuple(transforms[each.name].recipe(each) if each.name in transforms else each for each in made.inputs)
    feed = Feed(
        data=data,
        preprocessing=type(made)(recipes),
        losses=tuple(_labels_of(each) for each in outputs.values()),
        order=order_of(spec),
        seed=seed,
        batch_size=batch_size_of(spec),
        workers=workers,
        variation=Variation(mirror=said.mirror),
        reading=reading_of(transforms, test.inputs),
    )
    return TestNet(test, outputs, feed.batches(), count, said.crop, tuple(_gathered(deploy, test.state_dict())))


def _gathered(spec: NetSpec, state: Collection[str]) -> Iterator[str]:
    """The keys of the statistics that Caffe gathers in this net, of whatever phase it is; what is shared has one."""
    for layer in spec.layers:
        params = known_params(layer)
        keys = (key_of(layer.name, position) for position in params.statistics() if params.gathers)
        yield from (key for key in keys if key in state)


def _check_weights(tested: Mapping[str, Tensor], trained: Mapping[str, Tensor], path: str | None) -> None:
    """Raise NetError where a TEST net has weights that the net to train has not, or has in another shape (net.cpp)."""
    if missing := set(tested) - set(trained):
        raise NetError(f"the TEST net has weights that are not trained: {min(missing)}", path=path)
    for key, blob in tested.items():
        if blob.shape != trained[key].shape:
            raise NetError(
                f"the TEST net has {key} in the shape {tuple(blob.shape)}; {tuple(trained[key].shape)} is trained",
                path=path,
            )


def _outputs(spec: NetSpec) -> dict[str, Loss | CaffeAccuracy]:
    """The losses and accuracies of a TEST net, by the blob that each makes.

    A loss without a top goes by its name; Caffe counts it in the loss of the test, and shows it nowhere.
    """
    labels = labels_in(spec)
    found: dict[str, Loss | CaffeAccuracy] = {
        layer.tops[0] if layer.tops else loss.name: loss for layer, loss in losses_by_layer(spec)
    }
    for layer in spec.layers:
        if layer.type == "Accuracy":
            own = _accuracy(layer, labels, spec)
            found.update({top: replace(own, of_classes=place == 1) for place, top in enumerate(layer.tops)})
    if not found:
        raise NetError("the TEST net has neither a loss nor an Accuracy", path=spec.path)
    return found


def _accuracy(layer: LayerSpec, labels: Mapping[str, str], spec: NetSpec) -> CaffeAccuracy:
    param: Any = layer.message.accuracy_param
    if len(layer.bottoms) != 2 or len(layer.tops) not in (1, 2):
        raise NetError("an Accuracy of one or two tops is expected, of scores and labels", where=layer.place)
    ignored = param.ignore_label if param.HasField("ignore_label") else None
    label = label_of(layer, labels, spec)
    return CaffeAccuracy(layer.name, layer.bottoms[0], label, param.top_k, param.axis, ignored)


def _numbers(name: str, mean: Tensor) -> list[tuple[str, float]]:
    if not mean.ndim:
        return [(name, float(mean))]
    return [(f"{name}[{place}]", value) for place, value in enumerate(mean.tolist())]


def _labels_of(each: Loss | CaffeAccuracy) -> Loss:
    """A loss by which the feed knows the labels of an output."""
    if isinstance(each, Loss):
        return each
    return SoftmaxWithLoss(each.name, each.score, each.label, ignore_label=each.ignore_label)


def _centre(blob: Tensor, crop: int) -> Tensor:
    """The middle crop x crop of a blob (..., h, w), as data_transformer.cpp cuts it at TEST; all of it for 0."""
    if not crop:
        return blob
    h, w = blob.shape[-2:]
    if min(h, w) < crop:
        raise TrainingError(f"crop_size {crop} at TEST, and an image of {h}x{w}")
    top, left = (h - crop) // 2, (w - crop) // 2
    return blob[..., top : top + crop, left : left + crop]
