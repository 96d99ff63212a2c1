"""Label maps that explain themselves: names and colours in the PNG, a table beside it, areas as CSV, run lengths."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.predict.class_table import AREA_HEADER, area_rows, class_table
from fcn_port.predict.outputs import write_outputs
from fcn_port.predict.palettes import voc_palette
from fcn_port.predict.segmentation import Segmentation
from parity_tests.datasets import noise
from parity_tests.predict.output_nets import NAMES, files_of

HOSTILE = '=cat\u202e\n\x1b[31m,"x"'


def seen(*names: str) -> Segmentation:
    labels = np.zeros((4, 10), np.uint8)
    labels[0, :7], labels[1, :2] = 2, 4
    return Segmentation(labels, None, np.zeros((4, 10, 3), np.uint8), names, voc_palette())


def test_a_picture_tells_its_classes(tmp_path: Path) -> None:
    paths = write_outputs(seen("background", HOSTILE, "dog"), tmp_path / "a")
    with Image.open(paths["labels"]) as picture:
        table = json.loads(picture.text["Classes"])  # type: ignore[attr-defined]
        assert picture.text["Classes"].isascii() and picture.text["Classes"].isprintable()  # type: ignore[attr-defined]
        palette = np.array(picture.getpalette()).reshape(-1, 3)
    assert [each["label"] for each in table] == [0, 1, 2, 4]
    assert [each["name"] for each in table] == ["background", HOSTILE, "dog", "class 4"]
    for each in table:
        assert each["color"] == "#{:02x}{:02x}{:02x}".format(*palette[each["label"]])
    beside = json.loads(paths["classes"].read_text())
    assert (beside["height"], beside["width"]) == (4, 10)
    assert [(each["label"], each["pixels"]) for each in beside["classes"]] == [(0, 31), (1, 0), (2, 7), (4, 2)]


def test_a_long_table_is_packed_and_read_back(tmp_path: Path) -> None:
    paths = write_outputs(seen(*(f"class number {i}" for i in range(150))), tmp_path / "a")
    with Image.open(paths["labels"]) as picture:
        assert len(json.loads(picture.text["Classes"])) == 150  # type: ignore[attr-defined]
    assert paths["labels"].stat().st_size < 4000


def test_areas_are_rows_that_no_spreadsheet_obeys() -> None:
    rows = list(area_rows(seen("background", "cat", HOSTILE), "=1+1.png"))
    assert [row[2:] for row in rows] == [
        [0, "background", 31, 0.775], [2, "'=cat\\u202e\\n\\x1b[31m,\"x\"", 7, 0.175], [4, "class 4", 2, 0.05],
    ]  # fmt: skip
    assert rows[0][0] == "'=1+1.png" and len(AREA_HEADER) == len(rows[0])


def test_classes_of_one_name_are_told_apart_and_counted_together() -> None:
    twice = seen("thing", "x", "thing")
    assert twice.share_of_classes()["thing"] == pytest.approx(38 / 40)
    assert [each["pixels"] for each in class_table(twice)] == [31, 0, 7, 2]


def test_tables_of_many_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """CSV, run lengths and --json say the same as the label maps."""
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools, COCO's own")
    names = ("frame9", "frame10", "frame_000000000042")
    for i, name in enumerate(names):
        Image.fromarray(noise(i, (6, 7 + i, 3))).save(tmp_path / f"{name}.png")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    args = files_of("scores", tmp_path)
    (tmp_path / "in.txt").write_text("\n".join(f"{name}.png" for name in names))
    more = ["--areas", str(tmp_path / "a.csv"), "--coco", str(tmp_path / "c.json"), "--classes"]
    call = ["predict", *args, str(tmp_path / "in.txt"), "-o", str(tmp_path / "out"), "--json", *more]
    assert run([*call, str(tmp_path / "names.txt")]) == 0
    found = json.loads(capsys.readouterr().out)["images"]
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    records = json.loads((tmp_path / "c.json").read_text())
    assert {record["image_id"] for record in records} == {"frame9", "frame10", 42}
    for name, image in zip(names, found, strict=True):
        labels = np.asarray(Image.open(tmp_path / "out" / f"{name}.labels.png"))
        own = [row for row in rows if row["image"].endswith(f"{name}.png")]
        assert {int(row["label"]): int(row["pixels"]) for row in own} == {
            int(i): int((labels == i).sum()) for i in np.unique(labels)
        }
        (output,) = image["outputs"]
        assert [each["label"] for each in output["found"]] == [int(row["label"]) for row in own]
        assert [each["name"] for each in output["found"]] == [NAMES[int(row["label"])] for row in own]
        id_ = 42 if name.endswith("42") else name
        for record in (each for each in records if each["image_id"] == id_):
            mask = coco.decode(record["segmentation"]).astype(bool)
            assert np.array_equal(mask, labels == record["category_id"]) and record["area"] == mask.sum()
