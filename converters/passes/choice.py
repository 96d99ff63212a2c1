"""The phase, level, stages and input shapes that somebody chose for the nets that are prepared from here on.

For programs that take a net by its file and hand it on to who prepares it, such as a command line:

    with choosing(stages=("deploy",), input_shapes={"data": (1, 3, 300, 300)}):
        net = fcn_port.load("all_in_one.caffemodel")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from ..net.layer import Shape
from .filter_phase import Phase


@dataclass(frozen=True)
class NetChoice:
    """The part of a net that is wanted; the defaults are Caffe's for a net that is run.

    `global_stats` decides for BatchNorm layers of snapshots that say `use_global_stats: false` (batch_statistics.py):
    True for the stored statistics; where it is None, `warn` is called with a sentence that says so.
    """

    phase: Phase = "TEST"
    level: int = 0
    stages: Sequence[str] = ()
    input_shapes: Mapping[str, Shape] = field(default_factory=dict)
    global_stats: bool | None = None
    warn: Callable[[str], None] | None = None


_choice: ContextVar[NetChoice] = ContextVar("choice", default=NetChoice())  # noqa: B039


def chosen() -> NetChoice:
    """The choice that holds here."""
    return _choice.get()


@contextmanager
def choosing(**changes: Any) -> Iterator[NetChoice]:
    """Change fields of the choice for what is prepared inside the block, in this thread."""
    token = _choice.set(replace(_choice.get(), **changes))
    try:
        yield _choice.get()
    finally:
        _choice.reset(token)
