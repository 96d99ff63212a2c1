"""`fcn-port --version`: what a bug report needs, without importing anything heavy."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from converters.version import VERSION
from weights.store import cache_folder, weights_dir

from ..private import why_not_private

_PACKAGES = ("torch", "numpy", "protobuf", "h5py", "safetensors", "Pillow", "opencv-python-headless")


def version_report() -> str:
    """Versions of the program, Python, the packages it rests on and the machine, and where weights are kept."""
    lines = [f"fcn-port {VERSION}", f"python {platform.python_version()} on {platform.platform()}"]
    lines.append(f"{platform.machine()}, {os.cpu_count()} cores")
    lines += [f"{name} {_version(name)}" for name in _PACKAGES]
    lines.append(f"weights in {weights_dir()}")
    compiled = cache_folder("native")
    problem = why_not_private(compiled, make=False)
    lines.append(f"compiled code in {compiled}" if problem is None else f"compiled code is not kept: {problem}")
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
