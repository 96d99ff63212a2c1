"""The Python forms of layers without learnable blobs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import e, exp, log

from ...escaping import python_literal
from ...layers import batch, concat, crop, dropout, eltwise, lrn, neuron, normalize, reshape, softmax
from ...layers.convolution import Im2col
from ...layers.pooling import SPP, Pooling
from ...layers.upsample import Interp, Upsample
from .form import Form, Site, call, form, number, numbers, spread, unless

# Pooling


@form.register
def _(params: Pooling, site: Site) -> Form:
    x, window = site.x, (params.kernel, params.stride, params.pad)
    ceil = unless(True, params.ceil)
    if params.method == "STOCHASTIC":
        kernel = f"{x}.shape[2:]" if params.global_pooling else params.kernel
        return Form((call("stochastic_pool", x, kernel, params.stride, ceil=ceil),))
    if params.global_pooling:
        if params.mask:
            return Form((f"global_max_pool_with_places({x})",))
        return Form((f"{x}.{'mean' if params.method == 'AVE' else 'amax'}((2, 3), keepdim=True)",))
    if not params._as_pytorch:
        if params.method == "AVE":
            return Form((call("caffe_average_pool", x, *window, ceil=ceil),))
        top = call("caffe_max_pool", x, *window, dilation=unless((1, 1), params.dilation), ceil=ceil)
        return Form((top if params.mask else f"{top}[0]",))
    if params.mask:
        pad, dilation = unless((0, 0), params.pad), unless((1, 1), params.dilation)
        return Form((call("max_pool_with_places", x, *window[:2], pad=pad, dilation=dilation, ceil=ceil),))
    return Form((_torch_pooling(params, x),))


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


@form.register
def _(params: SPP, site: Site) -> Form:
    return Form((call("spatial_pyramid", site.x, params.levels, repr(params.method)),))


# Activations


@form.register
def _(params: neuron.ReLU, site: Site) -> Form:
    slope = params.negative_slope
    return Form((f"F.leaky_relu({site.x}, {number(slope)})" if slope else f"F.relu({site.x})",))


@form.register
def _(params: neuron.ELU, site: Site) -> Form:
    return Form((call("F.elu", site.x, *([number(params.alpha)] if params.alpha != 1 else [])),))


@form.register
def _(params: neuron.Sigmoid, site: Site) -> Form:
    return Form((f"torch.sigmoid({site.x})",))


@form.register
def _(params: neuron.TanH, site: Site) -> Form:
    return Form((f"torch.tanh({site.x})",))


@form.register
def _(params: neuron.BNLL, site: Site) -> Form:
    return Form((f"F.softplus({site.x})",))


@form.register
def _(params: neuron.AbsVal, site: Site) -> Form:
    return Form((f"{site.x}.abs()",))


@form.register
def _(params: neuron.Swish, site: Site) -> Form:
    return Form((f"{site.x} * torch.sigmoid({_times(site.x, params.beta)})",))


@form.register
def _(params: neuron.Clip, site: Site) -> Form:
    return Form((f"{site.x}.clamp({number(params.low)}, {number(params.high)})",))


@form.register
def _(params: neuron.Threshold, site: Site) -> Form:
    return Form((f"({site.x} > {number(params.threshold)}).to({site.x}.dtype)",))


@form.register
def _(params: neuron.Power, site: Site) -> Form:
    text = _plus(_times(site.x, params.scale), params.shift)
    return Form((text if params.power == 1 else f"({text}).pow({python_literal(params.power)})",))


@form.register
def _(params: neuron.Exp, site: Site) -> Form:
    text = f"torch.exp({_times(site.x, params.scale * log(params.base))})"
    return Form((_times(text, exp(min(params.shift * log(params.base), 700))) if params.shift else text,))


@form.register
def _(params: neuron.Log, site: Site) -> Form:
    text = f"torch.log({_plus(_times(site.x, params.scale), params.shift)})"
    return Form((text if params.base == e else f"{text} / {python_literal(log(params.base))}",))


@form.register
def _(params: dropout.Dropout, site: Site) -> Form:
    return _dropped(params, site, "F.dropout")


@form.register
def _(params: dropout.SpatialDropout, site: Site) -> Form:
    return _dropped(params, site, "F.dropout2d")


def _dropped(params: dropout.Dropout, site: Site, function: str) -> Form:
    text = f"{function}({site.x}, {number(params.ratio)}, {params.sample or 'self.training'})"
    return Form((text if params.scale_train else f"{text} * {number(1 - params.ratio)}",))


def _times(x: str, factor: float) -> str:
    return x if factor == 1 else f"{x} * {number(factor)}"


def _plus(x: str, term: float) -> str:
    return x if term == 0 else f"{x} + {number(term)}" if term > 0 else f"{x} - {number(-term)}"


# Normalization


@form.register
def _(params: lrn.LRN, site: Site) -> Form:
    size, alpha, beta = params.local_size, number(params.alpha), params.beta  # powers are of doubles
    if params.within_channel:
        return Form((call("lrn_within_channel", site.x, size, alpha, beta),))
    return Form((call("F.local_response_norm", site.x, size, alpha=alpha, beta=beta, k=number(params.k)),))


@form.register
def _(params: normalize.MVN, site: Site) -> Form:
    x = spread(site.x, 4 - site.rank)
    axes = (1, 2, 3) if params.across_channels else (2, 3)
    variance = unless(True, params.normalize_variance)
    return Form((call("mean_variance_normalize", x, axes, number(params.eps), variance=variance),))


# Several bottoms or tops


@form.register
def _(params: eltwise.Eltwise, site: Site) -> Form:
    if params.operation == "MAX":
        return Form((reduce(lambda a, b: f"torch.maximum({a}, {b})", site.bottoms),))
    if params.operation == "PROD":
        return Form((" * ".join(site.bottoms),))
    first, *others = zip(site.bottoms, params.coefficients, strict=True)
    text = first[0] if first[1] == 1 else f"{number(first[1])} * {first[0]}"
    for x, c in others:
        text = f"{text} {'+' if c == 1 else '-'} {x}" if abs(c) == 1 else f"torch.add({text}, {x}, alpha={number(c)})"
    return Form((text,))


@form.register
def _(params: concat.Concat, site: Site) -> Form:
    return Form((call("torch.cat", f"[{', '.join(site.bottoms)}]", dim=params.axis % site.rank),))


@form.register
def _(params: concat.Slice, site: Site) -> Form:
    if site.tops == 1:
        return Form((site.x,))
    where = f"[{', '.join(map(str, params.points))}]" if params.points else params.parts
    return Form((call("torch.tensor_split", site.x, where, dim=params.axis % site.rank),))


@form.register
def _(params: concat.Split, site: Site) -> Form:
    return Form((site.x,) * site.tops)


@form.register
def _(params: concat.Silence, site: Site) -> Form:
    return Form(())


@form.register
def _(params: crop.Crop, site: Site) -> Form:
    axes, offsets = zip(*params._offsets(site.shapes[0]), strict=True)
    return Form((call("crop", *site.bottoms, axis=axes[0], offsets=offsets),))


@form.register
def _(params: batch.BatchReindex, site: Site) -> Form:
    return Form((f"{site.x}.index_select(0, {site.bottoms[1]}.long())",))


@form.register
def _(params: batch.Filter, site: Site) -> Form:
    chosen = call("filter_items", *site.bottoms)
    return Form((chosen if site.tops > 1 else f"{chosen}[0]",))


@form.register
def _(params: Upsample, site: Site) -> Form:
    x, (h, w), cuts = site.x, params.scale, params.cut
    if not params.unpool:
        top = f"{x}.repeat_interleave({h}, 2).repeat_interleave({w}, 3)"
        ends = (":-1" if cut else ":" for cut in cuts)
        return Form((f"{top}[:, :, {', '.join(ends)}]" if any(cuts) else top,))
    size: Sequence[object] = params.size or [
        f"{_times(f'{x}.shape[{i}]', scale)}{' - 1' if cut else ''}"
        for i, scale, cut in zip((2, 3), params.scale, cuts, strict=True)
    ]
    return Form((call("unpool", x, site.bottoms[1], *size),))


@form.register
def _(params: Interp, site: Site) -> Form:
    x, (begin, end) = site.x, params.crop
    inner = f"{x}[:, :, {begin}:{-end or ''}, {begin}:{-end or ''}]" if begin or end else x
    size: object = params.size
    if params.size is None and params.shrink is None and params.zoom is None:
        size = f"{site.bottoms[-1]}.shape[2:]"
    elif params.size is None:
        size = f"[(n - {begin + end + 1}) // {params.shrink or 1} * {params.zoom or 1} + 1 for n in {x}.shape[2:]]"
    return Form((call("F.interpolate", inner, size, mode="'bilinear'", align_corners=True),))


# Shapes


@form.register
def _(params: reshape.Flatten, site: Site) -> Form:
    start, end = params.axis % site.rank, params.end_axis % site.rank
    return Form((call(f"{site.x}.flatten", start, *([end] if end != site.rank - 1 else [])),))


@form.register
def _(params: reshape.Reshape, site: Site) -> Form:
    start = params.axis if params.axis >= 0 else site.rank + params.axis + 1
    end = site.rank if params.num_axes == -1 else start + params.num_axes
    sizes = [f"{site.x}.shape[{i}]" for i in range(site.rank)]
    dims = [str(dim) if dim else sizes[start + i] for i, dim in enumerate(params.dims)]
    top = [*sizes[:start], *dims, *sizes[end:]]
    return Form((call(f"{site.x}.reshape", *(top or ["()"])),))


@form.register
def _(params: reshape.Tile, site: Site) -> Form:
    times = [1] * site.rank
    times[params.axis] = params.tiles
    return Form((call(f"{site.x}.repeat", *times),))


@form.register
def _(params: reshape.Permute, site: Site) -> Form:
    return Form((call(f"{site.x}.permute", *params._order(site.rank)),))


@form.register
def _(params: Im2col, site: Site) -> Form:
    return Form((call("im2col", site.x, *params.along(2)),))


# Answers


@form.register
def _(params: softmax.Softmax, site: Site) -> Form:
    return Form((call(f"{site.x}.softmax", params.axis % site.rank),))


@form.register
def _(params: softmax.ArgMax, site: Site) -> Form:
    if params.axis is None:
        return Form((call("largest_of_items", site.x, params.top_k, with_values=unless(False, params.out_max_val)),))
    return Form((f"largest({site.x}, {params.axis % site.rank}, {params.top_k})[{0 if params.out_max_val else 1}]",))


@form.register
def _(params: softmax.Reduction, site: Site) -> Form:
    axis = params.axis % site.rank
    flat = site.x if axis == site.rank - 1 else f"{site.x}.flatten({unless(0, axis) or ''})"
    before = {"ASUM": ".abs()", "SUMSQ": ".square()"}.get(params.operation, "")
    text = f"{flat}{before}.{'mean' if params.operation == 'MEAN' else 'sum'}(-1)"
    return Form((_times(text, params.coefficient),))
