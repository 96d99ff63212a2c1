"""The task of a training: a net that turns blobs into scores, and the losses that judge them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from converters.errors import NetError
from converters.execution import CaffeNet
from converters.net import LayerSpec, NetSpec, check_training, validate
from converters.passes import Phase, chosen, filter_phase, level_of, prepare
from weights.records import IGNORE_LABEL

from .choices import Normalization
from .losses import Loss, SoftmaxWithLoss, losses_of

PHASES = ("TRAIN", "TEST")
"""Caffe's phases by their numbers (caffe.proto)."""


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """A net, its losses, and the definition that gives the multipliers of its blobs (None: the net's own)."""

    net: nn.Module
    losses: tuple[Loss, ...]
    spec: NetSpec | None = None

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
        found = {
            loss.name: loss.weight * loss({**blobs, **named}, None if counts is None else counts[loss.name])
            for loss in self.losses
        }
        return {loss.name: found[loss.name] if loss.propagate else found[loss.name].detach() for loss in self.losses}


def task_of(spec: NetSpec) -> TrainingTask:
    """The task that the prototxt of a net to train defines, in Caffe's TRAIN phase.

    Data layers become inputs, which the caller feeds by the names of their tops; losses are computed here. Raises
    NetError for a net without losses, or with ones that are not known, and for fields of forks that say how it learns.
    """
    train = in_training(spec)
    validate(train)
    losses = losses_of(train)
    deploy = prepare(train, phase="TRAIN")
    for layer in deploy.layers:
        check_training(layer)
        check_phase(layer, "TRAIN")
    scores = list(dict.fromkeys(loss.score for loss in losses))
    return TrainingTask(CaffeNet(deploy, outputs=scores), losses, spec=train)


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
