"""Tasks beside one another: each in a process of its own, all of them once in each round, with medians and limits.

A benchmark names its tasks, makes their files in a folder, and turns what the tasks reported into a table; what is the
same for all such benchmarks is here. Memory is RssAnon of /proc (Linux) at its highest: pages that belong to no file,
and so cannot be dropped as those of a mapped file can.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.options import positive

OUT = "out"
"""The file that a task may write; it goes before the next one."""

Task = Callable[[Path], Callable[[], object]]
"""Imports what it needs, and returns the work to be timed, in the folder of the files."""
Runs = Mapping[str, Sequence[Mapping[str, float]]]
"""For each task what its processes reported, in the order of the rounds."""
Limits = Mapping[str, tuple[float, float]]
"""What was found, and the most that is allowed."""


def nothing(folder: Path) -> Callable[[], object]:
    return lambda: None


@dataclass(frozen=True)
class Benchmark:
    """Tasks that are compared: the module that runs one by name, the files they need, what is made of the reports.

    `rows` is the head of a Markdown table and its lines. `warm` is a task that runs once before, so that modules are
    compiled (kept in the folder), as those of an installed package are.
    """

    module: str
    tasks: Mapping[str, Task]
    make_files: Callable[[Path], None]
    rows: Callable[[Runs], Sequence[str]]
    limits: Callable[[Runs], Limits]
    warm: str | None = None


def medians(found: Runs) -> dict[str, dict[str, float]]:
    return {name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()}


# In the process of one task


def run_task(task: Task, folder: Path) -> dict[str, float]:
    """Do one task in this process: seconds of its imports and of its work, processor time and memory in bytes."""
    started = time.perf_counter()
    work = task(folder)
    imports = time.perf_counter() - started
    imported = anonymous_memory("self")
    started = time.perf_counter()
    result = work()
    seconds, processor = time.perf_counter() - started, time.process_time()
    del result
    return {"seconds": seconds, "processor": processor, "seconds to import": imports, "imported": imported}


def anonymous_memory(process: int | str) -> int:
    """Bytes of a process's memory that belong to no file; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))


# In the process that compares


def watch_task(benchmark: Benchmark, name: str, folder: Path) -> dict[str, float]:
    """Run one task in a process of its own; its report, and the most anonymous memory that it ever had.

    It is watched from here because a library that parses in C lets nothing else run in its own process.
    """
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment = {**os.environ, **compiled} if benchmark.warm else None
    command = [sys.executable, "-m", benchmark.module, "--task", name, "--folder", str(folder)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_memory(process.pid))
            time.sleep(0.003)
        assert process.stdout is not None
        report = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{name}: exit status {process.returncode}")
    return {**json.loads(report), "peak": peak}


def measure(benchmark: Benchmark, folder: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Every task once in each round, each in a process of its own; what each of them reported."""
    if benchmark.warm:
        watch_task(benchmark, benchmark.warm, folder)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in benchmark.tasks}
    for count in range(rounds):
        for name in benchmark.tasks:
            print(f"round {count + 1} of {rounds}: {name}", file=sys.stderr)
            (folder / OUT).unlink(missing_ok=True)
            found[name].append(watch_task(benchmark, name, folder))
    return found


def run(benchmark: Benchmark, doc: str | None) -> int:
    """The program of a benchmark: prints its tables; the exit status is 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--json", type=Path, help="where to keep every number")
    parser.add_argument("--folder", type=Path, help="where to make the files, and leave them; else a temporary one")
    parser.add_argument("--task", choices=list(benchmark.tasks), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(run_task(benchmark.tasks[options.task], options.folder)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        benchmark.make_files(folder)
        os.sync()
        found = measure(benchmark, folder, options.rounds)
    limits = benchmark.limits(found)
    print("\n".join([*benchmark.rows(found), "", "| limit | found | allowed |", "| --- | ---: | ---: |"]))
    print("\n".join(f"| {name} | {value:.3g} | {most:g} |" for name, (value, most) in limits.items()))
    print(f"\nMedian of {options.rounds} rounds on {os.cpu_count()} cores.")
    if options.json:
        options.json.write_text(json.dumps({"runs": found, "limits": limits}, indent=1) + "\n")
    return int(any(value > most for value, most in limits.values()))
