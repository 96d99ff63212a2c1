"""The records of a server: its limits, what it tells of its net, and what a request is refused with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """The most that a request may ask for: bytes of its body, pixels of its image, seconds until its answer.

    `waiting` requests are taken at a time, the ones that compute included; the next is told to come again. Memory is
    at most about waiting * (most_bytes + 6 * most_pixels) beside what the net takes for `threads` batches.
    """

    most_bytes: int = 16 << 20
    most_pixels: int = 4_000_000
    seconds: float = 60.0
    waiting: int = 32


@dataclass(frozen=True, kw_only=True)
class ServedNet:
    """A net as the server tells of it: its name, what it finds ("labels", "values", "classes" or "objects"), classes
    and engine; `kind` of image is "bands" for one that takes every stored channel. `outputs` are their names."""

    name: str
    finds: str
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    engine: str
    kind: str = "color"
    outputs: tuple[str, ...] = ()


class RefusedRequest(Exception):
    """A request that is answered with an HTTP `status` and one line of text; `again` says to come back later."""

    def __init__(self, status: int, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.status, self.message, self.again = status, message, again
