"""FCN-32s: one prediction for every 32 pixels, interpolated (PAMI 2016, section 4.1)."""

from __future__ import annotations

from torch import Tensor

from .parts import BilinearUpsample, Conv, CropLike
from .vgg16 import VGG16, Widths


class FCN32s(VGG16):
    """Scores (n, num_classes, h, w) of images (n, 3, h, w) of any size, BGR less the mean."""

    def __init__(self, num_classes: int, *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__(widths=widths)
        self.score_fr = Conv(widths.fc7, num_classes, 1)
        self.upscore = BilinearUpsample(num_classes, factor=32)
        self.score = CropLike(19)

    def forward(self, data: Tensor) -> Tensor:
        _, _, fc7 = self.features(data)
        upscore = self.upscore(self.score_fr(fc7))
        return self.score(upscore, data)
