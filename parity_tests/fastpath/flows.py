"""Flows of small nets for the tests of passes, and what a flow computes, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from converters import CaffeNet
from converters.formats import parse_prototxt
from converters.layers.base import blob_name
from converters.layers.convolution import Convolution
from converters.net import Shape
from fcn_port.fastpath.flow import Flow, FlowLayer, read
from fcn_port.fastpath.graph import Step
from parity_tests.fastpath.random_nets import filled

CONVOLUTION = "convolution_param { num_output: 4 kernel_size: 3 pad: 1 }"


def net_of(*layers: str, shape: Shape = (1, 4, 8, 8)) -> CaffeNet:
    """A net over `data`, of layers written as "type name: bottoms -> tops | settings"."""
    text = [f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: {list(shape)} }} }} }}']
    for each in layers:
        head, _, settings = each.partition("|")
        kind, name, *rest = head.replace(":", " ").split()
        bottoms, tops = rest[: rest.index("->")], rest[rest.index("->") + 1 :]
        ends = [f'bottom: "{blob}"' for blob in bottoms] + [f'top: "{blob}"' for blob in tops]
        settings = settings or (CONVOLUTION if kind == "Convolution" else "")
        text.append(f'layer {{ name: "{name}" type: "{kind}" {" ".join(ends)} {settings} }}')
    return filled(CaffeNet(parse_prototxt("\n".join(text))))


def convolution_step(name: str, module: nn.Conv2d, *, relu: bool = False) -> tuple[Step, list[Tensor]]:
    """The step that a module stands for, and its blobs."""
    blobs = [module.weight.detach()] + ([] if module.bias is None else [module.bias.detach()])
    params = Convolution(
        kernel=module.kernel_size, stride=module.stride, pad=module.padding, dilation=module.dilation,
        num_output=module.out_channels, group=module.groups, bias=module.bias is not None,
    )  # fmt: skip
    shapes = tuple(((name, at), tuple(blob.shape)) for at, blob in enumerate(blobs))
    layer = FlowLayer(name, f"layer '{name}'", "Convolution", params, ("x",), (name,), shapes)
    return Step(name, layer, ("x",), name, relu), blobs


def flow_of(net: CaffeNet) -> Flow:
    return read(net.spec, net.outputs)


def outline(flow: Flow) -> list[str]:
    """The layers of each operation."""
    return [" ".join(part.name for part in operation.parts) for operation in flow.operations]


def outputs(flow: Flow, net: CaffeNet, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the flow gives, one layer after the other in its order."""
    values, state = dict(inputs), net.state_dict()
    for operation in flow.operations:
        for part in operation.parts:
            blobs = [state[f"{layer}.{blob_name(at)}"].reshape(shape) for (layer, at), shape in part.blobs]
            values.update(
                zip(part.tops, part.params.forward([values[name] for name in part.bottoms], blobs), strict=True)
            )
    return {name: values[value] for name, value in flow.outputs.items()}


def assert_same(flow: Flow, net: CaffeNet) -> None:
    """The flow, in its order, is the net."""
    generator = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(shape, generator=generator) for name, shape in net.inputs.items()}
    found, expected = outputs(flow, net, inputs), net(**inputs)
    expected = {net.outputs[0]: expected} if isinstance(expected, Tensor) else expected
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) for name, value in expected.items())
