"""Labels that were drawn: COCO by pycocotools, labelme and CVAT by hand, and what is wrong in a line."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.data import DataError, describing, open_dataset
from parity_tests.datasets import noise, save

H, W = 12, 20
EXPECTED = np.zeros((H, W), np.uint8)
EXPECTED[2:6, 3:9] = 1
EXPECTED[4:8, 6:12] = 2
"""A cat of 4x6 pixels, and a dog over it."""
CLASSES = ("background", "cat", "dog")


def rectangle(x0: int, y0: int, x1: int, y1: int) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def coco(root: Path, *, runs: bool = False, crowd: bool = False) -> str:
    flat = lambda points: [[value for point in points for value in point]]  # noqa: E731
    dog: object = flat(rectangle(6, 4, 12, 8))
    if runs:
        mask = np.zeros((H, W), bool)
        mask[4:8, 6:12] = True
        stored = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(stored)) + 1
        dog = {"size": [H, W], "counts": np.diff([0, *edges, stored.size]).tolist()}
    shapes = [
        {"image_id": 7, "category_id": 30, "segmentation": flat(rectangle(3, 2, 9, 6)), "iscrowd": 0},
        {"image_id": 7, "category_id": 40, "segmentation": dog, "iscrowd": int(crowd)},
    ]
    names = [{"id": 40, "name": "dog"}, {"id": 30, "name": "cat"}]
    images = [{"id": 7, "file_name": "deep/i0.jpg", "height": H, "width": W}]
    (root / "a.json").write_text(json.dumps({"images": images, "annotations": shapes, "categories": names}))
    return "a.json"


def labelme(root: Path) -> str:
    shapes = [  # Pillow's polygons hold their corners, so they end a pixel earlier
        {"label": "cat", "points": rectangle(3, 2, 8, 5), "shape_type": "polygon"},
        {"label": "dog", "points": [[6, 4], [11, 7]], "shape_type": "rectangle"},
    ]
    (root / "drawn").mkdir()
    said = {"imagePath": "..\\other\\i0.jpg", "imageHeight": H, "imageWidth": W, "shapes": shapes}
    (root / "drawn" / "i0.json").write_text(json.dumps(said))
    return "drawn"


def labelme_mask(root: Path, points: object = ((6, 4), (11, 7)), size: tuple[int, int] = (4, 6)) -> str:
    """Masks as labelme writes them: pictures of what lies from one corner to the other, which is among it."""
    out = io.BytesIO()
    Image.fromarray(np.full(size, 1, np.uint8)).save(out, "PNG")
    shape = {"label": "dog", "shape_type": "mask", "mask": base64.b64encode(out.getvalue()).decode(), "points": points}
    said = json.loads((root / labelme(root) / "i0.json").read_text())
    said["shapes"][1] = shape
    (root / "drawn" / "i0.json").write_text(json.dumps(said))
    return "drawn"


def cvat(root: Path) -> str:
    points = ";".join(f"{x},{y}" for x, y in rectangle(3, 2, 8, 5))
    (root / "a.xml").write_text(
        "<annotations><meta><task><labels><label><name>cat</name></label><label><name>dog</name></label></labels></task>"
        f'</meta><image id="0" name="i0.jpg" width="{W}" height="{H}">'
        '<mask label="dog" z_order="1" rle="0,24" left="6" top="4" width="6" height="4"/>'
        f'<polygon label="cat" z_order="0" points="{points}"/></image></annotations>'
    )
    return "a.xml"


def described(root: Path, make: Callable[..., str], text: str = "", **how: bool) -> Path:
    save(root / "images" / "i0.png", noise(0, (H, W, 3)))
    (root / "dataset.toml").write_text(f'annotations = "{make(root, **how)}"\n{text}')
    return root


@pytest.mark.parametrize(
    ("make", "how"), [(coco, {}), (coco, {"runs": True}), (labelme, {}), (labelme_mask, {}), (cvat, {})]
)
def test_drawings_are_label_maps(
    make: Callable[..., str], how: dict[str, bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = open_dataset(described(tmp_path, make, **how))
    assert data.classes == {"score": CLASSES} and data.ids == ("i0",)
    assert np.array_equal(data.read("i0").labels["score"], EXPECTED)
    assert run(["data", "--check", str(tmp_path)]) == 0
    assert "nothing looks off" in capsys.readouterr().out


def test_a_crowd_does_not_count_and_classes_can_be_chosen(tmp_path: Path) -> None:
    found = open_dataset(described(tmp_path, coco, crowd=True)).read("i0").labels["score"]
    assert np.array_equal(found, np.where(EXPECTED == 2, 255, EXPECTED))
    described(tmp_path, coco, 'classes = ["ground", "dog"]\nothers = "void"\n')
    found = open_dataset(tmp_path).read("i0").labels["score"]
    assert np.array_equal(found, np.array([0, 255, 1])[EXPECTED])
    described(tmp_path, coco, 'classes = ["ground", "dog"]\n')
    with pytest.raises(DataError, match=r"a.json: deep/i0.jpg, shape 1: 'cat' is no class"):
        open_dataset(tmp_path).read("i0")


def test_packed_run_lengths_are_those_of_pycocotools(tmp_path: Path) -> None:
    mask = pytest.importorskip("pycocotools.mask")
    described(tmp_path, coco)
    drawn = (noise(5, (H, W)) > 200).astype(np.uint8)
    packed = mask.encode(np.asfortranarray(drawn))
    document = json.loads((tmp_path / "a.json").read_text())
    counts = {"size": [H, W], "counts": packed["counts"].decode()}
    document["annotations"] = [{"image_id": 7, "category_id": 40, "segmentation": counts}]
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert np.array_equal(open_dataset(tmp_path).read("i0").labels["score"], drawn * 2)


@pytest.mark.parametrize("count", [255, 256, 300])  # class 255 would be the label that does not count
def test_more_categories_than_a_byte_has_labels_for(count: int, tmp_path: Path) -> None:
    described(tmp_path, coco)
    document = json.loads((tmp_path / "a.json").read_text())
    document["categories"] += [{"id": 100 + i, "name": f"c{i}"} for i in range(count - 2)]
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"{count + 1} classes; expected at most 255(.|\n)*others"):
        open_dataset(tmp_path)
    with describing('classes = ["background", "cat", "dog"]', 'others = "void"'):
        assert set(np.unique(open_dataset(tmp_path).read("i0").labels["score"])) == {0, 1, 2}


def test_a_circle_of_labelme_has_its_centre_and_a_point_of_its_rim(tmp_path: Path) -> None:
    described(tmp_path, labelme)
    place = tmp_path / "drawn" / "i0.json"
    said = json.loads(place.read_text())
    said["shapes"] = [{"label": "cat", "points": [[9, 5], [9 + 2.4, 5 - 3.2]], "shape_type": "circle"}]
    place.write_text(json.dumps(said))
    found = open_dataset(tmp_path).read("i0").labels["score"] == 1
    far = np.hypot(*np.meshgrid(np.arange(W) - 9, np.arange(H) - 5))
    assert found[far <= 3.5].all() and not found[far > 4.5].any()


def test_what_cvat_says_of_a_whole_image_draws_nothing(tmp_path: Path) -> None:
    described(tmp_path, cvat)
    place = tmp_path / "a.xml"
    place.write_text(place.read_text().replace("<polygon", '<tag label="dog" source="manual"/><polygon'))
    assert np.array_equal(open_dataset(tmp_path).read("i0").labels["score"], EXPECTED)


TURNED = {
    "a box": '<box label="cat" xtl="6" ytl="4" xbr="12" ybr="7" rotation="90"/>',
    "an ellipse": '<ellipse label="cat" cx="9" cy="5.5" rx="3" ry="1.5" rotation="90"/>',
}


@pytest.mark.parametrize("kind", TURNED)
def test_shapes_that_cvat_turned(kind: str, tmp_path: Path) -> None:
    """A quarter turn changes height and width about the same middle, and an eighth makes neither of both."""
    described(tmp_path, cvat)
    maps = []
    for degrees in ("90", "0", "45", "-45"):
        shape = TURNED[kind].replace('rotation="90"', f'rotation="{degrees}"')
        text = f'<annotations><image name="i0.jpg" width="{W}" height="{H}">{shape}</image></annotations>'
        (tmp_path / "a.xml").write_text(text)
        maps.append(open_dataset(tmp_path).read("i0").labels["score"])
    across, down = (
        (rows.max() - rows.min(), columns.max() - columns.min()) for rows, columns in map(np.nonzero, maps[:2])
    )
    assert across == (6, 3) and down == (3, 6)
    falling, rising = (np.corrcoef(*np.nonzero(each))[0, 1] for each in maps[2:])
    assert falling > 0.3 and rising < -0.3  # clockwise as one sees it: the right end goes down


BROKEN: dict[str, tuple[Callable[..., str], str, str, str]] = {
    "no JSON": (coco, "a.json", "", "not JSON"),
    "other JSON": (coco, "a.json", "[1]", "not COCO's instances"),
    "no such category": (coco, "a.json", '"category_id": 77', "KeyError 77"),
    "ids as text": (coco, "a.json", '"id": "7"', "no shape is of an image in it: image_id 7 is none's id"),
    "a line": (coco, "a.json", '"segmentation": [[1, 2, 3, 4]]', "fewer than three points"),
    "runs of another size": (
        coco,
        "a.json",
        '"segmentation": {"size": [3, 3], "counts": [9]}',
        r"run lengths of \[3, 3\]",
    ),
    "runs too short": (coco, "a.json", '"segmentation": {"size": [12, 20], "counts": [9]}', "do not fill the image"),
    "not finite": (coco, "a.json", '"segmentation": [[1, 2, NaN, 4, 5, 6]]', "beyond any image"),
    "far away": (coco, "a.json", '"segmentation": [[0, 0, 1e8, 0, 1e8, 1e8]]', "beyond any image"),
    "a long way": (
        coco,
        "a.json",
        '"segmentation": [[0, 0, 3e6, 0, 0, 3e6]]',
        "an outline of more than 4,000,000 pixels",
    ),
    "text too short": (coco, "a.json", '"segmentation": {"size": [12, 20], "counts": "9"}', "do not fill the image"),
    "no text": (coco, "a.json", '"segmentation": {"size": [12, 20], "counts": ""}', "do not fill the image"),
    "text cut": (coco, "a.json", '"segmentation": {"size": [12, 20], "counts": "oo"}', "was cut short"),
    "endless number": (
        coco,
        "a.json",
        f'"segmentation": {{"size": [12, 20], "counts": "{"o" * 20}"}}',
        "no run lengths",
    ),
    "parts of pixels": (coco, "a.json", '"segmentation": {"size": [12, 20], "counts": [119.5, 120.5]}', "do not fill"),
    "huge": (coco, "a.json", '"height": 99999999', "an image of 99999999x20"),
    "endless": (coco, "a.json", '"height": 1e999', "OverflowError"),
    "endless in labelme": (labelme, "drawn/i0.json", '"imageHeight": 1e999', "not labelme's"),
    "categories of unlike ids": (
        coco,
        "a.json",
        '"categories": [{"id": "a", "name": "x"}, {"id": 30, "name": "cat"}, {"id": 40, "name": "y"}]',
        "not COCO's instances: TypeError",
    ),
    "XML with entities": (cvat, "a.xml", "<!DOCTYPE x [<!ENTITY a 'b'>]><annotations/>", "document type"),
    "no XML": (cvat, "a.xml", "<annotations>", "not CVAT's for images"),
    "mask outside": (cvat, "a.xml", 'left="19"', "reaches out of its image"),
    "a point": (labelme, "drawn/i0.json", '"shape_type": "point"', "a point of 4 points covers no pixels"),
}


@pytest.mark.parametrize(
    ("points", "size", "said"),
    [
        ([[17, 4], [22, 7]], (4, 6), "reaches out of its image"),
        ([[6, 4], [10, 7]], (4, 6), "a mask of"),
        ([[6, 4], [5, 7]], (4, 6), "a mask of"),
        ([[6, 4]], (4, 6), "cannot be drawn"),
        ([[1e999, 4], [11, 7]], (4, 6), "cannot be drawn"),
    ],
)
def test_masks_that_do_not_fit(points: object, size: tuple[int, int], said: str, tmp_path: Path) -> None:
    described(tmp_path, lambda root: labelme_mask(root, points, size))
    with pytest.raises(DataError, match=said):
        open_dataset(tmp_path).read("i0")


@pytest.mark.parametrize("mask", ["", "!", "AAAA", 3, None])
def test_masks_that_are_no_pictures(mask: object, tmp_path: Path) -> None:
    described(tmp_path, labelme_mask)
    path = tmp_path / "drawn" / "i0.json"
    said = json.loads(path.read_text())
    said["shapes"][1]["mask"] = mask
    path.write_text(json.dumps(said))
    with pytest.raises(DataError, match="cannot be drawn"):
        open_dataset(tmp_path).read("i0")


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_said_in_a_line(kind: str, tmp_path: Path) -> None:
    import re

    make, name, piece, said = BROKEN[kind]
    described(tmp_path, make)
    text = (tmp_path / name).read_text()
    key = re.match(r'"?[\w]+"?[:=]', piece)
    if key is None:
        text = piece
    else:
        value = r'(\{[^{}]*\}|\[\[.*?\]\]|\[\{.*?\}\]|"[^"]*"|\d+)'
        text = re.sub(re.escape(key[0]) + r"\s*" + value, lambda _: piece, text, count=1)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        open_dataset(tmp_path).read("i0")
    assert name.rpartition("/")[2] in str(caught.value)
