"""Layers that draw numbers at test time, so that no pass of their net is like another."""

from __future__ import annotations

from .layer import LayerSpec
from .spec import NetSpec


def drawing_layer(spec: NetSpec) -> LayerSpec | None:
    """The first layer that draws at test, such as Bayesian SegNet's Dropout; None where one pass is like another.

    Such layers have a property `draws`.
    """
    return next((layer for layer in spec.layers if getattr(layer.params, "draws", False)), None)
