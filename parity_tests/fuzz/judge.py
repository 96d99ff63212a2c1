"""One input to one target: what came out of it, how long it took, and how much memory."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from converters.errors import CaffeFormatError
from converters.safety.limits import memory_limit

SLOW = 5.0
"""Seconds of processor time that no input may take."""
NOISE = 32 << 20
"""Bytes that the interpreter's own pools may grow by during one input, beside what the reader takes."""

_SIZES = Path("/proc/self/statm")
_FORGET = Path("/proc/self/clear_refs")
_PAGE = 4096
_ROOT = str(Path(__file__).parents[2])

Change = Callable[[bytes], bytes]
"""Changes bytes without knowing what they are: libFuzzer's, or a random one."""


@dataclass(frozen=True)
class Target:
    """A reader: `read` takes the path of a file, and may write beside it, in a folder that is its own.

    `errors` may come out of it beside CaffeFormatError; `expansion` is what limits.py allows it for each byte of the
    file, beside 64 MiB, and `times` how often over it may hold that. `mutate` changes a seed, a number deciding how.
    """

    name: str
    read: Callable[[Path], object]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Callable[[bytes, int, Change], bytes]
    errors: tuple[type[Exception], ...] = ()
    expansion: int = 1
    times: int = 1


@dataclass(frozen=True)
class Finding:
    """Something that no input may do; `where` is the same for inputs that stumble over the same line."""

    kind: str
    where: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What one input did: the finding if there is one, processor seconds, and bytes beyond what was held before."""

    finding: Finding | None
    seconds: float
    taken: int


def judge(target: Target, data: bytes, folder: Path) -> Verdict:
    """Give `data` to the target as the file `folder`/input."""
    path = folder / "input"
    path.unlink(missing_ok=True)  # a new inode: the last one may be mapped still
    path.write_bytes(data)
    before = _begin()
    started = time.process_time()
    finding = None
    try:
        target.read(path)
    except (CaffeFormatError, *target.errors) as error:
        if not str(error).strip():
            finding = Finding("silent", _where(error), "an error without a message")
        elif "\x1b" in str(error) or "Traceback" in str(error):
            finding = Finding("raw", _where(error), f"a message that is not for a terminal: {str(error)!r:.300}")
    except Exception as error:
        finding = Finding("foreign", _where(error), "".join(traceback.format_exception(error))[-4000:])
    seconds, taken = time.process_time() - started, _taken(before)
    allowed = target.times * memory_limit(len(data), expansion=target.expansion) + NOISE
    if finding is None and seconds > SLOW:
        finding = Finding("slow", target.name, f"{seconds:.1f} s")
    if finding is None and taken > allowed:
        finding = Finding("memory", target.name, f"{taken} bytes for a file of {len(data)}; allowed are {allowed}")
    return Verdict(finding, seconds, taken)


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_ROOT)]
    ours = [frame for frame in frames if ".venv" not in frame.filename]
    last = ours[-1] if ours else None
    place = "" if last is None else f" {os.path.relpath(last.filename, _ROOT)}:{last.lineno}"
    return f"{type(error).__name__}{place}"


@dataclass(frozen=True)
class _Memory:
    """What the process holds, and the most that it has held since the peak was last forgotten, in bytes."""

    held: int
    peak: int


def _begin() -> _Memory | None:
    """Memory before an input, the peak being near; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    held = int(_SIZES.read_bytes().split()[1]) * _PAGE
    if _peak() - held > NOISE:
        _FORGET.write_bytes(b"5")
    return _Memory(held, _peak())


def _taken(before: _Memory | None) -> int:
    """Bytes at the peak of an input beyond what was held before; 0 where they are fewer than `NOISE`."""
    if before is None or (peak := _peak()) <= before.peak:
        return 0
    return max(0, peak - before.held)


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
