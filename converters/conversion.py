"""The whole conversion: a Caffe file in, a safetensors file and a report out.

Nothing is held in memory: the source is mapped, hashed on one thread, and copied on another to a file that takes its
name only when it is complete. The same source and the same version of this tool give the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .bilinear import kind_of_upsampling
from .caffemodel import CaffeModel, read_caffemodel
from .coord_map import auto_crop, crops_of
from .errors import CaffeFormatError
from .export.safetensors import header_bytes, write_safetensors
from .files import whole_file
from .net import NetSpec, Shape
from .passes import merge_splits, to_deploy
from .prototxt import format_prototxt, read_prototxt
from .state_dict import Coverage, Entry, cover, to_arrays
from .version import VERSION

Progress = Callable[[int, int], None]
TOOL = f"fcn-port {VERSION}"
"""What converted files say made them."""
_CHUNK = 1 << 22


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did, with every blob and every parameter accounted for.

    `entries` are the blobs that were converted, `unused` the blobs (layer, position, shape) of layers that the net
    does not have. `crops` are the offsets of the net's Crop layers, `upsampling` says of each Deconvolution whether
    its stored weight is bilinear interpolation or learned. `warnings` are for people to read.
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

    @property
    def parameters(self) -> int:
        """How many numbers were converted."""
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
    progress: Progress | None = None,
) -> ConversionReport:
    """Convert a .caffemodel or .caffemodel.h5 to a safetensors file of its state dict, whole or not at all.

    `prototxt` is the net to fit the blobs to, by default the one in the file. `auto_crop_offsets` derives the offsets
    of crops that give none, for nets of Caffe's old `future` branch. `metadata` goes into the file beside the
    provenance. `progress(done, total)` counts bytes. Raises CaffeFormatError, and FileNotFoundError.
    """
    if Path(out).exists() and Path(out).samefile(path):
        raise CaffeFormatError("source and destination are the same file", path=path)
    model = read_caffemodel(path)
    spec = read_prototxt(prototxt) if prototxt is not None else model.spec
    coverage = cover(model, spec=spec)
    deploy = None if spec is None else merge_splits(to_deploy(spec, blobs=model.blobs))
    if deploy is not None and auto_crop_offsets:
        deploy = auto_crop(deploy)
    provenance = {**(metadata or {}), **_describe(path, deploy)}
    arrays = to_arrays(model, coverage)
    sha256, bad = _write(Path(path), Path(out), arrays, provenance, progress)
    return ConversionReport(
        source=os.fspath(path),
        source_size=Path(path).stat().st_size,
        source_sha256=sha256,
        out=os.fspath(out),
        net=deploy.name if deploy is not None else None,
        entries=coverage.entries,
        unused=coverage.unused,
        crops={} if deploy is None else crops_of(deploy),
        upsampling=_upsampling(deploy, model),
        warnings=_warnings(model, spec, coverage, bad),
    )


def _describe(path: str | os.PathLike[str], deploy: NetSpec | None) -> dict[str, str]:
    """The provenance that every converted file carries; the checksum is filled in at the end of the copy."""
    found = {"format": "pt", "tool": TOOL, "source": Path(path).name, "source_sha256": "0" * 64}
    if deploy is not None:
        found["prototxt"] = format_prototxt(deploy)
    return found


def _write(
    source: Path, out: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str], progress: Progress | None
) -> tuple[str, list[str]]:
    """Copy `arrays` to `out` while another thread hashes the source; the header is completed at the end."""
    total = sum(array.nbytes for array in arrays.values())
    done = 0
    bad: dict[str, None] = {}

    def watch(key: str, piece: np.ndarray) -> None:
        nonlocal done
        done += piece.nbytes
        if not _is_finite(piece):
            bad[key] = None
        if progress is not None:
            progress(done, total)

    hasher = _Hasher(source)
    hasher.start()
    with whole_file(out) as file:
        try:
            write_safetensors(file, arrays, metadata, watch=watch)
        finally:
            hasher.join()
        file.seek(0)
        file.write(header_bytes(arrays, {**metadata, "source_sha256": hasher.hexdigest()}))
    return hasher.hexdigest(), list(bad)


class _Hasher(threading.Thread):
    """The SHA-256 of a file, made while something else goes on (hashlib lets go of the interpreter)."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._result: str | BaseException = RuntimeError("not run")

    def run(self) -> None:
        try:
            with self._path.open("rb") as file:
                digest = hashlib.sha256()
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
            self._result = digest.hexdigest()
        except OSError as error:
            self._result = error

    def hexdigest(self) -> str:
        if isinstance(self._result, BaseException):
            raise self._result
        return self._result


def _is_finite(piece: np.ndarray) -> bool:
    """Whether there is no NaN or infinity; a finite sum of squares answers for nearly every piece at once."""
    if piece.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(piece, piece))) or bool(np.isfinite(piece).all())


def _upsampling(deploy: NetSpec | None, model: CaffeModel) -> dict[str, str]:
    layers = deploy.layers if deploy is not None else ()
    return {
        layer.name: kind_of_upsampling(model.blobs[layer.name][0])
        for layer in layers
        if layer.type == "Deconvolution" and layer.name in model.blobs
    }


def _warnings(model: CaffeModel, spec: NetSpec | None, coverage: Coverage, bad: list[str]) -> tuple[str, ...]:
    found = [f"{key} holds NaN or infinity" for key in bad]
    found += dict.fromkeys((*model.notes, *(spec.notes if spec is not None else ())))
    if coverage.unchecked:
        found.append(f"shapes were not checked against the net: {coverage.unchecked}")
    return tuple(found)
