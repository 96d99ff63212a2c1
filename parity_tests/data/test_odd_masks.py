"""Label maps in forms that a reader of pictures alters on the way, and ids at the edges of what a byte holds."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.data import DataError, open_dataset
from fcn_port.data.files import read_label_png
from fcn_port.data.masks import MaskReader, read_mask
from parity_tests.datasets import make_nyud, make_siftflow, noise, save

LABELS = np.kron(np.arange(4, dtype=np.uint8).reshape(2, 2), np.ones((3, 8), np.uint8))
"""Labels (6, 16) of four classes."""


def png(depth: int, colours: int, rows: bytes) -> Callable[[Path], Path]:
    """Writes a PNG of LABELS' size by hand: Pillow writes none of 2 and 4 bits of grey, or of colours of 16."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    def write(path: Path) -> Path:
        head = struct.pack(">IIBBBBB", LABELS.shape[1], LABELS.shape[0], depth, colours, 0, 0, 0)
        parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
        return path

    return write


def greys_of(bits: int) -> Callable[[Path], Path]:
    each = np.unpackbits(LABELS[:, :, None], axis=2)[:, :, -bits:].reshape(len(LABELS), -1)
    return png(bits, 0, b"".join(b"\0" + row.tobytes() for row in np.packbits(each, axis=1)))


def deep(channels: int) -> Callable[[Path], Path]:
    values = np.repeat(LABELS[:, :, None], channels, axis=2).astype(">u2")
    return png(16, {2: 4, 3: 2, 4: 6}[channels], b"".join(b"\0" + row.tobytes() for row in values))


def pgm(largest: int, *, plain: bool = False, channels: int = 1) -> Callable[[Path], Path]:
    """Writes a PGM, or with three equal channels a PPM, that says its largest value."""
    kind = "P2" if plain else {1: "P5", 3: "P6"}[channels]
    head = f"{kind}\n{LABELS.shape[1]} {LABELS.shape[0]}\n{largest}\n".encode()
    body = np.repeat(LABELS, channels, axis=1).astype(">u2" if largest > 255 else "u1").tobytes()
    body = " ".join(map(str, LABELS.ravel())).encode() if plain else body

    def write(path: Path) -> Path:
        path.write_bytes(head + body)
        return path

    return write


STORED: dict[str, Callable[[Path], Path]] = {
    "2 bits": greys_of(2), "4 bits": greys_of(4), "8 bits": greys_of(8), "largest 3": pgm(3), "largest 20": pgm(20),
    "largest 255": pgm(255), "largest 1000": pgm(1000), "largest 65535": pgm(65535), "in words": pgm(20, plain=True),
    "16 bits of TIFF": lambda path: save(path.with_suffix(".tif"), LABELS.astype(">u2")),
}  # fmt: skip


@pytest.mark.parametrize("read", [read_mask, read_label_png])
@pytest.mark.parametrize("form", STORED)
def test_greys_of_few_bits_are_the_values_that_are_stored(
    form: str, read: Callable[[Path], np.ndarray], tmp_path: Path
) -> None:
    assert np.array_equal(read(STORED[form](tmp_path / "m.png")), LABELS)


@pytest.mark.parametrize("largest", [3, 20, 255])
def test_so_are_three_equal_channels(largest: int, tmp_path: Path) -> None:
    assert np.array_equal(read_mask(pgm(largest, channels=3)(tmp_path / "m.ppm")), LABELS)


def test_a_bitmap_in_words_is_read(tmp_path: Path) -> None:
    """P1, which says no largest value; its 1 is black."""
    (tmp_path / "m.pbm").write_text("P1\n3 2\n0 1 1 0 0 1\n")
    assert np.array_equal(read_mask(tmp_path / "m.pbm"), [[1, 0, 0], [1, 1, 0]])


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_16_bits_are_refused_and_not_halved(channels: int, tmp_path: Path) -> None:
    path = deep(channels)(tmp_path / "m.png")
    assert not np.asarray(Image.open(path))[:, :, 0].any()  # what Pillow makes of them: all one class
    for colours in (False, True):
        with pytest.raises(DataError, match="of 16 bits: only the upper 8"):
            read_mask(path, colours=colours)


def test_so_are_those_of_a_ppm(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="of 16 bits: only the upper 8"):
        read_mask(pgm(65535, channels=3)(tmp_path / "m.ppm"))


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        (MaskReader(void=()), 255),
        (MaskReader(void=(0,), first_id=1), 256),
        (MaskReader(first_id=-3), 252),
        (MaskReader(), 1 << 40),
        (MaskReader(), (1 << 64) - 1),
    ],
    ids=str,
)
def test_an_id_is_void_only_where_that_is_said(reader: MaskReader, value: int, tmp_path: Path) -> None:
    stored = np.full((2, 3), reader.first_id if reader.first_id > 0 else 1, np.int64 if value < 1 << 60 else np.uint64)
    stored[1, 2] = value
    np.save(tmp_path / "m.npy", stored)
    with pytest.raises(DataError, match=f"row 1, column 2: {value} is no class, 1 pixels"):
        reader(tmp_path / "m.npy")


def test_numbers_beyond_all_whole_ones_are_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.full((2, 3), 1e300))
    with pytest.raises(DataError, match="float64"):
        read_mask(tmp_path / "m.npy")


def test_ids_beyond_the_classes_are_void_where_others_are(tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", noise(0, (6, 16, 3)))
    save(tmp_path / "labels" / "a.png", LABELS + 1)
    (tmp_path / "dataset.toml").write_text('classes = ["b", "c"]\nfirst_id = 2\nothers = "void"\n')
    found = open_dataset(tmp_path).read("a").labels["score"]
    assert np.array_equal(found, np.array([255, 0, 1, 255], np.uint8)[LABELS])


@pytest.mark.parametrize(("kind", "most"), [(np.uint8, 4), (np.uint16, 16)])
def test_labels_take_no_more_memory_than_their_map(kind: type, most: int) -> None:
    """An empty map of many pixels is a small file; a table looks up its ids without an index of 8 bytes a pixel."""
    stored = np.kron(LABELS, np.ones((100, 100), np.uint8)).astype(kind)
    tracemalloc.start()
    found = MaskReader(void=(3,)).labels_of(stored, Path("m.png"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(found, np.where(stored == 3, 255, stored)) and found.dtype == np.uint8
    assert peak < most * stored.size


@pytest.mark.parametrize(
    "reader",
    [MaskReader(colours={(0, 0, 0): 0}, others_void=True), MaskReader(ids={0: 0}, others_void=True)],
    ids=["colours", "ids"],
)
def test_values_that_are_void_cost_no_pass_over_the_map_each(reader: MaskReader) -> None:
    """A map of a photograph's colours, of which 640,000 are other ones, and one of as many ids."""
    values = np.arange(800 * 800).reshape(800, 800)
    stored = values if reader.ids else np.stack([values >> 16, values >> 8 & 255, values & 255], 2).astype(np.uint8)
    began = time.process_time()
    labels = reader.labels_of(stored, Path("a.png"))
    assert (labels == np.where(values, 255, 0)).all() and time.process_time() - began < 10


@pytest.mark.parametrize("field", ["label_name", "image_name"])
@pytest.mark.parametrize("name", ["{", "{id}", "{0.a}", "{}_{}", "{}}", "{:>9}"])
def test_a_name_has_one_place_for_the_id(field: str, name: str, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", noise(0, (6, 16, 3)))
    save(tmp_path / "labels" / "a.png", LABELS)
    (tmp_path / "dataset.toml").write_text(f'like = "voc"\n{field} = "{name}"\n')
    with pytest.raises(DataError, match=f"{field} = '.*'; expected one "):
        open_dataset(tmp_path)


@pytest.mark.parametrize("ids", ["0 = 0, 00 = 1", "1 = 0, +1 = 1", "10 = 0, 1_0 = 1"])
def test_an_id_that_is_written_in_two_ways_stands_there_twice(ids: str, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", noise(0, (6, 16, 3)))
    save(tmp_path / "labels" / "a.png", LABELS)
    quoted = ids.replace("+1", '"+1"')
    (tmp_path / "dataset.toml").write_text(f'classes = ["b", "c"]\nids = {{ {quoted} }}\n')
    with pytest.raises(DataError, match="stands there twice"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("stored", [256, -2])
def test_counting_from_one_makes_no_void(stored: int, tmp_path: Path) -> None:
    labels = np.ones((6, 8), np.int16)
    labels[2, 3] = stored
    scenes = make_siftflow(tmp_path / "sift", labels, np.ones((6, 8), np.uint8))
    rooms = make_nyud(tmp_path / "nyud", labels)
    for data in (open_dataset(scenes), open_dataset(rooms)):
        with pytest.raises(DataError, match=f"label {stored if stored > 0 else stored - 1} is none of 0 to"):
            data.read(data.ids[0])


def test_an_image_whose_name_is_too_long_for_a_file_is_one_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are looked at; the error of the system ended it all."""
    save(tmp_path / "images" / "i0.png", noise(0, (6, 5, 3)))
    save(tmp_path / "masks" / "i0.png", np.zeros((6, 5), np.uint8))
    (tmp_path / "l.txt").write_text(f"i0\n{'a' * 400}\n")
    lines = ('images = "images"', 'labels = "masks"', 'list = "l.txt"', 'classes = ["background", "cell"]')
    (tmp_path / "dataset.toml").write_text("\n".join(lines))
    assert run(["data", "--check", str(tmp_path)]) == 1
    assert "1 of 2 images cannot be used" in capsys.readouterr().out
