"""Opening and converting a caffemodel of 538 MB, beside what else could be done with it.

``python -m benchmarks.conversion`` makes the file from the fill rule, runs every task in a process of its own, all of
them once in each round, and prints a Markdown table of medians and the limits that hold for them; ``--json FILE`` keeps
every number. The file is read once before, so that no task pays for the disk. Exit status 1 if a limit is broken.

Times are taken inside each process after its imports; tasks.py says what is memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .tasks import OUT, Benchmark, Limits, Runs, Task, medians, nothing, run

NET = "voc-fcn8s"
WEIGHTS, PROTOTXT = f"{NET}.caffemodel", f"{NET}.prototxt"


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


def make_files(folder: Path) -> None:
    """FCN-8s with the fill rule's weights as a caffemodel and a prototxt; one that is there stays; read once."""
    if not (folder / WEIGHTS).exists():
        from converters import write_caffemodel, write_prototxt
        from converters.formats.model import CaffeModel
        from fcn_port.porting import net_definition
        from parity_tests import goldens
        from parity_tests.fill import fill_state

        spec = net_definition(NET)
        write_prototxt(spec, folder / PROTOTXT)
        write_caffemodel(CaffeModel(spec, fill_state(goldens.shapes()[NET].params)), folder / WEIGHTS)
    (folder / WEIGHTS).read_bytes()


def rows(found: Runs) -> Sequence[str]:
    of_all = medians(found)
    bare = of_all["bare interpreter"]["peak"]
    lines = ["| | seconds | beyond a bare interpreter, MB | of it while it ran, MB |", "| --- | ---: | ---: | ---: |"]
    for name, row in of_all.items():
        if name != "bare interpreter":
            total, running = (row["peak"] - bare) / 1e6, (row["peak"] - row["imported"]) / 1e6
            lines.append(f"| {name} | {row['seconds']:.3f} | {total:.0f} | {running:.0f} |")
    return lines


def limits(found: Runs) -> Limits:
    of_all = medians(found)
    opened, converted = of_all["open and index every blob"], of_all["convert to safetensors"]
    to_open = (opened["peak"] - of_all["bare interpreter"]["peak"]) / 1e6
    to_convert = (converted["peak"] - converted["imported"]) / 1e6
    copies = converted["seconds"] / of_all["plain copy and sha256"]["seconds"]
    return {
        "seconds to open and index": (opened["seconds"], MOST_SECONDS_TO_OPEN),
        "MB to open and index, beyond the interpreter": (to_open, MOST_MEMORY_TO_OPEN / 1e6),
        "conversion, in plain copies and sha256": (copies, MOST_COPIES),
        "MB to convert, beyond a process with torch": (to_convert, MOST_MEMORY_TO_CONVERT / 1e6),
    }


if __name__ == "__main__":
    sys.exit(run(Benchmark("benchmarks.conversion", TASKS, make_files, rows, limits), __doc__))
