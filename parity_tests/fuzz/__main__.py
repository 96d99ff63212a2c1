"""Fuzz targets in processes of their own and say what each did; exit status 1 where something was found.

The readers are imported once, which takes atheris much longer than Python; each target has a copy of this process.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_RUNS = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
_GRACE = 900
"""Seconds beyond its time in which a target ends: its seeds are made, on a machine that may be busy."""


def main() -> int:
    """Run the targets that are named, or all."""
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed here: pip install 'fcn-port[fuzz]' (Linux on x86)", file=sys.stderr)
        return 2
    from .names import NAMES

    parser = argparse.ArgumentParser(prog="python -m parity_tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(NAMES)}; by default all")
    parser.add_argument("--seconds", type=int, default=20, help="of each target; 0 for as long as --runs takes")
    parser.add_argument("--runs", type=int, default=-1, help="of each target; by default as many as there is time for")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer's choices; 0 for another one each time")
    parser.add_argument("--out", type=Path, default=ROOT / "build/fuzz", help="what is learnt and found")
    chosen = parser.parse_args()
    wrong = sorted(set(chosen.targets) - set(NAMES))
    if wrong:
        parser.error(f"there is no target {wrong[0]}; there are {', '.join(NAMES)}")
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}  # a copy has no other threads
    with contextlib.redirect_stderr(io.StringIO()):  # a line for each module
        importlib.import_module("parity_tests.fuzz.child")
    done = _all(chosen.targets or NAMES, chosen)
    total = sum(each["runs"] for each in done)
    bad = [each for each in done if each["found"] or each["ended"]]
    print(f"{total} executions of {len(done)} targets; {len(bad)} with findings")
    return 1 if bad else 0


@dataclass(frozen=True)
class _Run:
    """A target that is being fuzzed: where it writes, and when it began and must have ended."""

    name: str
    folder: Path
    work: str
    began: float
    until: float


def _all(names: Sequence[str], chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Fuzz all of them, so many at a time."""
    waiting, running, done = deque(names), dict[int, _Run](), []
    try:
        while waiting or running:
            while waiting and len(running) < chosen.jobs:
                pid, run = _begin(waiting.popleft(), chosen)
                running[pid] = run
            pid, status = _ended(running)
            done.append(_tell(running.pop(pid), status))
    finally:
        for pid, run in running.items():
            os.kill(pid, signal.SIGKILL)
            shutil.rmtree(run.work, ignore_errors=True)
    return done


def _begin(name: str, chosen: argparse.Namespace) -> tuple[int, _Run]:
    """Fuzz one target in a copy of this process; gives its number."""
    from . import child

    folder = chosen.out.absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "numbers.json").unlink(missing_ok=True)
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    work = tempfile.mkdtemp(prefix="fuzz-", dir=memory)
    seed = chosen.seed or random.randrange(1 << 31)
    pid = os.fork()
    if not pid:
        try:
            os.chdir(ROOT)
            log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.dup2(log, 1)
            os.dup2(log, 2)
            child.fuzz(name, folder, Path(work), chosen.seconds, chosen.runs, seed)
        except BaseException:
            traceback.print_exc()
        os._exit(1)  # libFuzzer ends its process at once
    now = time.monotonic()
    return pid, _Run(name, folder, work, now, now + chosen.seconds + _GRACE if chosen.seconds else float("inf"))


def _ended(running: dict[int, _Run]) -> tuple[int, int]:
    """The number of the next process that has ended, and its status."""
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            return pid, os.waitstatus_to_exitcode(status)
        for each, run in running.items():
            if time.monotonic() > run.until:
                os.kill(each, signal.SIGKILL)
        time.sleep(0.1)


def _tell(run: _Run, status: int) -> dict[str, Any]:
    """Print a line about a target, and what was found."""
    shutil.rmtree(run.work, ignore_errors=True)
    name, log, numbers = run.name, run.folder / "log", run.folder / "numbers.json"
    told = json.loads(numbers.read_text()) if numbers.exists() else {"runs": 0, "bytes": 0, "slowest": 0, "found": {}}
    final = _RUNS.search(log.read_bytes())
    told["runs"] = max(told["runs"], int(final[1]) if final else 0)
    told["ended"] = f"ended with status {status}, see {log}" if status else ""
    rate = told["runs"] / max(1.0, time.monotonic() - run.began)
    print(
        f"{name:15} {told['runs']:9} runs {rate:7.0f}/s  slowest {told['slowest']:5.2f} s  "
        f"most {told['bytes'] >> 20:4} MiB  {sum(told['found'].values()) or 'nothing'} found {told['ended']}",
        flush=True,
    )
    for where, count in sorted(told["found"].items(), key=lambda item: -item[1]):
        print(f"  {count:6} times {where} (inputs in {run.folder / 'found'})", flush=True)
    return told


if __name__ == "__main__":
    sys.exit(main())
