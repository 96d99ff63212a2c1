"""The memory that a run's images take, told before it begins: a batch that none holds would be read for ever."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from converters.safety import machine_memory
from weights.download import human_bytes

from ..data.errors import DataError
from .errors import MemoryFullError
from .feed import Feed


def check_room(feed: Feed, *, iter_size: int) -> None:
    """MemoryFullError where the images of one update and those read ahead are more than the machine's memory.

    They are counted as large as the first one; the net's own blobs come on top, and are told where they do not fit.
    """
    there = machine_memory()
    with suppress(DataError):  # an image that cannot be read is told of when it is due
        one = sum(blob.nbytes for blob in replace(feed, batch_size=1).read([0]).blobs.values())
        ahead = 2 * feed.workers
        needed = one * feed.batch_size * (iter_size + ahead + 1)  # and one that is being put together
        if there is not None and needed > there:
            raise MemoryFullError(
                f"images of {human_bytes(one)}, {feed.batch_size} in each of {iter_size} passes of an update and in "
                f"{ahead} passes read ahead, take {human_bytes(needed)}; this machine has {human_bytes(there)} of "
                "memory\n  a smaller --batch-size, --iter-size or --workers needs less, and so do smaller images "
                "(--resize, --crop)"
            )
