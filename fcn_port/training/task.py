"""The task of a training: a net that turns blobs into scores, and the losses that judge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from converters.errors import NetError
from converters.execution import CaffeNet
from converters.formats import has_weights
from converters.net import (
    PHASES,
    LayerSpec,
    NetSpec,
    check_training,
    refuse_no_spec,
    refuse_overwritten,
    refuse_stray_gradients,
    validate,
    without_unheard_stops,
)
from converters.passes import Phase, chosen, cut, filter_phase, level_of, prepare
from weights.records import IGNORE_LABEL

from .choices import Normalization
from .losses import Loss, SoftmaxWithLoss, losses_of, without_pairs


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """A net, its losses, and the definition that gives the multipliers of its blobs (None: the net's own).

    `partly` says that some of its weights lead to no loss; as in Caffe they are kept, decay and gather statistics.
    """

    net: nn.Module
    losses: tuple[Loss, ...]
    spec: NetSpec | None = None
    partly: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The blobs that the net reads, in its order."""
        return tuple(self.net.inputs)  # type: ignore[arg-type]

    def losses_of(
        self,
        blobs: Mapping[str, Tensor],
        *,
        net: nn.Module | None = None,
        counts: Mapping[str, Mapping[str, float]] | None = None,
    ) -> dict[str, Tensor]:
        """Each loss by name, times its weight, of one batch: `blobs` holds the net's inputs and the labels.

        `net` computes in place of the task's own, such as a wrapper around it. `counts` by loss, as in
        `softmax_with_loss`.
        """
        scores = (self.net if net is None else net)(**{name: blobs[name] for name in self.inputs})
        named = scores if isinstance(scores, Mapping) else {self.losses[0].score: scores}
        given = {**blobs, **named}
        found = {}
        for loss in self.losses:
            value = given[loss.score].new_zeros(())
            if loss.weight:  # another is not counted, whatever it is (layer.hpp, Forward)
                value = loss.weight * loss(given, None if counts is None else counts[loss.name])
            found[loss.name] = value if loss.propagate else value.detach()
        return found


def task_of(spec: NetSpec) -> TrainingTask:
    """The task that the prototxt of a net to train defines, in Caffe's TRAIN phase.

    Its net is in eval mode, as every CaffeNet begins: `task.net.train()` turns on dropout and the batch's statistics.
    Data layers become inputs, which the caller feeds by the names of their tops; losses are computed here. Raises
    NetError for a net without losses, or with ones that are not known, and for fields of forks that say how it learns.
    """
    refuse_no_spec(spec)
    if has_weights(spec):  # which Caffe begins with, in place of what the fillers say (layer.hpp, Layer)
        hint = "take the blobs out; weights of a .caffemodel are what --init begins with"
        raise NetError("its text has weights, which are not read", path=spec.path, hint=hint)
    train = without_unheard_stops(in_training(spec))
    checked = with_source(train)
    validate(checked)
    refuse_overwritten(checked)
    refuse_stray_gradients(checked)
    losses = losses_of(checked)
    heard = tuple(layer for layer in train.layers if layer.type != "Silence")  # Caffe computes what it swallows, too
    scores = list(dict.fromkeys(name for loss in losses for name in loss.computed))
    deploy = prepare(without_pairs(train.replace_layers(heard), scores), phase="TRAIN")
    for layer in deploy.layers:
        check_training(layer)
        check_phase(layer, "TRAIN")
    others = _unjudged(deploy, scores)
    return TrainingTask(CaffeNet(deploy, outputs=[*others, *scores]), losses, spec=train, partly=bool(others))


def _unjudged(net: NetSpec, scores: Sequence[str]) -> list[str]:
    """The blobs of layers with weights that lead to no scores, which Caffe computes, saves and lets decay as well."""
    judged = {layer.name for layer in cut(net, scores).layers}
    others = [layer for layer in net.layers if layer.name not in judged and layer.tops]
    return list(dict.fromkeys(layer.tops[0] for layer in others if layer.may_learn))


def with_source(spec: NetSpec) -> NetSpec:
    """The net with a data layer for what no layer makes, where it has none of its own (DeepLab and DIGITS)."""
    if any(not layer.bottoms for layer in spec.layers):
        return spec
    made = {top for layer in spec.layers for top in layer.tops if top not in layer.bottoms}
    missing = dict.fromkeys(each for layer in spec.layers for each in layer.bottoms if each not in made)
    return spec.replace_layers((LayerSpec(name="data", type="Data", tops=tuple(missing)), *spec.layers))


def check_phase(layer: LayerSpec, phase: Phase) -> None:
    """Raise NetError for a layer that has another phase than its net, which Caffe would compute so (net.cpp, Init)."""
    if layer.message.HasField("phase") and layer.message.phase != PHASES.index(phase):
        raise NetError(
            f"phase is {PHASES[layer.message.phase]} in a net of the phase {phase}, and here all layers have the net's",
            where=layer.place,
            hint="take it out; Caffe would compute this one layer as in the other phase",
        )


def in_training(spec: NetSpec) -> NetSpec:
    """The layers of a net in Caffe's TRAIN phase, at the level and with the stages that were chosen (`choosing`).

    A level that nobody chose is that of the net's own state, as a solver has it.
    """
    return filter_phase(spec, phase="TRAIN", level=chosen().level or level_of(spec), stages=chosen().stages)


def task_for(
    net: nn.Module,
    heads: Sequence[str],
    *,
    normalization: Normalization = "BATCH_SIZE",
    ignore_label: int | None = IGNORE_LABEL,
) -> TrainingTask:
    """The task of a hand-written net with one loss for each of its outputs, `heads`, as the releases train them.

    Names are the releases': score has the labels `label` and the loss `loss`; of score_sem and score_geo they are
    sem and geo, loss_sem and loss_geo.
    """
    losses = []
    for head in heads:
        suffix = head.removeprefix("score").removeprefix("_")
        name, label = (f"loss_{suffix}", suffix) if suffix else ("loss", "label")
        losses.append(SoftmaxWithLoss(name, head, label, ignore_label=ignore_label, normalization=normalization))
    return TrainingTask(net, tuple(losses))
