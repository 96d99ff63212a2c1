"""A net as a list of operations over values that are written once, and the passes that merge layers in it.

`read` makes a Flow of a definition; each other module is one pass, Flow -> Flow; `merge` is the pipeline.
"""

from .activations import ACTIVATIONS, is_activation
from .affine import along_last_axis, own_statistics
from .flow import Flow, FlowLayer, FlowStep, Tops, state_key
from .operands import operand_kind
from .pipeline import merge
from .products import pads_before, weighted
from .read import read
from .recurrences import Recurrence, inner_name, inner_values, recurrence

__all__ = [
    "ACTIVATIONS",
    "Flow",
    "FlowLayer",
    "FlowStep",
    "Recurrence",
    "Tops",
    "along_last_axis",
    "inner_name",
    "inner_values",
    "is_activation",
    "merge",
    "operand_kind",
    "own_statistics",
    "pads_before",
    "read",
    "recurrence",
    "state_key",
    "weighted",
]
