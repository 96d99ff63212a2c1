"""Install the versions of constraints.txt on each Python that pyproject.toml promises, and use what needs no torch.

    python .ci/pythons.py [--with-torch] [3.10 3.13 ...]

For every version: the whole of what development installs is resolved from wheels alone. Where its interpreter is on
this machine: the project and its extras `onnx` and `opencv` are installed in an empty environment, and the verbs that
need no torch run there in a folder of its own; with --with-torch (gigabytes where pip finds no small one), so does the
demo.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[1]
DEVELOPMENT = (
    *("dev", "docs", "bench", "edges", "notebooks", "onnx", "opencv", "openvino", "release", "tensorboard"),
    *("coco", "geo", "hub", "ray", "serve", "video", "view"),
)
PROMISED = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WITHOUT_TORCH = (
    "--version",
    "inspect NET",
    "diff NET NET",
    "trace NET 100x100 --explain-crops",
    "convert NET -o net.safetensors",
    "export NET --to onnx -o net.onnx --no-check",
    "releases voc-fcn8s",
)


def main(arguments: list[str]) -> int:
    """Status 0 where every Python that was tried passes."""
    with_torch = "--with-torch" in arguments
    failed = []
    for version in [each for each in arguments if not each.startswith("-")] or PROMISED:
        problem = _try(version, with_torch=with_torch)
        print(
            f"{'ok    ' if problem is None else 'FAILED'} Python {version}{f': {problem}' if problem else ''}",
            flush=True,
        )
        failed += [version] if problem else []
    return 1 if failed else 0


def _try(version: str, *, with_torch: bool) -> str | None:
    """What is wrong with a version of Python, or None."""
    extras = [word for extra in DEVELOPMENT for word in ("--extra", extra)]
    constraints = ("--constraints", str(ROOT / "constraints.txt"), "--only-binary", ":all:")
    resolved = _uv("pip", "compile", "pyproject.toml", *extras, *constraints, "--python-version", version, "--quiet")
    if resolved.returncode:
        return f"constraints.txt cannot be installed: {resolved.stderr.strip()}"
    interpreter = _interpreter(version)
    if interpreter is None:
        print(f"       Python {version} is not on this machine: only what it would install was worked out")
        return None
    with tempfile.TemporaryDirectory() as away:
        return _use(Path(away), interpreter, with_torch=with_torch)


def _use(away: Path, interpreter: str, *, with_torch: bool) -> str | None:
    """Install in an empty environment below `away`, and run verbs in a folder there."""
    python = away / "env" / "bin" / "python"
    extras = "onnx,opencv,torch" if with_torch else "onnx,opencv"
    constraints = str(ROOT / "constraints.txt")
    steps = [_uv("venv", "--quiet", "--python", interpreter, str(away / "env"))]
    steps.append(_uv("pip", "install", "--quiet", "--python", str(python), "-c", constraints, f"{ROOT}[{extras}]"))
    if bad := next((step for step in steps if step.returncode), None):
        return bad.stderr.strip()
    (away / "work").mkdir()
    net = ROOT / "parity_tests" / "golden" / "formats" / "fcn8s-mini.caffemodel"
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environ |= {"FCN_PORT_WEIGHTS": str(away / "weights"), "XDG_CACHE_HOME": str(away / "cache")}
    for line in (*WITHOUT_TORCH, *(("demo",) if with_torch else ())):
        words = [str(net) if word == "NET" else word for word in line.split()]
        command = [str(python.with_name("fcn-port")), *words]
        done = subprocess.run(command, cwd=away / "work", env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"fcn-port {line} ended with {done.returncode}: {done.stderr.strip()}"
    return None


def _interpreter(version: str) -> str | None:
    """The path of a Python of a version, or None where this machine has none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [str(folder) for folder in pyenv.glob(f"versions/{version}.*/bin")]
    found = shutil.which(f"python{version}", path=os.pathsep.join(folders)) or shutil.which(f"python{version}")
    if found is None or subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        return None
    return found


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    places = [word for place in os.environ.get("PIP_FIND_LINKS", "").split() for word in ("--find-links", place)]
    given = places if arguments[0] == "pip" else []
    return subprocess.run([find_uv_bin(), *arguments, *given], cwd=ROOT, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
