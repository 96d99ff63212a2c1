"""V0 layers, of 2013, as V1 layers (upgrade_proto.cpp, UpgradeV0Net).

Each V0 layer is one flat message for every type, inside a `layers` that wires it; padding is a layer of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import NetError
from ..net.layer import Identifier, UnknownField
from ..schema import V1LayerParameter
from .text_format import set_scalar

V0_TYPES = {
    "conv": "CONVOLUTION",
    "images": "IMAGE_DATA",
    "innerproduct": "INNER_PRODUCT",
    "pool": "POOLING",
    **{
        name: name.upper()
        for name in (
            *("accuracy", "bnll", "concat", "data", "dropout", "euclidean_loss", "flatten", "hdf5_data"),
            *("hdf5_output", "im2col", "infogain_loss", "lrn", "multinomial_logistic_loss", "relu", "sigmoid"),
            *("softmax", "softmax_loss", "split", "tanh", "window_data"),
        )
    },
}
"""A V0 type -> V1LayerParameter.LayerType (UpgradeV0LayerType)."""

_CONV_AND_FC = {"conv": "convolution_param", "innerproduct": "inner_product_param"}
_CONV_AND_POOL = {"conv": "convolution_param", "pool": "pooling_param"}
_LRN = {"lrn": "lrn_param"}
_IMAGES = {"images": "image_data_param"}
_WINDOW = {"window_data": "window_data_param"}
_BATCHED = {"data": "data_param", "hdf5_data": "hdf5_data_param", **_IMAGES, **_WINDOW}

V0_FIELDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "num_output": ("num_output", _CONV_AND_FC),
    "biasterm": ("bias_term", _CONV_AND_FC),
    "weight_filler": ("weight_filler", _CONV_AND_FC),
    "bias_filler": ("bias_filler", _CONV_AND_FC),
    "pad": ("pad", _CONV_AND_POOL),
    "kernelsize": ("kernel_size", _CONV_AND_POOL),
    "stride": ("stride", _CONV_AND_POOL),
    "group": ("group", {"conv": "convolution_param"}),
    "pool": ("pool", {"pool": "pooling_param"}),
    "dropout_ratio": ("dropout_ratio", {"dropout": "dropout_param"}),
    "local_size": ("local_size", _LRN),
    "alpha": ("alpha", _LRN),
    "beta": ("beta", _LRN),
    "k": ("k", _LRN),
    "source": ("source", {**_BATCHED, "infogain_loss": "infogain_loss_param"}),
    "batchsize": ("batch_size", _BATCHED),
    "rand_skip": ("rand_skip", {"data": "data_param", **_IMAGES}),
    "shuffle_images": ("shuffle", _IMAGES),
    "new_height": ("new_height", _IMAGES),
    "new_width": ("new_width", _IMAGES),
    "concat_dim": ("concat_dim", {"concat": "concat_param"}),
    "det_fg_threshold": ("fg_threshold", _WINDOW),
    "det_bg_threshold": ("bg_threshold", _WINDOW),
    "det_fg_fraction": ("fg_fraction", _WINDOW),
    "det_context_pad": ("context_pad", _WINDOW),
    "det_crop_mode": ("crop_mode", _WINDOW),
}
"""A V0 field -> its V1 name, and for each V0 type that may have it, the message that it moves to."""

TRANSFORM_FIELDS = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
"""V0 fields that move to transform_param, whatever the layer's type."""

_PLAIN = ("blobs", "blobs_lr", "weight_decay")

OpenExtras = dict[int, tuple[UnknownField, ...]]


def upgrade_v0_net(message: Any, extras: OpenExtras, notes: list[str]) -> tuple[list[int | None], OpenExtras]:
    """Rewrite the `layers` of a NetParameter in place; gives for each one the index it had, and the extras by that.

    Raises NetError where Caffe dies: padding before anything but a lone convolution or pooling, unknown bottoms.
    """
    old = list(message.layers)
    if not all(layer.HasField("layer") for layer in old):
        raise NetError("V0 and V1 layers are mixed in one net", hint="give each 'layers' an inner 'layer', or none")
    kept = _fold_padding(message, old)
    extras = {index: tuple(_without_prefix(field) for field in fields) for index, fields in extras.items()}
    upgraded = []
    for index, layer in kept.items():
        upgraded.append(_upgrade_layer(layer, notes))
        name = layer.layer.type
        if layer.layer.HasField("type") and name not in V0_TYPES:
            extras[index] = (*extras.get(index, ()), UnknownField("type", Identifier(name)))
    message.ClearField("layers")
    message.layers.extend(upgraded)
    return list(kept), extras


def _without_prefix(field: UnknownField) -> UnknownField:
    return replace(field, name=field.name.removeprefix("layer."))


def _fold_padding(message: Any, layers: list[Any]) -> dict[int, Any]:
    """The layers that are not padding, by index, with the padding before them as their pad (UpgradeV0PaddingLayers)."""
    maker: dict[str, int | None] = dict.fromkeys(message.input)
    kept: dict[int, Any] = {}
    for index, original in enumerate(layers):
        layer = type(original)()
        layer.CopyFrom(original)
        for position, bottom in enumerate(original.bottom):
            if bottom not in maker:
                raise _error(layer, f"its bottom '{bottom}' comes from no layer before it")
            source = maker[bottom]
            if source is not None and layers[source].layer.type == "padding":
                _check_padding(layer, layers[source])
                layer.layer.pad = layers[source].layer.pad
                layer.bottom[position] = layers[source].bottom[0]
        if layer.layer.type != "padding":
            kept[index] = layer
        maker.update(dict.fromkeys(original.top, index))
    return kept


def _check_padding(layer: Any, padding: Any) -> None:
    name, kind = padding.layer.name, layer.layer.type
    if kind not in ("conv", "pool"):
        raise _error(layer, f"its bottom is made by padding layer '{name}'; type '{kind}' cannot be padded")
    if len(layer.bottom) != 1:
        raise _error(layer, f"padding layer '{name}' feeds a layer with {len(layer.bottom)} bottoms; it must have one")
    if len(padding.bottom) != 1 or len(padding.top) != 1:
        raise _error(padding, f"{len(padding.bottom)} bottoms and {len(padding.top)} tops; padding has one of each")


def _upgrade_layer(old: Any, notes: list[str]) -> Any:
    """One V1 layer of a V0 layer (UpgradeV0LayerParameter); fields that mean nothing to its type are noted."""
    flat = old.layer
    new = V1LayerParameter(bottom=old.bottom, top=old.top)
    if flat.type in V0_TYPES:
        new.type = V1LayerParameter.LayerType.Value(V0_TYPES[flat.type])
    if flat.HasField("name"):
        new.name = flat.name
    for field, value in flat.ListFields():
        if field.name in _PLAIN:
            getattr(new, field.name).extend(value)
        elif field.name in TRANSFORM_FIELDS:
            set_scalar(new.transform_param, TRANSFORM_FIELDS[field.name], value)
        elif field.name == "hdf5_output_param" and flat.type == "hdf5_output":
            new.hdf5_output_param.CopyFrom(value)
        elif field.name in ("new_height", "new_width") and value < 0:  # int32 then, uint32 since
            raise _error(old, f"{field.name} is {value}; expected 0 or more")
        elif field.name not in ("name", "type") and not _move(new, flat.type, field.name, value):
            notes.append(f"layer '{flat.name}': type '{flat.type}' has no '{field.name}'; left out, as in Caffe")
    return new


def _move(new: Any, kind: str, name: str, value: Any) -> bool:
    target, messages = V0_FIELDS.get(name, ("", {}))
    if kind not in messages:
        return False
    message = getattr(new, messages[kind])
    place = getattr(message, target)
    if hasattr(place, "append"):
        place.append(value)
    elif hasattr(place, "CopyFrom"):
        place.CopyFrom(value)
    else:
        set_scalar(message, target, value)
    return True


def _error(layer: Any, problem: str) -> NetError:
    return NetError(problem, where=f"layer '{layer.layer.name or layer.name}'")
