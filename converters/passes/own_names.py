"""A name of its own for every layer with weights: Caffe builds nets in which two layers have one name.

Needs a net of one phase. Ensures that no layer has the name of one whose type has blobs: the first of those keeps it,
another layer is called NAME_2 and so on, and a note says so. Caffe itself gives the weights of all of them in a file to
the first (net.cpp, CopyTrainedLayersFrom), and the others keep what they began with. SSH's training nets are so.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from ..layers import find_layer
from ..net.layer import LayerSpec
from ..net.spec import NetSpec


def with_own_names(spec: NetSpec) -> NetSpec:
    """The net in which every layer with weights has a name of its own; one that is so comes back as it is."""
    taken = {layer.name for layer in spec.layers}
    owners: dict[str, int] = {}
    for index, layer in enumerate(spec.layers):
        if _has_blobs(layer):
            owners.setdefault(layer.name, index)
    layers, renamed = [], []
    for index, layer in enumerate(spec.layers):
        if owners.get(layer.name, index) != index:
            name = next(each for each in (f"{layer.name}_{i}" for i in count(2)) if each not in taken)
            taken.add(name)
            renamed.append(f"'{layer.name}' is '{name}'")
            layer = replace(layer, name=name)
        layers.append(layer)
    if not renamed:
        return spec
    more = f" and {len(renamed) - 3} more" if len(renamed) > 3 else ""
    note = f"several layers with weights have one name, so that the second {', the second '.join(renamed[:3])}{more}; "
    note += "Caffe loads the weights of both into the first"
    return replace(spec, layers=tuple(layers), notes=(*spec.notes, note))


def _has_blobs(layer: LayerSpec) -> bool:
    layer_class = find_layer(layer.type)
    return layer_class is not None and layer_class.has_blobs()
