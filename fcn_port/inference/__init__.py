"""From an image to a label map and a picture of it."""

from .segment import segment, segment_all
from .segmentation import Segmentation

__all__ = ["Segmentation", "segment", "segment_all"]
