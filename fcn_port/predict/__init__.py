"""From an image to what a net says of it, and to pictures and files of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .classifying import Classification, classify
    from .preparing import prepare
    from .seeing import see
    from .segmentation import Segmentation
    from .segmenting import segment, segment_all
    from .value_map import ValueMap

__all__ = ["Classification", "Segmentation", "ValueMap", "classify", "prepare", "see", "segment", "segment_all"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "Classification": "classifying",
        "Segmentation": "segmentation",
        "ValueMap": "value_map",
        "classify": "classifying",
        "prepare": "preparing",
        "see": "seeing",
        "segment": "segmenting",
        "segment_all": "segmenting",
    },
)
