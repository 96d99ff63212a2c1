"""The blocks of docs/opencv5.md: what people have in OpenCV 4, what they need in OpenCV 5, and equal results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from converters.export import difference
from parity_tests.famous_nets import write
from parity_tests.opencv5.asking import ask
from parity_tests.test_architecture import ROOT

pytestmark = pytest.mark.opencv5

PAGE = (ROOT / "docs" / "opencv5.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n# (before|after)\n(.*?)```", PAGE, re.DOTALL)
PAIRS = [(before[1], after[1]) for before, after in zip(BLOCKS[::2], BLOCKS[1::2], strict=True)]
KINDS = {
    "res10_300x300_ssd_iter_140000": "res10",
    "age_net": "ages",
    "MobileNetSSD_deploy": "mobilenet-ssd",
    "pose_iter_440000": "openpose",
    "colorization_release_v2": "colours",
    "hed_pretrained_bsds": "hed",
    "TextBoxes_icdar13": "res10",
}


def test_every_block_is_one_of_a_pair() -> None:
    assert len(PAIRS) == len(KINDS) == 7 and PAGE.count("```python") == 2 * len(PAIRS)
    assert [kind for kind, _ in BLOCKS] == ["before", "after"] * len(PAIRS)


def prepare(folder: Path, before: str) -> str:
    """Small nets and an image under the names of a block; returns the kind of net."""
    (weights,) = re.findall(r'"([\w.]+)\.caffemodel"', before)
    (prototxt,) = re.findall(r'"([\w.]+\.prototxt)"', before)
    text, model = write(KINDS[weights], folder)
    text.rename(folder / prototxt)
    model.rename(folder / f"{weights}.caffemodel")
    random = np.random.default_rng(0)
    cv2.imwrite(str(folder / "image.png"), random.integers(0, 256, (120, 160, 3)).astype(np.uint8))
    np.save(folder / "pts_in_hull.npy", random.standard_normal((13, 2)))
    return KINDS[weights]


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=list(KINDS))
def test_a_pair_gives_the_same(before: str, after: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = prepare(tmp_path, before)
    sizes = {"(227, 227)": "(51, 51)"}  # the small net's own; the others take any
    for old, new in sizes.items():
        before, after = before.replace(old, new), after.replace(old, new)
    monkeypatch.chdir(tmp_path)
    known: dict[str, Any] = {}
    exec(before.replace('"Crop", CropLayer', '"NoCrop", CropLayer') if kind == "hed" else before, known)
    outputs = str(tmp_path / "found.npz")
    ask(tmp_path, {"do": "block", "code": after, "folder": str(tmp_path), "outputs": outputs})
    found = np.load(outputs)
    name = re.findall(r"(?m)^(\w+) = net\.forward", after)[0]
    assert np.ptp(known[name]) > 0
    assert difference(found[name], known[name]) <= 3e-4  # with OpenCV's Winograd, as these programs have it


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=list(KINDS))
def test_a_program_of_which_only_the_reading_is_changed_works(before: str, after: str, tmp_path: Path) -> None:
    """Its own Crop layer, too, which OpenCV 5's engines cannot run: it is set aside."""
    prepare(tmp_path, before)
    old, new = before.replace("(227, 227)", "(51, 51)"), after.replace("(227, 227)", "(51, 51)")
    changed = f"from fcn_port.opencv import readNet, readNetFromCaffe\n{old.replace('cv2.dnn.readNet', 'readNet')}"
    name = re.findall(r"(?m)^(\w+) = net\.forward", after)[0]
    results = []
    for code in (changed, new):
        outputs = str(tmp_path / "found.npz")
        ask(tmp_path, {"do": "block", "code": code, "folder": str(tmp_path), "outputs": outputs})
        results.append(np.load(outputs)[name])
    assert np.ptp(results[0]) > 0 and np.array_equal(*results)
