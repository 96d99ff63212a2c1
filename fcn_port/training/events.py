"""Events that a run tells while it goes on; whoever wants to show or keep it takes these records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Begun:
    """The run begins, or goes on, at `iteration` of `max_iter`."""

    iteration: int
    max_iter: int
    resumed_from: Path | None = None


@dataclass(frozen=True)
class Updated:
    """One update was made, the `iteration`-th (from 1).

    `loss` is that of this update, summed over losses with their weights, `smoothed` its mean over the last
    average_loss updates, `losses` the parts by name; `rate` the learning rate; `images` their names (of this process);
    `seconds` what it took, `seconds_left` about how long the rest will take.
    """

    iteration: int
    max_iter: int
    loss: float
    smoothed: float
    losses: Mapping[str, float]
    rate: float
    images: tuple[str, ...]
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class Validated:
    """The net was scored after `iteration` updates: by title of the task, the four metrics as fractions of 1."""

    iteration: int
    images: int
    scores: Mapping[str, Mapping[str, float]]
    seconds: float


@dataclass(frozen=True)
class Saved:
    """A snapshot is whole on disk."""

    iteration: int
    path: Path


@dataclass(frozen=True)
class Improved:
    """A validation was the best so far, by mean IU as a fraction of 1, and its weights are whole on disk."""

    iteration: int
    mean_iu: float
    path: Path


@dataclass(frozen=True)
class Tested:
    """The solver's TEST net number `net` was run after `iteration` updates: its outputs by blob, and its loss."""

    iteration: int
    net: int
    batches: int
    outputs: Mapping[str, float]
    loss: float


Event = Begun | Updated | Validated | Saved | Improved | Tested
Report = Callable[[Event], None]
