"""A flow for inputs of one size: a flat list of frozen steps over places in one arena."""

from .fast_net import FastNet

__all__ = ["FastNet"]
