"""The environment with OpenCV 5 and without torch: where it is, and what runs there.

It cannot be the one of the suite: OpenCV 4, which reads Caffe files itself, is the judge there, and one environment
holds one cv2.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
MINUTE = 60


def folder() -> Path:
    """``$FCN_PORT_OPENCV5``'s environment, else ``.opencv5`` in the project's root."""
    named = Path(os.environ.get("FCN_PORT_OPENCV5") or PROJECT / ".opencv5")
    return named.parents[1] if named.is_file() else named


def python() -> Path:
    """The interpreter: ``$FCN_PORT_OPENCV5``, else the one of `make opencv5`."""
    named = Path(os.environ.get("FCN_PORT_OPENCV5") or "")
    return named if named.is_file() else folder() / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def why_not_ready() -> str | None:
    """None where OpenCV 5 can be asked, else what is missing and what to do."""
    if python().is_file():
        return None
    return f"no OpenCV 5 in {folder()}: run `make opencv5`, or set FCN_PORT_OPENCV5 to a Python that has it"


def run(*arguments: str, seconds: float = 2 * MINUTE, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the environment's Python on these arguments, with the project's packages and nothing else on its path."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OPENCV_"))}
    return subprocess.run(
        [str(python()), *arguments],
        cwd=PROJECT,
        env={**inherited, "PYTHONPATH": str(PROJECT), "OPENCV_LOG_LEVEL": "SILENT", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
