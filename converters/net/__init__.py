"""Nets: their layers, shapes, coordinates and memory, and what each layer type says of itself."""

from __future__ import annotations

from .aliasing import aliases
from .backward import check_training, forces_backward, refuse_stray_gradients, stopped_bottoms, without_unheard_stops
from .chance import drawing_layer
from .coord_map import CoordMap, Derivation, PathLayer, crops_of, derive_crops, layer_map, written_offset
from .layer import (
    Identifier,
    Layer,
    LayerSpec,
    ParamSpec,
    Shape,
    UnknownField,
    all_layers,
    find_layer,
    params_if_valid,
    register_layer,
)
from .overwritten import refuse_overwritten
from .parameter_sharing import borrowed_blobs
from .reach import Everything, Interval, Nothing, Reach, Transposed, Window
from .shapes import (
    LayerShapes,
    check_weights_fit,
    check_weights_made,
    checked_size,
    images_at,
    images_at_asked,
    images_of,
    infer_blobs,
    infer_shapes,
    iter_layer_shapes,
    known_params,
)
from .spec import PHASES, NetSpec, net_from_message, refuse_no_spec
from .validate import validate

__all__ = [
    "PHASES",
    "CoordMap",
    "Derivation",
    "Everything",
    "Identifier",
    "Interval",
    "Layer",
    "LayerShapes",
    "LayerSpec",
    "NetSpec",
    "Nothing",
    "ParamSpec",
    "PathLayer",
    "Reach",
    "Shape",
    "Transposed",
    "UnknownField",
    "Window",
    "aliases",
    "all_layers",
    "borrowed_blobs",
    "check_training",
    "check_weights_fit",
    "check_weights_made",
    "checked_size",
    "crops_of",
    "derive_crops",
    "drawing_layer",
    "find_layer",
    "forces_backward",
    "images_at",
    "images_at_asked",
    "images_of",
    "infer_blobs",
    "infer_shapes",
    "iter_layer_shapes",
    "known_params",
    "layer_map",
    "net_from_message",
    "params_if_valid",
    "refuse_no_spec",
    "refuse_overwritten",
    "refuse_stray_gradients",
    "register_layer",
    "stopped_bottoms",
    "validate",
    "without_unheard_stops",
    "written_offset",
]
