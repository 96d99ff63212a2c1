"""The paper's metrics: worked by hand, against a loop over pixels, and against torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_jaccard_index,
)

from fcn_port.evaluation import histogram, score, scores, tasks_of

LABELS = np.array([[0, 0, 0, 1], [0, 1, 1, 255], [2, 2, 255, 0]], np.uint8)
PREDICTIONS = np.array([[0, 0, 1, 1], [0, 1, 0, 2], [2, 0, 0, 0]], np.uint8)
"""Twelve pixels, two ignored; labelled, right and wrongly given: 5, 4, 2 of class 0, 3, 2, 1 of 1, and 2, 1, 0 of 2."""

COUNTS = np.array([[4, 1, 0], [1, 2, 0], [1, 0, 1]])


def test_by_hand() -> None:
    assert np.array_equal(histogram(LABELS, PREDICTIONS, num_classes=3), COUNTS)
    found = score(LABELS, PREDICTIONS, num_classes=3)
    assert found.overall_accuracy == 7 / 10
    assert found.accuracy == (4 / 5, 2 / 3, 1 / 2)
    assert found.iu == (4 / 7, 2 / 4, 1 / 2)
    assert found.mean_accuracy == pytest.approx((4 / 5 + 2 / 3 + 1 / 2) / 3, rel=1e-15)
    assert found.mean_iu == pytest.approx((4 / 7 + 1) / 3, rel=1e-15)
    assert found.fwavacc == pytest.approx((5 * 4 / 7 + 3 * 2 / 4 + 2 / 2) / 10, rel=1e-15)
    assert (found.labelled, found.predicted, found.pixels) == ((5, 3, 2), (6, 3, 1), 10)


def test_classes_that_are_not_there() -> None:
    """Class 3 is nowhere, class 4 only predicted: accuracy leaves both out, mean IU only class 3."""
    counts = np.zeros((5, 5), np.int64)
    counts[:3, :3] = COUNTS
    counts[0, 4] = 5
    found = scores(counts)
    assert math.isnan(found.accuracy[3]) and math.isnan(found.accuracy[4]) and math.isnan(found.iu[3])
    assert found.iu[4] == 0
    assert found.mean_accuracy == pytest.approx((4 / 10 + 2 / 3 + 1 / 2) / 3)
    assert found.mean_iu == pytest.approx((4 / 12 + 1 / 2 + 1 / 2 + 0) / 4)
    assert scores(counts, over="labelled").mean_iu == pytest.approx((4 / 12 + 1 / 2 + 1 / 2) / 3)


def test_a_class_left_out() -> None:
    """As PASCAL-Context's 59 classes: background pixels are gone, but calling something background is still wrong."""
    found = scores(COUNTS, without=(0,))
    assert math.isnan(found.iu[0])
    assert found.iu[1:] == (2 / 3, 1 / 2)
    assert found.mean_iu == found.mean_accuracy == (2 / 3 + 1 / 2) / 2
    assert found.overall_accuracy == 3 / 5
    assert found.fwavacc == pytest.approx((3 * 2 / 3 + 2 / 2) / 5)


def test_nothing_to_count() -> None:
    found = score(np.full((2, 2), 255), np.zeros((2, 2), int), num_classes=2)
    assert math.isnan(found.mean_iu) and math.isnan(found.overall_accuracy) and found.pixels == 0
    assert not histogram(np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8), num_classes=2).any()


@pytest.mark.parametrize("classes", [2, 7, 21, 60])
@pytest.mark.parametrize("seed", [0, 1])
def test_as_torchmetrics(classes: int, seed: int) -> None:
    labels, predictions = _maps(classes, seed)
    counts = histogram(labels, predictions, num_classes=classes)
    found = scores(counts)
    given_ = torch.from_numpy(predictions).long(), torch.from_numpy(labels).long()
    options = {"num_classes": classes, "ignore_index": 255}
    assert np.array_equal(counts, multiclass_confusion_matrix(*given_, **options).numpy())
    assert np.allclose(np.nan_to_num(found.iu), multiclass_jaccard_index(*given_, average=None, **options), rtol=1e-6)
    assert found.fwavacc == pytest.approx(
        float(multiclass_jaccard_index(*given_, average="weighted", **options)), rel=1e-6
    )
    assert found.overall_accuracy == pytest.approx(float(multiclass_accuracy(*given_, average="micro", **options)))
    labelled = np.array(found.labelled) > 0
    per_class = multiclass_accuracy(*given_, average=None, **options).numpy()
    assert found.mean_accuracy == pytest.approx(float(per_class[labelled].mean()), rel=1e-6)


def test_wrong_variants_differ() -> None:
    """What one could get wrong gives other numbers on these maps, so that the tests above would see it."""
    right = score(LABELS, PREDICTIONS, num_classes=3)
    swapped = score(PREDICTIONS, np.where(LABELS == 255, 0, LABELS), num_classes=3)
    ignored_as_background = score(np.where(LABELS == 255, 0, LABELS), PREDICTIONS, num_classes=3)
    transposed = scores(COUNTS.T)
    for wrong in (swapped, ignored_as_background, transposed):
        assert abs(wrong.mean_accuracy - right.mean_accuracy) > 0.01
    absent = np.pad(COUNTS, (0, 1))
    assert np.nansum(scores(absent).iu) / 4 < scores(absent).mean_iu - 0.1


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 11)), max_size=60),
    st.sampled_from([np.uint8, np.int16, np.int64, np.uint16]),
)
def test_as_a_loop_over_pixels(classes: int, pairs: list[tuple[int, int]], dtype: type) -> None:
    pairs = [(255 if label >= classes else label, prediction % classes) for label, prediction in pairs]
    expected = np.zeros((classes, classes), np.int64)
    for label, prediction in pairs:
        if label != 255:
            expected[label, prediction] += 1
    labels, predictions = (np.array([pair[i] for pair in pairs], dtype) for i in (0, 1))
    found = histogram(labels, predictions, num_classes=classes)
    assert found.dtype == np.int64 and np.array_equal(found, expected)


def test_streaming_and_merging() -> None:
    labels, predictions = _maps(21, 3)
    whole = histogram(labels, predictions, num_classes=21)
    rows = [histogram(a, b, num_classes=21) for a, b in zip(labels, predictions, strict=True)]
    assert np.array_equal(sum(rows), whole)
    assert np.array_equal(sum(rows[::2]) + sum(rows[1::2]), whole)


def test_tensors_count_like_arrays() -> None:
    labels, predictions = _maps(21, 4)
    expected = histogram(labels, predictions, num_classes=21)
    as_tensor = torch.from_numpy(predictions)
    assert np.array_equal(histogram(labels, as_tensor, num_classes=21), expected)
    assert np.array_equal(histogram(torch.from_numpy(labels), as_tensor.long(), num_classes=21), expected)


class _OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


def test_counting_with_torch_as_on_a_gpu() -> None:
    """The code that runs where the predictions are, here on CPU tensors: no GPU is needed to see that it counts."""
    labels, predictions = _maps(21, 5)
    expected = histogram(labels, predictions, num_classes=21)
    on_gpu = torch.from_numpy(predictions).as_subclass(_OnGpu)
    assert np.array_equal(histogram(labels, on_gpu, num_classes=21), expected)
    wide = np.where(labels == 255, -1, labels.astype(np.int64))
    assert np.array_equal(histogram(wide, on_gpu, num_classes=21, ignore_label=-1), expected)
    for wrong, says in ((on_gpu[:1], "different sizes"), (on_gpu + 21, "a prediction of"), (on_gpu.half(), "whole")):
        with pytest.raises(ValueError, match=says):
            histogram(labels, wrong, num_classes=21)


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize(("dtype", "classes"), [(np.int64, 300), (np.uint8, 300), (np.uint16, 256), (np.int64, 1)])
def test_classes_that_no_byte_holds(dtype: type, classes: int, on_gpu: bool) -> None:
    """A label of 270 is no label of 14, nor is an ignored -1 class 255."""
    ignored = -1 if dtype is np.int64 else None
    rng = np.random.default_rng(0)
    most = min(classes, np.iinfo(dtype).max + 1)
    labels, predictions = rng.integers(0, most, 500).astype(dtype), rng.integers(0, classes, 500)
    if ignored is not None:
        labels[::5] = ignored
    expected = np.zeros((classes, classes), np.int64)
    for label, prediction in zip(labels.tolist(), predictions.tolist(), strict=True):
        if label != ignored:
            expected[label, prediction] += 1
    guessed = torch.from_numpy(predictions).as_subclass(_OnGpu) if on_gpu else predictions
    found = histogram(labels, guessed, num_classes=classes, ignore_label=ignored)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("ignore_label", [None, 0, 7, -1])
def test_another_ignored_label(ignore_label: int | None) -> None:
    labels = np.array([0, 1, 1, 2 if ignore_label is None else ignore_label])
    found = histogram(labels, np.array([0, 1, 2, 2]), num_classes=3, ignore_label=ignore_label)
    expected = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    if ignore_label is None:
        expected[2, 2] = 1
    if ignore_label == 0:
        expected[0] = 0
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("labels", "predictions", "says"),
    [
        (np.array([0, 38]), np.array([0, 1]), "a label of 38; classes are 0 to 20, and 255 is ignored"),
        (np.array([0, 300]), np.array([0, 1]), "a label of 300"),
        (np.array([0, -1]), np.array([0, 1]), "a label of -1"),
        (np.array([0, 1]), np.array([0, 21]), "a prediction of 21; classes are 0 to 20"),
        (np.array([0, 1]), np.array([0, -1]), "a prediction of -1"),
        (np.array([0, 1]), np.array([0]), "different sizes"),
        (np.array([0.0, 1.0]), np.array([0, 1]), "labels are whole numbers"),
    ],
)
def test_maps_that_make_no_sense(labels: np.ndarray, predictions: np.ndarray, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        histogram(labels, predictions, num_classes=21)


def test_tasks() -> None:
    context = tasks_of("pascalcontext", {"score": tuple(map(str, range(60)))})
    assert [task.title for task in context] == ["60 classes, with background", "59 classes, background not counted"]
    sift = tasks_of("siftflow", {"score_sem": ("a", "b"), "score_geo": ("c",)})
    assert [(task.head, task.over) for task in sift] == [("score_sem", "labelled"), ("score_geo", "labelled")]
    assert [task.over for task in tasks_of("voc", {"score": ("a",)})] == ["present"]


def _maps(classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels, some ignored and the last class nowhere, and predictions that are right half of the time."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, max(1, classes - 1), (40, 50)).astype(np.uint8)
    predictions = np.where(rng.random(labels.shape) < 0.5, labels, rng.integers(0, max(1, classes - 1), labels.shape))
    labels[rng.random(labels.shape) < 0.1] = 255
    return labels, predictions.astype(np.uint8) % classes
