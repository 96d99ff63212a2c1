"""Images that wait for the net: threads take the one that waits longest, and with it others of its size."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from .frames import without_frames
from .seeing import ImageLook, Sight

Heard = Callable[[int, float, float], None]
"""Told of each batch: how many images, how long the first of them waited, how long the net took, in seconds."""


@dataclass(eq=False)
class WaitingImage:
    """An image, and the future of what is seen in it."""

    pixels: np.ndarray
    future: Future[Sight] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """Threads that run a net over images as they come.

    Nobody waits for a batch to fill: a thread that is free takes what is there, up to `batch` images of one size, and
    batches grow by themselves where images come faster than they are done. The threads are daemons, so that a net that
    computes for minutes keeps no process from ending. A thread that waits holds on to no image.
    """

    def __init__(self, look: ImageLook, *, threads: int, batch: int, heard: Heard | None = None) -> None:
        self._look, self._batch, self._heard = look, batch, heard
        self._queue: deque[WaitingImage] = deque()
        self._some = threading.Condition()
        self._closed = False
        self.threads = [threading.Thread(target=self._work, daemon=True, name=f"net-{i}") for i in range(threads)]
        for thread in self.threads:
            thread.start()

    def submit(self, pixels: np.ndarray) -> Future[Sight]:
        """The future of what is seen in an image; cancelled before its turn, it costs nothing."""
        waiting = WaitingImage(pixels)
        with self._some:
            if self._closed:
                raise RuntimeError("the server stops")
            self._queue.append(waiting)
            self._some.notify()
        return waiting.future

    def close(self) -> None:
        """Take no more; what waits is cancelled."""
        with self._some:
            self._closed = True
            while self._queue:
                self._queue.popleft().future.cancel()
            self._some.notify_all()

    def _work(self) -> None:
        while batch := self._next():
            began = time.monotonic()
            count, waited = len(batch), began - batch[0].since
            self._run(batch)
            del batch  # or else the last images would be there until the next ones come
            if self._heard is not None:
                self._heard(count, waited, time.monotonic() - began)

    def _next(self) -> list[WaitingImage]:
        """The image that waits longest and others of its size; none once the batcher is closed."""
        with self._some:
            while True:
                while not self._queue and not self._closed:
                    self._some.wait()
                if not self._queue:
                    return []
                size = self._queue[0].pixels.shape
                same = [each for each in self._queue if each.pixels.shape == size][: self._batch]
                self._queue = deque(each for each in self._queue if each not in same)
                if wanted := [each for each in same if each.future.set_running_or_notify_cancel()]:
                    return wanted

    def _run(self, batch: list[WaitingImage]) -> None:
        """See all at once; where that fails, one by one, so that nobody's trouble is another's."""
        try:
            found = self._look([each.pixels for each in batch])
        except BaseException as error:
            failed = without_frames(error)
        else:
            for each, sight in zip(batch, found, strict=True):
                each.future.set_result(sight)
            return
        if len(batch) == 1:
            batch[0].future.set_exception(failed)
            return
        for each in batch:
            self._run([each])
