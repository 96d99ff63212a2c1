"""Caffe's messages in memory: protobuf's classes of them."""

from __future__ import annotations

import gc
import weakref

from converters.schema import LayerParameter, NetParameter, SolverParameter


def _fields_that_are_messages() -> list[str]:
    return [field.name for field in LayerParameter.DESCRIPTOR.fields if field.message_type and not field.is_repeated]


def test_the_class_of_a_message_is_never_garbage() -> None:
    """One that protobuf makes anew can be cleared while another thread reads a message of it: that crashed.

    All in one test: a collection goes over all that a suite of twelve thousand tests holds, which takes a second.
    """
    names = _fields_that_are_messages()
    made = {name: weakref.ref(type(getattr(LayerParameter(), name))) for name in names}
    gc.collect()
    assert len(names) > 40
    assert [name for name in names if made[name]() is not type(getattr(LayerParameter(), name))] == []


def test_nor_those_of_messages_within_messages() -> None:
    net, solver = NetParameter(), SolverParameter()
    made = [weakref.ref(type(each)) for each in (net.state, net.layer.add().blobs.add().shape, solver.train_state)]
    del net, solver
    gc.collect()
    assert all(each() for each in made)
