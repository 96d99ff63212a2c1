"""The grey of a file is OpenCV's, and so Caffe's: a JPEG's own luminance, a PNG's by libpng, in everything we do."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fcn_port
from converters import CaffeNet, parse_prototxt
from converters.formats import Datum, read_solver
from fcn_port.data import net_inputs, open_dataset
from fcn_port.data.images import read_grey
from fcn_port.data.inputs import input_kinds
from fcn_port.data.stored import stored_grey
from fcn_port.loading import attach
from fcn_port.predict.greys import grey_of_colours
from fcn_port.predict.image_lists import gather
from fcn_port.predict.images import picture_of, read_source, to_input
from fcn_port.predict.running import kind_of
from fcn_port.predict.seeing import see
from fcn_port.predict.value_map import ValueMap
from fcn_port.serving.records import ServerLimits
from fcn_port.serving.uploads import pixels_of
from fcn_port.training.prepare import prepare
from fcn_port.training.source import source_of_solver
from parity_tests.datasets import make_voc, noise
from parity_tests.training.test_caffes_own_settings import camvid
from weights.card import Card
from weights.records import InputRecipe, Preprocessing

cv2 = pytest.importorskip("cv2")
COLOURS = noise(5, (22, 31, 3))
COLOURS[:, ::2], COLOURS[3::4] = (255, 0, 0), (0, 0, 255)
RECIPE = Preprocessing((InputRecipe("data", "color", "file", (0.0,)),))
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 1, 22, 31] } } }
layer { name: "map" type: "Power" bottom: "data" top: "map" power_param { scale: 1 } }
"""


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def jpeg(**settings: object) -> bytes:
    return encoded(Image.fromarray(COLOURS), "JPEG", **settings)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    return jpeg(exif=exif)


def told(body: bytes, name: bytes, value: bytes) -> bytes:
    """A PNG with a chunk after its header."""
    chunk = struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))
    return body[:33] + chunk + body[33:]


PHOTO = Image.fromarray(COLOURS)
GREY, PNG = PHOTO.getchannel(1), encoded(PHOTO, "PNG")
DEEP = Image.fromarray(noise(6, (9, 8)).astype(np.uint16) * 251)
FILES: dict[str, bytes] = {
    **{f"subsampling {each}": jpeg(subsampling=each) for each in range(3)},
    **{f"turned {each}": turned(each) for each in range(2, 9)},
    "progressive": jpeg(progressive=True),
    "RGB in a JPEG": jpeg(keep_rgb=True),
    "CMYK": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "grey JPEG": encoded(GREY, "JPEG"),
    "two in a JPEG": encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(180)]),
    **{kind: encoded(PHOTO, kind) for kind in ("PNG", "BMP", "TIFF", "PPM", "WEBP")},
    "PNG with alpha": encoded(Image.merge("RGBA", (*PHOTO.split(), GREY)), "PNG"),
    "sRGB PNG": told(PNG, b"sRGB", b"\0"),
    "PNG with a gamma": told(PNG, b"gAMA", struct.pack(">I", 30000)),
    "PNG of linear light": told(PNG, b"gAMA", struct.pack(">I", 97000)),
    "palette with a gamma": told(encoded(PHOTO.quantize(9), "PNG"), b"gAMA", struct.pack(">I", 45455)),
    **{f"palette {kind}": encoded(PHOTO.quantize(9), kind) for kind in ("PNG", "BMP", "GIF")},
    **{f"grey {kind}": encoded(GREY, kind) for kind in ("PNG", "BMP")},
    "LA": encoded(Image.merge("LA", (GREY, PHOTO.getchannel(0))), "PNG"),
    **{f"16 bits {kind}": encoded(DEEP, kind) for kind in ("PNG", "TIFF")},
    "1 bit": encoded(GREY.convert("1"), "PNG"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_s_grey_is_what_opencv_reads(name: str, tmp_path: Path) -> None:
    """As a viewer shows it, and as data sets have it, where nothing is turned; the colours are beside."""
    body = np.frombuffer(FILES[name], np.uint8)
    found = picture_of(FILES[name], kind="grey")
    assert np.array_equal(found[:, :, 3], cv2.imdecode(body, cv2.IMREAD_GRAYSCALE))
    assert np.array_equal(found[:, :, :3], picture_of(FILES[name]))
    (tmp_path / "x").write_bytes(FILES[name])
    stored = cv2.imdecode(body, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION)
    assert np.array_equal(read_grey(tmp_path / "x")[:, :, 3], stored)


def test_the_grey_of_colours_was_another() -> None:
    """The way before: by 16 where colours are strong, and one step in nearly every PNG."""
    for name, least in (("subsampling 2", 12), ("PNG", 1), ("sRGB PNG", 40)):
        found = picture_of(FILES[name], kind="grey")
        before = np.asarray(Image.fromarray(np.array(found[:, :, :3])).convert("L")).astype(int)
        assert np.abs(found[:, :, 3] - before).max() >= least, name


def test_an_image_in_memory_is_grey_as_cvtcolor_makes_it() -> None:
    assert np.array_equal(grey_of_colours(COLOURS), cv2.cvtColor(COLOURS, cv2.COLOR_RGB2GRAY))
    values = np.array([[[0.5, 10.0, 300.0]]])
    assert to_input(values, RECIPE.inputs[0]).item() == pytest.approx(0.299 * 0.5 + 0.587 * 10 + 0.114 * 300)


def net() -> CaffeNet:
    """A net whose output is its grey input, as a map of values."""
    made = CaffeNet(parse_prototxt(NET)).eval()
    attach(made, Card(preprocessing=RECIPE))
    return made


def seen(given: object) -> np.ndarray:
    found = see(net(), given)[""]  # type: ignore[arg-type]
    assert isinstance(found, ValueMap) and np.array_equal(found.image, picture_of(FILES["subsampling 2"]))
    return found.values[0]


def of_data_set(path: Path) -> np.ndarray:
    make_voc(path.parent / "voc", ["a"])
    (path.parent / "voc" / "JPEGImages" / "a.jpg").write_bytes(path.read_bytes())
    (path.parent / "voc" / "SegmentationClass" / "a.png").write_bytes(encoded(GREY.point(lambda _: 1), "PNG"))
    data = open_dataset(path.parent / "voc", split="val")
    return net_inputs(data, data.read("a", kinds=input_kinds(RECIPE)), RECIPE)["data"].numpy()[0, 0]


def trained_on(path: Path, *, setting: str, size: str = "") -> np.ndarray:
    solver = camvid(path.parent, transform=setting)
    for number in range(3):
        (path.parent / "set" / "JPEGImages" / f"i{number}.jpg").write_bytes(path.read_bytes())
        labels = Image.fromarray(np.zeros(COLOURS.shape[:2], np.uint8))
        labels.save(path.parent / "set" / "SegmentationClass" / f"i{number}.png")
    text = (path.parent / "net.prototxt").read_text()
    (path.parent / "net.prototxt").write_text(text.replace('source: "x"', f'source: "x" {size}'))
    data = open_dataset(path.parent / "set", split="train")
    made = prepare(source_of_solver(read_solver(solver)), data, workers=0)
    return next(made.feed.batches()).blobs["data"].numpy()[0, 0]


WAYS: dict[str, Callable[[Path], np.ndarray]] = {
    "prepare": lambda path: fcn_port.prepare(net(), path).numpy()[0, 0],
    "see": seen,
    "predict": lambda path: seen(read_source(gather([path])[0], kind=kind_of(net()))),
    "serve": lambda path: seen(pixels_of(path.read_bytes(), ServerLimits(), kind=kind_of(net()))),
    "evaluate": of_data_set,
    "train": lambda path: trained_on(path, setting="transform_param { force_gray: true }"),
    "LMDB": lambda path: to_input(stored_grey(Datum(None, path.read_bytes(), 0), path), RECIPE.inputs[0]).numpy()[0, 0],
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_grey_net_sees_a_jpeg_s_own_luminance(way: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(FILES["subsampling 2"])
    with torch.no_grad():
        assert np.array_equal(WAYS[way](path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


def test_grey_is_made_before_an_image_is_brought_to_a_size(tmp_path: Path) -> None:
    """ReadImageToCVMat of Caffe's io.cpp: imread of grey, and then cv::resize."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(FILES["subsampling 2"])
    found = trained_on(path, setting="", size="is_color: false new_height: 9 new_width: 14")
    assert np.array_equal(found, cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (14, 9)))
