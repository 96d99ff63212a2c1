"""`detect` on drawn images: each object where it was drawn, in pixels of the image, whatever its size."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import fcn_port
from converters import CaffeNet, NetError, parse_prototxt
from fcn_port.detection import detects
from fcn_port.detection.drawing import draw_boxes
from fcn_port.predict.resizing import resize
from parity_tests.detection.nets import NAMES, ssd

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def drawn(size: tuple[int, int], *boxes: tuple[tuple[float, ...], tuple[int, int, int]]) -> Image.Image:
    """A white image of (width, height) with boxes in parts of it."""
    image = Image.new("RGB", size, WHITE)
    draw = ImageDraw.Draw(image)
    for (x0, y0, x1, y1), colour in boxes:
        draw.rectangle((x0 * size[0], y0 * size[1], x1 * size[0] - 1, y1 * size[1] - 1), fill=colour)
    return image


@pytest.mark.parametrize("size", [(32, 32), (128, 64), (200, 320)])
def test_objects_are_where_they_were_drawn(size: tuple[int, int]) -> None:
    """One cell in a quarter of the way from the left edge is red, one at the bottom right blue."""
    image = drawn(size, ((0.25, 0, 0.5, 0.25), RED), ((0.75, 0.75, 1, 1), BLUE))
    found = fcn_port.detect(ssd(), image)
    assert {(each.class_id, each.name) for each in found} == {(1, "red thing"), (2, "blue thing")}
    boxes = {each.class_id: each.box for each in found}
    w, h = size
    np.testing.assert_allclose(boxes[1], (0.25 * w, 0, 0.5 * w, 0.25 * h), atol=1e-3)
    np.testing.assert_allclose(boxes[2], (0.75 * w, 0.75 * h, w, h), atol=1e-3)
    assert all(each.score > 0.9 for each in found)


def test_channels_and_names_matter() -> None:
    image = drawn((32, 32), ((0.25, 0, 0.5, 0.25), RED))
    net = ssd()
    assert [each.name for each in fcn_port.detect(net, np.asarray(image)[:, :, ::-1].copy())] == [NAMES[2]]
    assert [each.name for each in fcn_port.detect(net, image, names=["a", "b"])] == ["b"]
    assert [each.name for each in fcn_port.detect(net, image, names=[])] == ["class 1"]


def test_the_best_come_first_and_a_threshold_cuts() -> None:
    faint = (255, 80, 80)
    image = drawn((32, 32), ((0, 0, 0.25, 0.25), faint), ((0.5, 0.5, 0.75, 0.75), RED))
    found = fcn_port.detect(ssd(), image)
    scores = [each.score for each in found]
    assert len(found) == 2 and scores == sorted(scores, reverse=True) and scores[0] - scores[1] > 0.01
    middle = sum(scores) / 2
    assert [each.score for each in fcn_port.detect(ssd(), image, threshold=middle)] == scores[:1]
    assert found.above(middle).found == found[:1]


def test_nothing_is_found_in_a_white_image() -> None:
    """Caffe's row of -1 is no detection."""
    found = fcn_port.detect(ssd(), drawn((32, 32)))
    assert len(found) == 0 and found.to_json()["detections"] == [] and found.to_coco("a") == []
    np.testing.assert_array_equal(np.asarray(found.picture()), found.image)


def test_a_box_stays_inside_the_image() -> None:
    net = ssd()
    with torch.no_grad():
        net.loc.bias[2:] = 30.0  # type: ignore[union-attr]  # twenty times as large
    found = fcn_port.detect(net, drawn((64, 48), ((0, 0, 0.25, 0.25), RED)))
    assert found[0].box == (0, 0, 64, 48)


def test_the_forms_in_files() -> None:
    image = drawn((320, 160), ((0.25, 0, 0.5, 0.25), RED))
    found = fcn_port.detect(ssd(), image)
    plain = json.loads(json.dumps(found.to_json()))
    assert (plain["width"], plain["height"]) == (320, 160)
    (record,) = plain["detections"]
    assert (record["class_id"], record["name"]) == (1, "red thing")
    np.testing.assert_allclose(list(record["box"].values()), (80, 0, 160, 40), atol=1e-3)
    (coco,) = json.loads(json.dumps(found.to_coco("COCO_val2014_000000000042")))
    assert coco["image_id"] == 42 and coco["category_id"] == 1 and coco["score"] == record["score"]
    np.testing.assert_allclose(coco["bbox"], (80, 0, 80, 40), atol=1e-3)
    assert found.to_coco("street")[0]["image_id"] == "street"


# What cannot be done


def test_a_net_that_does_not_say_how_its_input_is_made_is_told() -> None:
    with pytest.raises(ValueError, match="preprocessing="):
        fcn_port.detect(ssd(told=False), drawn((32, 32)))


def test_a_net_that_finds_no_objects_is_refused() -> None:
    net = CaffeNet(parse_prototxt('input: "data" input_shape { dim: [1, 3, 8, 8] } layer { name: "r" type: "ReLU" '
                                  'bottom: "data" top: "r" }'))  # fmt: skip
    assert not detects(net.spec) and detects(ssd().spec)
    with pytest.raises(NetError, match="finds no objects"):
        fcn_port.detect(net, drawn((32, 32)))


# Pictures


def test_a_drawn_box_has_its_colour_and_its_label_inside() -> None:
    white = np.full((120, 200, 3), 255, np.uint8)
    picture = np.asarray(draw_boxes(white, [((60, 50, 140, 100), "thing 0.98", (200, 0, 0), [])]))
    assert (picture[75, 60] == (200, 0, 0)).all() and (picture[100, 100] == (200, 0, 0)).all()
    assert (picture[75, 100] == 255).all(), "the inside is as it was"
    assert (picture[46, 61] == (200, 0, 0)).all(), "the label is above the box"
    assert picture.shape == white.shape


@pytest.mark.parametrize("box", [(0, 0, 10, 10), (190, 110, 200, 120), (150, 0, 200, 120), (0, 0, 200, 120)])
def test_a_label_is_moved_to_where_it_can_be_read(box: tuple[int, ...]) -> None:
    """As many pixels of it as of one in the middle."""
    white = np.full((120, 200, 3), 255, np.uint8)

    def ink(place: tuple[int, ...]) -> int:
        picture = np.asarray(draw_boxes(white, [(place, "thing 0.98", (1, 2, 3), [])]))
        return int((picture == 255).all(-1).sum())

    plain = np.asarray(draw_boxes(white, [(box, "", (1, 2, 3), [])]))
    assert ink(box) < int((plain == 255).all(-1).sum()), "the label is there"


def test_the_best_is_on_top_and_points_are_marked() -> None:
    white = np.full((60, 60, 3), 255, np.uint8)
    box = (5, 30, 50, 55)
    picture = np.asarray(draw_boxes(white, [(box, "", (0, 200, 0), [(30, 40)]), (box, "", (200, 0, 0), [])]))
    assert (picture[40, 5] == (0, 200, 0)).all() and (picture[40, 30] == (0, 200, 0)).all()


def test_names_from_a_file_do_not_break_a_picture() -> None:
    white = np.full((60, 60, 3), 255, np.uint8)
    assert draw_boxes(white, [((5, 5, 20, 20), "\x1b[31m\n" + "x" * 10_000, (0, 0, 0), [])]).size == (60, 60)


# Resizing


@pytest.mark.parametrize("size", [(300, 300), (17, 41), (64, 96)])
def test_images_are_resized_as_opencv_does(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    theirs = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR).astype(int)
    assert np.abs(resize(image, size).astype(int) - theirs).max() <= 1


def test_the_face_of_the_package_has_them() -> None:
    assert {"detect", "Detection", "Detections"} <= set(fcn_port.__all__) <= set(dir(fcn_port))
    assert Path(fcn_port.detect.__code__.co_filename).name == "detecting.py"
