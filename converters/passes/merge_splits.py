"""The net without the copies that Caffe put in (insert_splits.cpp).

Needs nothing. Ensures that no Split of Caffe's is left whose tops are read.
"""

from __future__ import annotations

import re
from dataclasses import replace

from ..net.layer import LayerSpec
from ..net.spec import NetSpec


def merge_splits(spec: NetSpec) -> NetSpec:
    """The net without the Split layers that Caffe put in: whoever reads a copy reads the blob itself.

    One that somebody wrote stays, for its tops have names that people ask for. The copies of a Split share their blob's
    memory (split_layer.cpp), so no number changes. A copy that nobody reads is an output and keeps its Split.
    """
    outputs = set(spec.outputs)
    names: dict[str, str] = {}
    layers: list[LayerSpec] = []
    for layer in spec.layers:
        bottoms = tuple(names.get(bottom, bottom) for bottom in layer.bottoms)
        tops = tuple(names.get(top, top) for top in layer.tops)
        if _is_inserted(layer):
            names.update((top, bottoms[0]) for top in tops if top not in outputs)
            tops = tuple(top for top in tops if top in outputs)
            if not tops:
                continue
        changed = (bottoms, tops) != (layer.bottoms, layer.tops)
        layers.append(replace(layer, bottoms=bottoms, tops=tops) if changed else layer)
    return spec.replace_layers(tuple(layers))


def _is_inserted(layer: LayerSpec) -> bool:
    """True for a Split that Caffe put in: it calls it <blob>_<layer>_<top>_split, and its tops that and a number each.

    Source: insert_splits.cpp, SplitLayerName and SplitBlobName.
    """
    if layer.type != "Split" or len(layer.bottoms) != 1:
        return False
    named = re.fullmatch(re.escape(layer.bottoms[0]) + r"_.*_\d+_split", layer.name, re.DOTALL)
    return named is not None and all(re.fullmatch(re.escape(layer.name) + r"_\d+", top) for top in layer.tops)
