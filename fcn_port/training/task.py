"""What is trained: a net that turns blobs into scores, and the losses that judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from converters.caffe_net import CaffeNet
from converters.errors import NetError
from converters.net import NetSpec
from converters.passes import filter_phase, to_deploy

from .losses import SoftmaxWithLoss, losses_of


@dataclass(frozen=True, eq=False)
class Task:
    """A net, its losses, and the definition that gives the multipliers of its blobs (None: the net's own).

    `inputs` are the blobs that the net reads, in its order.
    """

    net: nn.Module
    losses: tuple[SoftmaxWithLoss, ...]
    spec: NetSpec | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self.net.inputs)  # type: ignore[arg-type]

    def losses_of(
        self, blobs: Mapping[str, Tensor], *, counts: Mapping[str, Mapping[str, float]] | None = None
    ) -> dict[str, Tensor]:
        """Each loss by name, times its weight, of one batch: `blobs` holds the net's inputs and the labels.

        `counts` by loss, as in `softmax_with_loss`.
        """
        scores = self.net(**{name: blobs[name] for name in self.inputs})
        named = scores if isinstance(scores, dict) else {self.losses[0].score: scores}
        return {
            loss.name: loss.weight * loss({**blobs, **named}, None if counts is None else counts[loss.name])
            for loss in self.losses
        }


def task_of(spec: NetSpec) -> Task:
    """The task that the prototxt of a net to train defines, in Caffe's TRAIN phase.

    Data layers become inputs, which the caller feeds by the names of their tops; losses are computed here. Blobs whose
    lr_mult is 0 do not require gradients. Raises NetError for a net without losses, or with ones that are not known.
    """
    train = filter_phase(spec, phase="TRAIN")
    losses = losses_of(train)
    deploy = to_deploy(train, phase="TRAIN")
    scores = list(dict.fromkeys(loss.score for loss in losses))
    made = {top for layer in deploy.layers for top in layer.tops}
    for loss in losses:
        if loss.label in made:
            raise NetError(f"{loss.name}: its labels '{loss.label}' must be data, not computed", path=spec.path)
    return Task(CaffeNet(deploy, outputs=scores), losses, spec=train)
