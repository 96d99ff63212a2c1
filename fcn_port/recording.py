"""Recorded passes of a net: an .npz of blobs that a net of the same weights must give again for the same inputs."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import nn

from converters.errors import CaffeFormatError
from converters.export import are_detections, detections_apart
from converters.safety import entries_share_bytes, open_file

from .inspection import blobs as run_blobs

GOLDEN_TOLERANCE = 5e-6
"""Of a blob's largest magnitude: float32 sums in another order (2e-6 to 4e-6 seen between builds and processors)."""
MOST_UNPACKED = 100
"""The most that a recorded pass may unpack to, times its own size; those of nets with bilinear weights come to 40."""


def golden_errors(net: nn.Module, golden: Path) -> dict[str, float]:
    """The distance of each blob from a recording, an .npz of every blob of Caffe's forward pass, for the same inputs.

    The largest difference, as a fraction of the blob's largest value; infinity for another shape or a blob that the net
    does not have. Raises CaffeFormatError for a file that is no recording of this net.
    """
    recorded = read_recording(golden)
    found = run_recorded(net, recorded, golden)
    return {name: error_of(found[name], blob) if name in found else inf for name, blob in recorded.items()}


def run_recorded(net: nn.Module, recorded: Mapping[str, np.ndarray], golden: Path) -> dict[str, np.ndarray]:
    """Every blob of a pass on a recording's inputs."""
    names = list(net.inputs)  # type: ignore[arg-type]
    missing = [name for name in names if name not in recorded]
    if missing:
        raise CaffeFormatError(f"there is no input '{missing[0]}' among its {len(recorded)} blobs", path=golden)
    device = next((weight.device for weight in net.parameters()), torch.device("cpu"))
    try:
        found = run_blobs(net, **{name: torch.tensor(recorded[name]).to(device, torch.float32) for name in names})
    except (ValueError, RuntimeError) as error:
        problem = f"its inputs do not fit the net: {' '.join(str(error).split())[:300]}"
        raise CaffeFormatError(problem, path=golden) from error
    return {name: blob.cpu().numpy() for name, blob in found.items()}


def read_recording(path: Path) -> dict[str, np.ndarray]:
    """The blobs of a recording by name; CaffeFormatError for a file that is none."""
    try:
        with open_file(path) as raw:
            _check_unpacked(raw)
            with np.load(raw, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
    except CaffeFormatError as error:
        raise error.in_file(path) from None
    except FileNotFoundError:
        raise
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged archive, OSError and MemoryError too
        raise CaffeFormatError(f"not an .npz of blobs: {str(error) or type(error).__name__:.200}", path=path) from error
    for name, array in found.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu" or array.ndim > 32:
            raise CaffeFormatError(f"{name[:80]!a} is no blob; expected numbers with at most 32 axes", path=path)
    return found


def _check_unpacked(file: BinaryIO) -> None:
    """Refuse an archive that takes much more memory or time than its file."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        if entries_share_bytes(archive):
            raise CaffeFormatError("the entries of the archive share bytes")
        total = sum(record.file_size for record in archive.infolist())
    if total > MOST_UNPACKED * size + (64 << 20):
        raise CaffeFormatError(
            f"the archive unpacks to {total:,} bytes and has {size:,}; the limit is {MOST_UNPACKED} times as much and "
            "64 MiB (fcn_port.recording.MOST_UNPACKED)"
        )
    file.seek(0)


def error_of(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference as a fraction of the largest value, infinity for another shape or what is not finite."""
    if are_detections(found) and are_detections(expected):
        return detections_apart(found, expected)
    if found.shape != expected.shape:
        return inf
    largest = float(np.abs(expected).max(initial=0.0)) or 1.0
    error = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0)) / largest
    return error if np.isfinite(error) else inf
