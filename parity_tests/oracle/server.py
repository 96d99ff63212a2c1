"""A process inside the oracle that has imported Caffe, and answers each question in a copy of itself.

The import takes longer than most answers. A copy ends where a CHECK of Caffe fails, and the next question has another.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from weakref import finalize

from parity_tests import fill

WORKER = Path(__file__).with_name("worker.py")
SAID = "said"
"""The file of a job folder with what the answering process wrote on its standard output and error."""


class Server:
    """Runs worker.py in `folder`, from the first question on, until this process ends."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._environment, self._lock = folder, dict(environment), Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, job: Path, timeout: float) -> tuple[int, str] | None:
        """The status in which answering what lies in a job folder ended, and what was said; None if it took longer."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._process = self._begun()
            process = self._process
            assert process.stdin is not None and process.stdout is not None
            with suppress(BrokenPipeError):  # of one that could not begin
                process.stdin.write(f"{job.name}\n")
                process.stdin.flush()
            if not select.select([process.stdout], [], [], timeout)[0]:
                _end(process)
                return None
            if status := process.stdout.readline():
                return int(status), (job / SAID).read_text(errors="replace")
            _end(process)
            return process.returncode, (self._own / SAID).read_text(errors="replace")

    def _begun(self) -> subprocess.Popen[str]:
        self._own = own = Path(tempfile.mkdtemp(dir=self._folder / "tmp", prefix="serve-"))
        for source in (WORKER, Path(fill.__file__)):
            shutil.copyfile(source, own / source.name)
        command = ["/usr/bin/env", "-C", f"/tmp/{own.name}", "python3", "-B", "worker.py", SAID]
        with (own / SAID).open("wb") as said:
            process = subprocess.Popen(
                ["chroot", str(self._folder), *command], env=self._environment, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True,
            )  # fmt: skip
        finalize(self, _end, process)
        finalize(self, shutil.rmtree, own, ignore_errors=True)
        return process


def _end(process: subprocess.Popen[str]) -> None:
    """Kill the server and the copy that answers."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
