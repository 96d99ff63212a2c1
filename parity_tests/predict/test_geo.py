"""Labels that lie where their image lies, and their outlines, put back together by other means."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.errors import ImageError
from fcn_port.predict.geo import georeference
from parity_tests.predict.output_nets import NAMES, files_of

rasterio = pytest.importorskip("rasterio", reason="rasterio: pip install fcn-port[geo]")
SIZE = (24, 30)


def blocks() -> np.ndarray:
    """Blocks of 6 x 6 pixels of one colour each: parts that touch at sides and at corners, and a hole."""
    labels = np.random.default_rng(2).integers(0, 3, (4, 5)).repeat(6, axis=0).repeat(6, axis=1)
    labels[8:12, 8:12] = 2
    labels[9:11, 9:11] = 1
    return labels


LABELS = blocks()
IMAGE = (np.eye(3, dtype=np.uint8) * 200)[LABELS]


@pytest.fixture
def orthophoto(tmp_path: Path) -> Path:
    from rasterio.transform import from_origin

    path = tmp_path / "ortho.tif"
    profile = {
        "driver": "GTiff",
        "height": SIZE[0],
        "width": SIZE[1],
        "count": 3,
        "dtype": "uint8",
        "photometric": "RGB",
    }
    with rasterio.open(path, "w", crs="EPSG:32633", transform=from_origin(500_000, 5_300_000, 2, 2), **profile) as out:
        out.write(IMAGE.transpose(2, 0, 1))
    return path


def predict(path: Path, *options: str) -> int:
    (path.parent / "names.txt").write_text("\n".join(NAMES))
    more = ["-o", str(path.parent / "out"), "--classes", str(path.parent / "names.txt"), *options]
    return run(["predict", *files_of("scores", path.parent), str(path), *more])


@pytest.mark.parametrize("name", ["b\udcfccher.tif", "http:x.tif", "GTIFF_DIR:1:ortho.tif", "a?b#c.tif"], ids=ascii)
def test_a_name_is_no_address(name: str, orthophoto: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are not UTF-8, and those in which GDAL and rasterio see addresses and parts of other files."""
    monkeypatch.chdir(orthophoto.parent)
    orthophoto.rename(name)
    found = georeference(Path(name), SIZE)
    assert found is not None and found.transform.c == 500_000


def test_a_geotiff_keeps_its_place(orthophoto: Path) -> None:
    assert predict(orthophoto, "--geotiff") == 0
    with rasterio.open(orthophoto) as before, rasterio.open(orthophoto.parent / "out" / "ortho.labels.tif") as after:
        assert after.crs == before.crs and after.transform == before.transform
        assert np.array_equal(after.read(1), LABELS)
        assert after.colormap(1)[1] == (128, 0, 0, 255)
        assert [each["name"] for each in json.loads(after.tags()["Classes"])] == list(NAMES)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6])
def test_pixels_that_were_turned_have_no_place(orthophoto: Path, orientation: int) -> None:
    """Also those that have the height and width of before: half a turn, mirror images, and squares."""
    from fcn_port.predict.geo import georeference
    from fcn_port.predict.images import read_image

    with Image.open(orthophoto) as opened:
        square, tags = opened.crop((0, 0, 24, 24)), opened.tag_v2  # type: ignore[attr-defined]
        tags[0x0100], tags[0x0112] = 24, orientation  # ImageWidth, Orientation
        square.save(orthophoto, tiffinfo=tags)
    assert read_image(orthophoto).shape == (24, 24, 3)
    if orientation == 1:
        assert georeference(orthophoto, (24, 24)) is not None
        return
    with pytest.raises(ImageError, match="turned by its EXIF orientation"):
        georeference(orthophoto, (24, 24))


def area(ring: list[list[float]]) -> float:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) / 2


def test_polygons_in_pixels_cover_each_class(tmp_path: Path) -> None:
    path = tmp_path / "plain.png"
    Image.fromarray(IMAGE).save(path)
    assert predict(path, "--polygons") == 0
    found = json.loads((tmp_path / "out" / "plain.polygons.geojson").read_text())["features"]
    for label in range(3):
        own = [each for each in found if each["properties"]["label"] == label]
        assert {each["properties"]["name"] for each in own} == {NAMES[label]}
        rings = [ring for each in own for ring in each["geometry"]["coordinates"]]
        assert sum(map(area, rings)) == (label == LABELS).sum()  # holes turn the other way, and count against it
    assert any(len(each["geometry"]["coordinates"]) > 1 for each in found)
    assert max(x for each in found for ring in each["geometry"]["coordinates"] for x, _ in ring) == SIZE[1]


def test_polygons_on_the_map_give_the_labels_back(orthophoto: Path) -> None:
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom

    assert predict(orthophoto, "--polygons") == 0
    found = json.loads((orthophoto.parent / "out" / "ortho.polygons.geojson").read_text())["features"]
    with rasterio.open(orthophoto) as image:
        crs, place = image.crs, image.transform
    longitudes = [x for each in found for ring in each["geometry"]["coordinates"] for x, _ in ring]
    assert min(longitudes) > 14.99 and max(longitudes) < 15.01  # zone 33's middle
    shapes = [(transform_geom("EPSG:4326", crs, each["geometry"]), each["properties"]["label"]) for each in found]
    assert np.array_equal(rasterize(shapes, out_shape=SIZE, transform=place, fill=9), LABELS)
    moved = rasterize(shapes, out_shape=SIZE, transform=place * place.translation(1, 0), fill=9)
    assert not np.array_equal(moved, LABELS)


def test_an_image_without_a_place(orthophoto: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = orthophoto.parent / "in"
    folder.mkdir()
    Image.fromarray(IMAGE).save(folder / "plain.png")
    Image.fromarray(IMAGE).save(folder / "plain2.tif")
    orthophoto.rename(folder / "ortho.tif")
    args = ["predict", *files_of("scores", orthophoto.parent), str(folder), "-o", str(orthophoto.parent / "out")]
    assert run([*args, "--geotiff"]) == 1
    err = capsys.readouterr().err
    assert "plain.png: no GeoTIFF" in err and "plain2.tif: no GeoTIFF" in err and "ortho.tif: no" not in err
    made = {path.name for path in (orthophoto.parent / "out").iterdir()}
    assert {"plain.labels.png", "plain2.labels.png", "ortho.labels.tif"} <= made
    assert not {"plain.labels.tif", "plain2.labels.tif"} & made


def test_all_else_is_written_of_one_image_without_a_place(orthophoto: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, out = orthophoto.parent / "plain.png", orthophoto.parent / "out"
    Image.fromarray(IMAGE).save(plain)
    more = ["--geotiff", "--areas", str(out / "areas.csv"), "--coco", str(out / "coco.json"), "--json"]
    assert run(["predict", *files_of("scores", orthophoto.parent), str(plain), "-o", str(out), *more]) == 1
    said = capsys.readouterr()
    assert "1 of 1 images could not be done" in said.err and "plain.png: no GeoTIFF" in said.err
    (image,) = json.loads(said.out)["images"]
    assert "no GeoTIFF" in image["problem"] and image["outputs"][0]["labels"].endswith("plain.labels.png")
    assert "plain.png" in (out / "areas.csv").read_text() and json.loads((out / "coco.json").read_text())


def test_a_place_is_read_of_geotiffs_only(tmp_path: Path) -> None:
    """A .tif that is a list of GDAL's of other files is none."""
    from fcn_port.predict.geo import georeference

    (tmp_path / "x.tif").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    assert georeference(tmp_path / "x.tif", (1, 1)) is None
