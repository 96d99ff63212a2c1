"""Texts of data sets, lists and names of classes, in any bytes: our error names the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fcn_port.data import DataError, open_dataset
from fcn_port.data.files import read_label_png
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
