"""FCN-8s: the coarse prediction refined twice, with what pool4 and pool3 see (PAMI 2016, section 4.2).

The crops put each skip exactly under the upsampled scores. Seen from an image of 100x100 with 7 classes:

    score_fr 4 -> upscore2 10          + score_pool4 19 [5:15]
               -> upscore_pool4 22     + score_pool3 38 [9:31]
               -> upscore8 184 [31:131] = score 100
"""

from __future__ import annotations

from torch import Tensor

from .parts import BilinearUpsample, Conv, CropLike, Sum
from .vgg16 import VGG16, Widths


class FCN8s(VGG16):
    """Scores (n, num_classes, h, w) of images (n, 3, h, w) of any size, BGR less the mean."""

    def __init__(self, num_classes: int, *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__(widths=widths)
        self.score_fr = Conv(widths.fc7, num_classes, 1)
        self.upscore2 = BilinearUpsample(num_classes, factor=2)

        self.score_pool4 = Conv(widths.conv4, num_classes, 1)
        self.score_pool4c = CropLike(5)
        self.fuse_pool4 = Sum()
        self.upscore_pool4 = BilinearUpsample(num_classes, factor=2)

        self.score_pool3 = Conv(widths.conv3, num_classes, 1)
        self.score_pool3c = CropLike(9)
        self.fuse_pool3 = Sum()

        self.upscore8 = BilinearUpsample(num_classes, factor=8)
        self.score = CropLike(31)

    def forward(self, data: Tensor) -> Tensor:
        pool3, pool4, fc7 = self.features(data)
        upscore2 = self.upscore2(self.score_fr(fc7))

        score_pool4c = self.score_pool4c(self.score_pool4(pool4), upscore2)
        fuse_pool4 = self.fuse_pool4(upscore2, score_pool4c)
        upscore_pool4 = self.upscore_pool4(fuse_pool4)

        score_pool3c = self.score_pool3c(self.score_pool3(pool3), upscore_pool4)
        fuse_pool3 = self.fuse_pool3(upscore_pool4, score_pool3c)

        upscore8 = self.upscore8(fuse_pool3)
        return self.score(upscore8, data)
