"""without_frames: an exception that keeps no image alive.

An exception has its traceback, the traceback the frames that it came through, and a frame its variables: the image, the
request's bytes, and often something that has the exception again, as a future does. Such a ring is there until Python's
garbage collector comes for it, which may be thousands of requests later, each with megabytes of an image.
"""

from __future__ import annotations

from typing import TypeVar

Raised = TypeVar("Raised", bound=BaseException)


def without_frames(error: Raised) -> Raised:
    """The same exception without its traceback, and what it came of without theirs."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            each.__traceback__ = None
            waiting += (each.__cause__, each.__context__)
    return error
