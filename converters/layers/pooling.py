"""Pooling and SPP (pooling_layer.cpp, spp_layer.cpp).

PyTorch's pooling agrees with Caffe's except in four places, which take the slower way here: a pad of more than half
the kernel; a stride beyond the kernel, where Caffe keeps a last window that lies outside the blob (its maximum is
-FLT_MAX, its average 0 divided by what is left of the window, which may be nothing); a pad with a hole, between whose
places a small blob may lie (-FLT_MAX and place -1, too: naibaf7/caffe, pooling_layer.cpp, MaxPoolForwardND); and
STOCHASTIC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ..net.python_form import Form, NoFormError, call, numbers, unless
from ..net.reach import EVERYTHING, Reach, Window
from .base import LARGEST, Layer, OneToOne, Pair, as_image, pair, refuse, register_layer
from .fork import ForkMessage, fork_fields
from .padded import Around, PaddedPooling, read_around
from .pooling_onnx import pooling_to_onnx
from .spp_onnx import MOST_BINS, level_of_any_size
from .spp_recorded import level_by_places

if TYPE_CHECKING:
    from torch import Tensor

    from ..net.layer import LayerSpec, Shape
    from ..net.onnx_form import OnnxLayer
    from ..net.python_form import Site
    from .volume import VolumePooling


@register_layer("Pooling")
@dataclass(frozen=True)
class Pooling(Layer):
    """MAX, AVE or STOCHASTIC over windows; sizes round up unless `round_mode: FLOOR`.

    Forks say it with `ceil_mode: false` or, Facebook's, `torch_pooling: true` (caffe2/python/caffe_translator.py).

    A second top of MAX holds the place of each maximum in its channel, h * width + w, for unpooling. `kernel` is
    (0, 0) with `global_pooling`. `dilation` is DeepLab's hole. Averages count the padding, as far as the padded blob
    reaches. Windows that would start in the padding after the blob are dropped, but only where there is padding.
    """

    method: str
    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    dilation: Pair = (1, 1)
    global_pooling: bool = False
    ceil: bool = True
    mask: bool = False

    bottom_count: ClassVar[tuple[int, float]] = (1, 1)
    top_count: ClassVar[tuple[int, float]] = (1, 2)

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        message = spec.message.pooling_param
        fork = fork_fields(spec, "pooling_param")
        whole = message.global_pooling
        if whole and any(message.HasField(name) for name in ("kernel_size", "kernel_h", "kernel_w")):
            raise refuse(spec, "global_pooling with a kernel size", hint="leave it out: it is the bottom's size")
        hole = fork.integer("hole", 1)
        method = _method(spec, fork)
        floor = (message.round_mode, fork.flag("ceil_mode", default=True), fork.flag("torch_pooling", default=False))
        layer = cls(
            method="AVE" if method == "AVE_EXC_PAD" else method,
            kernel=(0, 0) if whole else pair(spec, message, "kernel_size"),
            stride=pair(spec, message, "stride", default=1),
            pad=pair(spec, message, "pad", default=0),
            dilation=(fork.integer("hole_h", hole), fork.integer("hole_w", hole)),
            global_pooling=whole,
            ceil=floor == (message.RoundMode.Value("CEIL"), True, False),
            mask=len(spec.tops) > 1,
        )
        problem = layer._problem()
        if problem:
            raise refuse(spec, problem)
        around = read_around(spec, fork, plain=any(layer.pad))
        if around is None and method == "AVE_EXC_PAD" and any(layer.pad):
            (top, left) = layer.pad
            around = Around(((top, top), (left, left)))
        return layer if around is None else layer._padded_apart(spec, method, around)

    def _padded_apart(self, spec: LayerSpec, method: str, around: Around) -> Layer:
        """This pooling with other pads, or with an average that leaves the padding out."""
        if self.global_pooling or self.mask or self.dilation != (1, 1) or method == "STOCHASTIC":
            raise refuse(spec, "pads of their own on each side go with MAX, AVE and AVE_EXC_PAD of one top only")
        return PaddedPooling(method, self.kernel, self.stride, around, self.ceil)

    def _problem(self) -> str | None:
        """The settings that Caffe's LayerSetUp would refuse, in words; None where it refuses none."""
        if max(*self.kernel, *self.stride, *self.pad, *self.dilation) > LARGEST:
            return f"kernel {self.kernel}, stride {self.stride}, pad {self.pad}: all can be at most {LARGEST}"
        if min(self.stride) < 1 or min(self.dilation) < 1 or (not self.global_pooling and min(self.kernel) < 1):
            return f"kernel {self.kernel}, stride {self.stride}, hole {self.dilation}: all must be at least 1"
        if self.global_pooling and (self.pad != (0, 0) or self.stride != (1, 1) or self.dilation != (1, 1)):
            return f"global_pooling with pad {self.pad} and stride {self.stride}; it takes pad 0 and stride 1"
        if not self.global_pooling and any(p >= k for p, k in zip(self.pad, self.kernel, strict=True) if p):
            return f"pad {self.pad} is not smaller than kernel {self.kernel}"
        if self.method == "STOCHASTIC" and self.pad != (0, 0):
            return "STOCHASTIC pooling takes no pad"
        if self.method != "MAX" and self.dilation != (1, 1):
            return f"hole {self.dilation} is supported for MAX pooling only"
        if self.method != "MAX" and self.mask:
            return f"a second top; only MAX pooling has one, this is {self.method}"
        return None

    @property
    def _volume(self) -> VolumePooling | None:
        """This pooling along three axes, of which 3D-Caffe takes kernel_size, stride and pad for all; None: not so."""
        equal = all(len(set(values)) == 1 for values in (self.kernel, self.stride, self.pad))
        if not equal or self.mask or self.dilation != (1, 1) or self.method == "STOCHASTIC":
            return None
        from .volume import VolumePooling  # which few nets need

        if self.global_pooling:
            return VolumePooling(self.method, (), (), ())
        pads = ((self.pad[0], self.pad[0]),) * 3
        return VolumePooling(self.method, self.kernel[:1] * 3, self.stride[:1] * 3, pads, self.ceil)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        if len(bottoms[0]) == 5 and self._volume is not None:
            return self._volume.top_shapes(bottoms)
        n, c, h, w = as_image(bottoms[0])
        top = (n, c, 1, 1) if self.global_pooling else (n, c, *self.sizes((h, w)))
        return (top, top) if self.mask else (top,)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        if self.global_pooling or top:  # a mask holds places in the whole blob
            return EVERYTHING
        along = axis - 2
        return Window(self.kernel[along], self.stride[along], self.pad[along], self.dilation[along])

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],) * (2 if self.mask else 1)

    def sizes(self, size: Sequence[int]) -> Pair:
        """Windows along each axis; `size` may be symbolic."""
        h, w = (
            (x + p + beyond - k) // s + 1
            for x, p, beyond, k, s in zip(size, self.pad, self.beyond, self._extent, self.stride, strict=True)
        )
        return h, w

    @property
    def _extent(self) -> Pair:
        h, w = (d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True))
        return h, w

    @property
    def beyond(self) -> Pair:
        """The length by which windows reach past the end of the blob if their number is to come out by rounding down.

        Rounding up, ceil((x + 2p - k) / s), is rounding down with s - 1 more; and where there is padding, the last
        window has to start before x + p, so it ends before x + p + k.
        """
        h, w = (
            min(p + (s - 1) * self.ceil, k - 1) if any(self.pad) else (s - 1) * self.ceil
            for p, s, k in zip(self.pad, self.stride, self._extent, strict=True)
        )
        return h, w

    @property
    def windows_inside(self) -> bool:
        """True where every window has a part of the blob in it, at every size."""
        return self.windows_inside_from((1, 1))

    def windows_inside_from(self, size: Sequence[int]) -> bool:
        """True where every window has a part of the blob in it, at this size and all larger ones."""
        half = all(2 * p <= k for p, k in zip(self.pad, self.kernel, strict=True))
        met = all(not p or d <= x for p, d, x in zip(self.pad, self.dilation, size, strict=True))
        covered = all(s <= k for s, k in zip(self.stride, self._extent, strict=True))
        return half and met and (not self.ceil or any(self.pad) or covered)

    @property
    def _as_pytorch(self) -> bool:
        """True where PyTorch's own pooling has the same windows, accepts the pad, and can be traced for any size."""
        import torch

        # Rounding up, PyTorch looks at the size to decide about the last window; an exported program could not.
        return self.windows_inside and not (self.ceil and torch.compiler.is_compiling())

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        x = bottoms[0]
        if x.ndim == 5 and self._volume is not None:
            return self._volume.forward(bottoms, blobs)
        if self.method == "STOCHASTIC":
            return (self._stochastic(x, training=training),)
        if self.global_pooling:
            return self._global(x)
        if self.method == "AVE":
            return (self._average(x),)
        return self._maximum(x)

    def _global(self, x: Tensor) -> tuple[Tensor, ...]:
        from .functions import global_max_pool_with_places

        if self.method == "AVE":
            return (x.mean((2, 3), keepdim=True),)
        return global_max_pool_with_places(x)[: 1 + self.mask]

    def _maximum(self, x: Tensor) -> tuple[Tensor, ...]:
        from torch.nn.functional import max_pool2d

        from .functions import caffe_max_pool, max_pool_with_places

        window = (self.kernel, self.stride, self.pad, self.dilation, self.ceil)
        if not self._as_pytorch:
            return caffe_max_pool(x, *window)[: 1 + self.mask]
        return max_pool_with_places(x, *window) if self.mask else (max_pool2d(x, *window),)

    def _average(self, x: Tensor) -> Tensor:
        from torch.nn.functional import avg_pool2d

        from .functions import caffe_average_pool

        if self._as_pytorch:
            return avg_pool2d(x, self.kernel, self.stride, self.pad, self.ceil, count_include_pad=True)
        return caffe_average_pool(x, self.kernel, self.stride, self.pad, self.ceil)

    def _stochastic(self, x: Tensor, *, training: bool) -> Tensor:
        """At test the mean weighted by itself; in training one element, drawn with probability in proportion to it."""
        import torch

        from .functions import stochastic_pool, whole_windows

        if self.global_pooling:
            windowed = replace(self, global_pooling=False, kernel=(x.shape[2], x.shape[3]))
            return windowed._stochastic(x, training=training)
        if not training:
            return stochastic_pool(x, self.kernel, self.stride, self.ceil)
        sizes = self.sizes(x.shape[2:])
        filled = whole_windows(x, self.kernel, self.stride, self.pad, self.ceil, 0)
        columns = torch.nn.functional.unfold(filled, self.kernel, stride=self.stride)
        windows: Tensor = columns.unflatten(1, (x.shape[1], -1))
        reached = windows.cumsum(2)
        drawn = torch.rand_like(reached[:, :, :1]) * reached[:, :, -1:]
        chosen = (reached < drawn).sum(2, keepdim=True)
        picked = windows.gather(2, chosen.clamp(max=windows.shape[2] - 1)).squeeze(2)
        images: Tensor = picked.unflatten(2, sizes)
        return images

    def to_onnx(self, out: OnnxLayer) -> None:
        if len(out.bottoms[0].shape) == 5 and self._volume is not None:
            self._volume.to_onnx(out)
            return
        pooling_to_onnx(self, out)

    def to_python(self, site: Site) -> Form:
        if site.rank != 4:
            raise NoFormError(f"Pooling of a blob with {site.rank} axes")
        x, window = site.x, (self.kernel, self.stride, self.pad)
        ceil = unless(True, self.ceil)
        if self.method == "STOCHASTIC":
            kernel = f"{x}.shape[2:]" if self.global_pooling else self.kernel
            return Form((call("stochastic_pool", x, kernel, self.stride, ceil=ceil),))
        if self.global_pooling:
            if self.method == "AVE":
                return Form((f"{x}.mean((2, 3), keepdim=True)",))
            return Form((f"global_max_pool_with_places({x}){'' if self.mask else '[0]'}",))
        if not self._as_pytorch:
            if self.method == "AVE":
                return Form((call("caffe_average_pool", x, *window, ceil=ceil),))
            top = call("caffe_max_pool", x, *window, dilation=unless((1, 1), self.dilation), ceil=ceil)
            return Form((top if self.mask else f"{top}[0]",))
        if self.mask:
            pad, dilation = unless((0, 0), self.pad), unless((1, 1), self.dilation)
            return Form((call("max_pool_with_places", x, *window[:2], pad=pad, dilation=dilation, ceil=ceil),))
        return Form((_torch_pooling(self, x),))


def _method(spec: LayerSpec, fork: ForkMessage) -> str:
    """The pool method; Synopsys' is AVE_EXC_PAD, once AVE_TF, with the number 3 (synopsys-caffe, caffe.proto)."""
    message = spec.message.pooling_param
    given = fork.word("pool", message.PoolMethod.Name(message.pool))
    if given in ("AVE_EXC_PAD", "AVE_TF", "3"):
        return "AVE_EXC_PAD"
    if "pool" in fork:
        raise refuse(spec, f"pool is {given}; expected MAX, AVE, STOCHASTIC, or AVE_EXC_PAD of Synopsys' fork")
    return given


@register_layer("SPP")
@dataclass(frozen=True)
class SPP(OneToOne):
    """Spatial pyramid pooling: level l pools to 2^l x 2^l windows; the levels are flattened and joined on axis 1."""

    levels: int
    method: str

    @classmethod
    def parse(cls, spec: LayerSpec) -> SPP:
        message = spec.message.spp_param
        if not message.pyramid_height:
            raise refuse(spec, "pyramid_height is missing or 0")
        return cls(message.pyramid_height, message.PoolMethod.Name(message.pool))

    def _level(self, level: int, size: Sequence[int]) -> Pooling:
        bins = 2**level
        kernel = -(-size[0] // bins), -(-size[1] // bins)
        pad = (kernel[0] * bins - size[0] + 1) // 2, (kernel[1] * bins - size[1] + 1) // 2
        if all(isinstance(x, int) for x in size) and any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise ValueError(f"{bins} x {bins} windows over {size[0]} x {size[1]} need pad {pad} for kernel {kernel}")
        if self.method == "STOCHASTIC" and pad != (0, 0):
            raise ValueError(f"{bins} x {bins} windows over {size[0]} x {size[1]} need pad; STOCHASTIC takes none")
        return Pooling(self.method, kernel, kernel, pad)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        n, c, h, w = as_image(bottoms[0])
        if self.levels == 1:
            return ((n, c, 1, 1),)
        cells = 0
        for level in range(self.levels):
            rows, columns = self._level(level, (h, w)).sizes((h, w))
            cells += rows * columns
        return ((n, c * cells),)

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return EVERYTHING

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        import torch

        x = bottoms[0]
        if any(isinstance(size, torch.SymInt) for size in x.shape[2:]) and self.method != "STOCHASTIC":
            levels = [level_by_places(x, self.method, 2**level) for level in range(self.levels)]
        else:
            levels = [self._level(level, x.shape[2:]).forward((x,), ())[0] for level in range(self.levels)]
        return (levels[0] if self.levels == 1 else torch.cat([level.flatten(1) for level in levels], 1),)

    def to_onnx(self, out: OnnxLayer) -> None:
        if self.levels == 1:
            pooling_to_onnx(Pooling(self.method, (0, 0), global_pooling=True), out)
            return
        size = out.size(out.bottoms[0], (2, 3)).known
        rows = []
        for level in range(self.levels):
            part = f"level{level}"
            if size is None and 2**level > MOST_BINS:
                raise out.refuse(f"a pyramid of {self.levels} levels over a free size", hint="fix the size: --size")
            if size is None:
                cells = level_of_any_size(out, self.method, 2**level, part=part)
            else:
                cells = pooling_to_onnx(self._level(level, size), out, part=part)
            rows.append(out.node("Flatten", [cells], part=f"row{level}"))
        out.top("Concat", rows, axis=1)

    def to_python(self, site: Site) -> Form:
        return Form((call("spatial_pyramid", site.x, self.levels, repr(self.method)),))


def _torch_pooling(params: Pooling, x: str) -> str:
    function = "F.max_pool2d" if params.method == "MAX" else "F.avg_pool2d"
    return call(
        function,
        x,
        numbers(params.kernel),
        stride=unless(params.kernel, params.stride, numbers(params.stride)),
        padding=unless((0, 0), params.pad, numbers(params.pad)),
        dilation=unless((1, 1), params.dilation, numbers(params.dilation)),
        ceil_mode=unless(False, params.ceil),
    )
