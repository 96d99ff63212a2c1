"""Fields that a fork has by number, and whose names a layer's type tells, with names again.

SSD's fork (weiliu89/caffe, branch ssd, src/caffe/proto/caffe.proto) has Permute, PriorBox, DetectionOutput and
Normalize under the numbers 202, 203, 204 and 206 of LayerParameter. Other forks have other messages there, so that a
field gets its name only in a layer of that type, and only where all that is in it is what the message has there.
Of other layers every fork has chosen a number of its own (ROIPooling: 48, 79, 147, 150, 8266711 and more) for the same
message: there the type and what is in it tell, if one field alone is of that form.

Sources of these, each src/caffe/proto/caffe.proto: rbgirshick/caffe-fast-rcnn (ROIPooling), Microsoft/caffe
(PSROIPooling), Cambricon/caffe (ROIAlign), hszhao/PSPNet (Interp, BN), alexgkendall/caffe-segnet (BN, Upsample),
gklz1982/caffe-yolov2 (Reorg), farmingyard/ShuffleNet (ShuffleChannel).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from ..errors import WireError
from ..net.layer import Identifier, UnknownField
from .wire import BYTES, VARINT, Field, Message, expect, read_int, read_numbers, read_varint, signed

WHOLE, FLAG, NUMBER, WORD, TEXT, INNER = "whole", "flag", "number", "word", "text", "inner"


class _Known(NamedTuple):
    name: str
    kind: str
    inner: Mapping[int, _Known] = {}
    words: tuple[str, ...] = ()
    repeated: bool = False
    telling: frozenset[int] = frozenset()
    """Fields of which one must be there, as without them several forks' messages look the same."""


_FILLER = {
    1: _Known("type", TEXT),
    2: _Known("value", NUMBER),
    3: _Known("min", NUMBER),
    4: _Known("max", NUMBER),
    5: _Known("mean", NUMBER),
    6: _Known("std", NUMBER),
    7: _Known("sparse", WHOLE),
    8: _Known("variance_norm", WORD, words=("FAN_IN", "FAN_OUT", "AVERAGE")),
}
_PERMUTE = {1: _Known("order", WHOLE, repeated=True)}
_PRIOR_BOX = {
    **{i: _Known(name, NUMBER) for i, name in ((1, "min_size"), (2, "max_size"), (3, "aspect_ratio"), (6, "variance"))},
    **{i: _Known(name, FLAG) for i, name in ((4, "flip"), (5, "clip"))},
    **{i: _Known(name, WHOLE) for i, name in ((7, "img_size"), (8, "img_h"), (9, "img_w"))},
    **{i: _Known(name, NUMBER) for i, name in ((10, "step"), (11, "step_h"), (12, "step_w"), (13, "offset"))},
}
_NMS = {1: _Known("nms_threshold", NUMBER), 2: _Known("top_k", WHOLE), 3: _Known("eta", NUMBER)}
_SAVED = {
    **{i: _Known(name, TEXT) for i, name in ((1, "output_directory"), (2, "output_name_prefix"), (3, "output_format"))},
    **{i: _Known(name, TEXT) for i, name in ((4, "label_map_file"), (5, "name_size_file"))},
    6: _Known("num_test_image", WHOLE),
}
_DETECTION_OUTPUT = {
    1: _Known("num_classes", WHOLE),
    2: _Known("share_location", FLAG),
    3: _Known("background_label_id", WHOLE),
    4: _Known("nms_param", INNER, _NMS),
    5: _Known("save_output_param", INNER, _SAVED),
    6: _Known("code_type", WORD, words=("", "CORNER", "CENTER_SIZE", "CORNER_SIZE")),
    7: _Known("keep_top_k", WHOLE),
    8: _Known("variance_encoded_in_target", FLAG),
    9: _Known("confidence_threshold", NUMBER),
    10: _Known("visualize", FLAG),
    11: _Known("visualize_threshold", NUMBER),
    12: _Known("save_file", TEXT),
}
_NORMALIZE = {
    1: _Known("across_spatial", FLAG),
    2: _Known("scale_filler", INNER, _FILLER),
    3: _Known("channel_shared", FLAG),
    4: _Known("eps", NUMBER),
}
_REGIONS = {1: _Known("pooled_h", WHOLE), 2: _Known("pooled_w", WHOLE), 3: _Known("spatial_scale", NUMBER)}
_POSITIONS = {1: _Known("spatial_scale", NUMBER), 2: _Known("output_dim", WHOLE), 3: _Known("group_size", WHOLE)}
_INTERP_SIZES = ("height", "width", "zoom_factor", "shrink_factor", "pad_beg", "pad_end")
_INTERP = {i: _Known(name, WHOLE) for i, name in enumerate(_INTERP_SIZES, 1)}
_UPSAMPLE = {
    **{i: _Known(name, WHOLE) for i, name in ((1, "scale"), (2, "scale_h"), (3, "scale_w"))},
    **{i: _Known(name, FLAG) for i, name in ((4, "pad_out_h"), (5, "pad_out_w"))},
    **{i: _Known(name, WHOLE) for i, name in ((6, "upsample_h"), (7, "upsample_w"))},
}
_BN_SEGNET = {
    **{i: _Known(name, INNER, _FILLER) for i, name in ((1, "scale_filler"), (2, "shift_filler"))},
    3: _Known("bn_mode", WORD, words=("LEARN", "INFERENCE")),
}
_BN_PSPNET = {
    **{i: _Known(name, INNER, _FILLER) for i, name in ((1, "slope_filler"), (2, "bias_filler"))},
    **{i: _Known(name, NUMBER) for i, name in ((3, "momentum"), (4, "eps"))},
    5: _Known("frozen", FLAG),
    6: _Known("engine", WORD, words=("DEFAULT", "CAFFE", "CUDNN")),
}
_BY_CONTENT = {
    "ROIPooling": (_Known("roi_pooling_param", INNER, {**_REGIONS, 4: _Known("pad_ratio", NUMBER)}),),
    "ROIAlign": (_Known("roi_align_param", INNER, {**_REGIONS, 4: _Known("sampling_ratio", WHOLE)}),),
    "PSROIPooling": (_Known("psroi_pooling_param", INNER, _POSITIONS),),
    "Interp": (_Known("interp_param", INNER, _INTERP),),
    "Upsample": (_Known("upsample_param", INNER, _UPSAMPLE, telling=frozenset({1, 2, 3, 7})),),
    "Reorg": (_Known("reorg_param", INNER, {1: _Known("stride", WHOLE), 2: _Known("reverse", FLAG)}),),
    "ShuffleChannel": (_Known("shuffle_channel_param", INNER, {1: _Known("group", WHOLE)}),),
    "BN": (
        _Known("bn_param", INNER, _BN_SEGNET, telling=frozenset({3})),
        _Known("bn_param", INNER, _BN_PSPNET, telling=frozenset({4, 5, 6})),
    ),
}
_BY_NUMBER = {
    ("Permute", "#202"): _Known("permute_param", INNER, _PERMUTE),
    ("PriorBox", "#203"): _Known("prior_box_param", INNER, _PRIOR_BOX),
    ("DetectionOutput", "#204"): _Known("detection_output_param", INNER, _DETECTION_OUTPUT),
    ("Normalize", "#206"): _Known("norm_param", INNER, _NORMALIZE),
}


def named_fields(kind: str, extra: Iterable[UnknownField]) -> dict[str, UnknownField]:
    """The fields of `extra` that have a number and, in a layer of type `kind`, a name, with that name, by number.

    The ones by number stay beside them: they are what the file has, and what is written again.
    """
    fields = [(field.name, field.value) for field in extra if isinstance(field.value, bytes)]
    found = {}
    for name, content in fields:
        known = _BY_NUMBER.get((kind, name))
        named = None if known is None else _read_as(known, content)
        if named is not None:
            found[name] = named
    for known in _BY_CONTENT.get(kind, ()):
        read = [(name, named) for name, content in fields if (named := _read_as(known, content)) is not None]
        if len(read) == 1 and read[0][0].startswith("#"):
            found.setdefault(*read[0])
    return found


def _read_as(known: _Known, content: bytes) -> UnknownField | None:
    """The message with its fields' names; None where something in it is not what it has there."""
    try:
        message = Message.whole(content)
        if known.telling and known.telling.isdisjoint(field.number for field in message.fields()):
            return None
        return UnknownField(known.name, tuple(_fields(message, known.inner)))
    except (WireError, LookupError, UnicodeDecodeError):
        return None


def _fields(message: Message, names: Mapping[int, _Known]) -> Iterator[UnknownField]:
    for field in message.fields():
        known = names[field.number]
        if known.kind == INNER:
            yield UnknownField(known.name, tuple(_fields(message.inside(field), known.inner)))
        else:
            yield from (UnknownField(known.name, value) for value in _values(message, field, known))


def _values(message: Message, field: Field, known: _Known) -> Iterator[int | float | str]:
    """The values of a field; those of a repeated one may be packed, or follow each other."""
    if known.kind == NUMBER:
        if field.wire_type == VARINT:
            raise WireError(f"field {field.number} is a whole number")
        for number in read_numbers(message.buffer, [field], np.dtype("<f4")):
            yield float(str(number))  # the decimal that somebody wrote
        return
    if known.kind == TEXT:
        expect(field, BYTES)
        yield bytes(message.buffer[field.value : field.end]).decode()
        return
    if not known.repeated:
        expect(field, VARINT)
    for number in _whole_numbers(message, field):
        if known.kind == FLAG:
            yield Identifier("true" if number else "false")
        elif known.kind == WORD:
            yield Identifier(dict(enumerate(known.words))[number])
        else:
            yield number


def _whole_numbers(message: Message, field: Field) -> Iterator[int]:
    if field.wire_type == VARINT:
        yield read_int(message.buffer, field)
        return
    position = expect(field, BYTES).value
    while position < field.end:
        number, position = read_varint(message.buffer, position, field.end)
        yield signed(number)
