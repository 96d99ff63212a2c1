"""From an image to a label map and a picture of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .preparing import prepare
    from .segmentation import Segmentation
    from .segmenting import segment, segment_all

__all__ = ["Segmentation", "prepare", "segment", "segment_all"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {"Segmentation": "segmentation", "prepare": "preparing", "segment": "segmenting", "segment_all": "segmenting"},
)
