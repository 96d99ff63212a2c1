"""The part of a net that some of its blobs need.

Needs a net whose bottoms are all made. Ensures the same, with the layers that `outputs` do not need left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ChoiceError, NetError
from ..net.spec import NetSpec
from ..net.versions import BlobVersion, is_another_name, versions


def cut(spec: NetSpec, outputs: Sequence[str]) -> NetSpec:
    """The layers of `spec` that `outputs` need.

    ChoiceError for a blob that the net does not make, NetError where none is named. Of a blob that layers
    change in place it is the last state that counts, as `CaffeNet.blobs` gives it; so a layer stays that changes
    what is needed under another name of its memory.
    """
    blobs = dict.fromkeys(top for layer in spec.layers for top in layer.tops)
    unknown = [name for name in outputs if name not in blobs]
    if unknown:
        raise ChoiceError(
            f"the net makes no blob '{unknown[0]}'", path=spec.path, hint=f"its blobs: {', '.join(blobs)}"
        )
    if not outputs:
        raise NetError("no outputs are named", path=spec.path)
    made = versions(spec)
    latest = {top.name: top for _, tops in made for top in tops}
    needed, memories, layers = set(outputs), {latest[name].memory for name in outputs}, []
    for layer, (bottoms, tops) in reversed(list(zip(spec.layers, made, strict=True))):
        if needed.intersection(layer.tops) or (_changed(tops) & memories and not is_another_name(layer)):
            needed.update(layer.bottoms)
            memories.update(bottom.memory for bottom in bottoms)
            layers.append(layer)
    return spec.replace_layers(tuple(reversed(layers)))


def _changed(tops: Sequence[BlobVersion]) -> set[BlobVersion]:
    """The memories that a layer changes in place."""
    return {top.memory for top in tops if top.before is not None}
