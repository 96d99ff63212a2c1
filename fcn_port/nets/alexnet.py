"""FCN-AlexNet: CaffeNet made fully convolutional (CVPR 2015, section 4.1, the smallest of the three nets).

The net is Krizhevsky et al.'s (NIPS 2012) in Caffe's order: pooling comes before normalization. conv2, conv4 and conv5
have two groups, once for two GPUs.

The crop offset is 18. conv1 (kernel 11, stride 4, pad 100), three poolings (3, 2) and fc6 (kernel 6) put pixel x of
the image at x/32 - 13/32 of the scores; the deconvolution (kernel 63, stride 32) puts that at x + 18. With a kernel of
64 it would be 18.5, and no crop could undo it: hence 63.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from converters.net import Shape

from .fcn import FCN
from .parts import BilinearUpsample, Conv, CropLike, ResponseNorm, max_pool
from .vgg16 import Widths

CAFFENET = Widths(conv1=96, conv2=256, conv3=384, conv4=384, conv5=256, fc6=4096, fc7=4096)


class FCNAlexNet(FCN):
    """Scores (n, num_classes, h, w) of images (n, 3, h, w) of any size, BGR less the mean."""

    plain_rates = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")

    def __init__(self, num_classes: int, *, widths: Widths = CAFFENET) -> None:
        super().__init__()
        w = widths

        self.conv1 = Conv(3, w.conv1, 11, stride=4, padding=100)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = max_pool(3)
        self.norm1 = ResponseNorm()

        self.conv2 = Conv(w.conv1, w.conv2, 5, padding=2, groups=2)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool2 = max_pool(3)
        self.norm2 = ResponseNorm()

        self.conv3 = Conv(w.conv2, w.conv3, 3, padding=1)
        self.relu3 = nn.ReLU(inplace=True)
        self.conv4 = Conv(w.conv3, w.conv4, 3, padding=1, groups=2)
        self.relu4 = nn.ReLU(inplace=True)
        self.conv5 = Conv(w.conv4, w.conv5, 3, padding=1, groups=2)
        self.relu5 = nn.ReLU(inplace=True)
        self.pool5 = max_pool(3)

        self.fc6 = Conv(w.conv5, w.fc6, 6)
        self.relu6 = nn.ReLU(inplace=True)
        self.drop6 = nn.Dropout(0.5)
        self.fc7 = Conv(w.fc6, w.fc7, 1)
        self.relu7 = nn.ReLU(inplace=True)
        self.drop7 = nn.Dropout(0.5)

        self.score_fr = Conv(w.fc7, num_classes, 1)
        self.upscore = BilinearUpsample(num_classes, factor=32, kernel_size=63)
        self.score = CropLike(18)

    @classmethod
    def settings_of(cls, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
        widths = Widths(*(shapes[f"{layer}.weight"][0] for layer in layers))
        return {"num_classes": shapes["score_fr.weight"][0], "widths": widths}

    def forward(self, data: Tensor) -> Tensor:
        x = self.norm1(self.pool1(self.relu1(self.conv1(data))))
        x = self.norm2(self.pool2(self.relu2(self.conv2(x))))

        x = self.relu3(self.conv3(x))
        x = self.relu4(self.conv4(x))
        x = self.relu5(self.conv5(x))
        x = self.pool5(x)

        x = self.drop6(self.relu6(self.fc6(x)))
        x = self.drop7(self.relu7(self.fc7(x)))

        upscore = self.upscore(self.score_fr(x))
        return self.score(upscore, data)
