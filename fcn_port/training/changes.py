"""A person's wishes about a training, where they differ from what its recipe or solver says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..data.inputs import InputChange
from .choices import LossName, Normalization, Order
from .errors import TrainingError


@dataclass(frozen=True)
class Changes:
    """A person's wishes where they differ from the recipe or solver says; None leaves it as it is.

    `batch_size` is that of one process. `lr` is taken as it is, and not translated. `class_weights` are numbers, one
    for each class, or "median" for those of `data.frequencies`; `gamma` is the focal loss's; `balance` weighs both
    sides of a SigmoidCrossEntropyLoss as HED's Caffe does. `mirror`, `crop` (0 for none) and `scales` (the smallest and
    the largest factor), and before that `resize` (h, w), vary images as `transforms.varied` says; `inputs` are made
    otherwise. Raises TrainingError for a rate below 0, and for counts below 1.
    """

    batch_size: int | None = None
    iter_size: int | None = None
    normalization: Normalization | None = None
    lr: float | None = None
    max_iter: int | None = None
    order: Order | None = None
    seed: int | None = None
    loss: LossName | None = None
    class_weights: tuple[float, ...] | Literal["median"] | None = None
    gamma: float | None = None
    balance: bool = False
    mirror: bool | None = None
    crop: int | None = None
    scales: tuple[float, float] | None = None
    resize: tuple[int, int] | None = None
    inputs: InputChange = field(default_factory=InputChange)

    def __post_init__(self) -> None:
        if self.lr is not None and not 0 <= self.lr < math.inf:
            raise TrainingError(f"lr is {self.lr}; expected a learning rate of at least 0")
        for name in ("batch_size", "iter_size", "max_iter"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise TrainingError(f"{name} is {count}; expected at least 1")


NO_CHANGES = Changes()
