"""The files of an export, whatever the format: what they are called, and the account of what was written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from converters.escaping import file_name, terminal
from converters.export import DestinationError, ExportError
from converters.given import path_of, without_ending
from converters.net import Shape
from converters.safety import is_one_of


@dataclass(frozen=True)
class ExportFormat:
    """A format: the ending of its files, and what is said of it in the help, line by line."""

    suffix: str
    about: tuple[str, ...]


EXPORT_FORMATS: Mapping[str, ExportFormat] = MappingProxyType(
    {
        "caffe": ExportFormat(
            ".caffemodel", (".caffemodel (or .h5, by the name of OUT),", "and the net beside it as .prototxt")
        ),
        "python": ExportFormat(
            ".py", ("source of a torch.nn.Module that stands alone;", "here WEIGHTS may be a prototxt")
        ),
        "onnx": ExportFormat(
            ".onnx",
            (
                "every blob and layer under its Caffe name, for any",
                "height, width and number of images where the net",
                "allows it (pip install 'fcn-port[onnx]')",
            ),
        ),
        "torch-export": ExportFormat(
            ".pt2", ("a .pt2 program for any height and width from 32 up,", "or from what the net needs")
        ),
        "safetensors": ExportFormat(".safetensors", ("as `convert` writes, also of a PyTorch state dict",)),
        "hdf5": ExportFormat(".caffemodel.h5", (".caffemodel.h5 alone",)),
    }
)
SUFFIXES: Mapping[str, str] = MappingProxyType({name: each.suffix for name, each in EXPORT_FORMATS.items()})
"""The formats and what their files are called."""


@dataclass(frozen=True)
class ExportReport:
    """The files that an export wrote, and how they were checked.

    `error` is the largest difference from the module, of the output's largest magnitude, over all `inputs` (shapes by
    name); NaN and no inputs where it was not checked. `any_size` says whether the file takes images of other sizes too,
    and `least_size` from which height and width on, where that is known (32 where it is no more).
    `programs` are those of an ONNX target, each with its version and the error in it, or why it was not checked there.
    """

    format: str
    net: str
    files: tuple[str, ...]
    error: float
    inputs: tuple[Mapping[str, Shape], ...]
    any_size: bool
    programs: tuple[str, ...] = ()
    least_size: int | None = None

    @property
    def checked(self) -> bool:
        """True where what was written has been run beside the net that it was made of."""
        return bool(self.inputs)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return asdict(self)


def check_format(to: str) -> None:
    """ExportError for a format that there is not."""
    if to not in SUFFIXES:
        raise ExportError(f"there is no format '{terminal(to)}'; there are {', '.join(SUFFIXES)}")


def destination(
    weights: str | os.PathLike[str],
    *,
    to: str,
    out: str | os.PathLike[str] | None,
    prototxt: str | os.PathLike[str] | None = None,
) -> Path:
    """The file to write: `out`, by default named after `weights`, in the working folder.

    Raises ExportError for a format that there is not, DestinationError where nobody named a file and one of that name
    is there, and where `out`, or the file of an ONNX model's weights beside it, is one that is read.
    """
    check_format(to)
    path_of(weights, "the name of a release, or the path of a file")
    for given in (out, prototxt):
        if given is not None:
            path_of(given)
    # Not what the file says about itself, which is a stranger's word.
    target = Path(out) if out is not None else Path(f"{file_name(stem(Path(weights)))}{SUFFIXES[to]}")
    if out is None and (target.exists() or target.is_symlink()):
        raise DestinationError(f"{target}: this file is there already; choose a name with --out")
    for each in (target, data_beside(target)) if to == "onnx" else (target,):
        if is_one_of(each, (weights, prototxt)):
            raise DestinationError(f"{each}: source and destination are the same file; choose another with --out")
    return target


def data_beside(model: Path) -> Path:
    """The file that holds the weights of an ONNX model which does not hold them itself."""
    return model.with_name(f"{model.name}.data")


def stem(path: Path) -> str:
    """The name of a file without the endings of weights and nets."""
    while path.suffix in (".h5", ".caffemodel", ".prototxt", ".safetensors", ".pth", ".pt"):
        shorter = without_ending(path)
        if shorter == path:
            break
        path = shorter
    return path.name
