"""The end of a long call from outside: a progress callback that stops it, for any call that takes one.

wanted = threading.Event()  # set by a button, a signal, another thread
converters.convert("a.caffemodel", "a.safetensors", progress=stop_when(wanted.is_set))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

from .given import refuse_other_than

P = ParamSpec("P")
ProgressCallback = Callable[[int, int], None]
"""Told how many are done, of so many."""


class Cancelled(Exception):
    """A long call that its caller ended; what it had finished is kept, and no part of a file is left."""


def stop_when(wanted: Callable[[], bool], progress: Callable[P, None] | None = None) -> Callable[P, None]:
    """A progress callback that raises Cancelled once `wanted` says so, and else tells `progress`, where one is given.

    `wanted` is asked in the thread that works, at each step of which progress is told: a MiB, an image, a tile, a blob.
    """

    refuse_other_than(Callable, wanted, "a function that says whether to end, such as event.is_set")  # type: ignore[arg-type]

    def tell(*arguments: P.args, **keywords: P.kwargs) -> None:
        if wanted():
            raise Cancelled("ended by its caller")
        if progress is not None:
            progress(*arguments, **keywords)

    return tell


class ProgressSteps:
    """The steps of a long call, counted for a progress callback, which may end it (`stop_when`)."""

    def __init__(self, progress: ProgressCallback | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self.ask()

    def __call__(self) -> None:
        """One step more is done."""
        self._done += 1
        self.ask()

    def ask(self, *inner: object) -> None:
        """Tell the same count again: a place within a step at which the call may be ended; `inner` is not looked at."""
        if self._progress is not None:
            self._progress(self._done, self._total)
