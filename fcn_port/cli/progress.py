"""Progress over images, on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from converters.escaping import terminal

from .output import duration, note
from .signals import keeping

GOES_ON = "what was computed is kept; the same command goes on from there"
NO_CACHE = "no result is kept, as --no-cache says"


@contextmanager
def progress_bar(
    name: str,
    *,
    active: bool,
    kept: str = GOES_ON,
    unit: str = "images",
) -> Iterator[Callable[[int, int], None]]:
    """A callback (images done, of so many) that shows them, and the time left: a bar, or lines where nobody watches.

    `kept` is said when somebody interrupts, or another signal ends the program.
    """
    if not active:
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    lines = _Lines(name, unit)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(terminal(name), total=None)

        def tell(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)
            if not console.is_terminal:
                lines(done, total)

        with keeping(f"{terminal(name)}: {kept}", note):
            yield tell


class _Lines:
    """A line of progress at the start, every half minute, and at the end."""

    EVERY = 30.0

    def __init__(self, name: str, unit: str) -> None:
        self._subject = "" if name == unit else f"{name}: "
        self._unit, self._began, self._told = unit, time.monotonic(), 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not total:
            return
        if 0 < done < total and now - self._told < self.EVERY:
            return
        self._told = now
        left = (now - self._began) / done * (total - done) if done else None
        when = "" if not left else f", {duration(left)} left"
        unit = self._unit if total != 1 else self._unit.removesuffix("es" if self._unit.endswith("sses") else "s")
        note(f"{self._subject}{done} of {total} {unit}{when}")
