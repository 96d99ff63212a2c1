"""Caffe's messages, compiled from caffe.proto into a descriptor pool of their own.

A private pool lets pycaffe, whose generated module registers the same names in protobuf's default pool, live in the
same process. `caffe.desc` is the compiled schema (`make proto`), checked in so that no compiler is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor

_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString((files(__package__) / "caffe.desc").read_bytes()).file:
    _pool.Add(_file)


def message_type(name: str) -> Descriptor:
    """The descriptor of one of Caffe's messages, such as "LayerParameter"."""
    return _pool.FindMessageTypeByName(f"caffe.{name}")


def enum_type(name: str) -> EnumDescriptor:
    """The descriptor of one of Caffe's enums, such as "Phase" or "V1LayerParameter.LayerType"."""
    return _pool.FindEnumTypeByName(f"caffe.{name}")


def _and_nested(types: Iterable[Descriptor]) -> Iterator[Descriptor]:
    for each in types:
        yield each
        yield from _and_nested(each.nested_types)


_CLASSES: dict[str, Any] = {
    each.full_name: message_factory.GetMessageClass(each)
    for each in _and_nested(_pool.FindFileByName(_file.name).message_types_by_name.values())
}
# All of them are held: protobuf refers to the class of a message weakly, and makes it anew where nobody has one. With
# threads that ends in a segmentation fault, as the garbage collector clears a class that it found unused while another
# thread, let in by the destructor of a tensor, takes it up again (protobuf 7.36, python/message.c,
# PyUpb_MessageMeta_Clear).

BlobProto = _CLASSES["caffe.BlobProto"]
FillerParameter = _CLASSES["caffe.FillerParameter"]
LayerParameter = _CLASSES["caffe.LayerParameter"]
NetParameter = _CLASSES["caffe.NetParameter"]
NetState = _CLASSES["caffe.NetState"]
ParamSpec = _CLASSES["caffe.ParamSpec"]
SolverParameter = _CLASSES["caffe.SolverParameter"]
SolverState = _CLASSES["caffe.SolverState"]
V1LayerParameter = _CLASSES["caffe.V1LayerParameter"]
