"""TARGETS: the programs that a model can be written for, and where each is found on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType

from ..checking import ExportError

_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")
"""The packages that bring cv2; only one of them can be in an environment."""


@dataclass(frozen=True)
class TargetProgram:
    """One way of running a model: the library, its engine where it has several, and the Python that has it.

    Without a `python` the program is not on this machine, and `missing` says what to install or to set.
    """

    library: str
    engine: str | None = None
    python: str | None = None
    missing: str = ""

    @property
    def title(self) -> str:
        """The program as messages call it: "opencv5 ENGINE_NEW"."""
        return self.library if self.engine is None else f"{self.library} {self.engine}"


@dataclass(frozen=True)
class Target:
    """A program that a model is written for: the opset that it is known to read, and what it is called in full."""

    name: str
    title: str
    opset: int
    engines: tuple[str | None, ...] = (None,)


TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        target.name: target
        for target in (
            Target("onnxruntime", "ONNX Runtime", 17),
            Target("opencv5", "OpenCV 5", 17, ("ENGINE_NEW", "ENGINE_CLASSIC")),
            Target("opencv4", "OpenCV 4", 17),
            Target("openvino", "OpenVINO", 17),
            Target("tensorrt", "TensorRT", 17),
            Target("web", "ONNX Runtime for the web", 17),
        )
    }
)
"""Every target by name."""

VARIABLES: Mapping[str, str] = MappingProxyType({"opencv5": "FCN_PORT_OPENCV5", "opencv4": "FCN_PORT_OPENCV4"})
"""Environment variables that name a Python with this OpenCV, since one environment holds only one of them."""
_PYTHONS = ("bin/python", "Scripts/python.exe")
"""The Python of an environment's folder, which may be named too."""


def opset_of(target: str | None, opset: int | None, *, default: int) -> int:
    """The opset to write: the one that was asked for, else the target's, else `default`; ExportError for no target."""
    known = _target(target) if target is not None else None
    return opset or (known.opset if known is not None else default)


def programs_of(target: str) -> tuple[TargetProgram, ...]:
    """The programs that can judge a model for this target; ExportError where there is no such target."""
    known = _target(target)
    if target == "web":
        return (_in_this_python("onnxruntime", "onnxruntime", "pip install 'fcn-port[onnx]'"),)
    if target in VARIABLES:
        python, missing = _python_with_opencv(target)
        return tuple(TargetProgram(target, engine, python, missing) for engine in known.engines)
    extra = "pip install tensorrt (NVIDIA GPUs)" if target == "tensorrt" else _extra(target)
    found = _in_this_python(target, target, extra)
    if target == "tensorrt":  # whose parser is asked at most; what it is given keeps to the standard
        return found, _in_this_python("onnxruntime", "onnxruntime", _extra("onnx"))
    return (found,)


def _extra(name: str) -> str:
    return f"pip install 'fcn-port[{'onnx' if name == 'onnxruntime' else name}]'"


def _target(name: str) -> Target:
    if name not in TARGETS:
        raise ExportError(f"there is no target '{name}'; there are {', '.join(TARGETS)}")
    return TARGETS[name]


def _in_this_python(library: str, module: str, install: str) -> TargetProgram:
    if find_spec(module) is None:
        return TargetProgram(library, missing=f"{library} is not installed: {install}")
    return TargetProgram(library, python=sys.executable)


def _python_with_opencv(target: str) -> tuple[str | None, str]:
    """The Python that has this OpenCV: the one that the variable names, else this one; or what is missing."""
    variable, major = VARIABLES[target], target.removeprefix("opencv")
    named = os.environ.get(variable)
    if named:
        places = (Path(named), *(Path(named) / place for place in _PYTHONS))
        found = next((str(place) for place in places if place.is_file()), None)
        return found, "" if found else f"{variable} is {named}, which is neither a Python nor the folder of one"
    here = opencv_version()
    if here is not None and here.split(".")[0] == major:
        return sys.executable, ""
    beside = f", this Python has OpenCV {here}" if here is not None else ""
    return None, f"OpenCV {major} is not here{beside}; {variable} can name a Python that has it"


def opencv_version() -> str | None:
    """The version of the OpenCV in this Python, from its package's metadata; None where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    for package in _OPENCV:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return None
