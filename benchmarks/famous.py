"""Famous nets as definitions, made by code: what everybody runs, with weights that keep activations in range.

Sources of the layouts: the papers' tables and BVLC Caffe's `models/`; speed depends on shapes alone. Batch is 1 in the
definition; any other goes in all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import torch

from converters.execution import CaffeNet
from converters.net import NetSpec

from .definition import Definition


def googlenet(side: int = 224) -> NetSpec:
    net = Definition("GoogLeNet", 3, side, side)
    x = net.conv("conv1", "data", 64, 7, stride=2, pad=3)
    x = net.lrn("norm1", net.pool("pool1", x, 3, 2))
    x = net.conv("conv2", net.conv("conv2_reduce", x, 64), 192, 3, pad=1)
    x = net.pool("pool2", net.lrn("norm2", x), 3, 2)
    for name, widths in {
        "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
    }.items():  # fmt: skip
        if name in ("4a", "5a"):
            x = net.pool(f"pool_{name}", x, 3, 2)
        one, reduce3, three, reduce5, five, pooled = widths
        parts = [
            net.conv(f"{name}_1x1", x, one),
            net.conv(f"{name}_3x3", net.conv(f"{name}_3x3_reduce", x, reduce3), three, 3, pad=1),
            net.conv(f"{name}_5x5", net.conv(f"{name}_5x5_reduce", x, reduce5), five, 5, pad=2),
            net.conv(f"{name}_proj", net.pool(f"{name}_pool", x, 3, 1, pad=1), pooled),
        ]
        x = net.layer("Concat", f"{name}_output", *parts)
    x = net.pool("pool5", x, 7, 1, method="AVE") if side == 224 else net.whole("pool5", x)
    x = net.layer("Dropout", "drop", x, top=x)
    net.layer("Softmax", "prob", net.inner("classifier", x, 1000))
    return net.spec()


def resnet50(side: int = 224) -> NetSpec:
    return _resnet("ResNet-50", (3, 4, 6, 3), side)


def _resnet(name: str, counts: tuple[int, ...], side: int, *, dilated: bool = False) -> NetSpec:
    """`dilated`: the last two stages keep their size, and there is no classifier."""
    net = Definition(name, 3, side, side)
    x = net.pool("pool1", net.norm(net.conv("conv1", "data", 64, 7, stride=2, pad=3, relu=False)), 3, 2)
    for stage, (blocks, width) in enumerate(zip(counts, (64, 128, 256, 512), strict=True), 2):
        dilation = 2 ** (stage - 3) if dilated and stage > 3 else 1
        for block in range(blocks):
            name, stride = f"res{stage}_{block}", 2 if block == 0 and stage > 2 and dilation == 1 else 1
            short = x
            if block == 0:
                short = net.conv(f"{name}_1", x, 4 * width, stride=stride, bias=False, relu=False)
                short = net.norm(short, relu=False)
            y = net.norm(net.conv(f"{name}_2a", x, width, stride=stride, bias=False, relu=False))
            y = net.conv(f"{name}_2b", y, width, 3, pad=dilation, dilation=dilation, bias=False, relu=False)
            y = net.norm(net.conv(f"{name}_2c", net.norm(y), 4 * width, bias=False, relu=False), relu=False)
            x = net.relu(net.layer("Eltwise", name, short, y))
    if not dilated:
        net.layer("Softmax", "prob", net.inner("fc1000", net.whole("pool5", x), 1000))
    return net.spec()


def mobilenet(side: int = 224) -> NetSpec:
    net = Definition("MobileNet", 3, side, side)
    x = net.norm(net.conv("conv1", "data", 32, 3, stride=2, pad=1, bias=False, relu=False))
    widths = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    channels = 32
    for i, (width, stride) in enumerate(widths, 2):
        x = net.conv(f"conv{i}_dw", x, channels, 3, stride=stride, pad=1, group=channels, bias=False, relu=False)
        x = net.norm(net.conv(f"conv{i}_sep", net.norm(x), width, bias=False, relu=False))
        channels = width
    net.layer("Softmax", "prob", net.conv("fc7", net.whole("pool6", x), 1000, relu=False))
    return net.spec()


def squeezenet(side: int = 227) -> NetSpec:
    net = Definition("SqueezeNet 1.1", 3, side, side)
    x = net.pool("pool1", net.conv("conv1", "data", 64, 3, stride=2), 3, 2)
    for i, (squeeze, expand) in enumerate(
        ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)), 2
    ):
        if i in (4, 6):
            x = net.pool(f"pool{i - 1}", x, 3, 2)
        y = net.conv(f"fire{i}_squeeze", x, squeeze)
        parts = net.conv(f"fire{i}_1x1", y, expand), net.conv(f"fire{i}_3x3", y, expand, 3, pad=1)
        x = net.layer("Concat", f"fire{i}_concat", *parts)
    x = net.layer("Dropout", "drop9", x, top=x)
    net.layer("Softmax", "prob", net.whole("pool10", net.conv("conv10", x, 1000)))
    return net.spec()


def alexnet(side: int = 227) -> NetSpec:
    net = Definition("AlexNet", 3, side, side)
    x = net.pool("pool1", net.lrn("norm1", net.conv("conv1", "data", 96, 11, stride=4)), 3, 2)
    x = net.pool("pool2", net.lrn("norm2", net.conv("conv2", x, 256, 5, pad=2, group=2)), 3, 2)
    x = net.conv("conv3", x, 384, 3, pad=1)
    x = net.conv("conv5", net.conv("conv4", x, 384, 3, pad=1, group=2), 256, 3, pad=1, group=2)
    x = net.inner("fc6", net.pool("pool5", x, 3, 2), 4096, relu=True)
    x = net.inner("fc7", net.layer("Dropout", "drop6", x, top=x), 4096, relu=True)
    net.layer("Softmax", "prob", net.inner("fc8", net.layer("Dropout", "drop7", x, top=x), 1000))
    return net.spec()


VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16(side: int = 224) -> NetSpec:
    net = Definition("VGG-16", 3, side, side)
    x = "data"
    for stage, (width, count) in enumerate(VGG16, 1):
        for i in range(1, count + 1):
            x = net.conv(f"conv{stage}_{i}", x, width, 3, pad=1)
        x = net.pool(f"pool{stage}", x, 2, 2)
    x = net.inner("fc6", x, 4096, relu=True)
    x = net.inner("fc7", net.layer("Dropout", "drop6", x, top=x), 4096, relu=True)
    net.layer("Softmax", "prob", net.inner("fc8", net.layer("Dropout", "drop7", x, top=x), 1000))
    return net.spec()


def hed(side: int = 500) -> NetSpec:
    """Holistically-nested edges: VGG's stages with a side output each, as published (a first padding of 35)."""
    net = Definition("HED", 3, side, side)
    x, sides = "data", []
    for stage, (width, count) in enumerate(VGG16, 1):
        for i in range(1, count + 1):
            x = net.conv(f"conv{stage}_{i}", x, width, 3, pad=35 if (stage, i) == (1, 1) else 1)
        score = net.conv(f"score-dsn{stage}", x, 1, relu=False)
        if stage > 1:
            kernel, stride = 2**stage, 2 ** (stage - 1)
            up = f"convolution_param {{ num_output: 1 kernel_size: {kernel} stride: {stride} }}"
            score = net.layer("Deconvolution", f"upsample_{stage}", score, params=up)
        cut = net.layer("Crop", f"crop{stage}", score, "data", params="crop_param { axis: 2 offset: 34 }")
        net.layer("Sigmoid", f"sigmoid-dsn{stage}", cut)
        sides.append(cut)
        if stage < 5:
            x = net.pool(f"pool{stage}", x, 2, 2)
    fused = net.conv("new-score-weighting", net.layer("Concat", "concat-upscore", *sides), 1, relu=False)
    net.layer("Sigmoid", "sigmoid-fuse", fused)
    return net.spec()


def segnet(h: int = 360, w: int = 480) -> NetSpec:
    """SegNet for CamVid: VGG-16's stages with batch norm, and as many that put values where maxima were."""
    net = Definition("SegNet", 3, h, w)
    x, sizes = "data", [(h, w)]
    for stage, (width, count) in enumerate(VGG16, 1):
        for i in range(1, count + 1):
            x = net.norm(net.conv(f"conv{stage}_{i}", x, width, 3, pad=1, relu=False))
        params = f'top: "pool{stage}_mask" pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }}'
        x = net.layer("Pooling", f"pool{stage}", x, params=params)
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    for stage, (width, count) in reversed(list(enumerate(VGG16, 1))):
        size = f"upsample_param {{ upsample_h: {sizes[stage - 1][0]} upsample_w: {sizes[stage - 1][1]} }}"
        x = net.layer("Upsample", f"upsample{stage}", x, f"pool{stage}_mask", params=size)
        for i in range(count, 0, -1):
            last = i == 1
            outputs = VGG16[max(stage - 2, 0)][0] if last and stage > 1 else 11 if last else width
            x = net.conv(f"conv{stage}_{i}_D", x, outputs, 3, pad=1, relu=False)
            x = net.norm(x) if (stage, i) != (1, 1) else x
    net.layer("Softmax", "prob", x)
    return net.spec()


def resnet101(side: int = 224) -> NetSpec:
    return _resnet("ResNet-101", (3, 4, 23, 3), side)


def densenet121(side: int = 224) -> NetSpec:
    """Every layer of a block reads all before it: norm and ReLU before each convolution."""
    net = Definition("DenseNet-121", 3, side, side)
    x = net.norm(net.conv("conv1", "data", 64, 7, stride=2, pad=3, bias=False, relu=False))
    x, channels = net.pool("pool1", x, 3, 2, pad=1), 64
    for block, count in enumerate((6, 12, 24, 16), 2):
        for i in range(1, count + 1):
            name = f"conv{block}_{i}"
            y = net.norm_of(f"{name}_x1", x)
            y = net.norm(net.conv(f"{name}_x1_conv", y, 128, bias=False, relu=False))
            y = net.conv(f"{name}_x2", y, 32, 3, pad=1, bias=False, relu=False)
            x, channels = net.layer("Concat", f"concat_{block}_{i}", x, y), channels + 32
        x = net.norm_of(f"conv{block}_blk", x)
        if block < 5:
            channels //= 2
            x = net.conv(f"conv{block}_blk_conv", x, channels, bias=False, relu=False)
            x = net.pool(f"pool{block}", x, 2, 2, method="AVE")
    net.layer("Softmax", "prob", net.conv("fc6", net.whole("pool5", x), 1000, relu=False))
    return net.spec()


def mobilenet_v2(side: int = 224) -> NetSpec:
    net = Definition("MobileNet v2", 3, side, side)
    x = net.norm(net.conv("conv1", "data", 32, 3, stride=2, pad=1, bias=False, relu=False))
    channels, number = 32, 0
    for factor, width, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(count):
            number += 1
            name, wide, step = f"block{number}", factor * channels, stride if i == 0 else 1
            y = net.norm(net.conv(f"{name}_expand", x, wide, bias=False, relu=False))
            y = net.conv(f"{name}_dwise", y, wide, 3, stride=step, pad=1, group=wide, bias=False, relu=False)
            y = net.norm(net.conv(f"{name}_2c", net.norm(y), width, bias=False, relu=False), relu=False)
            x = net.layer("Eltwise", f"{name}_sum", x, y) if step == 1 and channels == width else y
            channels = width
    x = net.norm(net.conv("conv6_4", x, 1280, bias=False, relu=False))
    net.layer("Softmax", "prob", net.conv("fc7", net.whole("pool6", x), 1000, relu=False))
    return net.spec()


def nin(side: int = 224) -> NetSpec:
    """Network in Network for ImageNet."""
    net = Definition("NiN", 3, side, side)
    x = "data"
    for i, (width, kernel, stride, pad) in enumerate(
        ((96, 11, 4, 0), (256, 5, 1, 2), (384, 3, 1, 1), (1024, 3, 1, 1)), 1
    ):
        x = net.conv(f"conv{i}", x, width, kernel, stride=stride, pad=pad)
        x = net.conv(f"cccp{2 * i - 1}", x, width)
        x = net.conv(f"cccp{2 * i}", x, 1000 if i == 4 else width)
        x = net.pool(f"pool{i}", x, 3, 2) if i < 4 else net.whole("pool4", x)
    net.layer("Softmax", "prob", x)
    return net.spec()


def openpose(h: int = 368, w: int = 368) -> NetSpec:
    """COCO's body: ten layers of VGG-19, and six stages of two branches, those from the second on of 7x7."""
    net = Definition("OpenPose", 3, h, w)
    x = "data"
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 4), (512, 2)), 1):
        for i in range(1, count + 1):
            x = net.conv(f"conv{stage}_{i}", x, width, 3, pad=1)
        x = net.pool(f"pool{stage}", x, 2, 2) if stage < 4 else x
    features = net.conv("conv4_4_CPM", net.conv("conv4_3_CPM", x, 256, 3, pad=1), 128, 3, pad=1)
    x = features
    for stage in range(1, 7):
        ends = []
        for branch, maps in ((1, 38), (2, 19)):
            y, kernel, count = x, 3 if stage == 1 else 7, 3 if stage == 1 else 5
            for i in range(1, count + 1):
                y = net.conv(f"stage{stage}_{i}_L{branch}", y, 128, kernel, pad=kernel // 2)
            y = net.conv(f"stage{stage}_{count + 1}_L{branch}", y, 512 if stage == 1 else 128)
            ends.append(net.conv(f"stage{stage}_{count + 2}_L{branch}", y, maps, relu=False))
        x = net.layer("Concat", f"concat_stage{stage + 1}", *ends, *([features] if stage < 6 else []))
    return net.spec()


def deeplab(side: int = 321) -> NetSpec:
    """DeepLab-LargeFOV: VGG-16 with pools of stride 1 and dilated convolutions behind them."""
    net = Definition("DeepLab-LargeFOV", 3, side, side)
    x = "data"
    for stage, (width, count) in enumerate(VGG16, 1):
        for i in range(1, count + 1):
            dilation = 2 if stage == 5 else 1
            x = net.conv(f"conv{stage}_{i}", x, width, 3, pad=dilation, dilation=dilation)
        x = net.pool(f"pool{stage}", x, 3, 2 if stage < 4 else 1, pad=1)
    x = net.pool("pool5a", x, 3, 1, pad=1, method="AVE")
    x = net.conv("fc7", net.conv("fc6", x, 1024, 3, pad=12, dilation=12), 1024)
    net.conv("fc8", x, 21, relu=False)
    return net.spec()


def ssd300() -> NetSpec:
    """SSD300's body and heads up to the boxes' numbers."""
    net = Definition("VGG-SSD300", 3, 300, 300)
    x, sources = "data", []
    for stage, (width, count) in enumerate(VGG16, 1):
        for i in range(1, count + 1):
            x = net.conv(f"conv{stage}_{i}", x, width, 3, pad=1)
        sources += [x] if stage == 4 else []
        x = net.pool(f"pool{stage}", x, 2, 2) if stage < 5 else net.pool("pool5", x, 3, 1, pad=1)
    x = net.conv("fc7", net.conv("fc6", x, 1024, 3, pad=6, dilation=6), 1024)
    sources.append(x)
    for i, (narrow, wide, stride, pad) in enumerate(
        ((256, 512, 2, 1), (128, 256, 2, 1), (128, 256, 1, 0), (128, 256, 1, 0)), 6
    ):
        x = net.conv(f"conv{i}_2", net.conv(f"conv{i}_1", x, narrow), wide, 3, stride=stride, pad=pad)
        sources.append(x)
    for i, (source, boxes) in enumerate(zip(sources, (4, 6, 6, 6, 4, 4), strict=True)):
        net.conv(f"loc{i}", source, 4 * boxes, 3, pad=1, relu=False)
        net.conv(f"conf{i}", source, 21 * boxes, 3, pad=1, relu=False)
    return net.spec()


def pspnet50(side: int = 233) -> NetSpec:
    """PSPNet's body up to the pyramid: a ResNet-50 whose last stages are dilated."""
    return _resnet("PSPNet-50 body", (3, 4, 6, 3), side, dilated=True)


NETS: Mapping[str, Callable[..., NetSpec]] = {
    "GoogLeNet": googlenet,
    "ResNet-50": resnet50,
    "MobileNet v1": mobilenet,
    "SqueezeNet 1.1": squeezenet,
    "AlexNet": alexnet,
    "VGG-16": vgg16,
    "HED": hed,
    "SegNet": segnet,
    "ResNet-101": resnet101,
    "DenseNet-121": densenet121,
    "MobileNet v2": mobilenet_v2,
    "NiN": nin,
    "OpenPose": openpose,
    "DeepLab-LargeFOV": deeplab,
    "VGG-SSD300": ssd300,
    "PSPNet-50 body": pspnet50,
}


@cache
def seeded(name: str, *size: int) -> CaffeNet:
    """The net called `name` with the same weights on every machine: activations keep their size from layer to layer.

    `size`: the side of its images, or their height and width, where they are not to be the published ones.
    """
    net = CaffeNet(NETS[name](*size)).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for key, blob in net.state_dict().items():
        layer = net.spec.layer(key.rpartition(".")[0])
        if layer.type == "Deconvolution" or blob.ndim == 0:
            blob.copy_(torch.rand(blob.shape, generator=generator) / 4)
        elif blob.ndim > 1:
            fan = math.prod(blob.shape[1:])
            blob.copy_(torch.randn(blob.shape, generator=generator) * math.sqrt(2 / fan))
        elif layer.type == "BatchNorm":
            blob.copy_(_statistics(key, blob, generator))
        elif layer.type == "Scale" and key.endswith("weight"):
            # the branch that ResNet adds at the end of a block is small beside what it is added to
            blob.copy_((0.75 + 0.5 * torch.rand(blob.shape, generator=generator)) / (4 if "2c" in key else 1))
        else:
            blob.copy_(torch.randn(blob.shape, generator=generator) / 10)
    return net


def _statistics(key: str, blob: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Means near 0, variances near 1, and 1 by which both are divided."""
    if key.endswith("weight"):
        return torch.randn(blob.shape, generator=generator) / 10
    return torch.ones(1) if len(blob) == 1 else 0.5 + torch.rand(blob.shape, generator=generator)


def example(net: CaffeNet, *, batch: int = 1) -> torch.Tensor:
    """Noise."""
    (shape,) = net.inputs.values()
    return torch.randn(batch, *shape[1:], generator=torch.Generator().manual_seed(1))
