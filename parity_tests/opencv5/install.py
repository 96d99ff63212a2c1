"""Make the environment with OpenCV 5: what `pip install fcn-port[onnx]` gives, so no torch, beside OpenCV 5.

``python -m parity_tests.opencv5.install`` makes it in `.opencv5`, or brings it up to date; `--check` only says whether
it is there or can be made. Exit status: 0 done, 1 failed, 2 it cannot be made on this machine.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import venv

from parity_tests.opencv5.environment import PROJECT, folder, python, why_not_ready

OPENCV = "opencv-python-headless==5.0.0.93"
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def constraints() -> str:
    """The versions of constraints.txt, but for OpenCV's, which is 4 there."""
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("opencv"))


def pip(*arguments: str) -> int:
    """Exit status of the environment's pip."""
    return subprocess.run([str(python()), *PIP, *arguments], cwd=PROJECT, check=False).returncode


def why_impossible() -> str | None:
    """None where pip finds OpenCV 5 for this machine, else what it said last."""
    extra = shlex.split(os.environ.get("PIP_ARGS", ""))
    with tempfile.TemporaryDirectory() as away:
        command = [sys.executable, *PIP, "download", "--no-deps", "--only-binary", ":all:", "--dest", away, OPENCV]
        done = subprocess.run([*command, *extra], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "ERROR" in line]
    return None if done.returncode == 0 else (said or ["pip found none"])[-1]


def install() -> int:
    """Exit status; nothing happens where the same requirements are there already."""
    wanted = f"{constraints()}\n{OPENCV}\n{(PROJECT / 'pyproject.toml').read_text(encoding='utf-8')}"
    stamp = folder() / "ready"
    if why_not_ready() is None and stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return 0
    if "FCN_PORT_OPENCV5" in os.environ:
        return 0  # somebody else's environment is left as it is
    venv.create(folder(), with_pip=True)
    pins = folder() / "constraints.txt"
    pins.write_text(constraints(), encoding="utf-8")
    extra = shlex.split(os.environ.get("PIP_ARGS", ""))
    # Not editable: two editable installs of one checkout would share its egg-info. PYTHONPATH brings the packages.
    if pip("install", "--constraint", str(pins), *extra, *dependencies(), OPENCV):
        return 1
    stamp.write_text(wanted, encoding="utf-8")
    return 0


def dependencies() -> list[str]:
    """What the package itself and its extra onnx require, as pyproject.toml says."""
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    (required,) = re.findall(r"(?ms)^dependencies = \[\n(.*?)^\]", text)
    (onnx,) = re.findall(r"(?m)^onnx = \[(.*)\]$", text)
    return re.findall(r'"([^"]+)"', required + onnx)


def main(argv: list[str]) -> int:
    if "--check" in argv:
        problem = None if why_not_ready() is None else why_impossible()
        print(problem or f"{folder()}: {'there' if why_not_ready() is None else 'can be made'}")
        return 2 if problem else 0
    status = install()
    if status == 0:
        print(f"OpenCV 5 is in {folder()}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
