"""The data sets of the paper: found on disk, fetched where they may be, read exactly as the release reads them.

    data = open_dataset("VOCdevkit/VOC2011", split="seg11valid")
    sample = data.read(data.ids[0])               # sample.images["color"], sample.labels["score"]
    inputs = net_inputs(data, sample, net.preprocessing)

`make_shapes` makes a small one, seeded, that anybody may have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

from .description import describing
from .errors import DataError
from .opening import open_dataset
from .places import data_dir
from .records import DataSet, Sample
from .shapes import make_shapes

if TYPE_CHECKING:
    from .inputs import net_inputs

__all__ = ["DataError", "DataSet", "Sample", "data_dir", "describing", "make_shapes", "net_inputs", "open_dataset"]

# `net_inputs` makes tensors; the rest needs no torch.
__getattr__, __dir__ = lazy_attributes(__name__, {"net_inputs": "inputs"})
