"""Caffe's messages, compiled from caffe.proto into a descriptor pool of their own.

A private pool lets pycaffe, whose generated module registers the same names in protobuf's default pool, live in the
same process. `caffe.desc` is the compiled schema (`make proto`), checked in so that no compiler is needed.
"""

from __future__ import annotations

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


def _message_class(name: str) -> Any:
    return message_factory.GetMessageClass(message_type(name))


BlobProto = _message_class("BlobProto")
FillerParameter = _message_class("FillerParameter")
LayerParameter = _message_class("LayerParameter")
NetParameter = _message_class("NetParameter")
NetState = _message_class("NetState")
ParamSpec = _message_class("ParamSpec")
SolverParameter = _message_class("SolverParameter")
SolverState = _message_class("SolverState")
V1LayerParameter = _message_class("V1LayerParameter")
