"""One target, driven by libFuzzer, which ends the process; what it finds goes to a folder, and it goes on."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
import warnings
from itertools import islice
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["converters", "weights", "fcn_port"]):
    from .judge import Target, judge
    from .targets import TARGETS

MOST_BYTES = 1 << 16
"""Of an input; the bound on memory is 64 MiB more, so that larger ones would teach nothing."""
MOST_MEMORY = 6 << 30
"""Of the process: for the machine's sake, should a reader take what it must not."""
MOST_ALIKE = 3
"""Inputs kept that stumble over the same line."""


def fuzz(name: str, folder: Path, work: Path, seconds: int, runs: int, seed: int) -> None:
    """Fuzz the target `name`: `folder` keeps what is learnt (corpus), found (found), and the numbers (numbers.json).

    Files are written in `work`.
    """
    target = TARGETS[name]
    for each in ("corpus", "found", "seeds"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    kept = Path(__file__).parent / "corpus" / name
    known = [path.read_bytes() for path in sorted(kept.glob("*"))] if kept.is_dir() else []
    for data in (*target.seeds(), *known):
        (folder / "seeds" / hashlib.sha1(data).hexdigest()).write_bytes(data)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    warnings.simplefilter("ignore")
    watch = _Watch(target, folder, work)

    def mutated(data: bytes, most: int, number: int) -> bytes:
        return target.mutate(data, number, lambda each: atheris.Mutate(each, max(len(each) + 16, 64)))[:most]

    arguments = [
        f"-max_total_time={seconds}", f"-runs={runs}", f"-max_len={MOST_BYTES}", f"-seed={seed}", "-timeout=120",
        f"-rss_limit_mb={MOST_MEMORY >> 20}", f"-artifact_prefix={folder / 'found'}/", "-print_final_stats=1",
        "-verbosity=1", str(folder / "corpus"), str(folder / "seeds"),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *arguments], watch.see, custom_mutator=mutated)
    atheris.Fuzz()


class _Watch:
    """What libFuzzer calls: judges each input, keeps findings and counts."""

    def __init__(self, target: Target, folder: Path, work: Path) -> None:
        self.target, self.folder, self.work = target, folder, work
        self.count = self.most = 0
        self.slowest = 0.0
        self.found: dict[str, int] = {}
        self._told = time.monotonic()
        for data in islice(target.seeds(), 3):  # what is imported late is no input's fault
            judge(target, data, work)

    def see(self, data: bytes) -> None:
        verdict = judge(self.target, data, self.work)
        self.count += 1
        self.most, self.slowest = max(self.most, verdict.taken), max(self.slowest, verdict.seconds)
        if verdict.finding is not None:
            self._keep(data, verdict.finding.kind, verdict.finding.where, verdict.finding.text)
        if verdict.finding is not None or time.monotonic() - self._told > 0.5 or self.count < 3:
            self.tell()

    def _keep(self, data: bytes, kind: str, where: str, text: str) -> None:
        seen = self.found[f"{kind}: {where}"] = self.found.get(f"{kind}: {where}", 0) + 1
        if seen <= MOST_ALIKE:
            name = f"{kind}-{hashlib.sha1(data).hexdigest()[:12]}"
            (self.folder / "found" / name).write_bytes(data)
            (self.folder / "found" / f"{name}.txt").write_text(f"{where}\n{text}\n", errors="backslashreplace")

    def tell(self) -> None:
        self._told = time.monotonic()
        numbers = {"runs": self.count, "bytes": self.most, "slowest": self.slowest, "found": self.found}
        (self.folder / "numbers.json").write_text(json.dumps(numbers))
