"""FCN-8s trained all at once rather than in stages (PAMI 2016, section 4.3).

It is FCN-8s with its two skips scaled down first. The features of pool4 and pool3 are far larger than the scores that
they refine; training in stages gets used to that, training all at once needs them at the size of the scores.
"""

from __future__ import annotations

from torch import Tensor

from .parts import BilinearUpsample, ChannelScale, Conv, CropLike, Sum
from .vgg16 import VGG16, Widths

SKIP_SCALES = {"pool4": 0.01, "pool3": 0.0001}
"""The factors of the features that the skips take (the release's net.py); never trained."""


class FCN8sAtOnce(VGG16):
    """Scores (n, num_classes, h, w) of images (n, 3, h, w) of any size, BGR less the mean."""

    def __init__(self, num_classes: int, *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__(widths=widths)
        self.score_fr = Conv(widths.fc7, num_classes, 1)
        self.upscore2 = BilinearUpsample(num_classes, factor=2)

        self.scale_pool4 = ChannelScale(widths.conv4, SKIP_SCALES["pool4"])
        self.score_pool4 = Conv(widths.conv4, num_classes, 1)
        self.score_pool4c = CropLike(5)
        self.fuse_pool4 = Sum()
        self.upscore_pool4 = BilinearUpsample(num_classes, factor=2)

        self.scale_pool3 = ChannelScale(widths.conv3, SKIP_SCALES["pool3"])
        self.score_pool3 = Conv(widths.conv3, num_classes, 1)
        self.score_pool3c = CropLike(9)
        self.fuse_pool3 = Sum()

        self.upscore8 = BilinearUpsample(num_classes, factor=8)
        self.score = CropLike(31)

    def forward(self, data: Tensor) -> Tensor:
        pool3, pool4, fc7 = self.features(data)
        upscore2 = self.upscore2(self.score_fr(fc7))

        score_pool4 = self.score_pool4(self.scale_pool4(pool4))
        score_pool4c = self.score_pool4c(score_pool4, upscore2)
        fuse_pool4 = self.fuse_pool4(upscore2, score_pool4c)
        upscore_pool4 = self.upscore_pool4(fuse_pool4)

        score_pool3 = self.score_pool3(self.scale_pool3(pool3))
        score_pool3c = self.score_pool3c(score_pool3, upscore_pool4)
        fuse_pool3 = self.fuse_pool3(upscore_pool4, score_pool3c)

        upscore8 = self.upscore8(fuse_pool3)
        return self.score(upscore8, data)
