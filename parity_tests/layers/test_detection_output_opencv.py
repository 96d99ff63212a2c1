"""DetectionOutput finds what OpenCV's finds, as sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from parity_tests.layers.test_boxes import some_boxes
from parity_tests.layers.test_detection_output import CLASSES, TOPK, make, predictions, run, same_set

OPENCV = [
    TOPK,
    f"{TOPK} confidence_threshold: 0.5",
    "nms_param { nms_threshold: 0.3 } confidence_threshold: 0.7 keep_top_k: 12",
    f"{TOPK} share_location: false confidence_threshold: 0.2",
    f"{TOPK} variance_encoded_in_target: true confidence_threshold: 0.2",
    f"{TOPK} background_label_id: 2 confidence_threshold: 0.2",
    f"{TOPK} clip: 1 confidence_threshold: 0.2",
    "nms_param { nms_threshold: 0.8 top_k: 40 } keep_top_k: 100 confidence_threshold: 0.2",
]


@pytest.mark.parametrize("code", ["CORNER", "CENTER_SIZE"])
@pytest.mark.parametrize("settings", OPENCV)
def test_opencv_finds_thesame_set(settings: str, code: str, tmp_path: Path) -> None:
    """OpenCV needs what Caffe has defaults for, knows no CORNER_SIZE and passes over eta.

    Without keep_top_k (-1) it writes beyond its memory.
    """
    shared = "share_location: false" not in settings
    loc, conf, priors = predictions(50, images=1, box_classes=1 if shared else CLASSES, seed=7)
    conf += np.random.default_rng(1).random(conf.shape).astype(np.float32) * 1e-3  # no ties: OpenCV breaks them its way
    loc *= 0.5
    priors = np.ascontiguousarray(priors[:, : 1 if "variance_encoded" in settings else 2])
    theirs = in_opencv(f"{settings} code_type: {code}", (loc, conf, priors), tmp_path)
    same_set(run(make(f"{settings} code_type: {code}"), loc, conf, priors), theirs)


def in_opencv(settings: str, bottoms: Sequence[np.ndarray], folder: Path, *, classes: int = CLASSES) -> np.ndarray:
    """The rows (k, 7) that OpenCV makes of loc, conf and priors."""
    named = dict(zip(("loc", "conf", "priors"), bottoms, strict=True))
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: {list(x.shape)} }} }} }}\n'
        for name, x in named.items()
    )
    for needed in ("share_location: true", "background_label_id: 0"):
        settings += "" if needed.partition(":")[0] in settings else f" {needed}"
    (folder / "net.prototxt").write_text(
        f'{inputs}layer {{ name: "it" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors" top: "it" '
        f"detection_output_param {{ num_classes: {classes} {settings} }} }}"
    )
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"))
    for name, x in named.items():
        net.setInput(x, name)
    return net.forward("it").reshape(-1, 7)


@pytest.mark.parametrize(("classes", "keep"), [(2, 15), (3, 20), (3, 70), (4, 11)])
def test_opencv_keeps_the_same_of_equal_scores(classes: int, keep: int, tmp_path: Path) -> None:
    """A softmax that is sure of everything, as random weights make it: every score is 0 or 1."""
    random = np.random.default_rng(keep)
    priors = np.stack([some_boxes(50, seed=2).ravel(), np.full(200, 0.1, np.float32)])[None]
    loc = random.normal(size=(1, 200)).astype(np.float32)
    conf = (random.random((1, 50, classes)) < 0.8).astype(np.float32).reshape(1, -1)
    settings = f"nms_param {{ nms_threshold: 0.8 top_k: 45 }} keep_top_k: {keep} confidence_threshold: 0.5"
    same_set(
        run(make(f"{settings} code_type: CENTER_SIZE", classes=classes), loc, conf, priors),
        in_opencv(f"{settings} code_type: CENTER_SIZE", (loc, conf, priors), tmp_path, classes=classes),
    )
