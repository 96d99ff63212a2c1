r"""The paper's metrics (CVPR 2015, section 5), from one histogram of labels and predictions.

With :math:`n_{ij}` the pixels of class i predicted as class j and :math:`t_i = \sum_j n_{ij}`:

    overall accuracy   \sum_i n_ii / \sum_i t_i
    mean accuracy      mean of n_ii / t_i                             over classes with labelled pixels
    mean IU            mean of n_ii / (t_i + \sum_j n_ji - n_ii)      over classes in labels or predictions
    f.w. IU            \sum_i t_i IU_i / \sum_i t_i

A histogram is a plain array, so streaming is `+=` and merging is `+`. Pixels with the ignored label do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from converters.given import refuse_other_choice, whole_number
from weights.records import IGNORE_LABEL

Over = Literal["present", "labelled"]
"""The classes of the mean IU: those in labels or predictions, or (SIFT Flow) only those with labelled pixels."""


@dataclass(frozen=True)
class Scores:
    """The four metrics as fractions of 1, and IU and accuracy of each class; NaN where there is nothing to count.

    `labelled` and `predicted` are pixels of each class, of those that count.
    """

    overall_accuracy: float
    mean_accuracy: float
    mean_iu: float
    fwavacc: float
    iu: tuple[float, ...]
    accuracy: tuple[float, ...]
    labelled: tuple[int, ...]
    predicted: tuple[int, ...]

    @property
    def pixels(self) -> int:
        """The number of pixels that count."""
        return sum(self.labelled)


def histogram(
    labels: Any, predictions: Any, *, num_classes: int, ignore_label: int | None = IGNORE_LABEL
) -> np.ndarray:
    """The pixels of class i that were predicted as class j: (num_classes, num_classes) int64.

    `labels` and `predictions` are integer maps of one shape: arrays, or tensors, counted on the GPU if `predictions`
    is on one. ValueError for a label that is neither a class nor `ignore_label`, and for a prediction that
    is no class.
    """
    on_device = getattr(predictions, "is_cuda", False)
    labels, guessed = _on_host(labels), predictions if on_device else _on_host(predictions)
    _check(labels, guessed, num_classes)
    if labels.size == 0:
        return np.zeros((num_classes, num_classes), np.int64)
    counted = _counted_on_device if on_device else _counted
    found = counted(_rows(labels, num_classes, ignore_label), guessed, num_classes)
    return found.reshape(-1, num_classes)[:num_classes].astype(np.int64)


def scores(counts: np.ndarray, *, over: Over = "present", without: tuple[int, ...] = ()) -> Scores:
    """The metrics of a histogram.

    Pixels labelled with one of the classes in `without` are ignored, and the means leave these classes out; a
    prediction of one of them for another class's pixel is still wrong. ValueError for counts that are not square.
    """
    refuse_other_choice(get_args(Over), over, "mean over")
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"a histogram is square, not {counts.shape}")
    counts = counts.astype(np.int64)
    counts[list(without)] = 0
    kept = np.ones(len(counts), bool)
    kept[list(without)] = False
    right, labelled, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    union = labelled + predicted - right
    accuracy = _ratio(right, labelled)
    iu = np.where(kept, _ratio(right, union), np.nan)
    counted = iu if over == "present" else np.where(labelled > 0, iu, np.nan)
    total = labelled.sum()
    return Scores(
        overall_accuracy=float(right.sum() / total) if total else float("nan"),
        mean_accuracy=_mean(accuracy),
        mean_iu=_mean(counted),
        fwavacc=float((labelled * np.nan_to_num(iu)).sum() / total) if total else float("nan"),
        iu=tuple(iu.tolist()),
        accuracy=tuple(accuracy.tolist()),
        labelled=tuple(labelled.tolist()),
        predicted=tuple(predicted.tolist()),
    )


def score(labels: Any, predictions: Any, *, num_classes: int, ignore_label: int | None = IGNORE_LABEL) -> Scores:
    """The metrics of two label maps."""
    return scores(histogram(labels, predictions, num_classes=num_classes, ignore_label=ignore_label))


def _check(labels: np.ndarray, predictions: Any, num_classes: int) -> None:
    whole_number(num_classes, "num_classes")
    if labels.shape != tuple(predictions.shape):
        raise ValueError(f"labels {labels.shape} and predictions {tuple(predictions.shape)} are of different sizes")
    for what, array in (("labels", labels), ("predictions", predictions)):
        if array.dtype.kind not in "iub" if isinstance(array, np.ndarray) else array.is_floating_point():
            raise ValueError(f"{what} are whole numbers, not {array.dtype}")
    if labels.size and not 0 <= int(predictions.min()) <= int(predictions.max()) < num_classes:
        wrong = int(predictions[(predictions < 0) | (predictions >= num_classes)].reshape(-1)[0])
        raise ValueError(f"a prediction of {wrong}; classes are 0 to {num_classes - 1}")


def _rows(labels: np.ndarray, num_classes: int, ignore_label: int | None) -> np.ndarray:
    """The row of the histogram in which each pixel counts, flat: its class, or the one below them for what does not."""
    ignored = np.zeros(labels.shape, bool) if ignore_label is None else labels == ignore_label
    unknown = ((labels < 0) | (labels >= num_classes)) & ~ignored
    if unknown.any():
        raise _unknown_label(int(labels[unknown][0]), num_classes, ignore_label)
    rows = labels.astype(np.uint8 if num_classes < 256 else np.int32).reshape(-1)
    rows[ignored.reshape(-1)] = num_classes
    return rows


def _on_host(labels: Any) -> np.ndarray:
    """A map as an array, wherever it is."""
    return np.asarray(labels.cpu() if hasattr(labels, "cpu") else labels)


def _counted(rows: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    index = rows.astype(np.intp)
    index *= num_classes
    index += predictions.ravel().astype(np.intp, copy=False)
    return np.bincount(index, minlength=(num_classes + 1) * num_classes)


def _counted_on_device(rows: np.ndarray, predictions: Any, num_classes: int) -> np.ndarray:
    """Counted where the predictions are, so that only the counts travel."""
    import torch

    index = torch.tensor(rows, device=predictions.device).long() * num_classes + predictions.long().flatten()
    found: np.ndarray = torch.bincount(index, minlength=(num_classes + 1) * num_classes).cpu().numpy()
    return found


def _unknown_label(label: int, num_classes: int, ignore_label: int | None) -> ValueError:
    ignored = "" if ignore_label is None else f", and {ignore_label} is ignored"
    return ValueError(f"a label of {label}; classes are 0 to {num_classes - 1}{ignored}")


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    ratio = np.full(len(part), np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
