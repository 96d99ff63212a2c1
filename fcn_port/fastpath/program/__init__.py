"""A flow for inputs of one size: a flat list of frozen steps over places in one arena."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .fast_net import FastNet
    from .self_check import why_not_any

__all__ = ["FastNet", "why_not_any"]

__getattr__, __dir__ = lazy_attributes(__name__, {"FastNet": "fast_net", "why_not_any": "self_check"})
