"""Words that settings choose from; here, because recipes are read without torch."""

from __future__ import annotations

from typing import Literal

Normalization = Literal["VALID", "FULL", "BATCH_SIZE", "NONE"]
"""The number that Caffe divides a loss by (caffe.proto, LossParameter)."""

Order = Literal["replacement", "shuffled", "listed"]
"""The order of images (sampler.py)."""

Precision = Literal["float32", "bfloat16"]
"""The type of number that convolutions are computed in (update.py)."""

Multiplier = Literal["lr_mult", "decay_mult"]
"""The factors of a blob's learning rate and weight decay (caffe.proto, ParamSpec)."""

LossName = Literal["softmax", "focal", "dice", "softmax+dice"]
"""A loss in place of SoftmaxWithLoss (losses/choosing.py)."""
