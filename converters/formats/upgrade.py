"""Caffe 1.0's own upgrade rules: nets of 2013 (V0) and 2014 (V1) as nets of today (V2).

    V0   layers { layer { name: "conv1" type: "conv" ... } bottom: ... }, separate padding layers
    V1   layers { name: "conv1" type: CONVOLUTION blobs_lr: 1 ... }
    V2   layer { name: "conv1" type: "Convolution" param { lr_mult: 1 } ... }

and, in any of them, `input` fields become an Input layer. Source: upgrade_proto.cpp, UpgradeNetAsNeeded, which this
follows step by step. It differs where Caffe would lose something: layer types and fields of forks go through, an
`input` without a shape becomes an Input layer without a shape, and a V0 net keeps its input_shape and state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import NetError, PrototxtError
from ..net.layer import UnknownField
from ..schema import LayerParameter, NetParameter, V1LayerParameter, enum_type
from .text_format import format_text, is_repeated, parse_text, set_scalar
from .upgrade_v0 import upgrade_v0_net

Extras = Mapping[int, tuple[UnknownField, ...]]


@dataclass(frozen=True)
class UpgradedNet:
    """A net in V2 form.

    `message` is a NetParameter with only `layer`. `sources[i]` is the index of the layer from which layer i comes,
    among the file's `layers` if it has any, else among its `layer`; None for a layer that the upgrade made. `extras`
    are the unknown fields by the index of the upgraded layer, `notes` what the reader of the file should know.
    """

    message: Any
    sources: tuple[int | None, ...]
    extras: Extras
    notes: tuple[str, ...]


def upgrade_net(message: Any, *, extras: Extras | None = None) -> UpgradedNet:
    """The V2 form of a NetParameter of any age; a V2 net comes back as it is.

    `extras` are the unknown fields by the index of the file's layer, as in LayerSpec.extra; the type of a V1 layer
    that only a fork has is an unknown field "type" (an identifier in text, a number in a binary file). Raises NetError
    where Caffe's upgrade would die.
    """
    net = _Upgrade(message, extras or {})
    if message.layers:
        is_v0 = any(layer.HasField("layer") for layer in message.layers)
        if is_v0:
            net.sources, net.extras = upgrade_v0_net(net.message, net.extras, net.notes)
        _upgrade_data_fields(net.message)
        _upgrade_v1(net)
        form = "2013 (V0)" if is_v0 else "2014 (V1)"
        net.notes.append(f"upgraded {len(message.layers)} layers from the form of {form}")
    if net.message.input:
        _upgrade_input(net)
    _upgrade_batch_norm(net)
    found = {i: net.extras[s] for i, s in enumerate(net.sources) if s is not None and net.extras.get(s)}
    return UpgradedNet(net.message, tuple(net.sources), found, tuple(net.notes))


class _Upgrade:
    """The working state of an upgrade: a copy of the net, and for each layer where it comes from."""

    def __init__(self, message: Any, extras: Extras) -> None:
        self.message = NetParameter()
        self.message.CopyFrom(message)
        self.extras = dict(extras)
        self.sources: list[int | None] = list(range(len(message.layers or message.layer)))
        self.notes: list[str] = []


# V1 to V2

V1_TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}
"""V1LayerParameter.LayerType -> the type of a V2 layer (upgrade_proto.cpp, UpgradeV1LayerType)."""

FORK_TYPES = {
    name.upper(): name
    for name in (
        *("BatchNorm", "BatchReindex", "Bias", "Clip", "Crop", "ELU", "Embed", "Filter", "Input", "Log", "LSTM"),
        *("Parameter", "PReLU", "Python", "Reduction", "Reshape", "RNN", "Scale", "SPP", "Swish", "Tile"),
        *("BN", "ROIPooling"),
    )
}
FORK_NUMBERS = {40: "Crop"}
"""The one number beyond Caffe's own that forks agree on: Crop in Caffe's `future` branch, from which FCN came."""


def fork_type(value: str | int) -> str:
    """The V2 type of a V1 layer type that only a fork has.

    Words go by the name they have in Caffe 1.0 or in a well-known fork, if any (CROP is Crop, BATCH_NORM BatchNorm),
    else each part is capitalised (MULTI_STAGE_MEANFIELD is MultiStageMeanfield). A number that is not known stays
    visible: 57 is "V1Type57".
    """
    if isinstance(value, int):
        return FORK_NUMBERS.get(value, f"V1Type{value}")
    return FORK_TYPES.get(value.replace("_", "").upper()) or "".join(map(str.capitalize, value.split("_")))


def _upgrade_v1(net: _Upgrade) -> None:
    if net.message.layer:
        raise NetError(
            f"both 'layer' ({len(net.message.layer)}) and 'layers' ({len(net.message.layers)}) fields; Caffe refuses "
            "to upgrade such a net",
            hint="write all of it with 'layer', whose types are strings such as \"Convolution\"",
        )
    old = list(net.message.layers)
    for position, layer in enumerate(old):
        source = net.sources[position]
        extra = net.extras.get(source, ()) if source is not None else ()
        upgraded = net.message.layer.add()
        _upgrade_v1_layer(layer, upgraded)
        extra = _take_fork_type(upgraded, extra, net.notes)
        if source is not None:
            net.extras[source] = _take_known_fields(upgraded, extra)
    net.message.ClearField("layers")


def _upgrade_v1_layer(old: Any, new: Any) -> None:
    """Copy the fields that kept their name, then the ones that moved into `param` (UpgradeV1LayerParameter)."""
    names = new.DESCRIPTOR.fields_by_name
    for field, value in old.ListFields():
        if field.name in ("type", "param") or field.name not in names:
            continue
        if is_repeated(field):
            getattr(new, field.name).extend(value)
        elif field.message_type is not None:
            getattr(new, field.name).CopyFrom(value)
        else:
            setattr(new, field.name, value)
    if old.HasField("type"):
        new.type = V1_TYPES[enum_type("V1LayerParameter.LayerType").values_by_number[old.type].name]
    for old_name, new_name in (
        ("param", "name"),
        ("blob_share_mode", "share_mode"),
        ("blobs_lr", "lr_mult"),
        ("weight_decay", "decay_mult"),
    ):
        for index, value in enumerate(getattr(old, old_name)):
            while len(new.param) <= index:
                new.param.add()
            setattr(new.param[index], new_name, value)


def _take_fork_type(layer: Any, extra: tuple[UnknownField, ...], notes: list[str]) -> tuple[UnknownField, ...]:
    for field in extra:
        if field.name == "type" and isinstance(field.value, (str, int)):
            layer.type = fork_type(field.value)
            line = "" if field.line is None else f"line {field.line}: "
            notes.append(f"{line}layer type {field.value} is not BVLC Caffe's; taken as '{layer.type}'")
    return tuple(field for field in extra if field.name != "type")


def _take_known_fields(layer: Any, extra: tuple[UnknownField, ...]) -> tuple[UnknownField, ...]:
    """Set the fields that V1 layers had in forks only and V2 layers have in Caffe, such as crop_param."""
    rest = []
    for field in extra:
        if field.name not in layer.DESCRIPTOR.fields_by_name:
            rest.append(field)
            continue
        try:
            parsed = parse_text(format_text(LayerParameter(), unknown=[field]), LayerParameter)
        except PrototxtError as error:
            raise NetError(
                error.problem, where=f"layer '{layer.name}', {field.name}" + _on_line(field), hint=error.hint
            ) from error
        layer.MergeFrom(parsed.message)
        rest.extend(replace(inner, line=field.line) for inner in parsed.unknown)
    return tuple(rest)


def _on_line(field: UnknownField) -> str:
    return "" if field.line is None else f" on line {field.line}"


# The smaller upgrades

_DATA_PARAMS = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}
_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")


def _upgrade_data_fields(message: Any) -> None:
    """Move the transformation that V1 data layers had in their own parameters (UpgradeNetDataTransformation)."""
    numbers = {V1LayerParameter.LayerType.Value(name): param for name, param in _DATA_PARAMS.items()}
    layers = [(layer, getattr(layer, numbers[layer.type])) for layer in message.layers if layer.type in numbers]
    if not any(param.HasField(name) for _, param in layers for name in _TRANSFORM_FIELDS):
        return
    for layer, param in layers:
        param.SetInParent()
        layer.transform_param.SetInParent()
        for name in _TRANSFORM_FIELDS:
            if param.HasField(name):
                set_scalar(layer.transform_param, name, getattr(param, name))
                param.ClearField(name)


def _upgrade_input(net: _Upgrade) -> None:
    """Turn `input` fields into one Input layer, the first of the net (UpgradeNetInput).

    One without a shape that an Input layer makes is left to that layer; Caffe would refuse two makers of one blob.
    """
    message = net.message
    shapes = [list(shape.dim) for shape in message.input_shape]
    if not shapes:
        dims = list(message.input_dim)
        if len(dims) % 4:
            raise NetError(f"input_dim is given {len(dims)} times", hint="each input takes four: n, c, h, w")
        shapes = [dims[i : i + 4] for i in range(0, len(dims), 4)]
    names = list(message.input)
    if shapes and len(shapes) < len(names):
        raise NetError(f"{len(names)} inputs but {len(shapes)} shapes", hint="give each input its shape")
    if len(shapes) > len(names):
        net.notes.append(f"{len(names)} inputs but {len(shapes)} shapes; as in Caffe, the last ones are ignored")
    if not shapes:
        made_later = {top for layer in message.layer if layer.type == "Input" for top in layer.top}
        doubled, names = [n for n in names if n in made_later], [n for n in names if n not in made_later]
        if doubled:
            net.notes.append(f"input {', '.join(doubled)} is left to the Input layer that makes it and has its shape")
        if not names:
            message.ClearField("input")
            return
        net.notes.append(f"the net gives no shape for its inputs {', '.join(names)}")
    layers = list(message.layer)
    for name in ("layer", "input", "input_dim", "input_shape"):
        message.ClearField(name)
    made = message.layer.add(name="input", type="Input", top=names)
    for shape in shapes[: len(names)]:
        made.input_param.shape.add(dim=shape)
    message.layer.extend(layers)
    net.sources.insert(0, None)


def _upgrade_batch_norm(net: _Upgrade) -> None:
    """Keep the solver away from the three statistics of a BatchNorm (UpgradeNetBatchNorm).

    Where it is kept away already, as in every file that Caffe 1.0 wrote, the file can be written again as it was.
    """
    for layer in net.message.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3 and any(param.lr_mult for param in layer.param):
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0.0
