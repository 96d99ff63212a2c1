"""The goldens are whole, and the comparisons with them see what they must see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from parity_tests import goldens
from parity_tests.fill import input_blob
from parity_tests.goldens import GoldenId
from parity_tests.tolerances import TABLE, tolerance

IDS = goldens.golden_ids()


@pytest.mark.parametrize("id_", IDS, ids=str)
def test_a_recording_agrees_with_the_shapes(id_: GoldenId) -> None:
    golden = goldens.golden(id_.net, id_.size, id_.fill)
    recorded = {name: blob.shape for name, blob in golden.blobs.items()}
    at_sizes = goldens.shapes()[id_.net].blobs
    assert list(recorded) == list(at_sizes[100, 100])
    if id_.size in at_sizes:
        assert recorded == at_sizes[id_.size]
    for name, labels in golden.labels.items():
        assert labels.shape == id_.size
        assert labels.max() < golden.blobs[name].shape[1]


@pytest.mark.parametrize("id_", IDS, ids=str)
def test_the_sampled_places_follow_from_names(id_: GoldenId) -> None:
    for name, blob in goldens.golden(id_.net, id_.size, id_.fill).blobs.items():
        places = goldens.sample(name, np.zeros(blob.shape, np.float32)).index
        np.testing.assert_array_equal(places, blob.index, err_msg=name)


@pytest.fixture
def blob() -> np.ndarray:
    return input_blob("some", (1, 3, 20, 30))


def test_a_blob_equals_itself(blob: np.ndarray) -> None:
    assert goldens.compare(blob, goldens.sample("some", blob)) == 0
    assert goldens.compare(blob, blob) == 0
    assert goldens.compare(0 * blob, 0 * blob) == 0


def test_a_difference_is_relative_to_the_largest_magnitude(blob: np.ndarray) -> None:
    golden = goldens.sample("some", blob)
    off = blob.copy()
    off.flat[golden.index[0]] += 1e-3 * golden.absmax
    assert goldens.compare(off, golden) == pytest.approx(1e-3, rel=1e-3)
    assert goldens.compare(off, blob) == pytest.approx(1e-3, rel=1e-3)


def test_whole_blob_sums_see_what_samples_miss(blob: np.ndarray) -> None:
    golden = goldens.sample("some", blob)
    off = blob.copy()
    unsampled = np.setdiff1d(np.arange(blob.size), golden.index)
    off.flat[unsampled] += 1e-3 * golden.absmax
    assert goldens.compare(off, golden) > 9e-4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda blob: blob[:, ::-1],
        lambda blob: np.roll(blob, 1, axis=3),
        lambda blob: blob * np.float32(1.0001),
        lambda blob: np.where(blob == blob.max(), np.nan, blob),
    ],
    ids=["channels reversed", "a pixel off", "scaled", "one NaN"],
)
def test_a_wrong_blob_is_far_from_its_golden(wrong: Callable, blob: np.ndarray) -> None:
    for golden in (goldens.sample("some", blob), blob):
        assert not goldens.compare(wrong(blob), golden) <= 5e-5


def test_another_shape_is_never_compared(blob: np.ndarray) -> None:
    with pytest.raises(AssertionError, match=r"\(1, 3, 30, 20\), in Caffe \(1, 3, 20, 30\)"):
        goldens.compare(blob.reshape(1, 3, 30, 20), goldens.sample("some", blob))


def test_labels_may_differ_only_at_ties() -> None:
    scores = np.zeros((1, 3, 2, 2))
    scores[0, 0] = 100  # the largest magnitude
    scores[0, 1, 0, 0] = 100 + 0.0005  # a tie within 1e-5 of it
    scores[0, 2, 1, 0] = 101
    caffe = np.zeros((2, 2), np.uint8)
    np.testing.assert_array_equal(goldens.wrong_labels(scores, caffe, tie=1e-5), [[1, 0]])
    assert len(goldens.wrong_labels(scores, caffe, tie=0)) == 2
    scores[0, :, 1, 1] = np.nan
    np.testing.assert_array_equal(goldens.wrong_labels(scores, caffe, tie=1e-5)[-1:], [[1, 1]])


def test_the_table_of_tolerances_gives_reasons_and_is_strict_by_default() -> None:
    assert len({row.claim for row in TABLE}) == len(TABLE)
    assert all(row.why and 0 < row.value < 1e-3 for row in TABLE)
    assert tolerance("a claim that is not in the table") == 0
