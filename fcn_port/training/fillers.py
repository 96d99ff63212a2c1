"""Caffe's weight fillers: how a net that begins from nothing begins (filler.hpp).

The distributions are Caffe's; the random numbers are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from converters.errors import NetError
from converters.layers import bilinear_kernel
from converters.net import LayerSpec, UnknownField, known_params
from converters.schema import FillerParameter


def fillers_of(layer: LayerSpec) -> dict[int, Any]:
    """The FillerParameters that a layer's settings give, by the position of the blob.

    Raises NetError for a type that has blobs and does not say which settings these are (`Layer.filler_fields`).
    """
    fields = known_params(layer).filler_fields()
    if fields is None:
        hint = f"give the class of {layer.type} a method filler_fields; converters/net/layer.py shows how"
        raise NetError(f"{layer.type} does not say how its blobs begin in training", where=layer.place, hint=hint)
    found: dict[int, Any] = {}
    for position, (settings, _, field) in enumerate(path.partition(".") for path in fields):
        if not settings:
            continue
        message = getattr(layer.message, settings, None)
        if message is None:  # a fork's, of which Caffe's schema knows nothing
            given = layer.extra_message(settings).children().get(field, [])
        elif field not in message.DESCRIPTOR.fields_by_name:  # one that a fork added to Caffe's own message
            given = [extra for extra in layer.extra if extra.name == f"{settings}.{field}"]
        else:
            given = []
            if message.HasField(field):
                found[position] = getattr(message, field)
        if given:
            found[position] = _read(given[-1], layer)
    return found


def _read(given: Any, layer: LayerSpec) -> Any:
    """The FillerParameter of a fork's field."""
    if not isinstance(given, UnknownField):
        raise NetError(f"a filler is {given!r}; expected a message", where=layer.place)
    filler = FillerParameter()
    for name, values in given.children().items():
        try:
            kind = filler.DESCRIPTOR.fields_by_name[name]
            named = kind.enum_type and isinstance(values[-1], str)
            value = kind.enum_type.values_by_name[values[-1]].number if named else values[-1]
            setattr(filler, name, float(value) if kind.type == kind.TYPE_FLOAT else value)
        except (KeyError, TypeError, ValueError):
            problem = f"a filler's {name} is {values[-1]!r}, which Caffe's fillers do not have"
            raise NetError(problem, where=layer.place) from None
    return filler


def fill(filler: Any, shape: tuple[int, ...], generator: torch.Generator, *, layer: LayerSpec | None = None) -> Tensor:
    """A float32 blob of this shape; NetError for a filler that Caffe does not have, or numbers that are none for it."""
    make = _FILLERS.get(filler.type)
    where = None if layer is None else layer.place
    if make is None:
        known = ", ".join(_FILLERS)
        raise NetError(f"there is no filler '{filler.type}'", where=where, hint=f"known are {known}")
    if filler.type == "uniform" and not 0 <= filler.max - filler.min <= torch.finfo(torch.float32).max:
        problem = f"a uniform filler from {filler.min:g} to {filler.max:g}"
        raise NetError(problem, where=where, hint="min is at most max, 1 where it is not given, and both are finite")
    if filler.type == "gaussian" and not filler.std > 0:  # math_functions.cpp, caffe_rng_gaussian
        hint = "of one number alone a constant filler makes a blob"
        raise NetError(f"a gaussian filler with std {filler.std:g}; it must be above 0", where=where, hint=hint)
    most = (shape[0] if shape else 1) if filler.type == "gaussian" else -1  # filler.hpp, Fill of each
    if not -1 <= filler.sparse <= most:
        problem = f"a {filler.type} filler with sparse {filler.sparse}"
        raise NetError(problem, where=where, hint="only a gaussian filler has it, at most the number of its outputs")
    return make(filler, torch.empty(shape), generator)


def _constant(filler: Any, blob: Tensor, generator: torch.Generator) -> Tensor:
    return blob.fill_(filler.value)


def _uniform(filler: Any, blob: Tensor, generator: torch.Generator) -> Tensor:
    return blob.uniform_(filler.min, filler.max, generator=generator)


def _gaussian(filler: Any, blob: Tensor, generator: torch.Generator) -> Tensor:
    """With `sparse` n, each input keeps about n of its outputs (filler.hpp)."""
    blob.normal_(filler.mean, filler.std, generator=generator)
    if filler.sparse >= 0:
        kept = torch.empty(blob.shape).bernoulli_(filler.sparse / _outputs(blob), generator=generator)
        blob.mul_(kept)
    return blob


def _positive_unitball(filler: Any, blob: Tensor, generator: torch.Generator) -> Tensor:
    """Each output's inputs are positive, and 1 together; so each number of a bias is 1."""
    outputs = blob.uniform_(0, 1, generator=generator).view(_outputs(blob), -1)
    outputs.div_(outputs.sum(1, keepdim=True))
    return blob


def _xavier(filler: Any, blob: Tensor, generator: torch.Generator) -> Tensor:
    scale = math.sqrt(3 / _fan(filler, blob))
    return blob.uniform_(-scale, scale, generator=generator)


def _msra(filler: Any, blob: Tensor, generator: torch.Generator) -> Tensor:
    return blob.normal_(0, math.sqrt(2 / _fan(filler, blob)), generator=generator)


def _fan(filler: Any, blob: Tensor) -> float:
    """The inputs of an output, the outputs of an input, or the mean of both, as variance_norm says."""
    fan_in = blob.numel() / _outputs(blob)
    fan_out = blob.numel() / (blob.shape[1] if blob.ndim > 1 else 1)
    return {0: fan_in, 1: fan_out, 2: (fan_in + fan_out) / 2}[filler.variance_norm]


def _outputs(blob: Tensor) -> int:
    """The first axis, 1 for a single number (blob.hpp, num)."""
    return blob.shape[0] if blob.ndim else 1


def _bilinear(filler: Any, blob: Tensor, generator: torch.Generator) -> Tensor:
    """Interpolation in every pair of channels, also between different ones."""
    if blob.ndim != 4 or blob.shape[2] != blob.shape[3]:
        raise NetError(f"a bilinear filler fills square kernels, not {tuple(blob.shape)}")
    return blob.copy_(torch.from_numpy(bilinear_kernel(blob.shape[2])).float().expand_as(blob))


_FILLERS: Mapping[str, Callable[[Any, Tensor, torch.Generator], Tensor]] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "positive_unitball": _positive_unitball,
    "xavier": _xavier,
    "msra": _msra,
    "bilinear": _bilinear,
}
