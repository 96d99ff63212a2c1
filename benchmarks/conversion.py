"""Opening and converting a caffemodel of 538 MB, beside what else could be done with it.

``python -m benchmarks.conversion`` makes the file from the fill rule, runs every task in a process of its own, all of
them once in each round, and prints a Markdown table of medians and the limits that hold for them; ``--json FILE`` keeps
every number. The file is read once before, so that no task pays for the disk. Exit status 1 if a limit is broken.

Times are taken inside each process after its imports. Memory is RssAnon of /proc (Linux) at its highest: pages that
belong to no file, and so cannot be dropped as those of a mapped file can.
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
from collections.abc import Callable, Mapping
from pathlib import Path

NET = "voc-fcn8s"
WEIGHTS, PROTOTXT, OUT = f"{NET}.caffemodel", f"{NET}.prototxt", "out"

Task = Callable[[Path], Callable[[], object]]
"""Imports what it needs, and returns the work to be timed, in a folder with WEIGHTS and PROTOTXT."""


def open_and_index(folder: Path) -> Callable[[], object]:
    from converters import read_caffemodel

    def work() -> object:
        model = read_caffemodel(folder / WEIGHTS)
        return {(name, i): (b.shape, b[(0,) * b.ndim]) for name, own in model.blobs.items() for i, b in enumerate(own)}

    return work


def parse_with_protobuf(folder: Path) -> Callable[[], object]:
    from converters.schema import NetParameter

    return lambda: NetParameter.FromString((folder / WEIGHTS).read_bytes())


def import_with_opencv(folder: Path) -> Callable[[], object]:
    import cv2

    return lambda: cv2.dnn.readNetFromCaffe(str(folder / PROTOTXT), str(folder / WEIGHTS))


def convert(folder: Path) -> Callable[[], object]:
    import torch  # noqa: F401  # the limit is beyond a process that has it

    import converters

    return lambda: converters.convert(folder / WEIGHTS, folder / OUT)


def copy_and_hash(folder: Path) -> Callable[[], object]:
    import shutil

    from converters.safety import sha256_of

    def work() -> object:
        shutil.copyfile(folder / WEIGHTS, folder / OUT)
        return sha256_of(folder / WEIGHTS)

    return work


def nothing(folder: Path) -> Callable[[], object]:
    return lambda: None


TASKS: Mapping[str, Task] = {
    "open and index every blob": open_and_index,
    "protobuf library's own parse": parse_with_protobuf,
    "OpenCV's Caffe importer": import_with_opencv,
    "convert to safetensors": convert,
    "plain copy and sha256": copy_and_hash,
    "bare interpreter": nothing,
}
MOST_SECONDS_TO_OPEN, MOST_MEMORY_TO_OPEN = 0.3, 60e6
MOST_COPIES, MOST_MEMORY_TO_CONVERT = 2.0, 150e6


# In the process of one task


def run_task(name: str, folder: Path) -> dict[str, float]:
    """Do one task in this process: the seconds of its work, and the anonymous memory after its imports."""
    started = time.perf_counter()
    work = TASKS[name](folder)
    imports = time.perf_counter() - started
    imported = anonymous_memory("self")
    started = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - started
    del result
    return {"seconds": seconds, "seconds to import": imports, "imported": imported}


def anonymous_memory(process: int | str) -> int:
    """Bytes of a process's memory that belong to no file; 0 once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon:"))


# In the process that compares


def make_files(folder: Path) -> None:
    """FCN-8s with the fill rule's weights, as a caffemodel and a prototxt."""
    from converters import write_caffemodel, write_prototxt
    from converters.formats.model import CaffeModel
    from fcn_port.porting import net_definition
    from parity_tests import goldens
    from parity_tests.fill import fill_state

    spec = net_definition(NET)
    write_prototxt(spec, folder / PROTOTXT)
    write_caffemodel(CaffeModel(spec, fill_state(goldens.shapes()[NET].params)), folder / WEIGHTS)


def measure(folder: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Every task once in each round, each in a process of its own; what each of them reported."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in TASKS}
    for count in range(rounds):
        for name in TASKS:
            print(f"round {count + 1} of {rounds}: {name}", file=sys.stderr)
            found[name].append(watch_task(name, folder))
            (folder / OUT).unlink(missing_ok=True)
    return found


def watch_task(name: str, folder: Path) -> dict[str, float]:
    """Run one task in a process of its own; its report, and the most anonymous memory that it ever had.

    It is watched from here because a library that parses in C lets nothing else run in its own process.
    """
    command = [sys.executable, "-m", "benchmarks.conversion", "--task", name, "--folder", str(folder)]
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, anonymous_memory(process.pid))
            time.sleep(0.003)
        assert process.stdout is not None
        report = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{name}: exit status {process.returncode}")
    return {**json.loads(report), "peak": peak}


def summarise(found: Mapping[str, list[dict[str, float]]]) -> tuple[str, dict[str, tuple[float, float]]]:
    """A Markdown table of medians; and for each limit what was found and what is allowed."""
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
    }
    bare = medians["bare interpreter"]["peak"]
    lines = ["| | seconds | beyond a bare interpreter, MB | of it while it ran, MB |", "| --- | ---: | ---: | ---: |"]
    for name, row in medians.items():
        if name != "bare interpreter":
            total, running = (row["peak"] - bare) / 1e6, (row["peak"] - row["imported"]) / 1e6
            lines.append(f"| {name} | {row['seconds']:.3f} | {total:.0f} | {running:.0f} |")
    opened, converted = medians["open and index every blob"], medians["convert to safetensors"]
    limits = {
        "seconds to open and index": (opened["seconds"], MOST_SECONDS_TO_OPEN),
        "MB to open and index, beyond the interpreter": ((opened["peak"] - bare) / 1e6, MOST_MEMORY_TO_OPEN / 1e6),
        "conversion, in plain copies and sha256": (
            converted["seconds"] / medians["plain copy and sha256"]["seconds"],
            MOST_COPIES,
        ),
        "MB to convert, beyond a process with torch": (
            (converted["peak"] - converted["imported"]) / 1e6,
            MOST_MEMORY_TO_CONVERT / 1e6,
        ),
    }
    lines += ["", "| limit | found | allowed |", "| --- | ---: | ---: |"]
    lines += [f"| {name} | {value:.3g} | {most:g} |" for name, (value, most) in limits.items()]
    return "\n".join(lines), limits


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to keep every number")
    parser.add_argument("--folder", type=Path, help="where to make the files, and leave them; else a temporary one")
    parser.add_argument("--task", choices=list(TASKS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(run_task(options.task, options.folder)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / WEIGHTS).exists():
            make_files(folder)
        (folder / WEIGHTS).read_bytes()
        found = measure(folder, options.rounds)
    table, limits = summarise(found)
    print(f"Median of {options.rounds} rounds on {os.cpu_count()} cores; {NET}, 538 MB, in the page cache.\n\n{table}")
    if options.json:
        options.json.write_text(json.dumps({"runs": found, "limits": limits}, indent=1) + "\n")
    return 1 if any(value > most for value, most in limits.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
