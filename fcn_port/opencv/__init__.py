"""The calls with which OpenCV's DNN module read Caffe files, also for OpenCV 5, which has lost them; without torch.

    from fcn_port.opencv import readNetFromCaffe    # in place of cv2.dnn.readNetFromCaffe

    net = readNetFromCaffe("deploy.prototxt", "weights.caffemodel")    # a cv2.dnn.Net
    net.setInput(blob)
    out = net.forward()

On OpenCV 4 its own reader does the work; on OpenCV 5 the net is written as ONNX and read from that. docs/opencv5.md has
before and after of what programs do with it.
"""

from __future__ import annotations

# Nothing but numpy and cv2 is imported before OpenCV turns out not to read Caffe itself.
from .blob import blob_from_image
from .reading import readNet, readNetFromCaffe

__all__ = ["blob_from_image", "readNet", "readNetFromCaffe"]
