"""A net as a list of operations over values that are written once, and the passes that merge layers in it.

`read` makes a Flow of a definition; each other module is one pass, Flow -> Flow; `merge` is the pipeline.
"""

from .flow import Flow, FlowLayer, FlowStep
from .pipeline import merge
from .read import read

__all__ = ["Flow", "FlowLayer", "FlowStep", "merge", "read"]
