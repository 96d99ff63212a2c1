"""`fcn-port --version`: what a bug report needs, without importing anything heavy."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from converters.version import VERSION
from weights.cache import cache_folder
from weights.store import weights_dir

from ..fastpath.compiler import ForbiddenError, NotBuilt, compiler, in_words, unclear_wish
from ..fastpath.native.build import is_kept
from ..fastpath.native.shipped import libraries
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
    lines.append(f"kernels of fast: {_kernels()}")
    return "\n".join(lines)


def _kernels() -> str:
    """Whose code computes a fast net here, and why none of ours where so; nothing is compiled for the answer."""
    has_torch = find_spec("torch") is not None
    theirs = "and PyTorch's" if has_torch else "alone, as PyTorch is not installed"
    unclear = f"; {wish}" if (wish := unclear_wish()) else ""
    try:
        command, compiled = in_words(compiler()), is_kept()
    except NotBuilt as why:
        came = [] if isinstance(why, ForbiddenError) else libraries()
        if came:
            return f"our own, compiled before they came here ({came[0].name}), {theirs}; {why}{unclear}"
        return f"{'PyTorch' if has_torch else 'nobody'}'s; none of our own: {why}{unclear}"
    if compiled:
        return f"our own, compiled here by {command}, {theirs}{unclear}"
    return f"our own, which {command} compiles when a net first runs, {theirs}{unclear}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
