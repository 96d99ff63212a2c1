"""Results that are kept count for the files that they are of, and for no others that look like them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from fcn_port.data import open_dataset
from fcn_port.data.sets.pascalcontext import RENAMED
from fcn_port.evaluation import Evaluation, EvaluationPlan, evaluate
from fcn_port.nets import FCN8s
from parity_tests.datasets import make_context, noise, save
from parity_tests.evaluation.test_evaluate import NARROW, filled
from weights import datasets

SIZE = (16, 24)
THEN = (1_000_000_000, 1_000_000_000)
"""The time of every file of an archive."""


def labelled(path: Path, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.full(SIZE, label, np.uint8))
    os.utime(path, THEN)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return filled(FCN8s(3, widths=NARROW))


def counted(net: nn.Module, data_folder: Path, split: str | None, cache: Path) -> Evaluation:
    return evaluate(net, open_dataset(data_folder, split=split), plan=EvaluationPlan(cache=cache, workers=0))


def pairs(root: Path) -> None:
    for label in (0, 1):
        labelled(root / f"labels{label}" / "a.npy", label)
        (root / f"s{label}.txt").write_text(f"images/a.png labels{label}/a.npy\n")
    (root / "dataset.toml").write_text('classes = ["a", "b", "c"]\nlist = "{split}.txt"\n')


def links(root: Path) -> None:
    """The folder of labels is a link, which is moved between the runs."""
    for label in (0, 1):
        labelled(root / f"labels{label}" / "a.npy", label)
    (root / "dataset.toml").write_text('classes = ["a", "b", "c"]\n')


def move_link(root: Path, label: int) -> str | None:
    if not (root / "dataset.toml").read_text().count("list"):
        (root / "labels").unlink(missing_ok=True)
        (root / "labels").symlink_to(f"labels{label}")
        return None
    return f"s{label}"


@pytest.mark.parametrize("made", [pairs, links], ids=["lists of pairs", "a link"])
def test_a_result_is_of_its_files(made: Callable[[Path], None], net: nn.Module, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png", noise(0, (*SIZE, 3)))
    made(tmp_path)
    for label, computed in ((0, 1), (1, 1), (1, 0)):
        found = counted(net, tmp_path, move_link(tmp_path, label), tmp_path / "cache")
        expected: Sequence[int] = [SIZE[0] * SIZE[1] * (each == label) for each in range(3)]
        assert found.histogram().sum(axis=1).tolist() == expected and found.computed == computed


def test_a_result_of_context_is_of_its_list_of_names(tmp_path: Path) -> None:
    net = filled(FCN8s(60, widths=NARROW))
    classes = datasets()["pascalcontext"].heads["score"]
    names = [RENAMED.get(name, name) for name in classes[1:]]
    make_context(tmp_path, np.full((6, 8), 2, np.uint8), names)
    cache = tmp_path / "cache"
    first = counted(net, tmp_path / "pascal-context", None, cache)
    names[1], names[2] = names[2], names[1]
    listed = "".join(f"{number}: {name}\n" for number, name in enumerate(names, start=1))
    (tmp_path / "pascal-context" / "labels.txt").write_text(listed)
    second = counted(net, tmp_path / "pascal-context", None, cache)
    assert (first.computed, second.computed) == (1, 1)
    assert first.histogram().sum(axis=1)[2] == second.histogram().sum(axis=1)[3] == 48


def test_a_kept_result_of_files_that_cannot_be_told_apart_does_not_count(net: nn.Module, tmp_path: Path) -> None:
    for id_ in "ab":
        save(tmp_path / "images" / f"{id_}.png", noise(0, (*SIZE, 3)))
        save(tmp_path / "labels" / f"{id_}.bmp", noise(1, SIZE) % 3)
    (tmp_path / "dataset.toml").write_text('classes = ["a", "b", "c"]\n')
    plan = EvaluationPlan(cache=tmp_path / "cache", workers=0, skip_bad=True)
    assert evaluate(net, open_dataset(tmp_path), plan=plan).computed == 2
    save(tmp_path / "labels" / "b.tif", noise(1, SIZE) % 3)
    found = evaluate(net, open_dataset(tmp_path), plan=plan)
    assert [each.id for each in found.images] == ["a"] and "which is the one" in found.skipped["b"]
