"""Caffe's layer types, one small file for each family: parameters, shape rule, computation.

`register_layer` adds a type from outside this project; `find_layer` looks one up.
"""

from __future__ import annotations

from . import convolution
from .base import Layer, find_layer, register_layer

__all__ = ["Layer", "convolution", "find_layer", "register_layer"]
