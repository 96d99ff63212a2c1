"""A flow for inputs of one size: a flat list of frozen steps over places in one arena."""

from .fast_net import FastNet
from .self_check import why_not_any

__all__ = ["FastNet", "why_not_any"]
