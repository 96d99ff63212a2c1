"""The Python forms of layers with learnable blobs.

Where PyTorch has a module with the same blobs under the same names, it is that module.
"""

from __future__ import annotations

from ...layers import inner_product, neuron, normalize
from ...layers import source as sources
from ...layers.batch_norm import BN, BatchNorm
from ...layers.convolution import Convolution, Deconvolution
from ...layers.scale import Bias, Scale
from ...net.layer import Shape
from .form import Form, NoFormError, Site, call, decimal, form, number, numbers, spread, unless

# Convolutions


@form.register
def _(params: Convolution, site: Site) -> Form:
    channels = (site.blob_shapes[0][1] * params.group, params.num_output)
    return _convolution(params, site, "Conv", "conv", channels=channels)


@form.register
def _(params: Deconvolution, site: Site) -> Form:
    channels = (site.blob_shapes[0][0], params.num_output)
    return _convolution(params, site, "ConvTranspose", "conv_transpose", channels=channels)


def _convolution(params: Convolution, site: Site, module: str, function: str, *, channels: tuple[int, int]) -> Form:
    axes = len(site.blob_shapes[0]) - 2
    kernel, stride, pad, dilation = params.along(axes)
    window = {
        "stride": unless((1,) * axes, stride, numbers(stride)),
        "padding": unless((0,) * axes, pad, numbers(pad)),
        "dilation": unless((1,) * axes, dilation, numbers(dilation)),
        "groups": unless(1, params.group),
    }
    made = call(f"nn.{module}{axes}d", *channels, numbers(kernel), **window, bias=unless(True, params.bias))
    plain = call(f"F.{function}{axes}d", "{x}", *site.blobs, **window)
    leading = [len(shape) - axes - 1 for shape in site.shapes]
    tops, shared = (
        tuple(_batched(text, x, count) for x, count in zip(site.bottoms, leading, strict=True))
        for text in (f"{site.module}({{x}})", plain)
    )
    return Form(tops, made, shared)


def _batched(text: str, x: str, leading: int) -> str:
    """`text` applied to x with its leading axes as one; PyTorch takes one of them or none."""
    if leading < 2:
        return text.format(x=x)
    return f"{text.format(x=f'{x}.flatten(0, {leading - 1})')}.unflatten(0, {x}.shape[:{leading}])"


# Fully connected


@form.register
def _(params: inner_product.InnerProduct, site: Site) -> Form:
    axis = params.axis % site.rank
    flat = site.x if axis == site.rank - 1 else f"{site.x}.flatten({unless(0, axis) or ''})"
    weight, *bias = site.blobs
    plain = call("F.linear", flat, f"{weight}.t()" if params.transpose else weight, *bias)
    if params.transpose:
        return Form((plain,), shared=(plain,))
    outputs, inputs = site.blob_shapes[0]
    made = call("nn.Linear", inputs, outputs, bias=unless(True, params.bias))
    return Form((f"{site.module}({flat})",), made, (plain,))


@form.register
def _(params: inner_product.Embed, site: Site) -> Form:
    plain = call("F.embedding", f"{site.x}.long()", site.blobs[0])
    if params.bias:
        plain = f"{plain} + {site.blobs[1]}"
        return Form((plain,), shared=(plain,))
    return Form(
        (f"{site.module}({site.x}.long())",), call("nn.Embedding", params.input_dim, params.num_output), (plain,)
    )


# One value for each channel


@form.register
def _(params: neuron.PReLU, site: Site) -> Form:
    if params.channel_shared:
        plain = f"F.prelu({site.x}, {site.blobs[0]}.reshape(1))"
        return Form((plain,), shared=(plain,))
    return Form(
        (f"{site.module}({site.x})",), f"nn.PReLU({site.blob_shapes[0][0]})", (f"F.prelu({site.x}, {site.blobs[0]})",)
    )


@form.register
def _(params: BatchNorm, site: Site) -> Form:
    if params.eps_after_root:
        raise NoFormError("BatchNorm with add_eps_before_sqrt: false")
    if params.scale_bias:
        plain = call("F.batch_norm", site.x, *site.blobs[:2], *site.blobs[3:], eps=number(params.eps))
        return Form((plain,), shared=(plain,))
    made = call(
        "CaffeBatchNorm",
        site.blob_shapes[0][0],
        eps=unless(1e-5, decimal(params.eps)),
        fraction=unless(0.999, decimal(params.fraction)),
        use_global_stats=unless(None, params.use_global_stats),
    )
    x, after = (site.x, "") if site.rank > 1 else (f"{site.x}[:, None]", ".squeeze(1)")
    return Form((f"{site.module}({x}){after}",), made)


@form.register
def _(params: BN, site: Site) -> Form:
    x, eps = site.x, number(params.eps)
    if params.merged and not params.running:
        return Form((f"{site.module}({x})",), call("CaffeScale", *site.blob_shapes[0], axis=0, bias=True))
    weight, bias, *running = (f"{blob}.flatten()" for blob in site.blobs)
    if params.running:
        plain: tuple[str, ...] = (call("F.batch_norm", x, *running, weight, bias, eps=eps),)
    else:
        plain = (call("F.batch_norm", x, "None", "None", weight, bias, training=True, eps=eps),)
    statistics = (f"{x}.mean((0, 2, 3), keepdim=True)", f"{x}.var((0, 2, 3), correction=0, keepdim=True)")
    plain += statistics[: params.statistic_tops]
    return Form(plain, shared=plain)


@form.register
def _(params: Scale, site: Site) -> Form:
    axis = params.axis % site.rank
    if not params.two_bottoms:
        made = call("CaffeScale", *site.blob_shapes[0], axis=unless(1, axis), bias=unless(False, params.bias))
        return Form((f"{site.module}({site.x})",), made)
    trailing = _trailing(site.shapes[1], axis, site.rank)
    scale = spread(site.bottoms[1], trailing)
    plain = f"{site.x} * {scale}"
    if params.bias:
        plain = f"torch.addcmul({spread(site.blobs[0], trailing)}, {site.x}, {scale})"
    return Form((plain,), shared=(plain,))


@form.register
def _(params: Bias, site: Site) -> Form:
    operand, shape = (site.bottoms[1], site.shapes[1]) if params.two_bottoms else (site.blobs[0], site.blob_shapes[0])
    plain = f"{site.x} + {spread(operand, _trailing(shape, params.axis % site.rank, site.rank))}"
    return Form((plain,), shared=(plain,))


def _trailing(operand: Shape, axis: int, rank: int) -> int:
    return rank - axis - len(operand) if operand else 0


@form.register
def _(params: normalize.Normalize, site: Site) -> Form:
    axes = tuple(range(1, site.rank)) if params.across_spatial else (1,)
    scale = site.blobs[0] if params.channel_shared else spread(site.blobs[0], site.rank - 2)
    plain = call("normalize", site.x, axes, number(params.eps), scale)
    return Form((plain,), shared=(plain,))


@form.register
def _(params: sources.Parameter, site: Site) -> Form:
    return Form((site.blobs[0],), shared=(site.blobs[0],))
