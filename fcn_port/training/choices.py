"""Words that settings choose from; here, because recipes are read without torch."""

from __future__ import annotations

from typing import Literal

Normalization = Literal["VALID", "FULL", "BATCH_SIZE", "NONE"]
"""What Caffe divides a loss by (caffe.proto, LossParameter)."""

Order = Literal["replacement", "shuffled", "listed"]
"""In which order images are trained on (order.py)."""

Precision = Literal["float32", "bfloat16"]
"""What convolutions are computed in (update.py)."""

Multiplier = Literal["lr_mult", "decay_mult"]
"""What a blob's learning rate and weight decay are multiplied by (caffe.proto, ParamSpec)."""
