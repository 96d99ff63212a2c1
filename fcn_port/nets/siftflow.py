"""The SIFT Flow nets: two scores from one trunk, of 33 semantic and of 3 geometric classes (PAMI 2016, section 5.4).

Each head is that of FCN-32s, 16s or 8s again, with its own weights; nothing is shared behind fc7 and the pools.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from converters.net import Shape

from .parts import BilinearUpsample, Conv, CropLike, Sum
from .vgg16 import VGG16, Widths, widths_of


class SiftFlow(VGG16):
    """The base of the three nets: `num_classes` is {"sem": 33, "geo": 3}, and so is the output, score by score."""

    @classmethod
    def settings_of(cls, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        num_classes = {head: shapes[f"score_fr_{head}.weight"][0] for head in ("sem", "geo")}
        return {"num_classes": num_classes, "widths": widths_of(shapes)}


class SiftFlowFCN32s(SiftFlow):
    """`score_sem` and `score_geo`, each (n, classes, h, w), of images (n, 3, h, w) of any size, BGR less the mean."""

    def __init__(self, num_classes: Mapping[str, int], *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__(widths=widths)
        sem, geo = num_classes["sem"], num_classes["geo"]

        self.score_fr_sem = Conv(widths.fc7, sem, 1)
        self.upscore_sem = BilinearUpsample(sem, factor=32)
        self.score_sem = CropLike(19)

        self.score_fr_geo = Conv(widths.fc7, geo, 1)
        self.upscore_geo = BilinearUpsample(geo, factor=32)
        self.score_geo = CropLike(19)

    def forward(self, data: Tensor) -> dict[str, Tensor]:
        _, _, fc7 = self.features(data)

        upscore_sem = self.upscore_sem(self.score_fr_sem(fc7))
        score_sem = self.score_sem(upscore_sem, data)

        upscore_geo = self.upscore_geo(self.score_fr_geo(fc7))
        score_geo = self.score_geo(upscore_geo, data)
        return {"score_sem": score_sem, "score_geo": score_geo}


class SiftFlowFCN16s(SiftFlow):
    """`score_sem` and `score_geo`, each (n, classes, h, w), of images (n, 3, h, w) of any size, BGR less the mean."""

    def __init__(self, num_classes: Mapping[str, int], *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__(widths=widths)
        sem, geo = num_classes["sem"], num_classes["geo"]

        self.score_fr_sem = Conv(widths.fc7, sem, 1)
        self.upscore2_sem = BilinearUpsample(sem, factor=2)
        self.score_pool4_sem = Conv(widths.conv4, sem, 1)
        self.score_pool4_semc = CropLike(5)
        self.fuse_pool4_sem = Sum()
        self.upscore16_sem = BilinearUpsample(sem, factor=16)
        self.score_sem = CropLike(27)

        self.score_fr_geo = Conv(widths.fc7, geo, 1)
        self.upscore2_geo = BilinearUpsample(geo, factor=2)
        self.score_pool4_geo = Conv(widths.conv4, geo, 1)
        self.score_pool4_geoc = CropLike(5)
        self.fuse_pool4_geo = Sum()
        self.upscore16_geo = BilinearUpsample(geo, factor=16)
        self.score_geo = CropLike(27)

    def forward(self, data: Tensor) -> dict[str, Tensor]:
        _, pool4, fc7 = self.features(data)

        upscore2_sem = self.upscore2_sem(self.score_fr_sem(fc7))
        score_pool4_semc = self.score_pool4_semc(self.score_pool4_sem(pool4), upscore2_sem)
        fuse_pool4_sem = self.fuse_pool4_sem(upscore2_sem, score_pool4_semc)
        score_sem = self.score_sem(self.upscore16_sem(fuse_pool4_sem), data)

        upscore2_geo = self.upscore2_geo(self.score_fr_geo(fc7))
        score_pool4_geoc = self.score_pool4_geoc(self.score_pool4_geo(pool4), upscore2_geo)
        fuse_pool4_geo = self.fuse_pool4_geo(upscore2_geo, score_pool4_geoc)
        score_geo = self.score_geo(self.upscore16_geo(fuse_pool4_geo), data)
        return {"score_sem": score_sem, "score_geo": score_geo}


class SiftFlowFCN8s(SiftFlow):
    """`score_sem` and `score_geo`, each (n, classes, h, w), of images (n, 3, h, w) of any size, BGR less the mean."""

    def __init__(self, num_classes: Mapping[str, int], *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__(widths=widths)
        sem, geo = num_classes["sem"], num_classes["geo"]

        self.score_fr_sem = Conv(widths.fc7, sem, 1)
        self.upscore2_sem = BilinearUpsample(sem, factor=2)
        self.score_pool4_sem = Conv(widths.conv4, sem, 1)
        self.score_pool4_semc = CropLike(5)
        self.fuse_pool4_sem = Sum()
        self.upscore_pool4_sem = BilinearUpsample(sem, factor=2)
        self.score_pool3_sem = Conv(widths.conv3, sem, 1)
        self.score_pool3_semc = CropLike(9)
        self.fuse_pool3_sem = Sum()
        self.upscore8_sem = BilinearUpsample(sem, factor=8)
        self.score_sem = CropLike(31)

        self.score_fr_geo = Conv(widths.fc7, geo, 1)
        self.upscore2_geo = BilinearUpsample(geo, factor=2)
        self.score_pool4_geo = Conv(widths.conv4, geo, 1)
        self.score_pool4_geoc = CropLike(5)
        self.fuse_pool4_geo = Sum()
        self.upscore_pool4_geo = BilinearUpsample(geo, factor=2)
        self.score_pool3_geo = Conv(widths.conv3, geo, 1)
        self.score_pool3_geoc = CropLike(9)
        self.fuse_pool3_geo = Sum()
        self.upscore8_geo = BilinearUpsample(geo, factor=8)
        self.score_geo = CropLike(31)

    def forward(self, data: Tensor) -> dict[str, Tensor]:
        pool3, pool4, fc7 = self.features(data)

        upscore2_sem = self.upscore2_sem(self.score_fr_sem(fc7))
        score_pool4_semc = self.score_pool4_semc(self.score_pool4_sem(pool4), upscore2_sem)
        upscore_pool4_sem = self.upscore_pool4_sem(self.fuse_pool4_sem(upscore2_sem, score_pool4_semc))
        score_pool3_semc = self.score_pool3_semc(self.score_pool3_sem(pool3), upscore_pool4_sem)
        fuse_pool3_sem = self.fuse_pool3_sem(upscore_pool4_sem, score_pool3_semc)
        score_sem = self.score_sem(self.upscore8_sem(fuse_pool3_sem), data)

        upscore2_geo = self.upscore2_geo(self.score_fr_geo(fc7))
        score_pool4_geoc = self.score_pool4_geoc(self.score_pool4_geo(pool4), upscore2_geo)
        upscore_pool4_geo = self.upscore_pool4_geo(self.fuse_pool4_geo(upscore2_geo, score_pool4_geoc))
        score_pool3_geoc = self.score_pool3_geoc(self.score_pool3_geo(pool3), upscore_pool4_geo)
        fuse_pool3_geo = self.fuse_pool3_geo(upscore_pool4_geo, score_pool3_geoc)
        score_geo = self.score_geo(self.upscore8_geo(fuse_pool3_geo), data)
        return {"score_sem": score_sem, "score_geo": score_geo}
