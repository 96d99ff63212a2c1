"""VGG-16 as FCN uses it: fully convolutional, with a padding of 100 around the image.

The five stages are Simonyan and Zisserman's (arXiv:1409.1556, configuration D). fc6 and fc7 are the same weights as
in the classifier, as convolutions (CVPR 2015, section 3.1). fc6 is 7x7 on a map of 1/32 of the image, so without more
padding an image smaller than about 192 pixels would leave nothing; the release pads conv1_1 by 100 pixels on each side,
which makes a net for every size, down to a single pixel, and is what the crop offsets later undo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from converters.net import Shape

from .fcn import FCN
from .parts import Conv, max_pool


class Widths(NamedTuple):
    """Channels of the five stages and of fc6 and fc7; VGG-16's own unless a small net is wanted."""

    conv1: int = 64
    conv2: int = 128
    conv3: int = 256
    conv4: int = 512
    conv5: int = 512
    fc6: int = 4096
    fc7: int = 4096


def widths_of(shapes: Mapping[str, Shape], *, first: str = "conv1_1", suffix: str = "") -> Widths:
    """The widths of weights of these shapes; in some nets the first layer has another name, or all have a suffix."""
    layers = (first, "conv2_1", "conv3_1", "conv4_1", "conv5_1", "fc6", "fc7")
    return Widths(*(shapes[f"{layer}{suffix}.weight"][0] for layer in layers))


class VGG16(FCN):
    """The trunk of the VGG-based nets, up to fc7. `features` gives what the FCNs score."""

    def __init__(self, *, widths: Widths = Widths()) -> None:  # noqa: B008
        super().__init__()
        w = widths

        self.conv1_1 = Conv(3, w.conv1, 3, padding=100)
        self.relu1_1 = nn.ReLU(inplace=True)
        self.conv1_2 = Conv(w.conv1, w.conv1, 3, padding=1)
        self.relu1_2 = nn.ReLU(inplace=True)
        self.pool1 = max_pool()

        self.conv2_1 = Conv(w.conv1, w.conv2, 3, padding=1)
        self.relu2_1 = nn.ReLU(inplace=True)
        self.conv2_2 = Conv(w.conv2, w.conv2, 3, padding=1)
        self.relu2_2 = nn.ReLU(inplace=True)
        self.pool2 = max_pool()

        self.conv3_1 = Conv(w.conv2, w.conv3, 3, padding=1)
        self.relu3_1 = nn.ReLU(inplace=True)
        self.conv3_2 = Conv(w.conv3, w.conv3, 3, padding=1)
        self.relu3_2 = nn.ReLU(inplace=True)
        self.conv3_3 = Conv(w.conv3, w.conv3, 3, padding=1)
        self.relu3_3 = nn.ReLU(inplace=True)
        self.pool3 = max_pool()

        self.conv4_1 = Conv(w.conv3, w.conv4, 3, padding=1)
        self.relu4_1 = nn.ReLU(inplace=True)
        self.conv4_2 = Conv(w.conv4, w.conv4, 3, padding=1)
        self.relu4_2 = nn.ReLU(inplace=True)
        self.conv4_3 = Conv(w.conv4, w.conv4, 3, padding=1)
        self.relu4_3 = nn.ReLU(inplace=True)
        self.pool4 = max_pool()

        self.conv5_1 = Conv(w.conv4, w.conv5, 3, padding=1)
        self.relu5_1 = nn.ReLU(inplace=True)
        self.conv5_2 = Conv(w.conv5, w.conv5, 3, padding=1)
        self.relu5_2 = nn.ReLU(inplace=True)
        self.conv5_3 = Conv(w.conv5, w.conv5, 3, padding=1)
        self.relu5_3 = nn.ReLU(inplace=True)
        self.pool5 = max_pool()

        self.fc6 = Conv(w.conv5, w.fc6, 7)
        self.relu6 = nn.ReLU(inplace=True)
        self.drop6 = nn.Dropout(0.5)
        self.fc7 = Conv(w.fc6, w.fc7, 1)
        self.relu7 = nn.ReLU(inplace=True)
        self.drop7 = nn.Dropout(0.5)

    @classmethod
    def settings_of(cls, shapes: Mapping[str, Shape]) -> dict[str, Any]:
        return {"num_classes": shapes["score_fr.weight"][0], "widths": widths_of(shapes)}

    def features(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """pool3, pool4 and fc7 (1/8, 1/16 and 1/32 of the padded image) of `data` (n, 3, h, w), BGR less the mean."""
        x = self.relu1_1(self.conv1_1(data))
        x = self.relu1_2(self.conv1_2(x))
        x = self.pool1(x)

        x = self.relu2_1(self.conv2_1(x))
        x = self.relu2_2(self.conv2_2(x))
        x = self.pool2(x)

        x = self.relu3_1(self.conv3_1(x))
        x = self.relu3_2(self.conv3_2(x))
        x = self.relu3_3(self.conv3_3(x))
        pool3 = self.pool3(x)

        x = self.relu4_1(self.conv4_1(pool3))
        x = self.relu4_2(self.conv4_2(x))
        x = self.relu4_3(self.conv4_3(x))
        pool4 = self.pool4(x)

        x = self.relu5_1(self.conv5_1(pool4))
        x = self.relu5_2(self.conv5_2(x))
        x = self.relu5_3(self.conv5_3(x))
        x = self.pool5(x)

        x = self.drop6(self.relu6(self.fc6(x)))
        fc7 = self.drop7(self.relu7(self.fc7(x)))
        return pool3, pool4, fc7
