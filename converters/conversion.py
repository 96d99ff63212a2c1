"""The whole conversion: a Caffe file in, a safetensors file and a report out.

Nothing is held in memory: the source is mapped, and copied by the MiB to a file that takes its name only when it is
complete, while another thread makes the checksum. The same source and the same version of this tool give the same
bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .cancelling import ProgressCallback
from .errors import CaffeFormatError, ChoiceError, MismatchError
from .execution.state_dict import Coverage, Entry, cover, to_arrays
from .export.safetensors import header_bytes, write_safetensors
from .export.sink import sink_for_pytorch
from .formats.caffemodel import read_caffemodel
from .formats.model import CaffeModel, is_left_out
from .formats.prototxt import format_prototxt, read_prototxt
from .given import path_of
from .layers.bilinear import kind_of_upsampling
from .net.coord_map import crops_of
from .net.layer import Shape
from .net.spec import NetSpec
from .passes.input_size import check_size, misfit
from .passes.prepare import prepare
from .safety.digest import sha256_beside
from .safety.files import is_one_of, whole_file
from .safety.written import file_version
from .version import VERSION
from .weights_meant import refuse_definition

PYTORCH = (".pth", ".pt")
"""The endings of PyTorch's own files."""
TOOL = f"fcn-port {VERSION}"
"""The program that converted files say made them."""


@dataclass(frozen=True)
class ConversionReport:
    """The account of a conversion, with every blob and every parameter accounted for.

    `entries` are the blobs that were converted, `unused` the blobs (layer, position, shape) of layers that the net
    does not have. `crops` are the offsets of the net's Crop layers, `upsampling` says of each Deconvolution whether
    its stored weight is bilinear interpolation or learned. `warnings` are for people to read. `no_net` is why no net
    can be made of the file's definition, None where one can or the file holds none.
    """

    source: str
    source_size: int
    source_sha256: str
    out: str
    net: str | None
    entries: tuple[Entry, ...]
    unused: tuple[tuple[str, int, Shape], ...]
    crops: Mapping[str, tuple[int, ...]]
    upsampling: Mapping[str, str]
    warnings: tuple[str, ...]
    no_net: str | None = None

    @property
    def parameters(self) -> int:
        """The count of numbers that were converted."""
        return sum(int(np.prod(entry.shape, dtype=object)) for entry in self.entries)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {**asdict(self), "parameters": self.parameters}


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    prototxt: str | os.PathLike[str] | None = None,
    auto_crop_offsets: bool = False,
    metadata: Mapping[str, str] | None = None,
    progress: ProgressCallback | None = None,
) -> ConversionReport:
    """Convert a .caffemodel or .caffemodel.h5 to a safetensors file of its state dict, whole or not at all.

    An `out` that ends in .pth or .pt becomes PyTorch's own file of the state dict, without net and provenance.
    `prototxt` is the net to fit the blobs to, by default the one in the file. `auto_crop_offsets` derives the offsets
    of crops that give none, for nets of Caffe's old `future` branch. `metadata` goes into the file beside the
    provenance. `progress(done, total)` counts bytes, and may end the conversion (`stop_when`); a file of the name `out`
    is then as it was. Raises CaffeFormatError, and FileNotFoundError.
    """
    source, target = path_of(path), path_of(out)
    refuse_definition(source)
    model = read_caffemodel(source)  # before the names are compared: that of a converted file is its own target's
    if is_one_of(target, (source, prototxt)):
        raise ChoiceError("source and destination are the same file", path=path)
    spec = read_prototxt(prototxt) if prototxt is not None else model.spec
    deploy = None if spec is None else prepare(spec, blobs=model.blobs)
    coverage = cover(model, spec=spec, prepared=deploy)
    if not coverage.entries:
        raise MismatchError("there are no weights in this file", path=path)
    if deploy is not None:
        check_size(deploy, model.blobs)
        deploy = prepare(deploy, crops=auto_crop_offsets)
    provenance = {**(metadata or {}), **_describe(source, deploy)}
    sha256, bad = _write(source, target, to_arrays(model, coverage), provenance, progress)
    return ConversionReport(
        source=os.fspath(path),
        source_size=source.stat().st_size,
        source_sha256=sha256,
        out=os.fspath(out),
        net=deploy.name if deploy is not None else None,
        entries=coverage.entries,
        unused=coverage.unused,
        crops={} if deploy is None else crops_of(deploy),
        upsampling=_upsampling(deploy, model),
        warnings=_warnings(model, deploy, coverage, bad),
        no_net=None if deploy is None else coverage.unchecked or _misfit(deploy, model),
    )


def _describe(source: Path, deploy: NetSpec | None) -> dict[str, str]:
    """The provenance that every converted file carries; the checksum is filled in at the end of the copy."""
    name = source.name.encode(errors="replace").decode()  # a name on disk need not be UTF-8, JSON must be
    found = {"format": "pt", "tool": TOOL, "source": name, "source_sha256": "0" * 64}
    if deploy is not None:
        found["prototxt"] = format_prototxt(deploy)
    return found


def _write(
    source: Path,
    out: Path,
    arrays: Mapping[str, np.ndarray],
    metadata: dict[str, str],
    progress: ProgressCallback | None,
) -> tuple[str, list[str]]:
    """Copy `arrays` to `out`; returns the checksum of the source and the keys of blobs that hold NaN or infinity."""
    total = sum(array.nbytes for array in arrays.values())
    done = 0
    bad: dict[str, None] = {}

    def watch(key: str, piece: np.ndarray) -> None:
        nonlocal done
        done += piece.nbytes
        if not np.isfinite(piece).all():
            bad[key] = None
        if progress is not None:
            progress(done, total)

    before = file_version(source)
    with sha256_beside(source) as checksum, whole_file(out, durable=False) as file:
        if out.suffix.lower() in PYTORCH:
            _write_pytorch(file, arrays, watch)
        else:
            write_safetensors(file, arrays, metadata, watch=watch)
            file.seek(0)
            file.write(header_bytes(arrays, {**metadata, "source_sha256": checksum()}))
        if file_version(source) != before:
            problem = "the file changed while it was being converted"
            raise CaffeFormatError(problem, path=source, hint="convert it again")
        return checksum(), list(bad)


def _write_pytorch(file: BinaryIO, arrays: Mapping[str, np.ndarray], watch: Callable[[str, np.ndarray], None]) -> None:
    """The state dict as `torch.save` writes it."""
    import torch

    state = {key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}
    for key, tensor in state.items():
        watch(key, tensor.numpy())
    with sink_for_pytorch(file) as sink:
        torch.save(state, sink)


def _misfit(deploy: NetSpec, model: CaffeModel) -> str | None:
    """The reason, in words, why weights fit no net whose inputs were assumed, and what to do."""
    problem = misfit(deploy, model.blobs)
    return (
        None if problem is None else f"{problem}; say what it was trained for with --input, or give a deploy prototxt"
    )


def _upsampling(deploy: NetSpec | None, model: CaffeModel) -> dict[str, str]:
    layers = deploy.layers if deploy is not None else ()
    return {
        layer.name: kind_of_upsampling(model.blobs[layer.name][0])
        for layer in layers
        if layer.type == "Deconvolution" and layer.name in model.blobs and not is_left_out(model.blobs[layer.name][0])
    }


def _warnings(model: CaffeModel, deploy: NetSpec | None, coverage: Coverage, bad: list[str]) -> tuple[str, ...]:
    found = [f"{key} holds NaN or infinity" for key in bad]
    found += dict.fromkeys((*model.notes, *(deploy.notes if deploy is not None else ())))
    if coverage.unchecked:
        found.append(f"shapes were not checked against the net: {coverage.unchecked}")
    return tuple(found)
