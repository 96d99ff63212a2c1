"""Fuzz targets in processes of their own and say what each did; exit status 1 where something was found."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_RUNS = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
_GRACE = 900
"""Seconds beyond its time in which a target ends: it imports torch, on a machine that may be busy."""


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
    with ThreadPoolExecutor(chosen.jobs) as pool:
        done = list(pool.map(lambda name: _run(name, chosen), chosen.targets or NAMES))
    total = sum(each["runs"] for each in done)
    bad = [each for each in done if each["found"] or each["ended"]]
    print(f"{total} executions of {len(done)} targets; {len(bad)} with findings")
    return 1 if bad else 0


def _run(name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Fuzz one target and print a line about it."""
    folder = chosen.out.absolute() / name
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / "numbers.json"
    numbers.unlink(missing_ok=True)
    arguments = [name, folder, chosen.seconds, chosen.runs, chosen.seed]
    command = [sys.executable, "-m", "parity_tests.fuzz.child", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    started = time.monotonic()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory) as work, (folder / "log").open("wb") as log:
        environment["FUZZ_WORK"] = work  # removed here: libFuzzer ends its process at once
        try:
            limit = chosen.seconds + _GRACE if chosen.seconds else None
            status = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=limit, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    told = json.loads(numbers.read_text()) if numbers.exists() else {"runs": 0, "bytes": 0, "slowest": 0, "found": {}}
    final = _RUNS.search((folder / "log").read_bytes())
    told["runs"] = max(told["runs"], int(final[1]) if final else 0)
    told["ended"] = f"ended with status {status}, see {folder / 'log'}" if status else ""
    rate = told["runs"] / max(1.0, time.monotonic() - started)
    print(
        f"{name:15} {told['runs']:9} runs {rate:7.0f}/s  slowest {told['slowest']:5.2f} s  "
        f"most {told['bytes'] >> 20:4} MiB  {sum(told['found'].values()) or 'nothing'} found {told['ended']}",
        flush=True,
    )
    for where, count in sorted(told["found"].items(), key=lambda item: -item[1]):
        print(f"  {count:6} times {where} (inputs in {folder / 'found'})", flush=True)
    return told


if __name__ == "__main__":
    sys.exit(main())
