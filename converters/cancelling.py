"""The end of a long call from outside: a progress callback that stops it, for any call that takes one.

wanted = threading.Event()  # set by a button, a signal, another thread
converters.convert("a.caffemodel", "a.safetensors", progress=stop_when(wanted.is_set))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")


class Cancelled(Exception):
    """A long call that its caller ended; what it had finished is kept, and no part of a file is left."""


def stop_when(wanted: Callable[[], bool], progress: Callable[P, None] | None = None) -> Callable[P, None]:
    """A progress callback that raises Cancelled once `wanted` says so, and else tells `progress`, where one is given.

    `wanted` is asked in the thread that works, at each step of which progress is told: a MiB, an image, a tile, a blob.
    """

    def tell(*arguments: P.args, **keywords: P.kwargs) -> None:
        if wanted():
            raise Cancelled("ended by its caller")
        if progress is not None:
            progress(*arguments, **keywords)

    return tell
