"""SIGKILL at random moments: whole or absent, a rerun completes to the same bytes, and leftovers do not pile up.

    python -m parity_tests.kills --count 200 --seed 1

Each round begins with an empty folder, kills one to three runs of a verb after one another, looks at what lies there,
and lets a last one end.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from parity_tests.data.test_data_fetching import packed
from parity_tests.fetching import published
from parity_tests.forks import Done, Forks
from parity_tests.http_server import Served, serving, slow
from parity_tests.verbs import PICTURE, SAMPLE, argv_of, make_inputs

KILLED = -9
UNFINISHED = (".part", ".part.json", ".lock", ".unpacking", ".pruned", ".drawing")
"""What files and folders are called that are not whole, or hold nothing."""
GROWS = (".jsonl",)
"""What is added to line by line; a torn last line is no result."""


@dataclass(frozen=True)
class Job:
    """A verb's run: its command line, what makes its rerun different, and variables."""

    name: str
    argv: list[str]
    again: tuple[str, ...] = ()


@dataclass
class Found:
    """What the kills left: how many they were by job, and what was wrong."""

    kills: Counter[str]
    wrong: list[str]


def jobs(inputs: Path, out: Path) -> list[Job]:
    """What is killed: every verb that writes."""

    def job(verb: str, *more: str, name: str = "", again: tuple[str, ...] = ()) -> Job:
        return Job(name or verb, [*argv_of(verb, inputs, out), *more], again)

    return [
        job("convert"),
        Job("fetch", ["fetch", "voc-fcn8s"]),
        job("predict"),
        job("evaluate"),
        job("train", "--max-iter", "4", again=("--resume",)),
        job("export"),
        job("data", "--count", "40", name="data --make"),
        Job("data --fetch", ["data", "voc2011", "--fetch", "--root", str(out / "data")]),
        job("surgery"),
        job("report"),
        job("publish"),
        job("edges"),
        job("fcn-score"),
        Job("predict --blobs", [*argv_of("predict", inputs, out), "--blobs", "score"]),
        Job("view", ["view", SAMPLE, "-o", str(out / "view.json")]),
        Job("diff --pictures", ["diff", "sample", "sample", "--pictures", str(out / "diff"), "--image", PICTURE]),
    ]


@contextmanager
def runner(place: Path) -> Any:
    """A call (argv, seconds) that runs the program, with local servers for what it fetches."""
    release, archive = place / "release", place / "archive"
    shutil.copyfile(SAMPLE, release)
    archive.write_bytes(packed(place / "packed"))
    own = {"FCN_PORT_WEIGHTS": str(place / "out" / "weights"), "NO_PROXY": "*", "FCN_PORT_OFFLINE": ""}
    bodies = (release.read_bytes(), archive.read_bytes(), b"a\nb\nc\n")
    with ExitStack() as stack:
        servers = [stack.enter_context(serving(Served(body))) for body in bodies]
        for server in servers:
            server.script = [slow]
        forks = stack.enter_context(Forks())
        ports = [server.port for server in servers]
        prepare = ["parity_tests.kills", "serve_from", *ports, str(release), str(archive)]

        def run(argv: list[str], seconds: float) -> Done:
            return forks.run(argv, seconds=seconds, variables=own, prepare=prepare)

        yield run


def serve_from(first: int, second: int, third: int, release_bytes: str, archive: str) -> None:
    """In a fork: the catalogue's files are what the servers of this test have."""
    import weights.catalogue as catalogue
    from fcn_port.cli import data as verb
    from fcn_port.data import archives
    from weights.records import Checksum

    known, body = catalogue._catalogue(), Path(release_bytes).read_bytes()
    entry = published([f"http://127.0.0.1:{first}/release"], body=body, checksums=["sha256"])
    changed = replace(known, releases={**known.releases, "voc-fcn8s": entry})
    catalogue._catalogue = lambda: changed  # type: ignore[assignment]
    md5 = Checksum("md5", hashlib.md5(Path(archive).read_bytes(), usedforsecurity=False).hexdigest())
    url = f"http://127.0.0.1:{second}/archive"
    voc = replace(archives.ARCHIVES["voc2011"], urls=(url,), checksum=md5, largest=10_000_000)
    list_url = f"http://127.0.0.1:{third}/list"
    listed = replace(archives.ARCHIVES["seg11valid"], urls=(list_url,), checksum=None, largest=10_000)
    archives.ARCHIVES = verb.ARCHIVES = {**archives.ARCHIVES, "voc2011": voc, "seg11valid": listed}  # type: ignore[misc]


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file that is neither unfinished nor grows, by its name below `folder`."""
    found = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_file() and not _unfinished(name) and not name.endswith(GROWS):
            found[name] = _digest(path)
    return found


def _digest(path: Path) -> str:
    """Of a file's bytes; of a record of what was verified, without the time of the file."""
    text = path.read_bytes()
    if path.suffix == ".sha256":
        text = b"\n".join(line for line in text.splitlines() if not line.startswith(b"#"))
    return hashlib.sha256(text).hexdigest()


def _unfinished(name: str) -> bool:
    return any(part.endswith(UNFINISHED) for part in Path(name).parts)


def leftovers(folder: Path) -> list[str]:
    """What is unfinished in `folder`, locks apart."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    return [name for name in names if _unfinished(name) and not name.endswith(".lock")]


def torn_lines(folder: Path) -> list[str]:
    """Files whose lines, but for the last, are not JSON."""
    wrong = []
    for path in folder.rglob("*.jsonl"):
        for line in path.read_text().split("\n")[:-1]:
            try:
                json.loads(line or "null")
            except ValueError:
                wrong.append(f"{path.name}: {line[:40]}")
    return wrong


def kill(
    count: int, *, seed: int, names: tuple[str, ...] = (), say: Callable[[str], None] = lambda text: None
) -> Found:
    """`count` kills over all jobs, or those of these names."""
    numbers, found = random.Random(seed), Found(Counter(), [])
    with tempfile.TemporaryDirectory(prefix="kills-") as base:
        place, out = Path(base), Path(base) / "out"
        make_inputs(place)
        with runner(place) as run:
            chosen = [job for job in jobs(place, out) if not names or job.name in names]
            expected: dict[str, tuple[float, Mapping[str, str]]] = {}
            for job in chosen:
                expected[job.name] = _undisturbed(job, out, run, found)
            while sum(found.kills.values()) < count and not (len(found.wrong) > 20):
                job, before = chosen[sum(found.kills.values()) % len(chosen)], len(found.wrong)
                _round(job, out, run, expected[job.name], numbers, found)
                for each in found.wrong[before:]:
                    say(each)
                say(f"{sum(found.kills.values())} kills, last of {job.name}; {len(found.wrong)} faults")
    return found


def _undisturbed(job: Job, out: Path, run: Any, found: Found) -> tuple[float, Mapping[str, str]]:
    """How long a run takes, and what it leaves."""
    _clear(out)
    began = time.monotonic()
    done = run(job.argv, 300)
    seconds = time.monotonic() - began
    if done.status != 0:
        found.wrong.append(f"{job.name}: undisturbed it ends with {done.status}: {done.err[-300:]}")
    return seconds, contents(out)


def _round(
    job: Job, out: Path, run: Any, expected: tuple[float, Mapping[str, str]], numbers: random.Random, found: Found
) -> None:
    seconds, files = expected
    _clear(out)
    argv = job.argv
    for _ in range(numbers.randint(1, 3)):
        done = run(argv, numbers.uniform(0, seconds))
        argv = [*job.argv, *job.again]
        if done.status == KILLED:
            found.kills[job.name] += 1
        elif done.status != 0:
            found.wrong.append(f"{job.name}: after a kill it ends with {done.status}: {done.err[-300:]}")
        for name, digest in contents(out).items():
            if name not in files:
                found.wrong.append(f"{job.name}: {name} is there, which an undisturbed run does not leave")
            elif digest != files[name]:
                found.wrong.append(f"{job.name}: {name} is not what an undisturbed run writes")
        found.wrong += [f"{job.name}: {each}" for each in torn_lines(out)]
    done = run(argv, 300)
    if done.status != 0:
        found.wrong.append(f"{job.name}: the rerun ends with {done.status}: {done.err[-300:]}")
    elif contents(out) != files:
        differs = sorted(set(contents(out).items()) ^ set(files.items()))
        found.wrong.append(f"{job.name}: the rerun leaves other files: {', '.join(name for name, _ in differs)}")
    left = leftovers(out)
    if left:
        found.wrong.append(f"{job.name}: left behind after a rerun: {', '.join(left)}")


def _clear(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()


def main() -> int:
    """Kill, and tell."""
    options = ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("names", nargs="*")
    chosen = options.parse_args()
    os.environ.setdefault("XDG_CACHE_HOME", tempfile.mkdtemp(prefix="kills-cache-"))
    began = time.monotonic()
    names: tuple[str, ...] = tuple(chosen.names)
    found = kill(chosen.count, seed=chosen.seed, names=names, say=lambda text: print(text, file=sys.stderr))
    for name, number in found.kills.items():
        print(f"{number:4} kills of {name}")
    print(f"{sum(found.kills.values())} kills in {time.monotonic() - began:.0f} s, seed {chosen.seed}: "
          f"{len(found.wrong)} faults")  # fmt: skip
    for each in found.wrong:
        print(f"  {each}")
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
