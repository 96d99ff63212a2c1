"""The part of a net that some of its blobs need.

Needs a net whose bottoms are all made. Ensures the same, with the layers that `outputs` do not need left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ChoiceError, NetError
from ..net.spec import NetSpec


def cut(spec: NetSpec, outputs: Sequence[str]) -> NetSpec:
    """The layers of `spec` that `outputs` need.

    ChoiceError for a blob that the net does not make, NetError where none is named. Of a blob that layers
    change in place it is the last state that counts, as `CaffeNet.blobs` gives it.
    """
    tops = dict.fromkeys(top for layer in spec.layers for top in layer.tops)
    unknown = [name for name in outputs if name not in tops]
    if unknown:
        raise ChoiceError(f"the net makes no blob '{unknown[0]}'", path=spec.path, hint=f"its blobs: {', '.join(tops)}")
    if not outputs:
        raise NetError("no outputs are named", path=spec.path)
    needed, layers = set(outputs), []
    for layer in reversed(spec.layers):
        if needed.intersection(layer.tops):
            needed.update(layer.bottoms)
            layers.append(layer)
    return spec.replace_layers(tuple(reversed(layers)))
