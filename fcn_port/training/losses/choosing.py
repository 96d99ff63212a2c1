"""The choice of a loss, in place of the SoftmaxWithLoss of a recipe or a prototxt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..choices import LossName
from ..errors import TrainingError
from .base import Loss
from .region import DiceLoss, FocalLoss
from .sigmoid import SigmoidCrossEntropyLoss
from .softmax import SoftmaxWithLoss


@dataclass(frozen=True)
class LossChoice:
    """A choice of losses.

    `name` is a loss in place of SoftmaxWithLoss (None leaves each as it is), `class_weights` weigh its classes (()
    leaves them), `gamma` is focal's, `balanced` weighs both sides of a SigmoidCrossEntropyLoss as HED's fork does.
    """

    name: LossName | None = None
    class_weights: tuple[float, ...] = ()
    gamma: float | None = None
    balanced: bool = False


def chosen(losses: Sequence[Loss], choice: LossChoice) -> tuple[Loss, ...]:
    """The losses after a choice; TrainingError where there is none that it can be of."""
    plain = [loss for loss in losses if isinstance(loss, SoftmaxWithLoss)]
    if choice.gamma is not None and choice.name != "focal":
        raise TrainingError("gamma is the focal loss's: say --loss focal with it")
    if choice.name not in (None, "softmax") and not plain:
        raise TrainingError(f"--loss {choice.name} replaces a SoftmaxWithLoss, and the net has none")
    if choice.class_weights and not plain:
        raise TrainingError("class weights are those of a SoftmaxWithLoss, and the net has none")
    sigmoid = any(isinstance(loss, SigmoidCrossEntropyLoss) for loss in losses)
    if choice.balanced and not sigmoid:
        raise TrainingError("--balance is for SigmoidCrossEntropyLoss, and the net has none; try --class-weights")
    if choice.name in ("dice", "softmax+dice") and any(loss.normalization != "VALID" for loss in plain):
        raise TrainingError(
            f"--loss {choice.name}: dice is a number from 0 to 1 and not a sum over pixels; say --normalization VALID "
            "with it, and the learning rate is translated"
        )
    return tuple(made for loss in losses for made in _instead(loss, choice))


def _instead(loss: Loss, choice: LossChoice) -> tuple[Loss, ...]:
    if isinstance(loss, SigmoidCrossEntropyLoss):
        return (replace(loss, balanced=choice.balanced),)
    if not isinstance(loss, SoftmaxWithLoss):
        return (loss,)
    if choice.class_weights:
        loss = replace(loss, class_weights=choice.class_weights, by_label_counts=False)
    if choice.name in (None, "softmax"):
        return (loss,)
    if loss.axis != 1:
        raise TrainingError(f"loss '{loss.name}': --loss {choice.name} needs its classes on axis 1")
    if loss.by_label_counts:
        raise TrainingError(
            f"loss '{loss.name}': --loss {choice.name} has no weight_by_label_freqs; give --class-weights with it"
        )
    fields = {
        name: getattr(loss, name)
        for name in ("name", "score", "label", "weight", "ignore_label", "normalization", "class_weights", "propagate")
    }
    if choice.name == "focal":
        return (FocalLoss(**fields, gamma=2.0 if choice.gamma is None else choice.gamma),)
    if choice.name == "dice":
        return (DiceLoss(**fields),)
    return loss, DiceLoss(**{**fields, "name": f"{loss.name}_dice"})
