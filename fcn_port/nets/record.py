"""A record of a hand-written net, layer by layer: its blobs, its shapes, and its definition as Caffe would write it.

All three come from watching one forward pass. Every layer of these nets is a child module under Caffe's layer name,
so hooks on the children see every bottom and every top, and nothing has to be said twice. What is watched is a replica:
the net itself may be at work in other threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from converters.errors import NetError
from converters.execution import replica
from converters.net import LayerSpec, NetSpec, Shape
from converters.schema import LayerParameter

from .parts import Part, computes_as

_IN_PLACE = (nn.ReLU, nn.Dropout)


@dataclass(frozen=True)
class Call:
    """One layer at work: the names of the blobs that it read and of the one that it wrote."""

    name: str
    module: nn.Module
    bottoms: tuple[str, ...]
    top: str


class NotCaffes(NetError):
    """A layer of a net, a setting of one, or what its forward pass does beside, that no layer of Caffe's stands for."""


def record(net: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[tuple[Call, ...], dict[str, Tensor]]:
    """Run `net` on `inputs` without gradients; returns the calls in order and every blob as the run left it.

    ReLU and Dropout write over their bottom, as in Caffe, so conv1_1 ends up with the values after relu1_1. The hooks
    are on a replica, which has the net's own weights: other threads may run and record `net` meanwhile.
    """
    return _watch(net, replica(net), inputs)


def _watch(
    net: nn.Module, private: nn.Module, inputs: Mapping[str, Tensor]
) -> tuple[tuple[Call, ...], dict[str, Tensor]]:
    """`record` of a replica that nobody else has; the calls name the modules of `net`."""
    calls: list[Call] = []
    blobs = dict(inputs)
    names = {id(tensor): name for name, tensor in inputs.items()}
    keep: list[Tensor] = []  # an id is only unique as long as its tensor lives

    def watch(name: str, module: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if any(id(arg) not in names for arg in args):
                raise NotCaffes(f"{name} reads a tensor that no layer of the net made")
            bottoms = tuple(names[id(arg)] for arg in args)
            top = bottoms[0] if any(computes_as(module, kind) for kind in _IN_PLACE) else name
            calls.append(Call(name, module, bottoms, top))
            blobs[top] = output
            names[id(output)] = top
            keep.append(output)

        return hook

    layers = dict(net.named_children())
    for name, module in private.named_children():
        module.register_forward_hook(watch(name, layers[name]))
    with torch.no_grad():
        outputs = private(**inputs)
    for output in outputs.values() if isinstance(outputs, Mapping) else (outputs,):
        if id(output) not in names:
            raise NotCaffes(f"{type(net).__name__} returns a tensor that no layer of the net made")
    return tuple(calls), blobs


def calls_of(net: nn.Module, inputs: Mapping[str, Shape]) -> tuple[Call, ...]:
    """The layers in the order in which they run; nothing is computed and no weight is touched."""
    return _record_meta(net, inputs)[0]


def shapes_of(net: nn.Module, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shape of every blob for inputs of these shapes; nothing is computed and no weight is touched."""
    return {name: tuple(blob.shape) for name, blob in _record_meta(net, inputs)[1].items()}


def to_spec(net: nn.Module, inputs: Mapping[str, Shape], *, name: str) -> NetSpec:
    """The net as Caffe would define it, in the order in which it runs.

    Raises NotCaffes, naming layer and setting, where Caffe has no such thing.
    """
    refuse_what_is_added(net)
    return _definition(net, calls_of(net, inputs), inputs, name=name)


def refuse_what_is_added(net: nn.Module) -> None:
    """NotCaffes where a module's result or weight is changed from outside, of which the module itself says nothing."""
    for name, module in net.named_modules():
        where = f"layer '{name}'" if name else type(net).__name__
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            what = getattr(hook, "__qualname__", type(hook).__name__)
            problem = f"a forward hook, {what}, may change what is computed, and Caffe has none"
            raise NotCaffes(problem, where=where, hint="remove it: remove() of what registered it, or prune.remove")
        if is_parametrized(module):
            (weight, *_) = module.parametrizations
            hint = f"make it a plain one: torch.nn.utils.parametrize.remove_parametrizations(layer, '{weight}')"
            raise NotCaffes(f"its {weight} is parametrized, which Caffe does not know", where=where, hint=hint)


def _definition(net: nn.Module, calls: Sequence[Call], inputs: Mapping[str, Shape], *, name: str) -> NetSpec:
    layers = [_input_layer(blob, shape) for blob, shape in inputs.items()]
    plain: tuple[str, ...] = getattr(net, "plain_rates", ())
    layers += [_layer(call, plain_rates=call.name in plain) for call in calls]
    return NetSpec(name=name, layers=tuple(layers))


def _record_meta(net: nn.Module, inputs: Mapping[str, Shape]) -> tuple[tuple[Call, ...], dict[str, Tensor]]:
    """`record` with tensors that have shapes and no values.

    Caffe's layers get their shapes by Caffe's rules: PyTorch's own, on its meta device, import sympy and half of
    torch.compile for a sum of two tensors, which takes a second.
    """
    tensors = {name: _empty(shape) for name, shape in inputs.items()}
    private = replica(net, _without_values)
    for name, module in private.named_children():
        message = LayerParameter(name=name)
        with suppress(NotCaffes):
            if _describe(message, module):
                module.forward = _ShapesOnly(message, module)
    try:
        return _watch(net, private, tensors)
    finally:  # a module and its `forward` hold each other, and with them what the hooks know: layers of `net`
        for module in private.children():
            if isinstance(vars(module).get("forward"), _ShapesOnly):
                del module.forward


class _ShapesOnly:
    """A layer's `forward` that returns a tensor of the right shape without a value."""

    def __init__(self, message: Any, module: nn.Module) -> None:
        self._message, self._compute = message, module.forward
        self._weights = tuple(tuple(weight.shape) for weight in module.parameters())

    def __call__(self, *bottoms: Any, **named: Any) -> Any:
        if not named and all(isinstance(bottom, Tensor) for bottom in bottoms):
            with suppress(ValueError):  # NetError among them; the module says what does not fit
                return _empty(self._top_shape([tuple(bottom.shape) for bottom in bottoms]))
        try:
            return self._compute(*bottoms, **named)
        except (RuntimeError, TypeError) as error:
            read = " and ".join("x".join(map(str, getattr(bottom, "shape", "?"))) for bottom in bottoms)
            raise NetError(
                f"does not take what it reads, {read} (PyTorch: {str(error).splitlines()[0]})",
                where=f"layer '{self._message.name}' ({self._message.type})",
                hint="an input that has other channels now is said so: net.channels = {'data': 4}",
            ) from error

    def _top_shape(self, bottoms: Sequence[Shape]) -> Shape:
        """The shape by Caffe's rule; ValueError where the weights are others, or the bottoms do not fit."""
        names = tuple(map(str, range(len(bottoms))))
        layer = replace(LayerSpec.from_message(self._message), bottoms=names, tops=("top",)).params
        if layer is None or layer.blob_shapes(bottoms) != self._weights:
            raise ValueError("the weights are not the layer's")
        (top,) = layer.top_shapes(bottoms)
        return top


def _empty(shape: Shape) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="meta")


def _without_values(tensor: Tensor) -> Tensor:
    return _empty(tuple(tensor.shape))


def _input_layer(name: str, shape: Shape) -> LayerSpec:
    message = LayerParameter(name=name, type="Input", top=[name])
    message.input_param.shape.add().dim.extend(shape)
    return LayerSpec.from_message(message)


def _layer(call: Call, *, plain_rates: bool) -> LayerSpec:
    message = LayerParameter(name=call.name, bottom=call.bottoms, top=[call.top])
    if not _describe(message, call.module):
        raise NotCaffes(f"no Caffe layer is known for {type(call.module).__name__}", where=f"layer '{call.name}'")
    if plain_rates:
        message.ClearField("param")
    return LayerSpec.from_message(message)


def _describe(message: Any, module: nn.Module) -> bool:
    """Write the layer that the module stands for into a message; False where it computes something of its own."""
    if isinstance(module, Part):
        kind = next(each for each in type(module).__mro__ if "describe" in vars(each))
        if is_known := computes_as(module, kind):
            module.describe(message)
        return is_known
    for kind, describe in _DESCRIBE.items():
        if computes_as(module, kind):
            describe(message, module)
            return True
    return False


def _convolution(message: Any, module: Any) -> None:
    message.type = "Convolution"
    message.param.add(lr_mult=1, decay_mult=1)
    if module.bias is not None:
        message.param.add(lr_mult=2, decay_mult=0)
    else:
        message.convolution_param.bias_term = False
    _only(message, module, padding_mode="zeros")
    _one_number(message.convolution_param.pad, _numbers(message, module, "padding"))
    _windows(message.convolution_param, module, module.weight.shape[0])


def _deconvolution(message: Any, module: Any) -> None:
    message.type = "Deconvolution"
    message.param.add(lr_mult=0)
    message.convolution_param.bias_term = module.bias is not None
    _only(message, module, padding_mode="zeros", output_padding=(0, 0))
    if set(module.padding) != {0}:
        _one_number(message.convolution_param.pad, module.padding)
    _windows(message.convolution_param, module, module.weight.shape[1] * module.groups)


def _windows(param: Any, module: Any, outputs: int) -> None:
    """Write the windows of a convolution or deconvolution: PyTorch computes with the weight that is there."""
    param.num_output = outputs
    _one_number(param.kernel_size, tuple(module.weight.shape[2:]))
    _one_number(param.stride, module.stride)
    if set(module.dilation) != {1}:
        _one_number(param.dilation, module.dilation)
    if module.groups != 1:
        param.group = module.groups


def _one_number(field: Any, value: tuple[int, ...]) -> None:
    field.extend(value[:1] if len(set(value)) == 1 else value)


def _pooling(message: Any, module: Any) -> None:
    message.type = "Pooling"
    param = message.pooling_param
    param.pool = 0  # MAX
    _only(message, module, dilation=(1, 1), return_indices=False)
    for name, field in (("kernel_size", "kernel"), ("stride", "stride"), ("padding", "pad")):
        h, w = _numbers(message, module, name)
        if h != w:
            setattr(param, f"{field}_h", h)
            setattr(param, f"{field}_w", w)
        elif h or name != "padding":
            setattr(param, "kernel_size" if name == "kernel_size" else field, h)
    if not module.ceil_mode:
        param.round_mode = param.FLOOR


def _numbers(message: Any, module: Any, name: str) -> tuple[int, int]:
    """A setting for rows and columns, which may be written as one number."""
    value = getattr(module, name)
    pair = (value, value) if isinstance(value, int) else value
    if isinstance(pair, str):
        raise _stranger(message, name, value)
    h, w = pair
    return h, w


def _only(message: Any, module: Any, **expected: object) -> None:
    """NotCaffes where a setting is anything else than what Caffe's layer always does."""
    for name, value in expected.items():
        found = getattr(module, name)
        if found != value and (found, found) != value:
            raise _stranger(message, name, found)


def _stranger(message: Any, setting: str, value: object) -> NotCaffes:
    problem = f"{setting} is {value!r}, which Caffe's {message.type} does not have"
    return NotCaffes(problem, where=f"layer '{message.name}'")


def _relu(message: Any, module: Any) -> None:
    message.type = "ReLU"


def _dropout(message: Any, module: Any) -> None:
    message.type = "Dropout"
    message.dropout_param.dropout_ratio = module.p


_DESCRIBE: dict[type[nn.Module], Callable[[Any, Any], None]] = {
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _deconvolution,
    nn.MaxPool2d: _pooling,
    nn.ReLU: _relu,
    nn.Dropout: _dropout,
}
"""PyTorch's own modules; a Part says it itself."""
