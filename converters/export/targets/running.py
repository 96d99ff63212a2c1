"""run_model: a model run in another program, in a process of its own.

The process is the other program's own Python where OpenCV 5 is to judge beside OpenCV 4; and a library that ends the
process, as OpenCV does on some models, ends no more than that.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...escaping import terminal
from ...safety import scaled, utf8_path
from ...safety.limits import VARIABLE
from .known import TargetProgram

WORKER = Path(__file__).with_name("worker.py")
SECONDS = 300
"""The time that a model may take to be read and run on all inputs."""


class ProgramError(RuntimeError):
    """A program refuses a model or ends on it; the message is what it said, in one line."""


@dataclass(frozen=True)
class Answer:
    """The answer of a program about a model: its version, and each trial's outputs by name, or what it said instead.

    `not_run` is why a program that is there was not asked to run the model; then there are no trials.
    """

    version: str
    trials: tuple[Mapping[str, np.ndarray] | str, ...]
    not_run: str | None = None


def run_model(
    model: Path,
    program: TargetProgram,
    inputs: Sequence[Mapping[str, np.ndarray]],
    *,
    outputs: Sequence[str],
    seconds: float | None = None,
) -> Answer:
    """Run a model on each of the `inputs` (arrays by name) in a program that is on this machine.

    Raises ProgramError where the program does not read the model, ends, or takes longer than `seconds`, by default
    `SECONDS` times FCN_PORT_LIMITS.
    """
    assert program.python is not None, f"{program.title} is not on this machine"
    with tempfile.TemporaryDirectory(prefix="fcn-port-target-") as name, utf8_path(model) as there:
        folder = Path(name)
        job = _job(folder, Path(there), program, inputs, outputs)
        said = _start(program.python, job, scaled(SECONDS) if seconds is None else seconds)
        result = folder / "result.json"
        if not result.is_file():
            raise ProgramError(_last_line(said))
        answer = json.loads(result.read_text(encoding="utf-8"))
        if answer["problem"] is not None:
            raise ProgramError(terminal(answer["problem"]))
        trials = tuple(
            _outputs(folder / f"outputs{i}.npz", outputs) if problem is None else terminal(problem)
            for i, problem in enumerate(answer["trials"])
        )
        return Answer(answer["version"], trials, answer["not_run"])


def _job(
    folder: Path,
    model: Path,
    program: TargetProgram,
    inputs: Sequence[Mapping[str, np.ndarray]],
    outputs: Sequence[str],
) -> Path:
    """The job as a file, and its inputs beside it, under numbers: names of blobs need not be names of files."""
    trials = []
    for i, arrays in enumerate(inputs):
        np.savez(folder / f"inputs{i}.npz", **{str(k): array for k, array in enumerate(arrays.values())})  # type: ignore[arg-type]
        trials.append(
            {
                "inputs": str(folder / f"inputs{i}.npz"),
                "names": {str(k): name for k, name in enumerate(arrays)},
                "outputs": str(folder / f"outputs{i}.npz"),
            }
        )
    path = folder / "job.json"
    path.write_text(
        json.dumps(
            {
                "model": str(model.absolute()),
                "library": program.library,
                "engine": program.engine,
                "outputs": list(outputs),
                "trials": trials,
                "result": str(folder / "result.json"),
            }
        ),
        encoding="utf-8",
    )
    return path


def _start(python: str, job: Path, seconds: float) -> str:
    """The last words of the process, and the status with which it ended."""
    # This Python's packages are not those of the other one.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OPENCV_"))}
    environment["OPENCV_LOG_LEVEL"] = "SILENT"
    try:
        done = subprocess.run(
            [python, "-I", str(WORKER), str(job)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(
            f"not done after {seconds:.0f} s; for a slow machine set {VARIABLE}=4, which waits four times as long"
        ) from None
    except OSError as error:
        raise ProgramError(f"{python}: {error.strerror}") from None
    return f"{done.stderr.strip()}\nit ended with status {done.returncode}"


def _last_line(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return terminal("; ".join(lines[-2:]))[-600:]


def _outputs(path: Path, names: Sequence[str]) -> Mapping[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[str(i)] for i, name in enumerate(names)}
