"""The size and the channels of a data layer's blobs, as far as its own fields tell, in BVLC Caffe's and in forks'.

Read are, the first that is there: what the image is cut to (crop_size, crop_height and crop_width), what it is resized
to (SSD's transform_param.resize_param, new_height and new_width), and height and width as they are.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterator, Mapping
from typing import Any

from ..net.layer import LayerSpec, UnknownField

_SIZES = (
    ("crop_height", "crop_width"),
    ("crop_h", "crop_w"),
    ("crop_size", "crop_size"),
    ("resize_height", "resize_width"),
    ("new_height", "new_width"),
    ("new_h", "new_w"),
    ("height", "width"),
)
_CONVENTIONS: Mapping[str, tuple[int, int]] = {"mnist": (1, 28), "cifar": (3, 32), "svhn": (3, 32)}
"""Channels and side of the images of data sets by the name that their files have."""


def image_size(layer: LayerSpec) -> tuple[int, int] | None:
    """(h, w) of the images that a data layer gives, as its fields say it; None where they do not."""
    fields = dict(reversed([*_fields(layer)]))
    for height, width in _SIZES:
        h, w = fields.get(height), fields.get(width)
        if isinstance(h, int) and isinstance(w, int) and min(h, w) > 0 and max(h, w) < 1 << 16:
            return h, w
    return None


def image_channels(layer: LayerSpec) -> int | None:
    """The channels of the images that a data layer gives, as its fields say it; None where they do not."""
    message = layer.message
    fields = dict(_fields(layer))
    if message.transform_param.force_gray or str(fields.get("is_color", True)).lower() in ("false", "f", "0"):
        return 1
    channels = fields.get("channels")
    return channels if isinstance(channels, int) and 0 < channels < 1 << 16 else None


def data_set(layer: LayerSpec) -> tuple[str, int, int] | None:
    """The name, channels and side of a data set of small images after which a data layer's files are called."""
    for name, value in _fields(layer):
        if isinstance(value, str) and name in ("source", "mean_file"):
            for known, (channels, side) in _CONVENTIONS.items():
                if known in value.lower():
                    return known, channels, side
    return None


def input_shape(layer: LayerSpec) -> tuple[int, ...] | None:
    """The shape that an Input layer of the forks of 2014 gives: input_param { num channels height width }."""
    given = {
        field.name.rpartition(".")[2]: field.value for field in layer.extra if field.name.startswith("input_param.")
    }
    shape = tuple(given.get(name) for name in ("num", "channels", "height", "width"))
    return tuple(map(int, shape)) if all(isinstance(size, int) and size > 0 for size in shape) else None  # type: ignore[arg-type]


def _fields(layer: LayerSpec) -> Iterator[tuple[str, Any]]:
    """All scalar fields of a layer's parameters with their own names, a resize's as resize_height and resize_width."""
    for name, message in layer.message.ListFields():
        if name.message_type is not None and name.name.endswith("_param") and name.name != "parameter_param":
            for field, value in message.ListFields():
                if isinstance(value, (int, float, str)):
                    yield field.name, value
    for extra in layer.extra:
        path = extra.name.split(".")
        yield from _unknown(path[-1], extra.value, "resize_param" in path)
    yield from _python(layer)


def _unknown(name: str, value: object, resize: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple):
        for child in value:
            if isinstance(child, UnknownField):
                yield from _unknown(child.name, child.value, resize or name == "resize_param")
    else:
        yield (f"resize_{name}" if resize and name in ("height", "width") else name), value


def _python(layer: LayerSpec) -> Iterator[tuple[str, Any]]:
    """The settings of a Python layer whose param_str is a dict, sizes given as one number or a pair."""
    try:
        found = literal_eval(layer.message.python_param.param_str.strip() or "{}")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return
    for name, value in found.items() if isinstance(found, dict) else ():
        if name in ("crop_size", "im_shape", "new_size", "image_size", "input_size"):
            sizes = [value, value] if isinstance(value, int) else value
            if isinstance(sizes, (list, tuple)) and len(sizes) >= 2:
                yield "new_height", sizes[-2]
                yield "new_width", sizes[-1]
        elif isinstance(name, str) and isinstance(value, (int, str)):
            yield name, value
