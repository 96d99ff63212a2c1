"""Texts of data sets, lists and names of classes, in any bytes: our error names the file."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from fcn_port.data import DataError, open_dataset
from fcn_port.data.files import read_label_png
from fcn_port.data.label_maps import read_label_map
from fcn_port.data.lists import read_list
from fcn_port.data.sets.pascalcontext import read_names
from fcn_port.data.sets.voc import open_voc
from parity_tests.datasets import make_context, make_voc, save

NOT_UTF8 = "caf\u00e9\nGrün\n".encode("latin-1")


def _classes(folder: Path) -> Path:
    return make_voc(folder / "VOC2012") / "classes.txt"


def _names(folder: Path) -> Path:
    return make_context(folder, np.ones((4, 5), np.uint8), ["x"]) / "labels.txt"


def _list(folder: Path) -> Path:
    return make_voc(folder / "VOC2012") / "ImageSets" / "Segmentation" / "val.txt"


@pytest.mark.parametrize("make", [_classes, _names, _list])
@pytest.mark.parametrize("body", [NOT_UTF8, "a\nb\n".encode("utf-16"), b"1: \xff\n"], ids=["latin-1", "utf-16", "byte"])
def test_a_text_that_is_not_utf8(tmp_path: Path, make: Callable[[Path], Path], body: bytes) -> None:
    path = make(tmp_path)
    path.write_bytes(body)
    with pytest.raises(DataError, match=r"not a text in UTF-8 from byte \d+ on") as caught:
        open_dataset(tmp_path, split="val")
    assert str(caught.value).startswith(str(path))


def test_a_text_that_windows_saved(tmp_path: Path) -> None:
    """With a byte order mark, and two characters at the end of each line."""
    (tmp_path / "val.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    assert read_list(tmp_path / "val.txt") == ("a", "b")
    _classes(tmp_path).write_bytes("\ufeffground\r\ncafé\r\n".encode())
    assert open_voc(tmp_path / "VOC2012", split="val").classes["score"] == ("ground", "café")


@pytest.mark.parametrize("number", ["9" * 5000, "2", "x"], ids=["long", "two", "none"])
def test_a_number_that_is_not_the_next_one(tmp_path: Path, number: str) -> None:
    (tmp_path / "labels.txt").write_text(f"{number}: x\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 1: '1: name' is expected"):
        read_names(tmp_path / "labels.txt")


def test_colours_are_told_from_labels_soon(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png: colours \(RGB\) instead of labels"):
        read_label_png(path)


LONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "commas": (read_label_map, "a" + "," * 100_000),
    "colons": (read_label_map, "a" + ": " * 50_000 + "b"),
    "many classes": (read_label_map, "\n".join(f"c{number}" for number in range(50_000))),
    "words": (read_list, "a " * 1_000_000 + "\na b"),
    "spaces": (read_names, "1: a" + " " * 300_000 + "b"),
}


@pytest.mark.parametrize("kind", LONG)
def test_long_lines_and_many_take_a_moment(kind: str, tmp_path: Path) -> None:
    """Each took minutes: a pattern, or words, that were tried in the square of their length."""
    read, text = LONG[kind]
    (tmp_path / "a.txt").write_text(text)
    began = time.process_time()
    with suppress(DataError):
        read(tmp_path / "a.txt")
    assert time.process_time() - began < 5


def test_an_id_has_as_many_words_as_an_image_has(tmp_path: Path) -> None:
    """Also on a line that goes on for long, and where its first word does."""
    (tmp_path / "a.txt").write_text(f"a b {'x ' * 1000}\n{'y' * 2000} z\n")
    assert read_list(tmp_path / "a.txt", there=["a b"]) == ("a b", "y" * 2000)
