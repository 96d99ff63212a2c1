"""The nets that are written out, by the names that the catalogue has for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weights.records import Dataset, Preprocessing

from .alexnet import FCNAlexNet
from .fcn import FCN
from .fcn8s import FCN8s
from .fcn8s_atonce import FCN8sAtOnce
from .fcn16s import FCN16s
from .fcn32s import FCN32s
from .googlenet import FCNGoogLeNet
from .nyud import FCN32sColorDepth, FCN32sColorHHA
from .siftflow import SiftFlowFCN8s, SiftFlowFCN16s, SiftFlowFCN32s

NumClasses = int | Mapping[str, int]
"""The number of classes that a net scores: one number, or one for each head, such as {"sem": 33, "geo": 3}."""

ARCHITECTURES: Mapping[str, type[FCN]] = {
    "fcn32s": FCN32s,
    "fcn16s": FCN16s,
    "fcn8s": FCN8s,
    "fcn8s-atonce": FCN8sAtOnce,
    "fcn-alexnet": FCNAlexNet,
    "fcn-googlenet": FCNGoogLeNet,
    "fcn32s-color-d": FCN32sColorDepth,
    "fcn32s-color-hha": FCN32sColorHHA,
    "siftflow-fcn32s": SiftFlowFCN32s,
    "siftflow-fcn16s": SiftFlowFCN16s,
    "siftflow-fcn8s": SiftFlowFCN8s,
}
"""The class of each net by the name that `architecture` of an entry of weights/releases.toml gives."""


@dataclass(frozen=True)
class Family:
    """The way to make the net of a release: its class, and the data set that it is for."""

    make: type[FCN]
    dataset: Dataset
    preprocessing: Preprocessing

    @property
    def num_classes(self) -> NumClasses:
        """The number of classes that the release scores."""
        return self.dataset.num_classes
