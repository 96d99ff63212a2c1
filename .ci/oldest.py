"""Install the lower bounds that pyproject.toml promises, and run the fast part of the suite with them.

The oldest Python with the oldest torch, where that torch is a build for CPUs alone: OLDEST_ARGS are further arguments
for uv, such as `--torch-backend cpu`. PyPI's old torch wheels for Linux come with gigabytes of CUDA; where the lowest
torch is such a wheel, two environments take its place: the oldest Python without torch, for what does without it, and
this Python with the torch that is here and the lower bounds of everything else.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from uv import find_uv_bin

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "oldest"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("dev", "onnx", "openvino", "tensorboard")
LARGEST = 400_000_000
"""Bytes of a wheel; a torch over that is one for CUDA."""


@dataclass(frozen=True)
class Case:
    """An environment: a Python, what replaces requirements, and how pytest is told what is not there."""

    name: str
    python: str
    overrides: tuple[str, ...] = ()
    pytest: tuple[str, ...] = ()


def main() -> int:
    """Status 0 where the suite passes in every environment."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    oldest = _oldest_python()
    whole = Case("whole", oldest)
    largest = _largest_wheel(_resolve(whole))
    if largest <= LARGEST:
        cases = [whole]
    else:
        print(
            f"the oldest torch comes with a wheel of {largest / 1e6:.0f} MB: trying without it, and with the one here"
        )
        here = version("torch")
        cases = [
            Case("without-torch", oldest, ("torch; python_version < '3'",), ("-p", "parity_tests.without_torch")),
            Case("beside-torch", sys.executable, (f"torch=={here}",)),
        ]
    ended = [_run(case) for case in cases]  # a run that a signal ended has a negative status
    return 1 if any(ended) else 0


def _oldest_python() -> str:
    """$OLDEST_PYTHON, else the lowest Python that is promised, if it is on this machine, else this one."""
    if given := os.environ.get("OLDEST_PYTHON"):
        return given
    promised = re.sub(r"[^0-9.]", "", PROJECT["requires-python"])
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [str(folder) for folder in sorted(pyenv.glob(f"versions/{promised}.*/bin"))]
    name = f"python{promised}"
    found = shutil.which(name, path=os.pathsep.join(folders)) or shutil.which(name)
    if found is None or subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        print(f"Python {promised} is not on this machine: trying {sys.version.split()[0]}")
        return sys.executable
    return found


def _resolve(case: Case) -> Path:
    """The lower bounds, resolved: a file for uv."""
    overrides = FOLDER / f"overrides-{case.name}.txt"
    overrides.write_text("".join(f"{line}\n" for line in case.overrides), encoding="utf-8")
    out = FOLDER / f"pylock.{case.name}.toml"
    out.unlink(missing_ok=True)
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    _uv(
        *(
            "pip",
            "compile",
            "pyproject.toml",
            "--resolution",
            "lowest-direct",
            "--format",
            "pylock.toml",
            "--output-file",
        ),
        *(str(out), "--python", case.python, "--overrides", str(overrides), *extras, *_sources()),
    )
    return out


def _sources() -> list[str]:
    places = os.environ.get("PIP_FIND_LINKS", "").split()
    return [word for place in places for word in ("--find-links", place)] + shlex.split(
        os.environ.get("OLDEST_ARGS", "")
    )


def _largest_wheel(lock: Path) -> int:
    """Bytes of the largest wheel for this machine; that of every package is its smallest one."""
    packages = tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]
    return max(min((wheel.get("size", 0) for wheel in package.get("wheels", [])), default=0) for package in packages)


def _run(case: Case) -> int:
    """Install an environment, and run the fast part of the suite in it."""
    lock, environment = _resolve(case), FOLDER / case.name
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    _uv("venv", "--quiet", "--clear", "--python", case.python, str(environment))
    _uv("pip", "sync", "--quiet", "--python", str(python), *_sources(), str(lock))
    names = ", ".join(f"{package['name']} {package.get('version', '')}" for package in _direct(lock))
    print(f"== {case.name}: {_version(python)} with {names}", flush=True)
    command = [str(python), "-m", "pytest", "--quiet", "-n", "2", "--dist", "loadfile", "--fast", *case.pytest]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    status = subprocess.run(command, cwd=ROOT, env=environ, check=False).returncode
    print(f"== {case.name}: pytest ended with status {status}", flush=True)
    return status


def _direct(lock: Path) -> list[dict[str, str]]:
    """The locked packages that the project itself requires."""
    wanted = {re.split(r"[^A-Za-z0-9-]", line.lower())[0] for line in PROJECT["dependencies"]}
    return [each for each in tomllib.loads(lock.read_text(encoding="utf-8"))["packages"] if each["name"] in wanted]


def _version(python: Path) -> str:
    return subprocess.run([str(python), "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _uv(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([find_uv_bin(), *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"uv {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    return done


if __name__ == "__main__":
    sys.exit(main())
