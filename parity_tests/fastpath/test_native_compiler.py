"""A compiler may be slow, be killed, or never end: what is compiled for the machine is compiled all the same."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from fcn_port.fastpath.compiler import words_of
from fcn_port.fastpath.native import build

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
