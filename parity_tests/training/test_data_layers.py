"""Settings of a net's data layers that were passed over: sizes, means of each pixel, grey, order, batches, the card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from converters import NetError
from converters.formats import parse_prototxt, read_solver
from converters.formats.prototxt import read_prototxt
from fcn_port.data import open_dataset
from fcn_port.training import testing
from fcn_port.training.data_layer import _nearest, batch_size_of, order_of
from fcn_port.training.errors import TrainingError
from fcn_port.training.prepare import prepare
from fcn_port.training.run import TrainingPlan, train
from fcn_port.training.source import source_of_solver
from fcn_port.training.transforms import transforms_in
from parity_tests.training.test_caffes_own_settings import camvid
from weights.card import Card
from weights.records import Augmentation

SEGNET = """
layer {{ name: "data" type: "DenseImageData" top: "data" top: "label"
  dense_image_data_param {{ source: "train.txt" batch_size: 2 {more} }} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param {{ num_output: 11 kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param {{ ignore_label: 11 }} }}
"""


def fed(folder: Path, text: str) -> object:
    """The preparation of a net on small images of 12x16 with labels to 11."""
    solver = camvid(folder)
    (folder / "net.prototxt").write_text(text)
    return prepare(source_of_solver(read_solver(solver)), open_dataset(folder / "set", split="train"), workers=0)


def test_segnets_data_layer_gives_batches_sizes_and_order(tmp_path: Path) -> None:
    """DenseImageData: sizes as cv2 resizes, labels by INTER_NEAREST; its batch was 1 and its mean VOC's before."""
    cv2 = pytest.importorskip("cv2")
    found = fed(tmp_path, SEGNET.format(more="new_height: 7 new_width: 9"))
    assert found.gathering.batch_size == 2 and found.feed.order == "listed"  # type: ignore[attr-defined]
    batch = next(found.feed.batches())  # type: ignore[attr-defined]
    assert batch.names == ("i0", "i1") and batch.blobs["data"].shape == (2, 3, 7, 9)
    for number, name in enumerate(batch.names):
        image = np.asarray(Image.open(tmp_path / "set" / "JPEGImages" / f"{name}.jpg").convert("RGB"))
        expected = cv2.resize(image[:, :, ::-1], (9, 7)).transpose(2, 0, 1).astype(np.float32)
        assert np.array_equal(batch.blobs["data"][number].numpy(), expected)
        labels = np.asarray(Image.open(tmp_path / "set" / "SegmentationClass" / f"{name}.png"))
        nearest = cv2.resize(labels, (9, 7), interpolation=cv2.INTER_NEAREST)
        assert np.array_equal(batch.blobs["label"][number].numpy(), nearest)
    card = Card(augmentation=found.feed.augmentation)  # type: ignore[attr-defined]
    assert Card.from_metadata(card.to_metadata()).augmentation == Augmentation(resize=(7, 9))


def test_shuffle_and_grey_of_a_fork(tmp_path: Path) -> None:
    found = fed(tmp_path, SEGNET.format(more="shuffle: true is_color: false new_height: 7 new_width: 9"))
    assert found.feed.order == "shuffled"  # type: ignore[attr-defined]
    batch = next(found.feed.batches())  # type: ignore[attr-defined]
    assert batch.blobs["data"].shape == (2, 1, 7, 9)
    image = Image.open(tmp_path / "set" / "JPEGImages" / f"{batch.names[0]}.jpg").convert("L")
    assert abs(float(batch.blobs["data"][0].mean()) - np.asarray(image).mean()) < 6, "no mean is subtracted"


@pytest.mark.parametrize(
    ("layer", "batch", "order"),
    [
        ('type: "Data" data_param { batch_size: 3 }', 3, "listed"),
        ('type: "ImageData" image_data_param { batch_size: 5 shuffle: true }', 5, "shuffled"),
        ('type: "MemoryData" memory_data_param { batch_size: 4 channels: 3 height: 9 width: 9 }', 4, "listed"),
        ('type: "HDF5Data" hdf5_data_param { source: "x" batch_size: 6 shuffle: true }', 6, "shuffled"),
        ('type: "Python" python_param { module: "voc_layers" layer: "VOCSegDataLayer" }', 1, "replacement"),
    ],
)
def test_batches_and_order_are_the_data_layers(layer: str, batch: int, order: str) -> None:
    spec = parse_prototxt(f'layer {{ name: "d" top: "data" top: "label" {layer} }}')
    assert (batch_size_of(spec), order_of(spec)) == (batch, order)


def test_a_mean_file_of_another_size_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Caffe would stop; the mean of each channel is subtracted."""
    mean = np.arange(3 * 5 * 4, dtype="<f4").reshape(3, 5, 4)
    sizes = b"".join(bytes([number << 3, size]) for number, size in ((1, 1), (2, 3), (3, 5), (4, 4)))
    (tmp_path / "m.binaryproto").write_bytes(sizes + b"\x2a\xf0\x01" + mean.tobytes())
    text = SEGNET.format(more="").replace("  dense", '  transform_param { mean_file: "m.binaryproto" }\n  dense')
    found = fed(tmp_path, text)
    blob = next(found.feed.batches()).blobs["data"][0]  # type: ignore[attr-defined]
    image = np.asarray(Image.open(tmp_path / "set" / "JPEGImages" / "i0.jpg").convert("RGB"))[:, :, ::-1]
    expected = image.transpose(2, 0, 1) - mean.mean((1, 2))[:, None, None]
    assert torch.allclose(blob, torch.from_numpy(expected.astype(np.float32)))
    assert "the mean_file is of 5x4 and an image of 12x16" in caplog.text


def test_one_of_two_sizes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(SEGNET.format(more="new_height: 7"))
    with pytest.raises(TrainingError, match="Caffe takes both or none"):
        transforms_in(read_prototxt(tmp_path / "net.prototxt"))


TWO = """
layer {{ name: "lab" type: "Data" top: "label" data_param {{ source: "b" batch_size: 2 }} {label} }}
layer {{ name: "img" type: "Data" top: "data" data_param {{ source: "a" batch_size: 2 }} {image} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param {{ num_output: 11 kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param {{ ignore_label: 11 }} }}
"""


def test_the_crop_and_the_mirror_are_those_of_the_images_layer(tmp_path: Path) -> None:
    """Whichever stands first: labels are cut and mirrored with the images."""
    found = fed(tmp_path, TWO.format(label="", image="transform_param { mirror: true crop_size: 8 }"))
    assert (found.feed.variation.crop, found.feed.variation.mirror) == (8, True)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("label", "image", "said"),
    [
        ("transform_param { scale: 0.5 }", "", "transform_param of 'label': less a mean or times a scale"),
        ("transform_param { mean_value: 1 }", "", "its labels are no classes"),
        ("transform_param { mirror: true }", "", "crop_size 0 and mirror True; another data layer has 0 and False"),
        ("transform_param { crop_size: 7 }", "transform_param { crop_size: 8 }", "crop_size 7 and mirror False"),
    ],
)
def test_a_layer_that_changes_labels_is_refused(tmp_path: Path, label: str, image: str, said: str) -> None:
    """Caffe's give what their transform_param says, whatever it is for (data_transformer.cpp, Transform)."""
    with pytest.raises(TrainingError, match=said):
        fed(tmp_path, TWO.format(label=label, image=image))


def test_hdf5data_transforms_nothing() -> None:
    text = 'layer { name: "d" type: "HDF5Data" top: "data" top: "label" transform_param { scale: 2 } }'
    with pytest.raises(TrainingError, match="HDF5Data transforms nothing"):
        transforms_in(parse_prototxt(text))


def test_labels_are_resized_as_cv2_does_at_any_size() -> None:
    """Where i h / size is whole, rounding of size / h decides between two pixels."""
    cv2 = pytest.importorskip("cv2")
    labels = np.arange(1080, dtype=np.float32)[:, None].repeat(3, 1)
    for old, new in [(375, 513), (333, 360), (332, 500), (800, 224), (1080, 300), (500, 500), (7, 1), (1, 9)]:
        expected = cv2.resize(labels[:old], (2, new), interpolation=cv2.INTER_NEAREST)
        np.testing.assert_array_equal(_nearest(labels[:old], (new, 2)), expected, err_msg=f"{old} to {new}")


def test_weights_in_a_nets_text_are_refused(tmp_path: Path) -> None:
    text = SEGNET.format(more="").replace('name: "score"', 'name: "score" blobs { data: 1 }', 1)
    with pytest.raises(NetError, match="its text has weights, which are not read"):
        fed(tmp_path, text)


@pytest.mark.parametrize(("given", "gathered"), [("use_global_stats: false", 2 + 3 * 10), ("", 2)])
def test_tests_add_to_batch_norms_sums_as_caffes_do(tmp_path: Path, given: str, gathered: int) -> None:
    """Caffe's own program has a factor of 9.6566 after two updates and three tests of ten batches (1.9 without)."""
    norm = f"""layer {{ name: "bn" type: "BatchNorm" bottom: "data" top: "bn"
      batch_norm_param {{ {given} moving_average_fraction: 0.9 }} }}"""
    text = SEGNET.format(more="").replace('layer { name: "score"', f'{norm}\nlayer {{ name: "score"')
    text = text.replace('bottom: "data" top: "score"', 'bottom: "bn" top: "score"')
    solver = camvid(tmp_path)
    (tmp_path / "net.prototxt").write_text(text)
    solver.write_text(solver.read_text() + "test_iter: 10 test_interval: 1")
    found = prepare(source_of_solver(read_solver(solver)), open_dataset(tmp_path / "set", split="train"), workers=0)
    tests = testing.tests_of(found.solver.spec, found.task, found.feed.data, workers=0)
    train(found.task, found.solver, found.feed, TrainingPlan(tmp_path / "out", "n", 2, tests=tests))
    factor = float(found.task.net.state_dict()["bn.blob2"])
    assert factor == pytest.approx((1 - 0.9**gathered) / 0.1, rel=1e-6)
