"""One process for each net, with limits on time and memory, a few at once.

The process is forked from one that has imported everything, so that a net costs milliseconds; where there is no fork,
it starts anew. The limits on time are each stage's own: one counts what the process computes (RLIMIT_CPU; not on
Windows), so that a busy machine measures as a quiet one does, and one goes by the clock, for what waits and does not
compute. That on memory counts what a net takes beyond its process (RLIMIT_AS; not on Windows, and macOS does not hold
it).
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from .sources import Source
from .stages import COMPARED, Outcome, try_stages


@dataclass(frozen=True)
class Limits:
    """Seconds of processor time for each stage, those by the clock, and GiB for all of them."""

    seconds: float = 60
    clock: float = 900
    memory_gib: float = 4

    def __str__(self) -> str:
        counted = f"{self.seconds:g} s of processor time for a stage, " if _counts_processor_time() else ""
        return f"{counted}{self.clock:g} s by the clock, {self.memory_gib:g} GiB for a net"


@dataclass(frozen=True)
class Row:
    """What became of one net: its outcomes in order, and the seconds of all its stages."""

    name: str
    outcomes: tuple[Outcome, ...]
    seconds: float


@dataclass
class _Child:
    source: Source
    process: Any
    pipe: Connection
    started: float
    last: float
    outcomes: list[Outcome] = field(default_factory=list)


def run_all(nets: Sequence[Source], stages: tuple[str, ...], *, jobs: int, limits: Limits) -> Iterator[Row]:
    """A Row for each net as it is done, in any order."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else "spawn")
    waiting, running = list(reversed(nets)), dict[Connection, _Child]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                child = _start(context, waiting.pop(), stages, limits)
                running[child.pipe] = child
            wait(list(running), timeout=0.2)
            for child in list(running.values()):
                if _is_done(child, stages, limits):
                    del running[child.pipe]
                    yield Row(child.source.name, tuple(child.outcomes), time.monotonic() - child.started)
    finally:
        for child in running.values():
            _end(child)


def _start(context: Any, source: Source, stages: tuple[str, ...], limits: Limits) -> _Child:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(source, stages, limits, theirs), daemon=True)
    process.start()
    theirs.close()
    now = time.monotonic()
    return _Child(source, process, ours, now, now)


def _is_done(child: _Child, stages: tuple[str, ...], limits: Limits) -> bool:
    """Take in what a child has said; True once it has ended, or has been ended for its time is over."""
    try:
        while child.pipe.poll():
            child.outcomes.append(child.pipe.recv())
            child.last = time.monotonic()
    except EOFError:
        child.process.join(5)
        _account(child, stages, _why_ended(child.process.exitcode, limits))
        _end(child)
        return True
    if time.monotonic() - child.last > limits.clock:
        _account(child, stages, f"more than {limits.clock:g} s by the clock")
        _end(child)
        return True
    return False


def _why_ended(status: int | None, limits: Limits) -> str:
    if _counts_processor_time() and status == -signal.SIGXCPU:
        return f"more than {limits.seconds:g} s of processor time"
    return f"its process ended (status {status})"


def _account(child: _Child, stages: tuple[str, ...], cause: str) -> None:
    """The stage that a child was in when it ended, if it was not through; a peer that fell is none to compare with."""
    last = child.outcomes[-1] if child.outcomes else None
    if len(child.outcomes) < len(stages) and (last is None or last.end != "stopped" or last.stage in COMPARED):
        stage = stages[len(child.outcomes)]
        if stage in COMPARED:
            child.outcomes.append(Outcome(stage, "none", f"with the other program, {cause}"))
        else:
            child.outcomes.append(Outcome(stage, "stopped", cause))


def _end(child: _Child) -> None:
    child.process.kill()
    child.process.join()
    child.pipe.close()


def _work(source: Source, stages: tuple[str, ...], limits: Limits, pipe: Connection) -> None:
    _limit_memory(limits.memory_gib)
    _limit_processor_time(limits.seconds)
    for outcome in try_stages(source, stages):
        pipe.send(outcome)
        _limit_processor_time(limits.seconds)
    pipe.close()


def _counts_processor_time() -> bool:
    return hasattr(signal, "SIGXCPU")


def _limit_processor_time(seconds: float) -> None:
    """From here on the process may compute for so long, in whole seconds, before SIGXCPU ends it."""
    if _counts_processor_time():
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), most))


def _limit_memory(gib: float) -> None:
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + int(gib * (1 << 30))
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, OSError, ValueError):
        return
