"""The policy of a download: how long it waits for a server, and how often it tries again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RetryPolicy:
    """Times in seconds, sizes in bytes.

    The head of an answer, with all interim answers and redirects before it, must be there after `answer` seconds and
    `head` bytes. A transfer that brings fewer than `slowest` bytes a second over `stall` seconds of waiting is cut. An
    address is given up after `attempts` tries in a row of which none brought the file `worthwhile` bytes further, or
    after two that found nobody there. Before another try there is a pause, twice as long each time, up to
    `longest_pause`.
    """

    connect: float = 10.0
    stall: float = 30.0
    answer: float = 60.0
    head: int = 1 << 18
    slowest: int = 1000
    attempts: int = 5
    worthwhile: int = 1 << 20
    pause: float = 1.0
    longest_pause: float = 30.0

    def pause_after(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self.longest_pause, self.pause * 2.0 ** min(failures, 16))
