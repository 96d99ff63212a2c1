"""Passes over a net: NetSpec -> NetSpec, one a file, each saying what it needs and ensures."""

from __future__ import annotations

from .auto_crop import auto_crop
from .choice import NetChoice, choosing, chosen
from .cut import cut
from .deploy import to_deploy
from .filter_phase import Phase, filter_phase, level_of
from .input_size import check_size, fit_size
from .inputs import Weights, assume_channels, with_input_shapes
from .merge_splits import merge_splits
from .prepare import prepare

__all__ = [
    "NetChoice",
    "Phase",
    "Weights",
    "assume_channels",
    "auto_crop",
    "check_size",
    "choosing",
    "chosen",
    "cut",
    "filter_phase",
    "fit_size",
    "level_of",
    "merge_splits",
    "prepare",
    "to_deploy",
    "with_input_shapes",
]
