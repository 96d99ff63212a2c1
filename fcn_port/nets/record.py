"""What a hand-written net does, layer by layer: its blobs, its shapes, and its definition as Caffe would write it.

All three come from watching one forward pass. Every layer of these nets is a child module under Caffe's layer name,
so hooks on the children see every bottom and every top, and nothing has to be said twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from converters.net import LayerSpec, NetSpec, Shape
from converters.schema import LayerParameter

from .parts import LRN, Concat, Crop, Scale, Sum

_IN_PLACE = (nn.ReLU, nn.Dropout)


@dataclass(frozen=True)
class Call:
    """One layer at work: the names of the blobs that it read and of the one that it wrote."""

    name: str
    module: nn.Module
    bottoms: tuple[str, ...]
    top: str


def record(net: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[tuple[Call, ...], dict[str, Tensor]]:
    """Run `net` on `inputs` without gradients; returns the calls in order and every blob as the run left it.

    ReLU and Dropout write over their bottom, as in Caffe, so conv1_1 ends up with the values after relu1_1.
    """
    calls: list[Call] = []
    blobs = dict(inputs)
    names = {id(tensor): name for name, tensor in inputs.items()}
    keep: list[Tensor] = []  # an id is only unique as long as its tensor lives

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            if any(id(arg) not in names for arg in args):
                raise ValueError(f"{name} reads a tensor that no layer of the net made")
            bottoms = tuple(names[id(arg)] for arg in args)
            top = bottoms[0] if isinstance(module, _IN_PLACE) else name
            calls.append(Call(name, module, bottoms, top))
            blobs[top] = output
            names[id(output)] = top
            keep.append(output)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in net.named_children()]
    try:
        with torch.no_grad():
            net(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(calls), blobs


def calls_of(net: nn.Module, inputs: Mapping[str, Shape]) -> tuple[Call, ...]:
    """The layers in the order in which they run; nothing is computed and no weight is touched."""
    return _record_meta(net, inputs)[0]


def shapes_of(net: nn.Module, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
    """The shape of every blob for inputs of these shapes; nothing is computed and no weight is touched."""
    return {name: tuple(blob.shape) for name, blob in _record_meta(net, inputs)[1].items()}


def to_spec(net: nn.Module, inputs: Mapping[str, Shape], *, name: str) -> NetSpec:
    """The net as Caffe would define it, in the order in which it runs."""
    calls, _ = _record_meta(net, inputs)
    layers = [_input_layer(blob, shape) for blob, shape in inputs.items()]
    plain: tuple[str, ...] = getattr(net, "plain_rates", ())
    layers += [_layer(call, plain_rates=call.name in plain) for call in calls]
    return NetSpec(name=name, layers=tuple(layers))


def _record_meta(net: nn.Module, inputs: Mapping[str, Shape]) -> tuple[tuple[Call, ...], dict[str, Tensor]]:
    """`record` with tensors that have shapes and no values."""
    with torch.device("meta"):
        tensors = {name: torch.empty(shape) for name, shape in inputs.items()}
    state = {key: value.to("meta", torch.float32) for key, value in net.state_dict(keep_vars=True).items()}
    run = _Watched(net, tensors)
    torch.func.functional_call(run, {f"net.{key}": value for key, value in state.items()}, ())
    return run.result


class _Watched(nn.Module):
    """`record` as a module, which is what functional_call takes."""

    result: tuple[tuple[Call, ...], dict[str, Tensor]]

    def __init__(self, net: nn.Module, inputs: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.net = net
        self._inputs = inputs

    def forward(self) -> None:
        self.result = record(self.net, self._inputs)


def _input_layer(name: str, shape: Shape) -> LayerSpec:
    message = LayerParameter(name=name, type="Input", top=[name])
    message.input_param.shape.add().dim.extend(shape)
    return LayerSpec.from_message(message)


def _layer(call: Call, *, plain_rates: bool) -> LayerSpec:
    message = LayerParameter(name=call.name, bottom=call.bottoms, top=[call.top])
    for module_type, describe in _DESCRIBE.items():
        if isinstance(call.module, module_type):
            describe(message, call.module)
            if plain_rates:
                message.ClearField("param")
            return LayerSpec.from_message(message)
    raise TypeError(f"{call.name}: no Caffe layer is known for {type(call.module).__name__}")


def _convolution(message: Any, module: Any) -> None:
    message.type = "Convolution"
    message.param.add(lr_mult=1, decay_mult=1)
    message.param.add(lr_mult=2, decay_mult=0)
    param = message.convolution_param
    param.num_output = module.out_channels
    _one_number(param.pad, module.padding)
    _one_number(param.kernel_size, module.kernel_size)
    _one_number(param.stride, module.stride)
    if module.groups != 1:
        param.group = module.groups


def _deconvolution(message: Any, module: Any) -> None:
    message.type = "Deconvolution"
    message.param.add(lr_mult=0)
    param = message.convolution_param
    param.num_output = module.out_channels
    param.bias_term = module.bias is not None
    _one_number(param.kernel_size, module.kernel_size)
    _one_number(param.stride, module.stride)


def _one_number(field: Any, value: tuple[int, ...]) -> None:
    field.extend(value[:1] if len(set(value)) == 1 else value)


def _pooling(message: Any, module: Any) -> None:
    message.type = "Pooling"
    message.pooling_param.pool = 0  # MAX
    message.pooling_param.kernel_size = module.kernel_size
    message.pooling_param.stride = module.stride
    if module.padding:
        message.pooling_param.pad = module.padding


def _lrn(message: Any, module: Any) -> None:
    message.type = "LRN"
    param = message.lrn_param
    param.local_size, param.alpha, param.beta, param.k = module.size, module.alpha, module.beta, module.k


def _relu(message: Any, module: Any) -> None:
    message.type = "ReLU"


def _dropout(message: Any, module: Any) -> None:
    message.type = "Dropout"
    message.dropout_param.dropout_ratio = module.p


def _crop(message: Any, module: Any) -> None:
    message.type = "Crop"
    message.crop_param.axis = 2
    message.crop_param.offset.append(module.offset)


def _sum(message: Any, module: Any) -> None:
    message.type = "Eltwise"
    message.eltwise_param.operation = 1  # SUM
    message.eltwise_param.coeff.extend(module.coefficients)


def _scale(message: Any, module: Any) -> None:
    message.type = "Scale"
    message.param.add(lr_mult=0)
    message.scale_param.filler.type = "constant"
    message.scale_param.filler.value = module.value


def _concat(message: Any, module: Any) -> None:
    message.type = "Concat"


_DESCRIBE: dict[type[nn.Module], Callable[[Any, Any], None]] = {
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _deconvolution,
    nn.MaxPool2d: _pooling,
    LRN: _lrn,
    nn.ReLU: _relu,
    nn.Dropout: _dropout,
    Crop: _crop,
    Sum: _sum,
    Scale: _scale,
    Concat: _concat,
}
