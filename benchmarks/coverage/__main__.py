"""How far the nets of a folder come: read, deployed, shapes, run, and equal to OpenCV's and Caffe's numbers.

``python -m benchmarks.coverage FOLDER`` (or a .zip) tries every .prototxt in it, each in a process of its own with 60 s
of processor time for a stage and 4 GiB, and prints the table and what stops how many as Markdown. A net is run with
seeded weights and noise; OpenCV 4 and real Caffe, where installed, get the same net, weights and inputs as Caffe's
files, once the weights of layers whose numbers are large were made smaller (noise.py, `tame`). With ``--results FILE``
a run that was broken off goes on where it was; nets that were not tried up to the same stage are.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.options import above_zero, positive

from .processes import Limits, Row, run_all
from .sources import sources
from .stages import OURS, STAGES, Outcome
from .table import causes, one, table


def main() -> None:
    options = _parser().parse_args()
    try:
        nets = [net for net in sources(options.place) if fnmatch(net.name, options.only)]
    except OSError as error:
        sys.exit(f"{options.place}: {error.strerror or error}")
    stages = STAGES[: STAGES.index(options.until) + 1]
    if "run" in stages:
        import torch

        import converters

        torch.set_num_threads(1)
        _ = converters.CaffeNet  # imported once, for all children
    done = _read_results(options.results, stages)
    rows = [done[net.name] for net in nets if net.name in done]
    limits = Limits(options.seconds, options.clock, options.memory)
    for row in run_all([net for net in nets if net.name not in done], stages, jobs=options.jobs, limits=limits):
        rows.append(row)
        if options.results is not None:
            with options.results.open("a") as file:
                file.write(json.dumps({"until": options.until, **asdict(row)}) + "\n")
        if options.nets:
            print(one(row), flush=True)
        elif sys.stderr.isatty():
            print(f"\r{len(rows)} of {len(nets)}", end="", file=sys.stderr, flush=True)
    print("\n".join(table(rows, stages, limits)), end="\n\n")
    print("\n".join(causes(rows, most=options.causes)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "place", metavar="FOLDER", type=Path, help="a folder, at any depth, or a .zip of prototxt files"
    )
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help=f"the last stage ({OURS[-1]} is our last)")
    parser.add_argument("--jobs", type=positive, default=2, help="nets at once (2)")
    parser.add_argument("--seconds", type=above_zero, default=60, help="of processor time for a stage (60)")
    parser.add_argument("--clock", type=above_zero, default=900, help="seconds by the clock for a stage (900)")
    parser.add_argument("--memory", type=above_zero, default=4, help="GiB that a net may take (4)")
    parser.add_argument("--only", default="*", help="nets whose name fits this pattern")
    parser.add_argument("--results", type=Path, help="a file to write each net's outcome to, and to go on from")
    parser.add_argument("--nets", action="store_true", help="print a line for each net as well")
    parser.add_argument("--causes", type=int, default=60, help="causes that are shown (60)")
    return parser


def _read_results(path: Path | None, stages: tuple[str, ...]) -> dict[str, Row]:
    """The rows that an earlier run wrote, of nets that it tried as far as this one does."""
    if path is None or not path.is_file():
        return {}
    found = {}
    for line in path.read_text().splitlines():
        kept = json.loads(line)
        if STAGES.index(kept["until"]) >= len(stages) - 1:
            outcomes = tuple(Outcome(**each) for each in kept["outcomes"] if each["stage"] in stages)
            found[kept["name"]] = Row(kept["name"], outcomes, kept["seconds"])
    return found


if __name__ == "__main__":
    main()
