"""What a net is fed: the release's order of images, batches of unequal images, several processes sharing a batch."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import Cancelled
from fcn_port.data import DataError
from fcn_port.data.records import Sample
from fcn_port.training import SoftmaxWithLoss
from fcn_port.training.errors import MemoryFullError, TrainingError
from fcn_port.training.feed import read_ahead
from fcn_port.training.room import check_room
from fcn_port.training.sampler import image_order
from parity_tests import runs
from parity_tests.runs import feed_of, narrow_task, shapes


def test_the_releases_order() -> None:
    """What Python 2.7 gave: random.seed(1337); [random.randint(0, 8497) for _ in range(6)], 8498 being SBD's train."""
    assert list(islice(image_order(8498), 6)) == [5249, 4531, 3108, 4978, 1408, 7005]


@pytest.mark.parametrize("order", ["replacement", "shuffled", "listed"])
def test_any_position_is_found_again(order: str) -> None:
    whole = list(islice(image_order(7, order=order, seed=3), 40))  # type: ignore[arg-type]
    for start in (0, 1, 7, 13):
        assert list(islice(image_order(7, order=order, seed=3, start=start), 40 - start)) == whole[start:]  # type: ignore[arg-type]
    assert set(whole) <= set(range(7))
    if order != "replacement":
        assert all(sorted(whole[i : i + 7]) == list(range(7)) for i in range(0, 35, 7))
    if order == "shuffled":
        assert whole[:7] != whole[7:14] and whole != list(islice(image_order(7, order=order, seed=4), 40))


def test_a_batch_is_filled_up_with_the_mean_and_ignored_labels(tmp_path: Path) -> None:
    data = shapes(tmp_path / "a", size=(40, 56))
    other = shapes(tmp_path / "b", size=(48, 50))
    wide, high = (feed_of(each, narrow_task(each)) for each in (data, other))
    read = {"wide": wide.read([0]), "high": high.read([0])}

    def mixed(id_: str, **_: object) -> object:
        return (data if id_ == data.ids[0] else other).read(id_)

    ids = (data.ids[0], other.ids[1])
    both = replace(data, ids=ids)
    object.__setattr__(both, "read", mixed)
    batch = replace(wide, data=both, batch_size=2, order="listed").read([0, 1])
    assert batch.names == ids
    assert batch.blobs["data"].shape == (2, 3, 48, 56) and batch.blobs["label"].shape == (2, 48, 56)
    assert torch.equal(batch.blobs["data"][0, :, :40], read["wide"].blobs["data"][0])
    assert (batch.blobs["data"][0, :, 40:] == 0).all() and (batch.blobs["data"][1, :, :, 50:] == 0).all()
    assert (batch.blobs["label"][0, 40:] == 255).all() and (batch.blobs["label"][1, :, 50:] == 255).all()
    assert torch.equal(batch.blobs["label"][1, :, :50], high.read([1]).blobs["label"][0])


def test_processes_share_a_batch(tmp_path: Path) -> None:
    """What two processes see, one after the other, is what one process sees with twice the batch."""
    data = shapes(tmp_path)
    feed = feed_of(data, narrow_task(data), batch_size=2, order="shuffled")
    alone = list(islice(feed.batches(1), 3))
    parts = [islice(replace(feed, batch_size=1, rank=rank, size=2).batches(1), 3) for rank in (0, 1)]
    for batch, first, second in zip(alone, *parts, strict=True):
        assert batch.names == first.names + second.names
        assert torch.equal(batch.blobs["data"], torch.cat([first.blobs["data"], second.blobs["data"]]))


@pytest.mark.parametrize("workers", [0, 3])
def test_reading_ahead_keeps_the_order_and_stops(workers: int) -> None:
    seen: list[int] = []

    def read(item: int) -> int:
        seen.append(item)
        return item * item

    numbers = read_ahead(iter(range(10**9)), read, workers=workers)
    assert list(islice(numbers, 5)) == [0, 1, 4, 9, 16]
    numbers.close()
    assert len(seen) <= 5 + 2 * workers + 1


def test_who_closes_it_waits_for_no_whole_batch(tmp_path: Path) -> None:
    """Ctrl-C had to wait for the hundred million images of the batch that was being read."""
    data = shapes(tmp_path)
    seen: list[str] = []
    slow = replace(data)

    def read(id_: str, **settings: object) -> Sample:
        seen.append(id_)
        if len(seen) == 1:
            raise DataError("damaged")
        time.sleep(0.001)
        return data.read(id_)

    object.__setattr__(slow, "read", read)
    feed = replace(feed_of(data, narrow_task(data), batch_size=5000, workers=2, order="listed"), data=slow)
    with pytest.raises(DataError, match="damaged"):
        next(feed.batches())
    assert len(seen) < 5000
    with pytest.raises(Cancelled):
        feed.read(range(100), ended=lambda: True)


def test_a_batch_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    """Its images were read until the system ended the run."""
    data = shapes(tmp_path)
    feed = feed_of(data, narrow_task(data), workers=2)
    check_room(feed, iter_size=1)
    size = r"images of 29.1 kB, 99999999 in each of 1 passes of an update and in 4 passes read ahead, take 17.5 TB"
    with pytest.raises(MemoryFullError, match=f"{size}; this machine has .* of memory\n  a smaller --batch-size"):
        check_room(replace(feed, batch_size=99_999_999), iter_size=1)
    with pytest.raises(MemoryFullError, match="1 in each of 99999999 passes"):
        check_room(feed, iter_size=99_999_999)


def test_a_damaged_image_is_named_when_it_is_due(tmp_path: Path) -> None:
    data = shapes(tmp_path)
    data.image_path(data.ids[2]).write_bytes(b"no image")
    batches = feed_of(data, narrow_task(data), order="listed", workers=2).batches()
    assert next(batches).names == data.ids[:1] and next(batches).names == data.ids[1:2]
    with pytest.raises(DataError, match=data.ids[2]):
        next(batches)


def test_another_ignored_label_and_none(tmp_path: Path) -> None:
    data = shapes(tmp_path)
    task = narrow_task(data)
    usual = feed_of(data, task).read([0]).blobs["label"]
    other = replace(task, losses=(replace(task.losses[0], ignore_label=-1),))
    found = feed_of(data, other).read([0]).blobs["label"]
    assert (usual == 255).any() and torch.equal(found == -1, usual == 255)
    none = replace(task, losses=(replace(task.losses[0], ignore_label=None),))
    with pytest.raises(TrainingError, match="loss 'loss' ignores none: give it an ignore_label"):
        feed_of(data, none).read([0])


@pytest.mark.parametrize("label", ["label", "other"])
def test_losses_that_ignore_different_labels_are_refused(label: str, tmp_path: Path) -> None:
    """One map of labels was written for the last of them, so that the first counted its void pixels as class 0."""
    data = shapes(tmp_path)
    task = narrow_task(data)
    two = replace(task, losses=(*task.losses, SoftmaxWithLoss("second", "score", label, ignore_label=0)))
    with pytest.raises(TrainingError, match="'loss' ignores 255, 'second' ignores 0: here a pixel"):
        feed_of(data, two)


def test_a_loss_that_ignores_none_takes_labels_without_ignored_pixels(tmp_path: Path) -> None:
    """HED's and other SigmoidCrossEntropyLoss layers have no ignore_label; it is asked for where sizes differ only."""
    data = shapes(tmp_path, size=(24, 32))

    def without_void(id_: str, **_: object) -> Sample:
        sample = data.read(id_)
        return replace(sample, labels={head: np.where(each == 255, 0, each) for head, each in sample.labels.items()})

    feed = feed_of(data, replace(narrow_task(data), losses=(SoftmaxWithLoss(ignore_label=None),)), batch_size=2)
    whole = replace(data)
    object.__setattr__(whole, "read", without_void)
    batch = replace(feed, data=whole).read([0, 1])
    assert batch.blobs["label"].shape == (2, 24, 32) and int(batch.blobs["label"].max()) < 255


def test_labels_that_a_loss_has_none_of(tmp_path: Path) -> None:
    data = shapes(tmp_path)
    task = narrow_task(data)
    two = replace(task, losses=(*task.losses, SoftmaxWithLoss("loss_geo", "score_geo", "geo")))
    with pytest.raises(TrainingError, match="no labels for 'score_geo'; it has them for score"):
        feed_of(data, two).read([0])


def test_the_recorded_batches_arrive_unchanged() -> None:
    data = runs.recorded_data(2, iter_size=2)
    task = narrow_task(data)
    batches = list(islice(runs.recorded_feed(data, task).batches(), 4))
    expected = runs.solving.fcn_batches(2)
    for i, batch in enumerate(batches):
        np.testing.assert_array_equal(batch.blobs["data"].numpy(), expected[i // 2]["data"])
        np.testing.assert_array_equal(batch.blobs["label"].numpy(), expected[i // 2]["label"][0])
