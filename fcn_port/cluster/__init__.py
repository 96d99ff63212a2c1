"""Images on a cluster: planned here, done by workers of Ray Data, each image once, and gathered in one Parquet file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes

if TYPE_CHECKING:
    from .planning import ImageRef, plan
    from .results import Results, Settings
    from .running import run_on_ray
    from .worker import Worker

__all__ = ["ImageRef", "Results", "Settings", "Worker", "plan", "run_on_ray"]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        "ImageRef": "planning",
        "Results": "results",
        "Settings": "results",
        "Worker": "worker",
        "plan": "planning",
        "run_on_ray": "running",
    },
)
