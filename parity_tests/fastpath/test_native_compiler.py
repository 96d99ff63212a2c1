"""A compiler may be slow, be killed, or never end: what is compiled for the machine is compiled all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcn_port.fastpath.compiler import words_of
from fcn_port.fastpath.native import build

ROOT = Path(__file__).parents[2]

TOUCH = 'for each; do [ "$before" = -o ] && touch "$each"; before=$each; done; exit 0'
"""What a compiler does that makes an empty file."""


def compiler(folder: Path, *, first: str, then: str = TOUCH) -> list[str]:
    """A compiler that does `first` when it is called for the first time, and then, as at all other times, `then`."""
    path = folder / "compiler"
    path.write_text(
        f"""#!/bin/sh
echo "$*" >> {folder}/calls
if [ $(wc -l < {folder}/calls) = 1 ]; then {first}; fi
{then}
"""
    )
    path.chmod(0o700)
    return [str(path)]


@pytest.mark.parametrize(
    "first",
    ["kill -9 $$", "echo 'cc: fatal error: Killed signal terminated program cc1' >&2; exit 1", "exit 137"],
    ids=["itself", "what it began", "in a shell"],
)
def test_a_compiler_that_is_killed_is_tried_again(first: str, tmp_path: Path) -> None:
    """And still with OpenMP: that a process was killed says nothing about what the compiler can do."""
    assert build._compile(compiler(tmp_path, first=first), tmp_path).is_file()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 2 and all("-fopenmp" in call for call in calls)


def test_a_compiler_that_is_always_killed(tmp_path: Path) -> None:
    """It is no reason to do without OpenMP for ever."""
    with pytest.raises(OSError, match="exit status -9"):
        build._compile(compiler(tmp_path, first=":", then="kill -9 $$"), tmp_path)
    assert all("-fopenmp" in call for call in (tmp_path / "calls").read_text().splitlines())


def test_a_compiler_without_openmp(tmp_path: Path) -> None:
    then = 'case "$*" in *-fopenmp*) echo "error: unsupported option -fopenmp" >&2; exit 1;; esac; ' + TOUCH
    assert build._compile(compiler(tmp_path, first=":", then=then), tmp_path).is_file()
    assert ["-fopenmp" in call for call in (tmp_path / "calls").read_text().splitlines()] == [True, False]


def test_a_compiler_that_knows_no_native_processor(tmp_path: Path) -> None:
    """Apple's for arm64, up to some version."""
    then = f'case "$*" in *-march=native*) echo "error: unsupported argument" >&2; exit 1;; esac; {TOUCH}'
    assert build._compile(compiler(tmp_path, first=":", then=then), tmp_path).is_file()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert ["-march=native" in call for call in calls] == [True, True, False]


TOGETHER = """
import ctypes, hashlib, threading
import torch
import fcn_port
from converters.formats import parse_prototxt
from converters import CaffeNet
from fcn_port.fastpath.native import build
from fcn_port.fastpath.program import self_check
from parity_tests.fastpath.random_nets import filled

library, seen = build.library(), {}
of_one = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)(lambda _, n: seen.update({n: threading.get_native_id()}))
library.together(3, of_one, None)
torch.set_num_threads(3)
net = filled(CaffeNet(parse_prototxt(self_check._NET)))
x = {name: torch.randn(shape, generator=torch.Generator().manual_seed(0)) for name, shape in net.inputs.items()}
found = fcn_port.fast(net)(**x)
values = found.values() if isinstance(found, dict) else [found]
bits = hashlib.sha256(b"".join(value.numpy().tobytes() for value in values)).hexdigest()
print(hasattr(library, "GOMP_parallel"), sorted(seen), len(set(seen.values())), bits)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_several_threads_without_openmp(tmp_path: Path) -> None:
    """They were one: on a Mac, and where the system has no runtime of OpenMP. The bits are those with it."""
    command = compiler(tmp_path, first=":", then='case "$*" in *-fopenmp*) exit 1;; esac; exec cc "$@"')[0]
    found = []
    for compiled in ({"CC": command, "XDG_CACHE_HOME": str(tmp_path)}, {"CC": "cc"}):  # which is compiled as a rule
        environment = {**os.environ, **compiled}
        done = subprocess.run(
            [sys.executable, "-c", TOGETHER], env=environment, capture_output=True, text=True, timeout=600, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split(maxsplit=1))
    (has_openmp, alone), (_, together) = found
    assert has_openmp == "False" and alone == together and alone.startswith("[0, 1, 2] 3 ")


def test_a_compiler_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two minutes were too few beside six busy processes on two cores."""
    assert build._SECONDS >= 600
    monkeypatch.setattr(build, "_SECONDS", 60)
    assert build._compile(compiler(tmp_path, first="sleep 1"), tmp_path).is_file()


def test_a_compiler_that_never_ends_takes_its_processes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "pid"
    for seconds in (1, 10, 100):  # until even a busy machine comes to begin the process
        monkeypatch.setattr(build, "_SECONDS", seconds)
        (tmp_path / "calls").unlink(missing_ok=True)
        with pytest.raises(subprocess.TimeoutExpired):
            build._compile(compiler(tmp_path, first=f"sleep 600 & echo $! > {note}; wait"), tmp_path)
        if note.exists() and note.read_text().strip():
            break
    child = int(note.read_text())
    deadline = time.monotonic() + 60
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child)


def is_alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_empty_name_of_a_compiler_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "")
    assert words_of("CC", "cc") == ["cc"]
