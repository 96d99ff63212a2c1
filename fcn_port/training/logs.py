"""A run on record: JSON lines, one for each event, and TensorBoard's own files where that is installed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from converters.escaping import json_text
from converters.safety import append, make_folder, open_part, unlinked

from .curves import write_curves
from .errors import TrainingError
from .events import Begun, Event, Saved, Tested, Updated, Validated


class JsonLines:
    """Appends a line for each event, `{"event": "updated", "time": ..., ...}`, to a file that is never rewritten.

    A line that a killed run left unfinished is cut off first.
    """

    def __init__(self, path: Path) -> None:
        make_folder(path.parent)
        self._file = open_part(path)
        _cut_unfinished(self._file)

    def __call__(self, event: Event) -> None:
        record = {"event": type(event).__name__.lower(), "time": round(time.time(), 3), **asdict(event)}
        append(self._file, json_text(record).encode() + b"\n")

    def close(self) -> None:
        """No more events."""
        self._file.close()


def _cut_unfinished(file: BinaryIO) -> None:
    size = file.seek(0, os.SEEK_END)
    while size:
        start = max(0, size - 4096)
        file.seek(start)
        end = file.read(size - start).rfind(b"\n")
        if end >= 0:
            size = start + end + 1
            break
        size = start
    file.truncate(size)


class Curves:
    """Draws curves.png of the log beside it, at every validation and snapshot and at the end.

    A picture that cannot be written ends no run: `tell` is told once, and the log has the numbers.
    """

    def __init__(self, log: Path, *, tell: Callable[[str], None]) -> None:
        self._log, self._tell, self._told = log, tell, False

    def __call__(self, event: Event) -> None:
        if isinstance(event, Validated | Saved):
            self.close()

    def close(self) -> None:
        """Draw what is there."""
        path = self._log.with_name("curves.png")
        try:
            write_curves(self._log, unlinked(path))
        except OSError as error:
            if not self._told:
                self._tell(f"{path}: not drawn: {error.strerror or error}")
            self._told = True


class TensorBoard:
    """Writes losses, rates and scores to a folder that TensorBoard shows; needs the extra `tensorboard`."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError("TensorBoard is not installed: pip install 'fcn-port[tensorboard]'") from error
        self._folder, self._make = folder, SummaryWriter
        self._writer: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Begun):
            # What a run that was killed wrote after its last snapshot is hidden.
            self._writer = self._make(str(self._folder), purge_step=event.iteration + 1)
        elif isinstance(event, Updated):
            for name, value in event.losses.items():
                self._writer.add_scalar(f"loss/{name}", value, event.iteration)
            self._writer.add_scalar("rate", event.rate, event.iteration)
        elif isinstance(event, Tested):
            for name, value in event.outputs.items():
                self._writer.add_scalar(f"test{event.net}/{name}", value, event.iteration)
        elif isinstance(event, Validated):
            for title, metrics in event.scores.items():
                for name, value in metrics.items():
                    self._writer.add_scalar(f"{title}/{name}", value, event.iteration)
            self._writer.flush()

    def close(self) -> None:
        """No more events."""
        if self._writer is not None:
            self._writer.close()
