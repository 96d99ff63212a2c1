"""One object that many machines can hold: `Predictor`, and the parts that they share work by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .predicting import Prediction, Predictor
    from .shards import Shard

__all__ = ["Prediction", "Predictor", "Shard"]

__getattr__, __dir__ = lazy_attributes(
    __name__, {"Prediction": "predicting", "Predictor": "predicting", "Shard": "shards"}
)
