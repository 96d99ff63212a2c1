"""The wiring of a net, checked as Caffe does when it builds one."""

from __future__ import annotations

from collections import Counter
from difflib import get_close_matches
from typing import NoReturn

from ..errors import NetError
from .layer import LayerSpec
from .spec import NetSpec

_COMPARED, _LONGEST = 1000, 100
"""The most names, and characters, that are compared with one that is not known: that takes the square of the length."""


def validate(spec: NetSpec) -> None:
    """Raise NetError where Caffe would refuse the wiring of a net of one phase.

    Each bottom must have been made by a layer before it. Each top must be new, or be the bottom in the same position
    (in place); a blob that changes in place may have no other reader before. propagate_down goes with every bottom.
    Source: net.cpp, Init, AppendTop and AppendBottom; insert_splits.cpp.
    """
    readers = _count_readers(spec)
    maker: dict[str, LayerSpec] = {}
    version: Counter[str] = Counter()
    for layer in spec.layers:
        for position, top in enumerate(layer.tops):
            in_place = layer.bottoms[position : position + 1] == (top,)
            if top in maker and not in_place:
                hint = f"layer '{maker[top].name}' makes it already; only the bottom in the same position may be a top"
                _refuse(spec, layer, f"top '{top}' is made by two layers", hint)
            if in_place and readers[top, version[top]] > 1:
                hint = "Caffe would give each reader a copy, so the layer cannot work in place: give its top a new name"
                _refuse(spec, layer, f"it changes '{top}' in place, which another layer reads as well", hint)
            maker[top] = layer
            version[top] += 1
        down = len(layer.message.propagate_down)
        if down not in (0, len(layer.bottoms)):
            _refuse(spec, layer, f"propagate_down is given {down} times; expected 0 or {len(layer.bottoms)}", None)


def _count_readers(spec: NetSpec) -> Counter[tuple[str, int]]:
    """The number of bottoms that read each version of a blob; layers that work in place make a new version."""
    readers: Counter[tuple[str, int]] = Counter()
    version: Counter[str] = Counter()
    for layer in spec.layers:
        for bottom in layer.bottoms:
            if not version[bottom]:
                problem = f"no layer before it makes its bottom '{bottom}'"
                _refuse(spec, layer, problem, _help_find(spec, bottom, version))
            readers[bottom, version[bottom]] += 1
        version.update(layer.tops)
    return readers


def _help_find(spec: NetSpec, blob: str, known: Counter[str]) -> str:
    later = next((layer.name for layer in spec.layers if blob in layer.tops), None)
    if later is not None:
        return f"layer '{later}', which makes it, comes later or is the same"
    names = [name for name, count in known.items() if count]
    likely = [name for name in names[-_COMPARED:] if len(name) <= _LONGEST]
    similar = get_close_matches(blob, likely, n=3) if len(blob) <= _LONGEST else []
    if similar:
        return f"did you mean {' or '.join(map(repr, similar))}?"
    return f"blobs so far: {', '.join(names[-10:]) or 'none'}"


def _refuse(spec: NetSpec, layer: LayerSpec, problem: str, hint: str | None) -> NoReturn:
    raise NetError(problem, path=spec.path, where=layer.place, hint=hint)
