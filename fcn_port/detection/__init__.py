"""From an image to boxes of objects: SSD, YOLO, Faster R-CNN and R-FCN, and MTCNN's three nets.

records.py     what is found, and its forms as JSON and as COCO's results
drawing.py     boxes on the image
resizing.py    the image at the size of a net's input, as the projects do it with OpenCV
rows.py        nets that end in rows of detections (SSD, YOLO)
regions.py     nets that score regions (Faster R-CNN, R-FCN)
cascade.py     MTCNN
detecting.py   which of them a net is
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .detecting import detect, detect_all, detects, finds_objects
    from .records import Detection, Detections

__all__ = ["Detection", "Detections", "detect", "detect_all", "detects", "finds_objects"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        **dict.fromkeys(("detect", "detect_all", "detects", "finds_objects"), "detecting"),
        **dict.fromkeys(("Detection", "Detections"), "records"),
    },
)
