"""Pictures from anywhere: a closed list of formats, our error whatever Pillow raises, memory as the file's size."""

from __future__ import annotations

import ast
import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from torch import nn

from converters.errors import CaffeFormatError
from converters.safety.limits import VARIABLE
from fcn_port.cli import run
from fcn_port.data import DataError
from fcn_port.data.files import read_label_png, read_rgb
from fcn_port.data.masks import read_mask
from fcn_port.errors import ImageError, ImageMemoryError
from fcn_port.evaluation.submission import image_sizes
from fcn_port.predict import prediction
from fcn_port.predict.image_lists import gather
from fcn_port.predict.images import picture_of, read_image
from fcn_port.predict.pictures import FORMATS, opened_picture
from fcn_port.predict.prediction import predict_all
from fcn_port.training.losses.infogain import read_matrix
from parity_tests.datasets import noise
from parity_tests.formats.test_bad_files import mutate
from parity_tests.verbs import SAMPLE

ROOT = Path(__file__).parents[2]
PIXELS = noise(1, (24, 32, 3))


def encoded(kind: str, pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    """A picture's file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def eps() -> bytes:
    """An EPS that would need Ghostscript to look at."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n{} loop\nshowpage\n%%EOF\n"


def dds() -> bytes:
    """A DDS of a pixel format that Pillow does not know: NotImplementedError."""
    return b"DDS " + struct.pack("<7I", 124, 0x1007, 8, 8, 0, 0, 0) + bytes(44) + struct.pack("<2I", 32, 4) + bytes(60)


def grey_png(width: int, height: int) -> bytes:
    """A PNG of so many pixels, all 0, in a few kilobytes for each million."""
    rows = zlib.compress(bytes((1 + width) * height))
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_the_formats_that_are_read(tmp_path: Path, kind: str) -> None:
    exact = {} if kind != "WEBP" else {"lossless": True}
    (tmp_path / "picture").write_bytes(encoded(kind, **exact))
    found = read_image(tmp_path / "picture")
    assert found.shape == PIXELS.shape
    if kind not in ("JPEG", "GIF"):
        np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.parametrize("make", [eps, dds, lambda: b"", lambda: b"GIF89a"], ids=["eps", "dds", "empty", "cut"])
def test_what_is_not_on_the_list_is_not_opened(
    tmp_path: Path, make: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a file is called; an EPS would start a program."""

    def started(*args: object, **kwargs: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    path = tmp_path / "photo.jpg"
    path.write_bytes(make())
    with pytest.raises(ImageError, match=r"photo\.jpg: not an image that can be read"):
        read_image(path)
    for read in (read_rgb, read_label_png):
        with pytest.raises(DataError, match=r"photo\.jpg: not an image that can be read"):
            read(path)
    with pytest.raises(DataError, match=r"photo\.jpg: not an image"):
        image_sizes({"photo": path})


def test_image_open_is_called_in_one_place() -> None:
    """And nowhere without the list."""
    calls = {
        str(path.relative_to(ROOT))
        for package in ("converters", "weights", "fcn_port", "docs")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("Image.open", "PIL.Image.open")
    }
    assert calls == {"fcn_port/predict/pictures.py"}


def test_a_folder_with_other_pictures_is_done_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.eps").write_bytes(eps())
    (tmp_path / "2.dds").write_bytes(dds())
    (tmp_path / "3.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(40))
    if features.check("avif"):
        (tmp_path / "4.avif").write_bytes(encoded("AVIF")[:-200])
    (tmp_path / "5.png").write_bytes(encoded("PNG"))
    monkeypatch.setattr("fcn_port.predict.prediction.read_all", lambda net, pixels, *given, **options: pixels)
    found = {each.source.path.name: each for each in predict_all(nn.Identity(), gather([tmp_path]))}
    assert found.pop("5.png").seen is not None and len(found) >= 3
    for name, each in found.items():
        assert each.seen is None and f"{name}: not an image that can be read: none of JPEG" in str(each.problem)


@pytest.mark.parametrize("as_file", [True, False])
def test_an_empty_picture_is_said_to_be_empty(tmp_path: Path, as_file: bool) -> None:
    """As a copy that failed leaves one: it was said to be of none of the formats."""
    (tmp_path / "x.jpg").touch()
    said = f"{tmp_path / 'x.jpg'}: not an image that can be read: the file is empty"
    with pytest.raises(ImageError) as caught, opened_picture(tmp_path / "x.jpg" if as_file else b""):
        pass
    assert str(caught.value) == (said if as_file else "not an image that can be read: no bytes")


def test_weights_videos_and_documents_in_a_folder_are_none_of_its_images(tmp_path: Path) -> None:
    for name in ("net.caffemodel.h5", "clip.mpg", "clip.mp4", "paper.pdf", "notes.txt", "5.png", "6.PSD"):
        (tmp_path / name).write_bytes(encoded("PNG"))
    assert [source.path.name for source in gather([tmp_path])] == ["5.png", "6.PSD"]


def test_a_verb_says_nothing_of_what_pillow_warns_programmers_of(tmp_path: Path) -> None:
    picture = Image.fromarray(noise(0, (6, 5, 3))).quantize(16)
    picture.save(tmp_path / "a.png", transparency=bytes([0, 255, 128]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(["predict", str(SAMPLE), str(tmp_path / "a.png"), "-o", str(tmp_path)]) == 0


@pytest.mark.parametrize("kind", ["color", "bands", "grey"])
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0\xb7\0\0\0\x08", b"Exif\0\0MM\0*\0\0\xff\xff", b"", b"\xff" * 40], ids=str
)
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_data_cost_no_picture(format_: str, exif: bytes, kind: str) -> None:
    """As with viewers and OpenCV, and so Caffe, which see the pixels as they lie then."""
    whole, damaged = io.BytesIO(), io.BytesIO()
    picture = Image.fromarray(noise(0, (6, 5, 3)))
    picture.save(whole, format_)
    picture.save(damaged, format_, exif=exif)
    assert np.array_equal(picture_of(damaged.getvalue(), kind=kind), picture_of(whole.getvalue(), kind=kind))


@pytest.mark.parametrize("exception", [NotImplementedError, RuntimeError, IndexError, struct.error, KeyError])
def test_whatever_pillow_raises_is_our_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exception: type[Exception]
) -> None:
    def fail(*args: object) -> None:
        raise exception("inside")

    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(ImageError, match=r"a\.png: not an image that can be read: '?inside"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "header", [b"{'descr': '<f4', 'shape': (2, 2), \n", b"{'descr': 'O', 'shape': (1,)}\n", b"((((\n"]
)
def test_a_damaged_header_of_an_array_is_our_error(tmp_path: Path, header: bytes) -> None:
    """The first one makes NumPy raise tokenize.TokenError, which is no kind of the others."""
    path = tmp_path / "m.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(16))
    with pytest.raises(ImageError, match=r"m\.npy: not an array that can be read"):
        read_image(path)
    with pytest.raises(DataError, match="not an array that can be read"):
        read_mask(path)
    with pytest.raises(CaffeFormatError, match=r"m\.npy: not an array that can be read"):
        read_matrix(path)


def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png: .* a pipe or a device"):
        read_image(tmp_path / "a.png")


LIMITED = """
import resource, sys
from fcn_port.errors import ImageError, ImageMemoryError
from fcn_port.predict.images import picture_of, read_image
read_image(sys.argv[1])
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + (90 << 20), now + (90 << 20)))
for path in sys.argv[2:]:
    try:
        read_image(path, frame=int("animated" in path))
    except ImageError as error:
        assert not isinstance(error.__cause__, MemoryError)
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    """100 million pixels, fewer than Pillow's own limit, in 100 kB; and 300 bytes with a chunk that says 2 GB."""
    (tmp_path / "small.png").write_bytes(grey_png(10, 10))
    (tmp_path / "bomb.png").write_bytes(grey_png(10_000, 10_000))
    raw = encoded("PNG")
    at = raw.index(b"IDAT") - 4
    (tmp_path / "chunk.png").write_bytes(raw[:at] + b"\x7f\0\0\0" + raw[at + 4 :])
    paths = [tmp_path / name for name in ("small.png", "bomb.png", "chunk.png")]
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "10000 x 10000 pixels would take 400640000 bytes" in done.stdout, done.stderr
    assert VARIABLE in done.stdout and done.returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
@pytest.mark.parametrize("kind", ["gif", "png"])
def test_an_animation_is_no_way_around_the_limit(kind: str, tmp_path: Path) -> None:
    """A later picture of one is made of those before, which are decoded on the way to it."""
    paths = [tmp_path / f"{name}.{kind}" for name in ("small", "animated")]
    for path, side in zip(paths, (8, 9000), strict=True):
        first, second = (Image.new("L", (side, side), colour) for colour in (0, 1))
        first.save(path, save_all=True, append_images=[second])
    assert paths[1].stat().st_size < 1 << 20
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "9000 x 9000 pixels would take 324576000 bytes" in done.stdout, done.stderr


def test_the_limit_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large.png").write_bytes(grey_png(10_000, 1_900))
    with pytest.raises(ImageError, match="10000 x 1900 pixels"):
        read_image(tmp_path / "large.png")
    monkeypatch.setenv(VARIABLE, "2")
    with opened_picture(tmp_path / "large.png") as image:
        assert image.size == (10_000, 1_900)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damage_is_our_error_or_harmless(tmp_path: Path) -> None:
    r = random.Random(0)
    sound = [encoded(kind) for kind in FORMATS] + [encoded("PNG", PIXELS[:, :, 0]), encoded("TIFF", compression="lzma")]
    for _ in range(500):
        raw = mutate(r, r.choice(sound))
        (tmp_path / "x").write_bytes(raw)
        try:
            read_image(tmp_path / "x")
        except ImageError as error:
            assert str(error).startswith(str(tmp_path / "x"))


def test_a_picture_without_memory_for_it_says_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of the places that take memory, with the exit status of what the machine cannot do."""
    path = tmp_path / "a.png"
    Image.new("RGB", (50, 40)).save(path)

    def refuse(*arguments: object, **settings: object) -> None:
        raise MemoryError

    for name in ("PngImagePlugin.PngImageFile.load", "Image.Image.crop"):
        with monkeypatch.context() as patch:
            patch.setattr(f"PIL.{name}", refuse)
            with pytest.raises(ImageMemoryError, match=r"a\.png: not enough memory for 50 x 40 pixels"):
                read_image(path)
            assert run(["predict", SAMPLE, str(path), "-o", str(tmp_path)]) == 1


def test_room_for_the_results_of_tiles_is_asked_for_before_they_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "b.png")
    monkeypatch.setattr(prediction, "_RESULT_BYTES", 1 << 40)
    monkeypatch.setattr(prediction, "read_all", pytest.fail)
    assert run(["predict", SAMPLE, str(tmp_path / "a.png"), "--tile", "600", "-o", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"50 x 40 pixels take {2000 << 40:,} bytes" in said and "in pieces" in said
    assert run(["predict", SAMPLE, str(tmp_path), "--tile", "600", "-o", str(tmp_path)]) == 1
    assert "2 of 2 images could not be done" in capsys.readouterr().err


def test_a_tall_picture_is_copied_strip_by_strip(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), pixels)
