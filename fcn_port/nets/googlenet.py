"""FCN-GoogLeNet: GoogLeNet made fully convolutional (CVPR 2015, section 4.1), which was described but not released.

The net is Szegedy et al.'s (arXiv:1409.4842) with the names of BVLC's release, so that its weights fit. As the paper
says, the final average pooling and the classifier are discarded, and so are the two auxiliary ones; scores follow the
last inception, and are upsampled by 32. There is no fc6 to leave room for, and no padding of 100.

The crop offset is 2. conv1 and four poolings put pixel x of the image at x/32 - 30/32 of the scores, the deconvolution
(kernel 64, stride 32) puts that at x + 1.5. No whole offset is exact: 1 and 2 are both half a pixel off, and 2 is
what rounding gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from converters.net import Shape

from ..errors import ImageError
from .fcn import FCN
from .parts import BilinearUpsample, ConcatChannels, Conv, CropLike, ResponseNorm, max_pool


class Inception(NamedTuple):
    """Channels of the convolutions of one inception: what its four branches put out, and what two of them reduce to."""

    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    pool_proj: int

    @property
    def output(self) -> int:
        return self.conv1x1 + self.conv3x3 + self.conv5x5 + self.pool_proj


INCEPTIONS = {
    "3a": Inception(64, 96, 128, 16, 32, 32),
    "3b": Inception(128, 128, 192, 32, 96, 64),
    "4a": Inception(192, 96, 208, 16, 48, 64),
    "4b": Inception(160, 112, 224, 24, 64, 64),
    "4c": Inception(128, 128, 256, 24, 64, 64),
    "4d": Inception(112, 144, 288, 32, 64, 64),
    "4e": Inception(256, 160, 320, 32, 128, 128),
    "5a": Inception(256, 160, 320, 32, 128, 128),
    "5b": Inception(384, 192, 384, 48, 128, 128),
}
"""Table 1 of the GoogLeNet paper."""


class FCNGoogLeNet(FCN):
    """Scores (n, num_classes, h, w) of images (n, 3, h, w) from 31 pixels a side, BGR less the mean.

    Of a smaller image the poolings leave nothing, and it is refused (ImageError). Caffe goes on with empty blobs there
    and gives scores of the right size that come from no pixel.
    """

    smallest: ClassVar[int] = 31

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_module("conv1/7x7_s2", Conv(3, 64, 7, stride=2, padding=3))
        self.add_module("conv1/relu_7x7", nn.ReLU(inplace=True))
        self.add_module("pool1/3x3_s2", max_pool(3))
        self.add_module("pool1/norm1", ResponseNorm())

        self.add_module("conv2/3x3_reduce", Conv(64, 64, 1))
        self.add_module("conv2/relu_3x3_reduce", nn.ReLU(inplace=True))
        self.add_module("conv2/3x3", Conv(64, 192, 3, padding=1))
        self.add_module("conv2/relu_3x3", nn.ReLU(inplace=True))
        self.add_module("conv2/norm2", ResponseNorm())
        self.add_module("pool2/3x3_s2", max_pool(3))

        channels = self.add_inception("3a", 192)
        channels = self.add_inception("3b", channels)
        self.add_module("pool3/3x3_s2", max_pool(3))

        channels = self.add_inception("4a", channels)
        channels = self.add_inception("4b", channels)
        channels = self.add_inception("4c", channels)
        channels = self.add_inception("4d", channels)
        channels = self.add_inception("4e", channels)
        self.add_module("pool4/3x3_s2", max_pool(3))

        channels = self.add_inception("5a", channels)
        channels = self.add_inception("5b", channels)
        self.add_module("pool5/drop_7x7_s1", nn.Dropout(0.4))

        self.score_fr = Conv(channels, num_classes, 1)
        self.upscore = BilinearUpsample(num_classes, factor=32)
        self.score = CropLike(2)

    def add_inception(self, name: str, channels: int) -> int:
        """Add the layers of `inception_<name>`, which reads so many channels; returns how many it puts out."""
        size = INCEPTIONS[name]
        layers: dict[str, nn.Module] = {
            "1x1": Conv(channels, size.conv1x1, 1),
            "relu_1x1": nn.ReLU(inplace=True),
            "3x3_reduce": Conv(channels, size.reduce3x3, 1),
            "relu_3x3_reduce": nn.ReLU(inplace=True),
            "3x3": Conv(size.reduce3x3, size.conv3x3, 3, padding=1),
            "relu_3x3": nn.ReLU(inplace=True),
            "5x5_reduce": Conv(channels, size.reduce5x5, 1),
            "relu_5x5_reduce": nn.ReLU(inplace=True),
            "5x5": Conv(size.reduce5x5, size.conv5x5, 5, padding=2),
            "relu_5x5": nn.ReLU(inplace=True),
            "pool": max_pool(3, stride=1, padding=1),
            "pool_proj": Conv(channels, size.pool_proj, 1),
            "relu_pool_proj": nn.ReLU(inplace=True),
            "output": ConcatChannels(),
        }
        for layer, module in layers.items():
            self.add_module(f"inception_{name}/{layer}", module)
        return size.output

    @classmethod
    def settings_of(cls, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        return {"num_classes": shapes["score_fr.weight"][0]}

    def forward(self, data: Tensor) -> Tensor:
        if min(data.shape[-2:]) < self.smallest:
            h, w = data.shape[-2:]
            raise ImageError(f"{h} x {w} pixels; FCN-GoogLeNet takes {self.smallest} or more a side")
        x = self.chain(data, "conv1/7x7_s2", "conv1/relu_7x7", "pool1/3x3_s2", "pool1/norm1")
        x = self.chain(x, "conv2/3x3_reduce", "conv2/relu_3x3_reduce", "conv2/3x3", "conv2/relu_3x3", "conv2/norm2")
        x = self.chain(x, "pool2/3x3_s2")

        x = self.inception("3a", x)
        x = self.inception("3b", x)
        x = self.chain(x, "pool3/3x3_s2")

        x = self.inception("4a", x)
        x = self.inception("4b", x)
        x = self.inception("4c", x)
        x = self.inception("4d", x)
        x = self.inception("4e", x)
        x = self.chain(x, "pool4/3x3_s2")

        x = self.inception("5a", x)
        x = self.inception("5b", x)
        x = self.chain(x, "pool5/drop_7x7_s1")

        upscore = self.upscore(self.score_fr(x))
        return self.score(upscore, data)

    def inception(self, name: str, x: Tensor) -> Tensor:
        """Four branches on the same map, and their channels one after the other."""
        at = f"inception_{name}/"
        conv1x1 = self.chain(x, at + "1x1", at + "relu_1x1")
        conv3x3 = self.chain(x, at + "3x3_reduce", at + "relu_3x3_reduce", at + "3x3", at + "relu_3x3")
        conv5x5 = self.chain(x, at + "5x5_reduce", at + "relu_5x5_reduce", at + "5x5", at + "relu_5x5")
        pooled = self.chain(x, at + "pool", at + "pool_proj", at + "relu_pool_proj")
        output: Tensor = getattr(self, at + "output")(conv1x1, conv3x3, conv5x5, pooled)
        return output

    def chain(self, x: Tensor, *layers: str) -> Tensor:
        """Run layers one after the other; a name with a slash cannot be written as an attribute."""
        for layer in layers:
            x = getattr(self, layer)(x)
        return x
