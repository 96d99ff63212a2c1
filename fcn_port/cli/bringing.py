"""A release that a verb needs: what bringing it takes is said first, and then how far it has come.

Every verb that takes the name of a release has it from here, on standard error, and no other way:

    here(what)             WHAT for `load`: a file as it is, a release as its converted file
    bring(name)            a release fetched and converted
    bring_file(name)       its caffemodel alone
    definition_here(what)  the definition that a famous net is run with
    telling(file)          what follows the download of anything else
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from weights.catalogue import famous
from weights.catalogue import release as find_release
from weights.download import FetchPlan, FetchResult, Progress, is_offline, plan, shown
from weights.records import Release
from weights.store import converted_path, prototxt_place

from .output import bar, duration, human_bytes, note

if TYPE_CHECKING:
    from ..porting import Ported

_SPEEDS = (("10 Mbit/s", 1.25e6), ("100 Mbit/s", 1.25e7))


def looks_like_a_name(what: str) -> bool:
    """True if WHAT is meant as a name: no such file exists, and it has neither a folder nor a suffix."""
    path = Path(what)
    return not path.exists() and path.name == what and not path.suffix and not what.startswith("hf:")


def here(what: str, *, active: bool = True) -> Path:
    """The file that `load` takes for WHAT; a release is fetched and converted if it is not here.

    Where several processes want the same, all but one are not `active`: they wait, and say nothing.
    """
    if not looks_like_a_name(what):
        return Path(what)
    if converted_path(find_release(what)).is_file():
        from ..porting import converted

        return converted(what)
    return bring(what, active=active).path


def bring(name: str, *, out: str | None = None, from_file: str | None = None, active: bool = True) -> Ported:
    """A release, fetched and converted; says how it was verified if it had to be fetched."""
    release = find_release(name)
    with _telling_of(release, from_file=from_file, active=active) as told:
        from ..porting import port_release

        ported = port_release(name, out=out, from_file=from_file, fetch_progress=told.fetched, progress=told.converted)
    if active and not ported.fetched.already_there:
        note(ported.fetched.explanation)
    return ported


def bring_file(name: str, *, from_file: str | None = None, verify: bool = False) -> FetchResult:
    """A release's caffemodel, fetched and verified."""
    with _telling_of(find_release(name), from_file=from_file) as told:
        from ..porting import fetch_release

        return fetch_release(name, from_file=from_file, verify=verify, progress=told.fetched)


def definition_here(what: str) -> Path | None:
    """The definition that a famous net is run with, where it is here; None for all else."""
    if not looks_like_a_name(what) or what not in famous():
        return None
    path = prototxt_place(famous()[what]).path
    return path if path.is_file() else None


@dataclass(frozen=True)
class Told:
    """Callbacks that show a download, and a conversion in bytes (done, total); None for who shall be silent."""

    fetched: Callable[[Progress], None] | None
    converted: Callable[[int, int], None] | None


@contextmanager
def telling(file: str, *, active: bool = True) -> Iterator[Told]:
    """Callbacks that show how far it is with `file`: a bar where somebody watches, lines where not."""
    if not active:
        yield Told(None, None)
        return
    with bar(file) as update:
        yield Told(_Reporter(update), update)


@contextmanager
def _telling_of(release: Release, *, from_file: str | None, active: bool = True) -> Iterator[Told]:
    if active and from_file is None:
        _announce(release, plan(release))
    with telling(release.file, active=active) as told:
        yield told


def _announce(release: Release, expected: FetchPlan) -> None:
    """Say what a download will cost before it begins."""
    if expected.present or is_offline() or not expected.urls:
        return
    size = f"about {human_bytes(expected.expected_bytes)}" if expected.expected_bytes else "a file of unknown size"
    kept = f", of which {human_bytes(expected.kept_bytes)} are here already" if expected.kept_bytes else ""
    times = ", ".join(
        f"{duration(s)} at {name}" for name, bps in _SPEEDS if (s := expected.seconds_at(bps)) is not None
    )
    note(
        f"{release.name} is not here: {release.file}, {size}{kept}, from {shown(expected.urls[0])}"
        + (f"; takes about {times}" if times else "")
        + f"\n{human_bytes(expected.free_bytes)} free in {expected.path.parent}"
    )


class _Reporter:
    """Shows a download: a bar, and a line for each stage."""

    def __init__(self, update: Callable[[int, int], None]) -> None:
        self._update = update
        self._stage = ""

    def __call__(self, progress: Progress) -> None:
        self._update(progress.done, progress.total or progress.done)
        if progress.stage != self._stage or progress.note:
            self._stage = progress.stage
            if progress.stage != "done":
                size = human_bytes(progress.total) if progress.stage == "downloading" and progress.total else None
                details = ", ".join(filter(None, (progress.url, size, progress.note)))
                note(f"{progress.stage} {progress.file}" + (f": {details}" if details else ""))
