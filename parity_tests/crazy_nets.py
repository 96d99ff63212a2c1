"""Nets of one layer of any registered type with parameters that nobody would write, by seed.

Every field of the type's message may be missing, repeated, 0, negative, huge, NaN or infinite, over bottoms of any
number and rank; the fields of forks are taken from what the golden nets of the type use.
"""

from __future__ import annotations

import random
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from converters.formats.text_format import is_repeated
from converters.schema import message_type

_PARAMS = {
    "ArgMax": "argmax_param",
    "BatchNorm": "batch_norm_param",
    "Deconvolution": "convolution_param",
    "DepthwiseConvolution": "convolution_param",
    "Im2col": "convolution_param",
    "InnerProduct": "inner_product_param",
    "SpatialDropout": "dropout_param",
}
_FORKS = {
    "BN": ("bn_param", "bn_mode eps decay momentum slope_filler"),
    "Convolution": ("convolution_param", "hole hole_h hole_w"),
    "Interp": ("interp_param", "shrink_factor zoom_factor height width pad_beg pad_end"),
    "Normalize": ("norm_param", "across_spatial channel_shared eps"),
    "DetectionOutput": (
        "detection_output_param",
        "num_classes share_location keep_top_k confidence_threshold code_type background_label_id nbottom normalized "
        "clip",
    ),
    "DetectionOutputExtended": ("detection_output_param", "num_classes share_location keep_top_k code_type"),
    "Permute": ("permute_param", "order order order order"),
    "Pooling": ("pooling_param", "hole ceil_mode"),
    "PriorBox": (
        "prior_box_param",
        "min_size min_size max_size aspect_ratio variance step step_h step_w img_h img_w img_size offset clip keras tf",
    ),
    "PriorBoxClustered": ("prior_box_param", "width height width height step variance offset"),
    "Upsample": ("upsample_param", "scale scale_h scale_w upsample_h upsample_w pad_out_h pad_out_w"),
}
_PLAIN = (0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 7, -1)
_HUGE = (-2, -3, 8, 100, 65536, 10**6, 2**30, 2**31 - 1, -(2**31), 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)
_NUMBERS = ("0", "1", "0.5", "-1", "2", "nan", "inf", "-inf", "1e38", "-1e38", "1e-45", "1e39", "1e308", "-0.0", "0.9")
_SHAPES = ((1, 4, 6, 6), (2, 3, 5, 4), (1, 1, 1, 1), (2, 6), (3,), (1, 2, 3), (1, 2, 3, 4, 2), (1, 64, 2, 2), ())
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_LIKELY = ("num_output", "kernel_size", "tiles", "dim", "shape", "min", "max", "input_dim", "pyramid_height")
"""Fields without which a layer is mostly refused."""


def crazy_net(r: random.Random, kind: str) -> str:
    """A prototxt of Inputs and one layer of the type `kind`."""
    count = r.choice([1, 1, 1, 1, 2, 2, 3, 0])
    text, usual = "", r.choice(_SHAPES[:2] if r.random() < 0.7 else _SHAPES)
    for i in range(count):
        dims = ", ".join(map(str, usual if r.random() < 0.75 else r.choice(_SHAPES)))
        text += f'layer {{ name: "d{i}" type: "Input" top: "d{i}" input_param {{ shape {{ dim: [{dims}] }} }} }}\n'
    bottoms = "".join(f'bottom: "d{i}" ' for i in range(count))
    in_place = count and r.random() < 0.1
    tops = "".join(f'top: "{"d0" if in_place and not i else f"t{i}"}" ' for i in range(r.choice([1, 1, 1, 1, 2, 3, 0])))
    return text + f'layer {{ name: "l" type: "{kind}" {bottoms}{tops}{_params(r, kind)} }}\n'


def _params(r: random.Random, kind: str) -> str:
    name = _PARAMS.get(kind, f"{kind.lower()}_param")
    known: Any = message_type("LayerParameter").fields_by_name.get(name)
    body = _fields(r, known.message_type) if known is not None and r.random() < 0.9 else ""
    fork, fields = _FORKS.get(kind, (name, ""))
    if r.random() < 0.3:
        fields = ""
    own = " ".join(f"{field}: {_fork_value(r)}" for field in fields.split() if r.random() < 0.4)
    if known is None:
        return f"{fork} {{ {own} }}" if own else ""
    return f"{name} {{ {body} {own if fork == name else ''} }}"


def _fields(r: random.Random, descriptor: Descriptor) -> str:
    text = ""
    for field in descriptor.fields:
        if field.name.endswith("filler") or r.random() > (0.85 if field.name in _LIKELY else 0.3):
            continue
        for _ in range(r.choice([1, 1, 1, 1, 2, 3, 5]) if is_repeated(field) else 1):
            if field.message_type is not None:
                text += f"{field.name} {{ {_fields(r, field.message_type)} }} "
            else:
                text += f"{field.name}: {_value(r, field)} "
    return text


def _value(r: random.Random, field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return str(r.choice(list(field.enum_type.values)).name)
    if field.cpp_type in _RANGES:
        low, high = _RANGES[field.cpp_type]
        return str(_integer(r, low, high))
    return r.choice(["true", "false"]) if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else r.choice(_NUMBERS)


def _integer(r: random.Random, low: int, high: int) -> int:
    return r.choice([x for x in (_PLAIN if r.random() < 0.75 else _HUGE) if low <= x <= high])


def _fork_value(r: random.Random) -> str:
    if r.random() < 0.6:
        return str(_integer(r, -(2**63), 2**63 - 1))
    return r.choice([*_NUMBERS, "true", "false", "LEARN", "INFERENCE", "'text'"])
