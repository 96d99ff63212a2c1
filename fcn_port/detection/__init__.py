"""From an image to boxes of objects, by the nets of many projects: SSD, YOLO, Faster R-CNN, MTCNN and others.

records.py     what is found, and its forms as JSON and as COCO's results
drawing.py     boxes on the image
resizing.py    the image at the size of a net's input, as the projects do it with OpenCV
rows.py        nets that end in rows of detections (SSD, YOLO)
anchors.py     YOLO's heads made such rows, by the anchors that the net does not say
grid.py        YOLO of 2016
regions.py     nets that score regions (Faster R-CNN, R-FCN)
refined.py     nets that refine them (MS-CNN, Cascade R-CNN)
ssh.py         SSH, faces
text_lines.py  CTPN, lines of text
votes.py       DetectNet
cascade.py     MTCNN
feeding.py     the inputs of the nets that are told an image's size
heads.py       which of them a net is, and why another one is none
detecting.py   `detect`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .anchors import with_anchors
    from .detecting import detect, detect_all, detects, finds_objects
    from .heads import refuse_unfinished
    from .records import Detection, Detections

__all__ = [
    "Detection",
    "Detections",
    "detect",
    "detect_all",
    "detects",
    "finds_objects",
    "refuse_unfinished",
    "with_anchors",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        **dict.fromkeys(("detect", "detect_all", "detects", "finds_objects"), "detecting"),
        "refuse_unfinished": "heads",
        "with_anchors": "anchors",
        **dict.fromkeys(("Detection", "Detections"), "records"),
    },
)
