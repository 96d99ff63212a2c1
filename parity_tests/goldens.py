"""Readers of the goldens, and the comparisons with them.

``golden/caffe`` has one recording for each (net, size, fill), with samples of every blob; ``golden/formats`` has small
nets in every format with every blob complete. ``golden/README.md`` says how they were made.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from parity_tests.fill import rs

GOLDEN = Path(__file__).parent / "golden"
SAMPLE_GOLDEN = Path(__file__).parents[1] / "weights" / "sample" / "shapes-fcn8s.golden.npz"
"""Every blob of the bundled release on a part of its picture; it lies with the release, for `fcn-port demo`."""


def committed(file: str) -> Path:
    """The place of a recorded file."""
    return SAMPLE_GOLDEN if file == SAMPLE_GOLDEN.name else GOLDEN / file


SAMPLES = 64

Shape = tuple[int, ...]
Size = tuple[int, int]


@dataclass(frozen=True)
class CropGolden:
    """One Crop layer as its net defines it: `bottoms` are the blob that is cropped and the one that it must fit."""

    axis: int
    offset: tuple[int, ...]
    bottoms: tuple[str, str]


@dataclass(frozen=True)
class NetShapes:
    """Shapes that Caffe gave a net: blobs of weights by layer, and every blob of a pass by input size (h, w)."""

    params: Mapping[str, tuple[Shape, ...]]
    crops: Mapping[str, CropGolden]
    blobs: Mapping[Size, Mapping[str, Shape]]


@dataclass(frozen=True)
class BlobGolden:
    """What is kept of one blob: its shape, three sums over all of it (float64), and up to 64 sampled values."""

    shape: Shape
    sum: float
    l2: float
    absmax: float
    index: np.ndarray
    value: np.ndarray


@dataclass(frozen=True, order=True)
class GoldenId:
    """Which recording: the net, the input size (h, w) and the fill of its deconvolutions. str() is its file name."""

    net: str
    size: Size
    fill: str

    def __str__(self) -> str:
        return f"{self.net}-{self.size[0]}x{self.size[1]}-{self.fill}"


@dataclass(frozen=True)
class Golden:
    """One forward pass of real Caffe: samples of every blob, and the label map (h, w) uint8 of each output."""

    id: GoldenId
    blobs: Mapping[str, BlobGolden]
    labels: Mapping[str, np.ndarray]


def golden_ids(folder: Path = GOLDEN) -> list[GoldenId]:
    """Every recording under ``caffe/``, for parametrize (use ``ids=str``)."""
    names = (path.stem for path in (folder / "caffe").glob("*-*.json"))
    return sorted(parse_id(name) for name in names)


def parse_id(name: str) -> GoldenId:
    """``"voc-fcn8s-100x100-bilinear"`` as a GoldenId."""
    net, size, fill = name.rsplit("-", 2)
    return GoldenId(net, parse_size(size), fill)


def parse_size(text: str) -> Size:
    """``"75x122"`` -> (75, 122)."""
    height, width = text.split("x")
    return int(height), int(width)


@functools.cache
def shapes(folder: Path = GOLDEN) -> Mapping[str, NetShapes]:
    """The shapes of each net at eleven input sizes."""
    nets = json.loads((folder / "caffe" / "shapes.json").read_text())
    return MappingProxyType({name: _net_shapes(net) for name, net in nets.items()})


def _net_shapes(net: Mapping) -> NetShapes:
    return NetShapes(
        params={layer: tuple(map(tuple, blobs)) for layer, blobs in net["params"].items()},
        crops={
            layer: CropGolden(crop["axis"], tuple(crop["offset"]), tuple(crop["bottom"]))
            for layer, crop in net["crops"].items()
        },
        blobs={
            parse_size(size): {blob: tuple(shape) for blob, shape in blobs.items()}
            for size, blobs in net["blobs"].items()
        },
    )


@functools.cache
def golden(net: str, size: Size, fill: str, folder: Path = GOLDEN) -> Golden:
    """One recording."""
    id_ = GoldenId(net, size, fill)
    record = json.loads((folder / "caffe" / f"{id_}.json").read_text())
    with np.load(folder / "caffe" / f"{id_}.npz") as labels:
        return Golden(
            id=id_,
            blobs={name: _blob_golden(blob) for name, blob in record["blobs"].items()},
            labels={name: labels[name] for name in record["outputs"]},
        )


def _blob_golden(blob: Mapping) -> BlobGolden:
    return BlobGolden(
        shape=tuple(blob["shape"]),
        sum=blob["sum"],
        l2=blob["l2"],
        absmax=blob["absmax"],
        index=np.array(blob["index"], np.int64),
        value=np.array(blob["value"], np.float64),
    )


def sample(name: str, blob: np.ndarray) -> BlobGolden:
    """What a golden keeps of the blob `name`: the sampled places follow from its name and size."""
    flat = np.asarray(blob, np.float64).ravel()
    index = rs(f"sample/{name}").randint(0, flat.size, min(SAMPLES, flat.size))
    return BlobGolden(
        shape=tuple(blob.shape),
        sum=float(flat.sum()),
        l2=float(np.sqrt(np.square(flat).sum())),
        absmax=float(np.abs(flat).max()),
        index=index,
        value=flat[index],
    )


def formats(name: str) -> Path:
    """Path of a file of ``golden/formats``, such as ``formats("v1-mini.caffemodel")``."""
    path = GOLDEN / "formats" / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; there are: {sorted(p.name for p in path.parent.iterdir())}")
    return path


@functools.cache
def format_blobs(net: str) -> Mapping[str, np.ndarray]:
    """Every blob of the recorded forward pass of a net of ``golden/formats``, the input included."""
    with np.load(formats(f"{net}.npz")) as blobs:
        arrays = {name: blobs[name] for name in blobs.files}
    for array in arrays.values():
        array.flags.writeable = False
    return MappingProxyType(arrays)


def compare(blob: np.ndarray, golden: BlobGolden | np.ndarray) -> float:
    """Largest difference between a blob and its golden, relative to the golden's largest magnitude.

    Against samples, the sum and the norm of the whole blob count too: where no value is off by more than a fraction
    e of the largest magnitude, the mean and the root mean square cannot be either. NaN where the blob holds one.
    Raises AssertionError where the shapes differ.
    """
    if tuple(blob.shape) != tuple(golden.shape):
        raise AssertionError(f"shape {tuple(blob.shape)}, in Caffe {tuple(golden.shape)}")
    if not blob.size:
        return 0.0
    flat = np.asarray(blob, np.float64).ravel()
    if isinstance(golden, BlobGolden):
        differences = [
            *np.abs(flat[golden.index] - golden.value),
            abs(flat.sum() - golden.sum) / flat.size,
            abs(np.sqrt(np.square(flat).sum()) - golden.l2) / np.sqrt(flat.size),
            abs(np.abs(flat).max() - golden.absmax),
        ]
        absmax = golden.absmax
    else:
        differences = np.abs(flat - golden.ravel())
        absmax = float(np.abs(golden).max())
    largest = float(np.max(differences))
    return largest / absmax if absmax else (0.0 if largest == 0 else np.inf * largest)


def wrong_labels(scores: np.ndarray, labels: np.ndarray, *, tie: float) -> np.ndarray:
    """Pixels whose label differs from Caffe's without a tie: (k, 2) of (row, column).

    `scores` is one output (1, classes, h, w), `labels` Caffe's (h, w). A difference is a tie where the score of
    Caffe's label is within `tie` times the output's largest magnitude of the best score.
    """
    per_class = np.asarray(scores, np.float64)[0]
    best = per_class.max(axis=0)
    of_label = np.take_along_axis(per_class, labels[None].astype(np.int64), axis=0)[0]
    differs = (per_class.argmax(axis=0) != labels) | np.isnan(best)
    return np.argwhere(differs & ~(best - of_label <= tie * np.abs(per_class).max()))
