"""The weights that a run begins with: from other nets as far as they go, the rest as Caffe or the release begins it.

Surgery does the first part. What no source has begins as its filler says; without one, layers that score classes begin
with zeros, deconvolutions with bilinear interpolation, and all others with Caffe's "msra" filler (He et al., 2015):
zeros, Caffe's default, would never learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from converters.execution import split_key
from converters.layers import bilinear_weight
from converters.net import LayerSpec, NetSpec, known_params
from converters.schema import FillerParameter

from ..nets import FCN
from ..surgery import StateDict, Surgery, expand_all_scores, initialise, transplant
from .fillers import fill, fillers_of


@dataclass(frozen=True, eq=False)
class Beginning:
    """The first weights: what surgery did, and the layers that began at random."""

    surgery: Surgery
    random: tuple[str, ...]


def begin(
    net: nn.Module, spec: NetSpec, *sources: StateDict, seed: int = 1337, expand_scores: bool = False
) -> Beginning:
    """Give `net`, which `spec` defines, its first weights.

    `sources` are the state dicts of other nets, none to begin from nothing; `expand_scores` as in
    `surgery.initialise`. Raises MismatchError where nothing of a source fits, NetError for an unknown filler.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = {layer.name: layer for layer in spec.layers}
    random: set[str] = set()
    with torch.no_grad():
        for key, blob in net.state_dict(keep_vars=True).items():
            layer, position = layers[split_key(key)[0]], split_key(key)[1]
            filled = _first_values(blob, layer, position, generator)
            if filled is not None:
                values, is_random = filled
                blob.copy_(values)
                random |= {key} if is_random else set()
    if sources and isinstance(net, FCN):
        surgery = initialise(net, *sources, expand_scores=expand_scores)
    else:
        surgery = Surgery(dict(net.state_dict()), ())
        for source in sources:
            rest = source
            if expand_scores:
                surgery, rest = expand_all_scores(surgery if surgery.changes else net, source)
            surgery = transplant(surgery if surgery.changes else net, rest)
    net.load_state_dict(surgery.state)
    taken = {change.key for change in surgery.changes if change.fate not in ("untouched", "dropped")}
    return Beginning(surgery, tuple(split_key(key)[0] for key in net.state_dict() if key in random - taken))


def _first_values(
    blob: Tensor, layer: LayerSpec, position: int, generator: torch.Generator
) -> tuple[Tensor, bool] | None:
    """The first values of a blob, and whether that is random; None for what it holds already."""
    filler = fillers_of(layer).get(position)
    shape = tuple(blob.shape)
    if filler is not None:
        return fill(filler, shape, generator, layer=layer), filler.type not in ("constant", "bilinear")
    params = known_params(layer)
    first = dict(zip(params.statistics(), params.first_statistics() or (), strict=False))
    if position in first:
        return torch.full(shape, first[position]), False
    if layer.type == "Deconvolution" and position == 0 and shape[2] == shape[3]:
        return torch.from_numpy(bilinear_weight(shape)), False
    if layer.type not in ("Convolution", "InnerProduct", "Deconvolution"):
        return None
    if position > 0 or "score" in layer.name:
        return torch.zeros(shape), False
    return fill(FillerParameter(type="msra"), shape, generator), True
