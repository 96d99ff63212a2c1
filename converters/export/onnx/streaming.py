"""A model into a file, byte for byte as onnx serializes it, while its weights stay where they are: piece by piece.

An embedded protobuf message begins with its length, which is known beforehand, since that of every weight is. Fields go
in the order of their numbers, as protobuf writes them; the numbers are asked of onnx's own descriptors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto, helper

from ...formats.wire import write_tag
from ...version import VERSION
from .graph import End, Graph, Initializer
from .names import legal

MOST_INSIDE = (1 << 31) - 1
"""Bytes that a protobuf message holds; a larger model has its weights in a file beside it."""
LEAST_OUTSIDE = 1024
"""Bytes of an initializer that goes into the file beside; shapes and axes stay, as readers want them at hand."""
_ALIGNMENT = 4096
"""Of what lies in the file beside, so that it can be mapped."""
_PIECE = 1 << 20
_GRAPH = ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER = GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA = TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number


def write_model(
    file: BinaryIO,
    graph: Graph,
    *,
    name: str,
    inputs: Sequence[End],
    outputs: Sequence[End],
    values: Sequence[End] = (),
    metadata: Callable[[], Mapping[str, str]] = dict,
    beside: tuple[BinaryIO, str] | None = None,
) -> None:
    """Write a model of a graph; `metadata` is asked once the weights are written.

    `values` are types of values in the middle. `beside` is the file for large initializers, with the name by which the
    model finds it; without it they are in the model, which can then have no more than `MOST_INSIDE` bytes.
    """
    before = GraphProto(name=legal(name, empty="net"), node=graph.nodes).SerializeToString()
    after = GraphProto(
        input=[_typed(end) for end in inputs],
        output=[_typed(end) for end in outputs],
        value_info=[_typed(end) for end in values],
    ).SerializeToString()
    tensors = list(_tensors(graph, None if beside is None else beside[1]))
    opsets = {"": graph.opset} | {node.domain: 1 for node in graph.nodes if node.domain}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    version = helper.find_min_ir_version_for(imports, ignore_unknown=True)
    file.write(ModelProto(ir_version=version, producer_name="fcn-port", producer_version=VERSION).SerializeToString())
    length = len(before) + sum(len(each.head) + each.inside for each in tensors) + len(after)
    file.write(write_tag(_GRAPH, length) + before)
    for each in tensors:
        file.write(each.head)
        if beside is not None and not each.inside and each.initializer.nbytes:
            beside[0].seek(each.offset)
        _copy(each.initializer, file if each.inside or beside is None else beside[0])
    file.write(after)
    tail = ModelProto(opset_import=imports)
    helper.set_model_props(tail, dict(metadata()))
    file.write(tail.SerializeToString())


class _Tensor(NamedTuple):
    """An initializer as a field of GraphProto: the bytes before its values, how many of values follow inside, else
    where they begin in the file beside.
    """

    initializer: Initializer
    head: bytes
    inside: int
    offset: int = 0


def _tensors(graph: Graph, beside: str | None) -> Iterator[_Tensor]:
    offset = 0
    for each in graph.initializers.values():
        kind = helper.np_dtype_to_tensor_dtype(each.dtype)
        tensor = TensorProto(dims=each.dims, data_type=kind, name=each.name)
        if beside is None or each.nbytes < LEAST_OUTSIDE:
            field = tensor.SerializeToString() + write_tag(_RAW_DATA, each.nbytes)
            yield _Tensor(each, write_tag(_INITIALIZER, len(field) + each.nbytes) + field, each.nbytes)
            continue
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", beside), ("offset", offset), ("length", each.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        field = tensor.SerializeToString()
        yield _Tensor(each, write_tag(_INITIALIZER, len(field)) + field, 0, offset)
        offset += -(-each.nbytes // _ALIGNMENT) * _ALIGNMENT


def _copy(initializer: Initializer, file: BinaryIO) -> None:
    for piece in _pieces(initializer):
        file.write(piece.data)


def _pieces(initializer: Initializer) -> Iterator[np.ndarray]:
    """The values as bytes by the MiB, little-endian; those of the wanted type are not copied."""
    flat = initializer.values.reshape(-1)
    wanted = initializer.dtype.newbyteorder("<")
    for start in range(0, flat.size, _PIECE):
        piece = flat[start : start + _PIECE]
        if piece.dtype != wanted or not piece.flags.c_contiguous:
            piece = np.ascontiguousarray(piece, wanted)
        yield piece.view(np.uint8)


def _typed(end: End) -> ValueInfoProto:
    return helper.make_tensor_value_info(end.name, end.elem_type, end.dims)
