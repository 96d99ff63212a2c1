"""Caffe's InfogainLoss: a matrix says what confusing one class with another costs (infogain_loss_layer.cpp)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from converters.errors import CaffeFormatError, NetError
from converters.formats import read_mean
from converters.net import LayerSpec
from converters.safety import path_text

from ...errors import ImageError
from ...predict.pictures import array_in
from .base import SMALLEST, Loss, axis_of, clamp_value, count, divisor, fields_of, target_of
from .softmax import known_labels


@dataclass(frozen=True)
class InfogainLoss(Loss):
    """-sum over the classes k of H[label, k] log softmax_k, for each pixel.

    H is `matrix`, (classes, classes), or what the blob `matrix_blob` holds, row by row; the unit matrix is
    SoftmaxWithLoss. Caffe up to 2016 took probabilities in place of scores; this is Caffe 1.0's layer, which has
    the softmax in it.
    """

    matrix: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    axis: int = 1
    matrix_blob: str | None = None

    @classmethod
    def of_layer(cls, layer: LayerSpec, *, beside: Path) -> InfogainLoss:
        """The loss that a layer defines; its matrix is looked for from the working directory, then in `beside`.

        Raises NetError for a matrix that is missing, CaffeFormatError for a file that is none.
        """
        param = layer.message.infogain_loss_param
        blob = layer.bottoms[2] if len(layer.bottoms) == 3 else None  # the file is not looked at then, as in Caffe
        if blob is None and not param.source:
            raise NetError(
                "the matrix of an InfogainLoss is neither in a file nor a third bottom",
                where=layer.place,
                hint='give it as infogain_loss_param { source: "H.binaryproto" }',
            )
        if layer.message.loss_param.HasField("normalize"):  # as Caffe's own check says
            raise NetError("an InfogainLoss has normalization in place of normalize", where=layer.place)
        fields = fields_of(layer, unsaid="VALID", count=2 if blob is None else 3)
        matrix = read_matrix(_found(path_text(param.source), beside, layer)) if blob is None else ()
        return cls(**fields, matrix=matrix, axis=param.axis, matrix_blob=blob)  # type: ignore[arg-type]

    @property
    def given(self) -> tuple[str, ...]:
        return () if self.matrix_blob is None else (self.matrix_blob,)

    def __call__(self, blobs: Mapping[str, Tensor], counts: Mapping[str, float] | None = None) -> Tensor:
        scores, labels = blobs[self.score], blobs[self.label]
        axis = axis_of(self.axis, scores.shape)
        matrix, classes = self._matrix(blobs), scores.shape[axis]
        if matrix.numel() != classes**2:
            raise NetError(f"{self.name}: a matrix of {tuple(matrix.shape)}; the net scores {classes} classes")
        ignored = -100 if self.ignore_label is None else self.ignore_label
        target = target_of(labels, scores, axis).long()
        rows = matrix.to(scores).reshape(classes, classes)[known_labels(target, self.ignore_label, classes)]
        counted = (target != ignored)[..., None]  # of the others a score that is no number counts for nothing, too
        logs = torch.log_softmax(torch.where(counted, scores.movedim(axis, -1), 0), -1)
        if counts is None:
            counts = count(labels, ignore_label=self.ignore_label, images=math.prod(scores.shape[:axis]))
        clamped = clamp_value(logs, smallest=math.log(SMALLEST))
        return -torch.where(counted, rows * clamped, 0).sum() / divisor(counts, self.normalization)

    def _matrix(self, blobs: Mapping[str, Tensor]) -> Tensor:
        return torch.tensor(self.matrix) if self.matrix_blob is None else blobs[self.matrix_blob].detach()


def read_matrix(path: Path) -> tuple[tuple[float, ...], ...]:
    """The square matrix in a .binaryproto (a BlobProto, as Caffe reads it) or an .npy. CaffeFormatError for others."""
    if path.suffix.lower() == ".npy":
        try:
            found = array_in(path)
        except ImageError as error:
            raise CaffeFormatError(str(error).removeprefix(f"{path}: "), path=path) from None
    else:
        found = np.asarray(read_mean(path))
    found = found.reshape(found.shape[-2:]) if found.ndim >= 2 and found.size == math.prod(found.shape[-2:]) else found
    is_matrix = found.ndim == 2 and found.shape[0] == found.shape[1] and found.dtype.kind in "fiub"
    if not is_matrix or not np.isfinite(found).all():
        raise CaffeFormatError(
            f"{found.shape} of {found.dtype} is no matrix of classes by classes, all of them finite", path=path
        )
    return tuple(tuple(float(value) for value in row) for row in found)


def _found(source: str, beside: Path, layer: LayerSpec) -> Path:
    for place in (Path(source), beside / source, beside / Path(source).name):
        if place.is_file():
            return place
    raise NetError(f"infogain_loss_param.source '{source}' is not there, nor beside the prototxt", where=layer.place)
