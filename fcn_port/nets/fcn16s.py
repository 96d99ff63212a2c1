"""FCN-16s: the coarse prediction refined once, with what pool4 sees (PAMI 2016, section 4.2)."""

from __future__ import annotations

from torch import Tensor

from .parts import BilinearUpsample, Conv, CropLike, Sum
from .vgg16 import VGG16, Widths


class FCN16s(VGG16):
    """Scores (n, num_classes, h, w) of images (n, 3, h, w) of any size, BGR less the mean."""

    def __init__(self, num_classes: int, *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__(widths=widths)
        self.score_fr = Conv(widths.fc7, num_classes, 1)
        self.upscore2 = BilinearUpsample(num_classes, factor=2)

        self.score_pool4 = Conv(widths.conv4, num_classes, 1)
        self.score_pool4c = CropLike(5)
        self.fuse_pool4 = Sum()

        self.upscore16 = BilinearUpsample(num_classes, factor=16)
        self.score = CropLike(27)

    def forward(self, data: Tensor) -> Tensor:
        _, pool4, fc7 = self.features(data)
        upscore2 = self.upscore2(self.score_fr(fc7))

        score_pool4c = self.score_pool4c(self.score_pool4(pool4), upscore2)
        fuse_pool4 = self.fuse_pool4(upscore2, score_pool4c)

        upscore16 = self.upscore16(fuse_pool4)
        return self.score(upscore16, data)
