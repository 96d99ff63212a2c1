"""The NYUDv2 nets that see two images: FCN-32s with depth fused early, or with HHA fused late (PAMI 2016, section 5.3).

Those for colour or for HHA alone are FCN-32s as it is. VGG-16 is a chain, so that its layers, here under other names,
can be run one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from converters.net import Shape

from .fcn import FCN
from .parts import BilinearUpsample, ConcatChannels, Conv, CropLike, Sum
from .vgg16 import VGG16, Widths, widths_of

with torch.device("meta"):
    CHAIN = tuple(name for name, _ in VGG16().named_children())
"""The layers of VGG-16 in the order in which they run, conv1_1 to drop7."""


class FCN32sColorDepth(FCN):
    """Scores (n, num_classes, h, w) of colour (n, 3, h, w), BGR less its mean, and log depth (n, 1, h, w) less its own.

    Early fusion: one net that sees four channels. Only the first layer is not VGG-16's, and has a name of its own, so
    that weights for three channels are not taken for it.
    """

    channels: ClassVar[Mapping[str, int]] = {"color": 3, "depth": 1}

    def __init__(self, num_classes: int, *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__()
        self.data = ConcatChannels()
        self.conv1_1_bgrd = Conv(4, widths.conv1, 3, padding=100)
        vgg16 = VGG16(widths=widths)
        for name in CHAIN[1:]:
            self.add_module(name, vgg16.get_submodule(name))
        self.score_fr = Conv(widths.fc7, num_classes, 1)
        self.upscore = BilinearUpsample(num_classes, factor=32)
        self.score = CropLike(19)

    @classmethod
    def settings_of(cls, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        return {"num_classes": shapes["score_fr.weight"][0], "widths": widths_of(shapes, first="conv1_1_bgrd")}

    def forward(self, color: Tensor, depth: Tensor) -> Tensor:
        data = self.data(color, depth)
        x = self.conv1_1_bgrd(data)
        for name in CHAIN[1:]:
            x = getattr(self, name)(x)
        upscore = self.upscore(self.score_fr(x))
        return self.score(upscore, data)


class FCN32sColorHHA(FCN):
    """Scores (n, num_classes, h, w) of colour and HHA, each (n, 3, h, w) less its mean (colour in BGR).

    Late fusion: two whole nets, their layers told apart by a suffix, and the average of their scores.
    """

    channels: ClassVar[Mapping[str, int]] = {"color": 3, "hha": 3}

    def __init__(self, num_classes: int, *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__()
        for stream in ("color", "hha"):
            vgg16 = VGG16(widths=widths)
            for name in CHAIN:
                self.add_module(name + stream, vgg16.get_submodule(name))
            self.add_module("score_fr" + stream, Conv(widths.fc7, num_classes, 1))
        self.score_fused = Sum(0.5, 0.5)
        self.upscore = BilinearUpsample(num_classes, factor=32)
        self.score = CropLike(19)

    @classmethod
    def settings_of(cls, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        return {"num_classes": shapes["score_frcolor.weight"][0], "widths": widths_of(shapes, suffix="color")}

    def forward(self, color: Tensor, hha: Tensor) -> Tensor:
        score_frcolor, score_frhha = self.stream(color, "color"), self.stream(hha, "hha")
        upscore = self.upscore(self.score_fused(score_frcolor, score_frhha))
        return self.score(upscore, color)

    def stream(self, x: Tensor, suffix: str) -> Tensor:
        """The scores (n, num_classes, h/32, w/32) of one image by the layers with this suffix."""
        for name in (*CHAIN, "score_fr"):
            x = getattr(self, name + suffix)(x)
        return x
