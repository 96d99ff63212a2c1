"""DetectNet: boxes that the cells of a grid vote for, as its layer ClusterDetections gives them, a top for each class.

Source: NVIDIA/caffe, python/caffe/layers/detectnet/clustering.py: corners in pixels of the net's input, and as the
score the logarithm of the votes, which may be above 1; rows of zeros are none. The image is warped to the net's input.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from converters.net import LayerSpec, NetSpec
from weights.records import InputRecipe

from ..predict.resizing import resize
from .feeding import blobs_of, image_inputs, kind_of
from .raw import Raw, clipped

if TYPE_CHECKING:
    from ..nets import Net


def clusters_votes(spec: NetSpec) -> bool:
    """True for a net that ends in ClusterDetections."""
    layer = _maker(spec)
    return layer is not None and set(layer.tops) <= set(spec.outputs)


def from_votes(net: Net, image: np.ndarray, recipe: InputRecipe) -> Iterator[Raw]:
    """The objects that the net finds in an image (h, w, 3) uint8 RGB, of classes from 1 on."""
    import torch

    h, w = image.shape[:2]
    high, wide = (int(side) for side in net.inputs[image_inputs(net.spec)[0]][2:])
    layer = _maker(net.spec)
    tops = () if layer is None else layer.tops
    blobs = blobs_of(net, resize(image, (high, wide)), recipe, tops, scales=(high / h, wide / w))
    by = torch.tensor([wide / w, high / h] * 2)
    for label, blob in enumerate(blobs, start=1):
        rows = blob.reshape(-1, 5)
        for row in rows[rows.any(1)]:
            box = clipped((row[:4] / by).double().numpy(), (h, w))
            yield Raw(label, float(row[4]), tuple(map(float, box)))


def _maker(spec: NetSpec) -> LayerSpec | None:
    return next((layer for layer in spec.layers if kind_of(layer) == "Python:ClusterDetections"), None)
