"""From an image to a label map and a picture of it."""

from .segment import Segmentation, segment

__all__ = ["Segmentation", "segment"]
