"""Progress of a fetch, told to its caller while it works, and how sizes and times are written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from weights.download.wording import shown

Stage = Literal["waiting", "connecting", "downloading", "retrying", "restarting", "copying", "verifying", "done"]


@dataclass(frozen=True)
class Progress:
    """One moment of a fetch.

    `done` and `total` count bytes of the file (total None while unknown), `rate` is bytes a second since this stage
    began (None at its start), `url` where from, `note` the reason for a retry or restart.
    """

    stage: Stage
    file: str
    done: int
    total: int | None
    rate: float | None = None
    url: str | None = None
    note: str | None = None

    @property
    def seconds_left(self) -> float | None:
        """An estimate from the rate so far, or None."""
        if not self.rate or self.total is None:
            return None
        return max(0.0, (self.total - self.done) / self.rate)


Callback = Callable[[Progress], None]


class Meter:
    """Turns moved bytes into calls of a progress callback, at most ten a second; exceptions of it pass through."""

    INTERVAL = 0.1

    def __init__(self, callback: Callback | None, file: str) -> None:
        self._callback = callback
        self._file = file
        self._now = Progress("connecting", file, 0, None)
        self._began, self._from, self._told = 0.0, 0, 0.0
        self.received = 0

    def stage(
        self, stage: Stage, *, done: int = 0, total: int | None = None, url: str | None = None, note: str | None = None
    ) -> None:
        """Enter a stage, and say so."""
        self._now = Progress(stage, self._file, done, total, None, None if url is None else shown(url), note)
        self._began, self._from = time.monotonic(), done
        self._tell()

    def moved(self, done: int) -> None:
        """The stage has come to `done` bytes."""
        now = time.monotonic()
        if self._callback is None or (now - self._told < self.INTERVAL and done != self._now.total):
            return
        rate = (done - self._from) / (now - self._began) if now > self._began else None
        self._now = Progress(self._now.stage, self._file, done, self._now.total, rate, self._now.url, self._now.note)
        self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        if self._callback is not None:
            self._callback(self._now)


def human_bytes(count: int) -> str:
    """A size for people, in powers of 1000: `538 MB`."""
    if count < 1000:
        return f"{count} bytes"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB", "PB", "EB"):
        value /= 1000
        if value < 999.5 or unit == "EB":
            break
    return f"{value:.3g} {unit}"
