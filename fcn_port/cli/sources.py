"""WHAT on the command line: the name of a net or release, or a file of any kind that holds a net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from converters.errors import CaffeFormatError, MismatchError
from converters.execution import split_key
from converters.export import map_tensors, read_metadata
from converters.formats import Blobs, parse_prototxt, read_caffemodel, read_prototxt, sniff
from converters.net import NetSpec
from converters.passes import prepare
from weights.catalogue import bundled

from .bringing import bring_file, definition_here, looks_like_a_name


def read_net(what: str) -> NetSpec:
    """The definition of a net by name, or of the net in a prototxt, caffemodel or converted file."""
    if looks_like_a_name(what):
        return _named_net(what)
    kind = sniff.sniff_file(what)
    if kind == sniff.TEXT:
        return read_prototxt(what)
    if kind == sniff.SAFETENSORS:
        return _converted_net(what)
    _refuse_other_kinds(what, kind)
    spec = read_caffemodel(what).spec
    if spec is None:
        raise CaffeFormatError("an .h5 holds no net", path=what, hint="give its prototxt instead")
    return spec


def read_net_and_blobs(what: str, *, blobs: bool = True) -> tuple[NetSpec | None, Blobs]:
    """The net and the blobs of a file or release; a prototxt has no blobs, an .h5 or .pth no net.

    A name without `blobs` is not fetched where its net is written by hand.
    """
    if looks_like_a_name(what):
        if not blobs:
            return _named_net(what), {}
        what = str(bring_file(what).path)
    kind = sniff.sniff_file(what)
    if kind == sniff.TEXT:
        return read_prototxt(what), {}
    if kind == sniff.SAFETENSORS:
        return _converted_net_and_blobs(what)
    if kind in (sniff.ZIP, sniff.PICKLE):
        return None, _blobs_of_pth(what, kind)
    _refuse_other_kinds(what, kind)
    model = read_caffemodel(what)
    return model.spec, model.blobs


def _refuse_other_kinds(what: str, kind: str) -> None:
    """CaffeFormatError for a file that is plainly none that a net or weights are in."""
    if kind not in (sniff.PROTOBUF, sniff.HDF5):
        raise sniff.not_a("a prototxt, a .caffemodel, an .h5 or a converted file", kind).in_file(what)


def read_runnable(what: str, *, crops: bool = False) -> NetSpec:
    """The net of WHAT as it is run; of a file with weights, inputs have sizes that these fit, and none is assumed."""
    spec, blobs = read_net_and_blobs(what, blobs=False)
    deploy = prepare(read_net(what) if spec is None else spec, blobs=blobs, crops=crops)
    return replace(deploy, assumed=()) if blobs else deploy


def is_only_a_file(name: str) -> bool:
    """True for a release of a net that is nowhere written by hand, and so needs no torch to be shown."""
    return name in bundled() and bundled()[name].net is None


def _named_net(name: str) -> NetSpec:
    """The definition of a hand-written net, the one that a famous net is run with, or the one in a release's file."""
    if not is_only_a_file(name):
        from ..nets import NETS
        from ..porting import net_definition

        if name in NETS:
            return net_definition(name)
    if (definition := definition_here(name)) is not None:
        return read_prototxt(definition)
    spec = read_caffemodel(bring_file(name).path).spec
    assert spec is not None, "a release is a .caffemodel, which holds its net"
    return spec


def is_definition(what: str) -> bool:
    """True for a file that holds a net and no weights."""
    return not looks_like_a_name(what) and sniff.sniff_file(what) == sniff.TEXT


def _converted_net_and_blobs(path: str) -> tuple[NetSpec | None, Blobs]:
    has_net = "prototxt" in read_metadata(path)
    return _converted_net(path) if has_net else None, _by_layer(map_tensors(path), path)


def _blobs_of_pth(path: str, kind: str) -> Blobs:
    from ..pth import read_pth

    return _by_layer({key: tensor.float().numpy() for key, tensor in read_pth(Path(path), kind).items()}, path)


def _by_layer(tensors: Mapping[str, np.ndarray], path: str) -> Blobs:
    layers: dict[str, dict[int, np.ndarray]] = {}
    for key, tensor in tensors.items():
        try:
            layer, position = split_key(key)
        except MismatchError as error:
            raise error.in_file(path) from None
        layers.setdefault(layer, {})[position] = tensor
    return {layer: tuple(own[position] for position in sorted(own)) for layer, own in layers.items()}


def _converted_net(path: str) -> NetSpec:
    metadata = read_metadata(path)
    if "prototxt" not in metadata:
        raise CaffeFormatError("no net definition in its metadata", path=path, hint="give the net's prototxt instead")
    return parse_prototxt(metadata["prototxt"], path=f"{path}, its prototxt")
