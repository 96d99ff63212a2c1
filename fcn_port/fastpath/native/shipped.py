"""Libraries compiled beforehand, which a wheel may bring along for machines that have no compiler.

There is one for each kind of processor, with OpenMP and without, as not every machine has its runtime. Their names hold
a digest of what they were compiled from, so that none is used with another source. ship.py makes them.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

_HERE = Path(__file__).parent
FOLDER = _HERE / "compiled"
_MADE_FROM = (
    *sorted(_HERE.glob("*.[ch]")),
    _HERE / "build.py",
    _HERE.parent / "points.py",
    _HERE.parent / "strassen.py",
)
FORMS = ("openmp", "alone")
"""With OpenMP, and without, where one thread computes; the first is tried first."""


@dataclass(frozen=True)
class ProcessorKind:
    """Processors that run what is compiled with -march=`name`: of a machine, with all of these flags of cpuinfo."""

    name: str
    machine: str
    flags: frozenset[str]


_V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
KINDS = (
    ProcessorKind("x86-64-v4", "x86_64", _V4),
    ProcessorKind("x86-64-v3", "x86_64", _V3),
    ProcessorKind("x86-64", "x86_64", frozenset()),
    ProcessorKind("armv8-a", "aarch64", frozenset()),
)
"""The best first; the flags of the levels are those of the x86-64 psABI, by the names that Linux has for them."""


def libraries() -> list[Path]:
    """The libraries that came with this package and run on this processor, the best first."""
    if sys.platform != "linux" or not FOLDER.is_dir():
        return []
    here = platform.machine(), _flags()
    able = [kind for kind in KINDS if kind.machine == here[0] and kind.flags <= here[1]]
    paths = [path for form in FORMS for kind in able if (path := FOLDER / name_of(kind, form)).is_file()]
    if paths:
        _find_openmp()
    return paths


def name_of(kind: ProcessorKind, form: str) -> str:
    """The file of a library that is compiled from the sources beside this file."""
    sources = chr(0).join(path.read_text(encoding="utf-8") for path in _MADE_FROM)
    digest = hashlib.sha256(sources.encode()).hexdigest()[:16]
    return f"{kind.name}-{form}-{digest}.so"


def _flags() -> frozenset[str]:
    """The abilities of this processor, as Linux names them for x86."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def _find_openmp() -> None:
    """Have the runtime of OpenMP that PyTorch brings along at hand, where the system has none."""
    found = find_spec("torch")
    with suppress(OSError):
        if found is not None and found.origin is not None:
            ctypes.CDLL(str(Path(found.origin).with_name("lib") / "libgomp.so.1"))
