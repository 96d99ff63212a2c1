"""Offsets for the Crop layers that give none, worked out from the layers around them (coord_map.py of Caffe).

Needs a net whose bottoms are all made. Ensures that every Crop layer has an offset.
"""

from __future__ import annotations

from dataclasses import replace

from ..net.coord_map import Coordinates, apart, no_offset, written_offset
from ..net.layer import LayerSpec
from ..net.spec import NetSpec


def auto_crop(spec: NetSpec, *, every: bool = True) -> NetSpec:
    """The net with derived offsets in the Crop layers that give none; the others are left as they are.

    An AutoCrop, that layer under a name of its own (yun-liu/rcf, auto_crop_layer.cpp), becomes such a Crop; without
    `every` the offsets of these alone are derived.

    For nets of Caffe's old `future` branch (the CVPR releases, HED, CRF-RNN), whose Crop layer worked them out itself.
    As that layer did, it refuses an offset that is not whole (NetError).
    """
    net = Coordinates(spec)
    for i, layer in enumerate(spec.layers):
        if (every and layer.type == "Crop" and written_offset(layer) is None) or layer.type == "AutoCrop":
            derivation = net.derive(i)
            offset = derivation.derived
            if any(exact != whole for exact, whole in zip(derivation.exact, offset, strict=True)):
                raise no_offset(spec, layer, apart(derivation.exact))
            message = layer.to_message()
            message.type = "Crop"
            message.crop_param.axis = 2
            message.crop_param.offset.extend(offset[:1] if offset[0] == offset[1] else offset)
            net.put(i, LayerSpec.from_message(message, extra=layer.extra, line=layer.line))
    return replace(spec, layers=tuple(net.layers))
