"""Other ways to get from coarse scores to one for each pixel, and why FCN upsamples as it does.

A net that has subsampled by f gives one score for every f x f pixels. `with_upsampling` makes an FCN do any of these:

learned            The transposed convolution of the release: its kernel is a weight that can be trained, and it begins
                   as bilinear interpolation. Upsampling by f is convolution with stride 1/f, so it is a layer like
                   any other, trained with the net, and costs next to nothing. This is what the paper chose.
bilinear           The same with the kernel fixed, each class by itself. The release does so too in effect (lr_mult 0);
                   here zeros between classes are not multiplied, which is as many times less work as there are classes.
nearest            Every pixel takes the nearest score: the kernel is a box. Blocks, with edges where no object has any.
bed-of-nails       Every score goes to one pixel and the others are zero: the kernel is a single one. Layers behind it
                   must fill the holes; an FCN has none there, so that nearly every pixel stays without a score.
max-unpooling      Every score goes to where the pooling below found its maximum, which the pooling remembers. Edges are
                   better placed than on a bed of nails, and there are as many holes, which DeconvNet and SegNet fill
                   with learned layers. Their decoders have the features' channels; scores have the classes' instead,
                   so that here the place is that of the largest mean over all features.
shift-and-stitch   No interpolation: the net runs f x f times, on the image shifted by every offset, and the scores are
                   interlaced. It takes f^2 times the work, and each score still sees as coarse a picture as before.
dilation           The same scores in one pass: leave out the strides, and rarefy every later filter by as much, with
                   holes between its weights (the a trous algorithm). Maps stay as large as the image all the way up,
                   which takes far more memory and work than upsampling coarse scores.

Shift-and-stitch and dilation are the same function (CVPR 2015, section 3.2), which a test holds. The paper tried the
first in preliminary experiments and found upsampling inside the net (section 3.3), with skips, more effective and
efficient: no upsampling brings back what pooling has thrown away, and the skips do.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, max_pool2d, one_hot, pad

from converters.layers import bilinear_kernel
from converters.net import NetSpec, Shape

from .fcn import FCN
from .net import Net
from .parts import BilinearUpsample, CropLike
from .record import NotCaffes, calls_of

METHODS = ("learned", "bilinear", "nearest", "bed-of-nails", "max-unpooling", "shift-and-stitch", "dilation")


def with_upsampling(net: FCN, method: str) -> Net:
    """The same net, but it upsamples by `method`, one of METHODS; the weights are shared, and `net` stays as it is.

    The call and the sizes are the net's own, and every score is where the release puts it, to half a pixel for
    bed-of-nails, shift-and-stitch and dilation: an even kernel has no middle. shift-and-stitch leaves upsampling in
    front of skips as it is, and takes the place of the last one. Where a score sees beyond the padded image, it and
    dilation differ, because each pass has its own border.

    Raises ValueError for an unknown method, and where a net does not have what it takes: max-unpooling undoes VGG-16's
    poolings, dilation wants a net that upsamples once.
    """
    if not isinstance(net, FCN):
        raise ValueError(f"{type(net).__name__} is not one of the hand-written FCNs")
    if method not in METHODS:
        raise ValueError(f"there is no upsampling '{method}'; there are {', '.join(METHODS)}")
    if method == "learned":
        return _changed(net, {})
    if method == "shift-and-stitch":
        return ShiftAndStitch(net)
    if method == "dilation":
        return Dilated(net)
    if method == "max-unpooling":
        return _with_max_unpooling(net)
    return _changed(net, {name: FixedKernel(method, module) for name, module in _upsamplings(net)})


def _upsamplings(net: nn.Module) -> Iterator[tuple[str, BilinearUpsample]]:
    return ((name, module) for name, module in net.named_children() if isinstance(module, BilinearUpsample))


def _changed(net: FCN, layers: dict[str, nn.Module]) -> FCN:
    """A net that shares everything with `net` but these layers."""
    other = copy.copy(net)
    other._modules = {**net._modules, **layers}
    return other


# One deconvolution, three kernels


class FixedKernel(nn.Module):
    """Upsampling of each class by itself by convolution with stride 1 / factor, with a kernel that is not a weight.

    It stands for `layer`, an Upsample, whose factor and size it takes: (n, c, h, w) becomes f (h - 1) + k high.
    """

    kernel: Tensor

    def __init__(self, method: str, layer: BilinearUpsample) -> None:
        super().__init__()
        self.method, self.factor = method, layer.stride[0]
        kernel = _KERNELS[method](layer.kernel_size[0], self.factor)
        self.register_buffer("kernel", kernel.to(layer.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        weight = self.kernel.expand(channels, 1, *self.kernel.shape)
        return conv_transpose2d(x, weight, stride=self.factor, groups=channels)

    def extra_repr(self) -> str:
        return f"{self.method}, factor={self.factor}"


def _bilinear(size: int, factor: int) -> Tensor:
    return torch.from_numpy(bilinear_kernel(size))


def _box(size: int, factor: int) -> Tensor:
    inside = torch.zeros(size)
    inside[(size - factor) // 2 :][:factor] = 1
    return torch.outer(inside, inside)


def _nail(size: int, factor: int) -> Tensor:
    kernel = torch.zeros(size, size)
    kernel[(size - 1) // 2, (size - 1) // 2] = 1
    return kernel


_KERNELS: dict[str, Callable[[int, int], Tensor]] = {"bilinear": _bilinear, "nearest": _box, "bed-of-nails": _nail}
"""The kernels (size, size) for a factor."""


# Max unpooling


class PoolWithPlaces(nn.MaxPool2d):
    """2x2 max pooling that also keeps, for each window, the row and column (n, 1, h, w) of its strongest place.

    `places` are those of this thread's last pass.
    """

    def __init__(self, *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        self._last = _PerThread()

    @property
    def places(self) -> tuple[Tensor, Tensor]:
        return self._last.places

    def forward(self, x: Tensor) -> Tensor:
        _, index = max_pool2d(x.mean(1, keepdim=True), 2, stride=2, ceil_mode=True, return_indices=True)
        self._last.places = index // x.shape[3] % 2, index % x.shape[3] % 2  # windows begin at even rows and columns
        output: Tensor = super().forward(x)
        return output


class _PerThread(threading.local):
    """The places that a pooling tells the unpoolings of the same pass. A copy is empty."""

    places: tuple[Tensor, Tensor]

    def __reduce__(self) -> tuple[Any, ...]:
        return _PerThread, ()


class MaxUnpool(nn.Module):
    """Each score, poolings upwards, at the place where the pooling found its maximum; zeros elsewhere.

    `pools` are those to undo, the last one first; the scores' pixel 0 lies on pixel `offset` of what the first of them
    puts out. The result is as large as that of the deconvolution that it stands for.
    """

    def __init__(self, *pools: PoolWithPlaces, offset: int) -> None:
        super().__init__()
        self._pools = pools  # a tuple, so that they stay layers of the net alone
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        offset = self.offset
        for pool in self._pools:
            h, w = x.shape[-2:]
            row, column = (p[..., offset : offset + h, offset : offset + w] for p in pool.places)
            where = one_hot(row, 2)[..., :, None] * one_hot(column, 2)[..., None, :]  # (n, 1, h, w, 2, 2)
            spread = x[..., None, None] * where
            x = spread.transpose(-3, -2).flatten(-2).flatten(-3, -2)  # (n, c, h, 2, w, 2) -> (n, c, 2 h, 2 w)
            offset *= 2
        margin = 2 ** len(self._pools) // 2
        return pad(x, (margin,) * 4)

    def extra_repr(self) -> str:
        return f"{len(self._pools)} poolings, offset={self.offset}"


_UNPOOLED = {
    "upscore": (("pool5", "pool4", "pool3", "pool2", "pool1"), 3),
    "upscore2": (("pool5",), 3),
    "upscore16": (("pool4", "pool3", "pool2", "pool1"), 5),
    "upscore_pool4": (("pool4",), 5),
    "upscore8": (("pool3", "pool2", "pool1"), 9),
}
"""The poolings of VGG-16 that each upsampling undoes, and where its scores lie: fc6 sees 3 pixels of pool5 to each side
of a score, and the others are where the skips are cropped."""


def _with_max_unpooling(net: FCN) -> FCN:
    children = dict(net.named_children())
    if "pool4" not in children or "conv5_3" not in children:
        raise ValueError(f"max-unpooling undoes VGG-16's poolings, which {type(net).__name__} does not have, or twice")
    pools = {f"pool{stage}": PoolWithPlaces(2, stride=2, ceil_mode=True) for stage in range(1, 6)}
    layers: dict[str, nn.Module] = dict(pools)
    for name, _ in _upsamplings(net):
        undone, offset = _UNPOOLED[name.removesuffix("_sem").removesuffix("_geo")]
        layers[name] = MaxUnpool(*(pools[pool] for pool in undone), offset=offset)
    return _changed(net, layers)


# Dense prediction without upsampling


class Dense(Net):
    """Base of what computes a score at every pixel: `net` without its last upsampling, and where to crop the result.

    Inputs, outputs and card are those of `net`. There is no definition: no net of Caffe's computes this.
    """

    method: ClassVar[str]

    def __init__(self, net: FCN, coarse: FCN) -> None:
        super().__init__()
        self.coarse = coarse
        self.card, self._outputs = net.card, net.outputs
        last = [module for _, module in _upsamplings(net) if module.stride[0] > 2]
        self.factor = last[0].stride[0]
        self.offset: int = getattr(net, _last_crops(net)[0]).offset
        self.train(net.training)

    @property
    def spec(self) -> NetSpec:
        hint = "the net that was given to with_upsampling is still there, and has one"
        raise NotCaffes(f"a net that upsamples by {self.method} has no definition that Caffe could read", hint=hint)

    @property
    def inputs(self) -> Mapping[str, Shape]:
        return self.coarse.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        return self._outputs

    def forward(self, /, *images: Tensor, **named: Tensor) -> Any:
        scores = self.scores(self._named(images, named))
        return scores if len(scores) > 1 else scores[self.outputs[0]]

    def blobs(self, /, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        images = self._named(inputs, named)
        return {**images, **self.scores(images)}

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        coarse = self.coarse.shapes(inputs)
        image = next(iter(inputs.values()))
        return {**inputs, **{name: (*coarse[name][:2], *image[2:]) for name in self.outputs}}

    def scores(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs by name, for inputs by name."""
        return {head: self._crop(dense, images) for head, dense in self.dense(images).items()}

    def dense(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The outputs before they are cropped: their pixel `offset` lies on the image's pixel 0."""
        raise NotImplementedError

    def _named(self, images: Sequence[Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**dict(zip(self.inputs, images, strict=False)), **named}

    def _crop(self, dense: Tensor, images: Mapping[str, Tensor]) -> Tensor:
        h, w = next(iter(images.values())).shape[-2:]
        return dense.narrow(-2, self.offset, h).narrow(-1, self.offset, w)


class _Through(nn.Module):
    """Gives its first input back: a crop that crops nothing, an upsampling by 1."""

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        return x


def _last_crops(net: FCN) -> list[str]:
    return [name for name in ("score", "score_sem", "score_geo") if isinstance(getattr(net, name, None), CropLike)]


class ShiftAndStitch(Dense):
    """f x f passes on shifted images, interlaced.

    Pixel y of the coarse scores of the image shifted down by s is pixel f y + f - 1 - s of the dense ones.
    """

    method = "shift-and-stitch"

    def __init__(self, net: FCN) -> None:
        last = [name for name, module in _upsamplings(net) if module.stride[0] > 2]
        super().__init__(net, _changed(net, {name: _Through() for name in (*last, *_last_crops(net))}))

    def dense(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        stitched: dict[str, Tensor] = {}
        for down in range(self.factor):
            for right in range(self.factor):
                found = self.shifted(images, down, right)
                for head, scores in found.items() if isinstance(found, dict) else [(self.outputs[0], found)]:
                    if head not in stitched:
                        n, c, h, w = scores.shape
                        stitched[head] = scores.new_empty(n, c, h * self.factor, w * self.factor)
                    first = self.factor - 1 - down, self.factor - 1 - right
                    stitched[head][:, :, first[0] :: self.factor, first[1] :: self.factor] = scores
        return stitched

    def shifted(self, images: Mapping[str, Tensor], down: int, right: int) -> Any:
        """The coarse scores of the images shifted by so many pixels; all shifts give images of one size."""
        rest = self.factor - 1
        around = (right, rest - right, down, rest - down)
        return self.coarse(**{name: pad(x, around) for name, x in images.items()})


class Dilated(Dense):
    """One pass with all strides left out and every later filter rarefied by as much."""

    method = "dilation"

    def __init__(self, net: FCN) -> None:
        super().__init__(net, _changed(net, {**_rarefied(net), **{name: _Through() for name in _last_crops(net)}}))

    def dense(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = self.coarse(**self._enlarged(images))
        return found if isinstance(found, dict) else {self.outputs[0]: found}

    def blobs(self, /, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        images = self._named(inputs, named)
        found = self.coarse.blobs(**self._enlarged(images))
        return {**found, **images, **{head: self._crop(found[head], images) for head in self.outputs}}

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        more = 2 * (self.factor - 1)
        enlarged = {name: (n, c, h + more, w + more) for name, (n, c, h, w) in inputs.items()}
        return {**self.coarse.shapes(enlarged), **super().shapes(inputs)}

    def _enlarged(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        around = (self.factor - 1,) * 4
        return {name: pad(x, around) for name, x in images.items()}


def _rarefied(net: FCN) -> dict[str, nn.Module]:
    """The layers that change where nothing is subsampled, found by following the net from its inputs.

    `rate` is how much denser a blob is than in the net itself: a stride of s makes what comes after s times denser.
    """
    rate = dict.fromkeys(net.inputs, 1)
    layers: dict[str, nn.Module] = {}
    for call in calls_of(net, net.inputs):
        module, here = call.module, rate[call.bottoms[0]]
        rate[call.top] = here
        if isinstance(module, BilinearUpsample):
            if here != module.stride[0]:
                raise ValueError(f"dilation wants a net that upsamples once; {type(net).__name__} does more often")
            layers[call.name], rate[call.top] = _Through(), 1
        elif isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
            layers[call.name], rate[call.top] = _without_stride(module, here)
    return layers


def _without_stride(module: nn.Conv2d | nn.MaxPool2d, rate: int) -> tuple[nn.Module, int]:
    """The layer with stride 1 on a map `rate` times denser, and the rate behind it."""
    if isinstance(module, nn.MaxPool2d):
        stride, padding = module.stride, module.padding
        assert isinstance(stride, int) and isinstance(padding, int)  # all poolings of these nets are square
        pool: nn.Module = nn.MaxPool2d(module.kernel_size, stride=1, dilation=rate)
        if padding:
            pool = nn.Sequential(nn.ConstantPad2d(padding * rate, -torch.inf), pool)
        return pool, rate * stride
    dense = copy.copy(module)  # the weight is shared
    dense.stride, dense.dilation = (1, 1), (rate, rate)
    dense.padding = tuple(int(p) * rate for p in module.padding)
    return dense, rate * module.stride[0]
