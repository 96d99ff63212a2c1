"""A name of its own for every layer with weights: Caffe builds nets in which two layers have one name.

Needs a net of one phase. Ensures that no layer has the name of one whose type has blobs: the first of those keeps it,
another layer is called NAME_2 and so on, and a note says so. Caffe itself gives the weights of all of them in a file to
the first (net.cpp, CopyTrainedLayersFrom), and the others keep what they began with. SSH's training nets are so.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from ..net.spec import NetSpec
from ..wording import first_of


def with_own_names(spec: NetSpec) -> NetSpec:
    """The net in which every layer with weights has a name of its own; one that is so comes back as it is."""
    taken = {layer.name for layer in spec.layers}
    owners: dict[str, int] = {}
    for index, layer in enumerate(spec.layers):
        if layer.may_learn:
            owners.setdefault(layer.name, index)
    layers, renamed = [], []
    for index, layer in enumerate(spec.layers):
        if owners.get(layer.name, index) != index:
            name = next(each for each in (f"{layer.name}_{i}" for i in count(2)) if each not in taken)
            taken.add(name)
            renamed.append(f"the second '{layer.name}' is '{name}'")
            layer = replace(layer, name=name)
        layers.append(layer)
    if not renamed:
        return spec
    note = f"several layers with weights have one name, so that {first_of(renamed, 3)}; "
    note += "Caffe loads the weights of both into the first"
    return replace(spec, layers=tuple(layers), notes=(*spec.notes, note))
