"""Evaluation: the numbers against a loop without any of its machinery, resuming, skipping, other data sets."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from converters.errors import CaffeFormatError, MismatchError
from fcn_port.data import DataError, make_shapes, net_inputs, open_dataset
from fcn_port.data.inputs import input_kinds
from fcn_port.evaluation import Evaluation, EvaluationPlan, evaluate, read_evaluation
from fcn_port.evaluation.running import preprocessing_of, weights_digest
from fcn_port.nets import FCN8s, FCN32sColorDepth, FCN32sColorHHA, SiftFlowFCN32s, Widths
from fcn_port.predict.palettes import voc_palette
from fcn_port.predict.reading import best_labels
from parity_tests.datasets import VOC_FOLDERS, make_nyud, make_siftflow, make_voc
from weights import datasets

NARROW = Widths(4, 4, 4, 4, 4, 8, 8)


def filled(net: nn.Module, seed: int = 0) -> nn.Module:
    """Seeded weights that make every class win somewhere."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
                module.bias.copy_(torch.randn(module.bias.shape, generator=generator))  # type: ignore[union-attr]
    return net.eval()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return filled(FCN8s(7, widths=NARROW))


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return make_shapes(tmp_path / "shapes", count=6, seed=1, size=(33, 44), val=0.5)


def counted_plainly(net: nn.Module, shapes: Path, ids: tuple[str, ...], classes: int = 7) -> np.ndarray:
    """The histogram as one would write it down: Pillow, the release's formula, argmax, a loop over classes."""
    mean = np.array(datasets()["voc"].inputs["color"].mean)
    counts = np.zeros((classes, classes), np.int64)
    for id_ in ids:
        image = np.array(Image.open(shapes / "JPEGImages" / f"{id_}.jpg"), np.float32)[:, :, ::-1]
        labels = np.array(Image.open(shapes / "SegmentationClass" / f"{id_}.png"))
        x = torch.from_numpy((image - mean).astype(np.float32).transpose(2, 0, 1)[None].copy())
        with torch.no_grad():
            predicted = net(x)[0].argmax(0).numpy()
        for i in range(classes):
            for j in range(classes):
                counts[i, j] += int(((labels == i) & (predicted == j)).sum())
    return counts


@pytest.mark.parametrize("workers", [0, 3])
def test_the_same_histogram_as_a_plain_loop(net: nn.Module, shapes: Path, workers: int) -> None:
    data = open_dataset(shapes, split="trainval")
    found = evaluate(net, data, name="narrow", plan=EvaluationPlan(workers=workers))
    assert np.array_equal(found.histogram(), counted_plainly(net, shapes, data.ids))
    assert [image.id for image in found.images] == list(data.ids) and found.computed == 6
    assert (found.histogram().sum(axis=0) > 0).sum() >= 3  # several classes are predicted, or this proves little
    assert found.scores().mean_iu == found.tasks[0].scores(found.histogram()).mean_iu


@pytest.mark.parametrize("folder", VOC_FOLDERS)
def test_voc_in_its_21_classes(folder: str, tmp_path: Path) -> None:
    """A VOC made for the test, and the real one where FCN_PORT_VOC names it."""
    data = open_dataset(make_voc(tmp_path / "VOC2012") if folder == "made" else folder, split=VOC_FOLDERS[folder])
    net = filled(FCN8s(21, widths=NARROW))
    found = evaluate(net, data, plan=EvaluationPlan(limit=3)).histogram()
    assert np.array_equal(found, counted_plainly(net, data.root, data.ids[:3], 21)) and found.sum() > 1000


def test_limit_and_progress(net: nn.Module, shapes: Path) -> None:
    told: list[tuple[int, int]] = []
    found = evaluate(
        net, open_dataset(shapes), plan=EvaluationPlan(limit=2), progress=lambda done, total: told.append((done, total))
    )
    assert told == [(0, 2), (1, 2), (2, 2)] and len(found.images) == 2


def test_the_first_of_equal_scores_wins() -> None:
    scores = torch.tensor([1.0, 3.0, 3.0, 2.0, 3.0]).reshape(1, 5, 1, 1).expand(1, 5, 7, 9)
    assert (best_labels(scores[0]) == 1).all()
    rounded = torch.randn(1, 21, 40, 50, generator=torch.Generator().manual_seed(0)).round()
    assert np.array_equal(best_labels(rounded[0]).numpy(), rounded[0].numpy().argmax(axis=0))


# --- resuming --------------------------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def stop_after(images: int) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == images:
            raise Interrupted

    return progress


def test_an_interrupted_run_goes_on(net: nn.Module, shapes: Path, tmp_path: Path) -> None:
    data, plan = open_dataset(shapes, split="trainval"), EvaluationPlan(cache=tmp_path / "cache")
    with pytest.raises(Interrupted):
        evaluate(net, data, plan=plan, progress=stop_after(4))
    found = evaluate(net, data, plan=plan)
    assert (found.computed, len(found.images)) == (2, 6)
    assert np.array_equal(found.histogram(), evaluate(net, data).histogram())
    assert evaluate(net, data, plan=plan).computed == 0
    assert evaluate(net, open_dataset(shapes, split="val"), plan=plan).computed == 0  # the same images in another list


def test_a_torn_line_costs_one_image(net: nn.Module, shapes: Path, tmp_path: Path) -> None:
    data, plan = open_dataset(shapes, split="trainval"), EvaluationPlan(cache=tmp_path / "cache")
    whole = evaluate(net, data, plan=plan).histogram()
    (kept,) = (tmp_path / "cache").rglob("*.jsonl")
    for cut, lost in ((1, 0), (2, 1), (20, 1)):  # the last byte is only the end of the line
        kept.write_bytes(kept.read_bytes()[:-cut])
        again = evaluate(net, data, plan=plan)
        assert again.computed == lost and np.array_equal(again.histogram(), whole)
        assert evaluate(net, data, plan=plan).computed == 0


@pytest.mark.parametrize(
    "damage", [b"\x00\xff\n", b"[]\n", b'{"id": "x"}\n', b'{"id": "x", "histograms": {"score": [9, 9, 9]}}\n']
)
def test_lines_that_are_no_results_are_ignored(net: nn.Module, shapes: Path, tmp_path: Path, damage: bytes) -> None:
    data, plan = open_dataset(shapes), EvaluationPlan(cache=tmp_path / "cache")
    whole = evaluate(net, data, plan=plan).histogram()
    (kept,) = (tmp_path / "cache").rglob("*.jsonl")
    kept.write_bytes(damage + kept.read_bytes())
    again = evaluate(net, data, plan=plan)
    assert again.computed == 0 and np.array_equal(again.histogram(), whole)


def test_other_weights_other_labels_other_classes_are_computed_anew(
    net: nn.Module, shapes: Path, tmp_path: Path
) -> None:
    data, plan = open_dataset(shapes), EvaluationPlan(cache=tmp_path / "cache")
    evaluate(net, data, plan=plan)
    other = filled(FCN8s(7, widths=NARROW), seed=1)
    assert weights_digest(other) != weights_digest(net)
    assert evaluate(other, data, plan=plan).computed == 3
    path = shapes / "SegmentationClass" / f"{data.ids[0]}.png"
    labels = Image.open(path)
    changed = np.where(np.asarray(labels) == 0, 255, labels).astype(np.uint8)
    Image.fromarray(changed).save(path)
    again = evaluate(net, data, plan=plan)
    assert again.computed == 1 and again.images[0].histograms["score"][0].sum() == 0
    (shapes / "classes.txt").write_text("a\nb\nc\nd\ne\nf\ng\n")
    assert evaluate(net, open_dataset(shapes), plan=plan).computed == 3


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass"])
@pytest.mark.parametrize("change", ["time", "size"])
def test_a_file_of_another_time_or_size_is_computed_anew(
    change: str, folder: str, net: nn.Module, shapes: Path, tmp_path: Path
) -> None:
    """Each for itself: an editor may keep the size, and a copy the time."""
    data, plan = open_dataset(shapes), EvaluationPlan(cache=tmp_path / "cache")
    evaluate(net, data, plan=plan)
    (path,) = (shapes / folder).glob(f"{data.ids[1]}.*")
    before = path.stat().st_mtime_ns
    if change == "size":
        path.write_bytes(path.read_bytes() + b"\0")  # both formats end before it
    os.utime(path, ns=(before, before + (change == "time")))
    assert evaluate(net, data, plan=plan).computed == 1
    assert evaluate(net, data, plan=plan).computed == 0


def test_the_digest_is_of_names_values_and_modules(net: nn.Module) -> None:
    same = FCN8s(7, widths=NARROW).eval()
    same.load_state_dict(net.state_dict())
    assert weights_digest(same) == weights_digest(net)
    with torch.no_grad():
        same.score_fr.bias[3] += 1e-6
    assert weights_digest(same) != weights_digest(net)
    same.load_state_dict(net.state_dict())
    same.score_pool4c.offset = 6
    assert weights_digest(same) != weights_digest(net)


# --- what is written, what is skipped --------------------------------------------------------------------------------


def test_saved_labels_give_the_same_scores(net: nn.Module, shapes: Path, tmp_path: Path) -> None:
    data = open_dataset(shapes)
    plan = EvaluationPlan(cache=tmp_path / "cache", save_labels=tmp_path / "labels")
    found = evaluate(net, data, plan=plan)
    for image in found.images:
        png = Image.open(tmp_path / "labels" / f"{image.id}.png")
        assert png.mode == "P" and png.getpalette() == voc_palette().ravel().tolist()
        labels = data.read(image.id).labels["score"]
        for label in range(7):
            predicted = np.bincount(np.asarray(png)[labels == label], minlength=7)
            assert np.array_equal(image.histograms["score"][label], predicted)
    (tmp_path / "labels" / f"{data.ids[1]}.png").unlink()
    assert evaluate(net, data, plan=plan).computed == 1  # a kept result is not enough where its file is gone


def test_saved_labels_that_another_net_has_replaced_are_made_again(
    net: nn.Module, shapes: Path, tmp_path: Path
) -> None:
    """A kept result counts with the maps that were written with it, and not with any of their names."""
    data, other = open_dataset(shapes), filled(FCN8s(7, widths=NARROW), seed=1)
    plan = EvaluationPlan(cache=tmp_path / "cache", save_labels=tmp_path / "labels")
    saved = tmp_path / "labels" / f"{data.ids[0]}.png"
    evaluate(net, data, plan=plan)
    first = np.asarray(Image.open(saved))
    evaluate(other, data, plan=plan)
    assert not np.array_equal(np.asarray(Image.open(saved)), first)
    assert evaluate(net, data, plan=plan).computed == len(data.ids)
    assert np.array_equal(np.asarray(Image.open(saved)), first)
    assert evaluate(net, data, plan=plan).computed == 0


def test_bad_files_stop_or_are_listed(net: nn.Module, shapes: Path) -> None:
    data = open_dataset(shapes, split="trainval")
    (shapes / "JPEGImages" / f"{data.ids[1]}.jpg").unlink()
    (shapes / "SegmentationClass" / f"{data.ids[4]}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=f"{data.ids[1]}.jpg: there is no such file"):
        evaluate(net, data)
    found = evaluate(net, data, plan=EvaluationPlan(skip_bad=True))
    assert list(found.skipped) == [data.ids[1], data.ids[4]] and len(found.images) == 4
    good = tuple(id_ for id_ in data.ids if id_ not in found.skipped)
    assert np.array_equal(found.histogram(), counted_plainly(net, shapes, good))


def test_a_net_of_other_classes(shapes: Path) -> None:
    with pytest.raises(MismatchError, match=r"the net scores 21 classes, and shapes has 7\n.*classes\.txt"):
        evaluate(filled(FCN8s(21, widths=NARROW)), open_dataset(shapes))


def test_json_there_and_back(net: nn.Module, shapes: Path, tmp_path: Path) -> None:
    found = evaluate(net, open_dataset(shapes), name="narrow", release="voc-fcn8s")
    path = tmp_path / "found.json"
    path.write_text(json.dumps(found.to_json()))
    back = read_evaluation(path)
    assert isinstance(back, Evaluation) and back.to_json() == found.to_json()
    assert back.scores() == found.scores() or np.isnan(back.scores().accuracy).any()
    for text in ("", "{}", "[]", json.dumps({**found.to_json(), "images": [{"id": 3}]})):
        path.write_text(text)
        with pytest.raises(CaffeFormatError, match="not an evaluation"):
            read_evaluation(path)


# --- other data sets, other nets -------------------------------------------------------------------------------------


def test_two_heads_on_siftflow(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    semantic, geometric = rng.integers(0, 34, (30, 40)), rng.integers(-1, 4, (30, 40))
    semantic[semantic == 9] = 0  # cow is not in this test set
    data = open_dataset(make_siftflow(tmp_path, semantic.astype(np.uint8), geometric.astype(np.int16)))
    net = filled(SiftFlowFCN32s({"sem": 33, "geo": 3}, widths=NARROW))
    found = evaluate(net, data, plan=EvaluationPlan(save_labels=tmp_path / "out"))
    assert [task.title for task in found.tasks] == ["semantic, 33 classes", "geometric, 3 classes"]
    sample = data.read(data.ids[0])
    with torch.no_grad():
        outputs = net(next(iter(net_inputs(data, sample, preprocessing_of(net, data)).values())))
    for task in found.tasks:
        predicted = outputs[task.head][0].argmax(0).numpy()
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / task.head / "coast_a1.png")), predicted)
        keep = sample.labels[task.head] != 255
        assert found.histogram(task.head).sum() == keep.sum()
        right = (predicted == sample.labels[task.head])[keep].mean()
        assert found.scores(task).overall_accuracy == pytest.approx(right)


@pytest.mark.parametrize(
    ("make", "kinds"), [(FCN32sColorHHA, ("color", "hha")), (FCN32sColorDepth, ("color", "depth"))]
)
def test_two_inputs_on_nyud(tmp_path: Path, make: type[nn.Module], kinds: tuple[str, ...]) -> None:
    labels = np.random.default_rng(0).integers(0, 41, (30, 40)).astype(np.uint8)
    data = open_dataset(make_nyud(tmp_path, labels))
    net = filled(make(40, widths=NARROW))
    recipe = preprocessing_of(net, data)
    assert input_kinds(recipe) == kinds
    inputs = net_inputs(data, data.read("5001", kinds=kinds), recipe)
    with torch.no_grad():
        predicted = net(**inputs)[0].argmax(0).numpy()
    found = evaluate(net, data)
    keep = labels > 0
    assert found.scores().overall_accuracy == pytest.approx((predicted == labels - 1)[keep].mean())
    assert found.histogram().sum() == keep.sum()
