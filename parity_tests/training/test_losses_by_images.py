"""EuclideanLoss, HingeLoss, MultinomialLogisticLoss and ContrastiveLoss by hand at their ends, and in the program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from converters import NetError, parse_prototxt, read_caffemodel
from fcn_port.cli import run
from fcn_port.training import task_of
from fcn_port.training.losses import (
    ContrastiveLoss,
    EuclideanLoss,
    HingeLoss,
    Loss,
    MultinomialLogisticLoss,
    SigmoidCrossEntropyLoss,
)
from parity_tests.datasets import save, save_list

Slopes = tuple[float, list[np.ndarray]]
"""A loss, and its gradient for each bottom."""


def of_torch(loss: Loss, blobs: Mapping[str, np.ndarray], learned: Sequence[str]) -> Slopes:
    tensors = {name: torch.from_numpy(np.array(blob, np.float64)) for name, blob in blobs.items()}
    for name in learned:
        tensors[name].requires_grad_()
    value = loss(tensors)
    value.backward()
    return value.item(), [tensors[name].grad.numpy() for name in learned]


# As the sources have them, number by number


def euclidean(a: np.ndarray, b: np.ndarray) -> Slopes:
    diff = a - b
    n = len(a)
    return float((diff**2).sum() / n / 2), [diff / n, -diff / n]


def hinge(scores: np.ndarray, labels: np.ndarray, norm: str) -> Slopes:
    """hinge_loss_layer.cpp: the diff of bottom[0] holds the hinges, then its gradient."""
    n, diff = len(scores), scores.reshape(len(scores), -1).copy()
    for i in range(n):
        diff[i, int(labels[i])] *= -1
    for i in range(n):
        for j in range(diff.shape[1]):
            diff[i, j] = max(0.0, 1 + diff[i, j])
    value = float(np.abs(diff).sum() if norm == "L1" else (diff**2).sum()) / n
    for i in range(n):
        diff[i, int(labels[i])] *= -1
    slope = np.sign(diff) / n if norm == "L1" else 2 * diff / n
    return value, [slope.reshape(scores.shape)]


def multinomial(p: np.ndarray, labels: np.ndarray) -> Slopes:
    value, slope, rows = 0.0, np.zeros_like(p), p.reshape(len(p), -1)
    for i, label in enumerate(labels):
        least = max(rows[i, int(label)], 1e-20)
        value -= np.log(least) / len(p)
        slope.reshape(rows.shape)[i, int(label)] = -1 / len(p) / least
    return float(value), [slope]


def contrastive(a: np.ndarray, b: np.ndarray, similar: np.ndarray, margin: float, legacy: bool) -> Slopes:
    value, n, slope = 0.0, len(a), np.zeros_like(a)
    for i in range(n):
        diff = a[i] - b[i]
        square = float((diff**2).sum())
        if int(similar[i]):
            value, slope[i] = value + square, diff / n
        elif legacy:
            value += max(margin - square, 0.0)
            slope[i] = -diff / n if margin - square > 0 else 0
        else:
            distance = np.sqrt(square)
            value += max(margin - distance, 0.0) ** 2
            slope[i] = -(margin - distance) / (distance + 1e-4) * diff / n if margin - distance > 0 else 0
    return value / n / 2, [slope, -slope]


def same(found: Slopes, expected: Slopes, *, rel: float = 1e-12) -> None:
    assert found[0] == pytest.approx(expected[0], rel=rel)
    for mine, caffes in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(mine, caffes.reshape(mine.shape), rtol=rel, atol=1e-300)


@pytest.mark.parametrize("seed", range(4))
def test_euclidean_is_caffes(seed: int) -> None:
    r = np.random.default_rng(seed)
    shape = [(3, 2, 4, 5), (4, 1, 3, 3), (6, 7), (1, 3, 2, 2)][seed]
    blobs = {"a": r.standard_normal(shape), "b": r.standard_normal(shape)}
    loss = EuclideanLoss(score="a", label="b", labelled=False)
    same(of_torch(loss, blobs, ["a", "b"]), euclidean(*blobs.values()))
    with pytest.raises(AssertionError):
        same(of_torch(replace(loss, stopped=(0,)), blobs, ["b"]), euclidean(*blobs.values()))


@pytest.mark.parametrize("norm", ["L1", "L2"])
@pytest.mark.parametrize("seed", range(4))
def test_hinge_is_caffes_also_where_a_hinge_is_just_closed(seed: int, norm: str) -> None:
    """Scores are quarters, so that some hinges are 0: no slope there, as Caffe's sign(0)."""
    r = np.random.default_rng(seed)
    scores = r.integers(-8, 9, [(5, 4), (6, 3, 1, 1), (4, 2, 2, 1), (9, 2)][seed]) / 4
    labels = r.integers(0, 2, len(scores)) + 0.75  # static_cast<int>
    found = of_torch(HingeLoss(norm=norm), {"score": scores, "label": labels}, ["score"])  # type: ignore[arg-type]
    same(found, hinge(scores, labels, norm))
    assert (found[1][0] == 0).any()
    with pytest.raises(AssertionError):
        same(found, hinge(scores, labels, "L1" if norm == "L2" else "L2"))


@pytest.mark.parametrize("seed", range(3))
def test_multinomial_is_caffes_also_of_no_probability(seed: int) -> None:
    r = np.random.default_rng(seed)
    p = r.random((5, 3, 1, 1))
    labels = r.integers(0, 3, 5).astype(float)
    p[0, int(labels[0])] = 0
    p[1, int(labels[1])] = 1e-30
    found = of_torch(MultinomialLogisticLoss(), {"score": p, "label": labels}, ["score"])
    same(found, multinomial(p, labels))
    assert np.abs(found[1][0]).max() == pytest.approx(1e20 / 5)  # not 0, as of a clamp, and not 1e30


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_contrastive_is_caffes_also_of_equal_features(seed: int, legacy: bool) -> None:
    r = np.random.default_rng(seed)
    a, b = r.standard_normal((2, 9, 2))
    a[0], a[1] = b[0], b[1] + [1e-4, 0]
    similar = np.array([0, 0, 0, 1, 1, 0.5, 2, 0, 0])  # 0.5 is 0 as an int, 2 is similar
    loss = ContrastiveLoss(score="a", other="b", margin=1.25, legacy=legacy)
    blobs = {"a": a, "b": b, "label": similar}
    found = of_torch(loss, blobs, ["a", "b"])
    same(found, contrastive(a, b, similar, 1.25, legacy))
    with pytest.raises(AssertionError):
        same(of_torch(replace(loss, legacy=not legacy), blobs, ["a", "b"]), contrastive(a, b, similar, 1.25, legacy))
    if not legacy:  # the slope has 1e-4 added to the distance: half of what it would be
        assert found[1][0][1, 0] == pytest.approx(-(1.25 - 1e-4) / 2 / 9, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "score", "label", "said"),
    [
        (EuclideanLoss("l"), (2, 3, 4, 4), (2, 4, 4), "as many numbers for each image"),
        (EuclideanLoss("l", labelled=False), (2, 8), (4, 4), "as many numbers for each image"),
        (HingeLoss("l"), (2, 3), (2, 4, 4), "one label for each image: 2"),
        (MultinomialLogisticLoss("l"), (2, 3, 4, 4), (2, 4, 4), "one label for each image: 2"),
        (SigmoidCrossEntropyLoss("l", labelled=False), (2, 3), (2, 4), "for scores of"),
    ],
)
def test_shapes_that_do_not_go_together_are_refused(
    loss: Loss, score: tuple[int, ...], label: tuple[int, ...], said: str
) -> None:
    with pytest.raises(NetError, match=said):
        loss({"score": torch.zeros(score), "label": torch.zeros(label)})


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    """Caffe would read, and write, memory beside the scores."""
    for loss in (HingeLoss("l"), MultinomialLogisticLoss("l")):
        with pytest.raises(NetError, match=f"a label of {label}; the net scores 3 classes"):
            loss({"score": torch.zeros(2, 3), "label": torch.tensor([0, label])})


def test_half_precision_is_computed_in_float32() -> None:
    score, label = torch.randn(2, 1, 9, 9).bfloat16(), torch.rand(2, 9, 9)
    found = EuclideanLoss()({"score": score, "label": label})
    assert found.dtype == torch.float32
    assert found == EuclideanLoss()({"score": score.float(), "label": label})


# Nets

NET = """
layer {{ name: "data" type: "Input" top: "data" top: "label"
  input_param {{ shape {{ dim: 2 dim: 3 dim: 8 dim: 8 }} shape {{ dim: 2 dim: 1 dim: 8 dim: 8 }} }} }}
layer {{ name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param {{ num_output: 3 kernel_size: 1 }} }}
{more}
layer {{ name: "l" type: "{type}" {bottoms} top: "l" {settings} }}
"""
POOLED = """layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { pool: AVE kernel_size: 3 stride: 1 pad: 1 } }"""
PARAMETER = 'layer { name: "q" type: "Parameter" top: "q" parameter_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }'
FLAT = """layer { name: "fa" type: "Flatten" bottom: "a" top: "fa" }
layer { name: "fd" type: "Flatten" bottom: "data" top: "fd" }"""


def net(kind: str, *bottoms: str, more: str = "", settings: str = "") -> str:
    given = " ".join(f'bottom: "{name}"' for name in bottoms)
    return NET.format(type=kind, bottoms=given, more=more, settings=settings)


def fed(text: str) -> tuple[Tensor, Tensor, Mapping[str, Tensor]]:
    """The loss of a net, its `a` and what it was fed, in double precision; gradients are computed."""
    task = task_of(parse_prototxt(text))
    r = np.random.default_rng(7)
    state = {key: torch.from_numpy(r.standard_normal(tuple(b.shape))) for key, b in task.net.state_dict().items()}
    task.net.double().load_state_dict(state)
    blobs = {"data": torch.from_numpy(r.random((2, 3, 8, 8)))}
    assert task.inputs == ("data",)
    a = torch.nn.functional.conv2d(blobs["data"], state["a.weight"], state["a.bias"])
    (loss,) = task.losses_of({**blobs, "label": torch.from_numpy(r.integers(0, 2, (2, 8, 8)))}).values()
    loss.backward()
    return loss.detach(), a, {**blobs, **state, "slope": task.net.get_parameter("a.weight").grad}  # type: ignore[dict-item]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("what", ["image", "flat", "pooled", "parameter"])
def test_a_prediction_beside_another_blob_of_the_net(what: str, swapped: bool) -> None:
    """The image itself, as an autoencoder has it, also flattened; what is computed of it; and what is learned."""
    one, two, more = {
        "image": ("a", "data", ""),
        "flat": ("fa", "fd", FLAT),
        "pooled": ("a", "pool", POOLED),
        "parameter": ("a", "q", PARAMETER),
    }[what]
    loss, a, blobs = fed(net("EuclideanLoss", *((two, one) if swapped else (one, two)), more=more))
    pooled = torch.nn.functional.avg_pool2d(blobs["data"], 3, 1, 1, count_include_pad=True)
    target = pooled if what == "pooled" else blobs["q.weight"] if what == "parameter" else blobs["data"]
    if what == "pooled":  # Caffe counts the padding that is inside
        assert loss == pytest.approx(float((a - target).square().sum() / 4))
    torch.testing.assert_close(loss, (a - target).square().sum() / 4)
    slope = torch.einsum("noyx,nkyx->ok", (a - target) / 2, blobs["data"])
    torch.testing.assert_close(blobs["slope"][:, :, 0, 0], slope)


def test_a_sigmoid_loss_of_the_image_itself() -> None:
    """BVLC's mnist_autoencoder: SigmoidCrossEntropyLoss and, without weight, EuclideanLoss, of the flattened image."""
    more = FLAT + 'layer { name: "s" type: "Sigmoid" bottom: "fa" top: "s" }'
    more += 'layer { name: "e" type: "EuclideanLoss" bottom: "s" bottom: "fd" top: "e" loss_weight: 0 }'
    task = task_of(parse_prototxt(net("SigmoidCrossEntropyLoss", "fa", "fd", more=more)))
    r = np.random.default_rng(3)
    state = {key: torch.from_numpy(r.standard_normal(tuple(b.shape))) for key, b in task.net.state_dict().items()}
    task.net.double().load_state_dict(state)
    x = torch.from_numpy(r.random((2, 3, 8, 8)))
    found = task.losses_of({"data": x})
    p = torch.nn.functional.conv2d(x, state["a.weight"], state["a.bias"]).sigmoid()
    torch.testing.assert_close(found["l"], -(x * p.log() + (1 - x) * (1 - p).log()).sum() / 2)
    assert found["e"] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            net(
                "HingeLoss", "a", "t",
                more='layer { name: "t" type: "Power" bottom: "label" top: "t" power_param { scale: 0.1 } }',
            ),
            "its labels 't' must be data, not computed",
        ),
        (net("EuclideanLoss", "a", "label", settings="loss_param { ignore_label: 255 }"), "has no loss_param"),
        (net("HingeLoss", "a", "label", settings="loss_param { normalize: true }"), "has no loss_param"),
        (net("HingeLoss", "a", "label", settings="hinge_loss_param { nrom: L2 }"), "hinge_loss_param.nrom"),
        (net("ContrastiveLoss", "a", "label"), "2 bottoms and 1 tops; expected two features and their similarity"),
        (net("EuclideanLoss", "a", "data", "label"), "3 bottoms and 1 tops; expected two blobs"),
        (net("SmoothL1Loss", "a", "data"), "only SoftmaxWithLoss, .* can be trained"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(text: str, said: str) -> None:
    with pytest.raises(NetError, match=said):
        task_of(parse_prototxt(text))


# The program

DATA = """
layer {{ name: "data" type: "{kind}" top: "data" top: "label" image_data_param {{ source: "list" batch_size: 2 }}
  transform_param {{ scale: 0.00390625 }} }}
layer {{ name: "a" type: "Convolution" bottom: "data" top: "a"
  convolution_param {{ num_output: {outputs} kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} }} }}
{more}
"""
EUCLIDEAN = 'layer { name: "l" type: "EuclideanLoss" bottom: "a" bottom: "?" top: "l" }'
SOLVER = 'net: "{root}/net.prototxt" base_lr: 0.001 lr_policy: "fixed" momentum: 0.5 max_iter: 3 random_seed: 4 '


def prepared(root: Path, *, outputs: int, more: str, solver: str = "", void: bool = False) -> list[str]:
    """The arguments that train a net on four images of noise with labels 0 and 1."""
    r = np.random.default_rng(5)
    for number in range(4):
        save(root / "set" / "JPEGImages" / f"{number}.png", r.integers(0, 256, (8, 10, 3), np.uint8))
        labels = r.integers(0, 2, (8, 10), np.uint8)
        labels[0, 0] = 255 if void else 0
        save(root / "set" / "SegmentationClass" / f"{number}.png", labels)
    for split in ("train", "val"):
        save_list(root / "set" / "ImageSets" / "Segmentation" / f"{split}.txt", [str(number) for number in range(4)])
    (root / "set" / "classes.txt").write_text("nothing\nsomething\n")
    (root / "net.prototxt").write_text(DATA.format(kind="ImageData", outputs=outputs, more=more))
    (root / "solver.prototxt").write_text(SOLVER.format(root=root) + solver)
    return [
        "train", "--solver", str(root / "solver.prototxt"), "--data", str(root / "set"), "-o", str(root / "out"),
        "--workers", "0",
    ]  # fmt: skip


def images(root: Path, ids: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Images as the net reads them, BGR and scaled, and labels, of the set that `prepared` made."""
    from PIL import Image

    x = [np.asarray(Image.open(root / "set" / "JPEGImages" / f"{i}.png"))[:, :, ::-1].transpose(2, 0, 1) for i in ids]
    y = [np.asarray(Image.open(root / "set" / "SegmentationClass" / f"{i}.png")) for i in ids]
    return np.stack(x) / 256.0, np.stack(y)[:, None].astype(float)


@pytest.mark.parametrize("target", ["data", "label"])
def test_the_program_learns_images_and_maps_of_values(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An autoencoder, and a net that says the number of each pixel's class; resumed after two updates."""
    outputs = 3 if target == "data" else 1
    given = prepared(tmp_path, outputs=outputs, more=EUCLIDEAN.replace("?", target))
    assert run([*given, "--snapshot", "1"]) == 0
    err = capsys.readouterr().err
    assert "no classes are scored on the way" in err and "l: EuclideanLoss" in err
    told = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    updated = [each for each in told if each["event"] == "updated"]
    blobs = [read_caffemodel(tmp_path / "out" / f"net_iter_{i}.caffemodel").blobs["a"] for i in (1, 2, 3)]
    for before, after in zip(blobs, updated[1:], strict=False):
        x, y = images(tmp_path, [int(name) for name in after["images"]])
        kernel, bias = (torch.from_numpy(blob.astype(np.float64)) for blob in before)
        a = torch.nn.functional.conv2d(torch.from_numpy(x), kernel, bias, padding=1).numpy()
        assert after["losses"]["l"] == pytest.approx(((a - (x if target == "data" else y)) ** 2).sum() / 4, rel=1e-5)
    given[given.index("-o") + 1] = str(tmp_path / "again")
    assert run([*given, "--max-iter", "2"]) == 0
    assert run([*given, "--resume"]) == 0
    resumed = read_caffemodel(tmp_path / "again" / "net_iter_3.caffemodel").blobs["a"]
    for mine, unbroken in zip(resumed, blobs[2], strict=True):
        np.testing.assert_array_equal(mine, unbroken)


def test_two_losses_learn_together_and_a_test_net_tells_both(tmp_path: Path) -> None:
    """A segmentation with a second head that gives the image again: mean IU is that of the scores."""
    more = """layer { name: "score" type: "Convolution" bottom: "data" top: "score"
      convolution_param { num_output: 2 kernel_size: 1 } }
    layer { name: "s" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "s" loss_weight: 2 }"""
    more = EUCLIDEAN.replace("?", "data").replace("}", "loss_weight: 0.125 }") + more
    given = prepared(tmp_path, outputs=3, more=more, solver="test_iter: 2 test_interval: 3")
    assert run([*given, "--val-split", "val"]) == 0
    told = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    (last,) = [each for each in told if each["event"] == "tested" and each["iteration"] == 3]
    assert sorted(last["outputs"]) == ["l", "s"]
    x, _ = images(tmp_path, range(4))
    blob = read_caffemodel(tmp_path / "out" / "net_iter_3.caffemodel").blobs["a"]
    kernel, bias = (torch.from_numpy(each.astype(np.float64)) for each in blob)
    a = torch.nn.functional.conv2d(torch.from_numpy(x), kernel, bias, padding=1).numpy()
    assert last["outputs"]["l"] == pytest.approx(((a - x) ** 2).sum() / 8, rel=1e-5)
    assert last["loss"] == pytest.approx(0.125 * last["outputs"]["l"] + 2 * last["outputs"]["s"])
    assert [each["event"] for each in told].count("validated") == 1


ROW = """layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 2 } }
layer { name: "l" type: "HingeLoss" bottom: "ip" bottom: "label" top: "l" }"""
WHOLE = 'layer { name: "pool" type: "Pooling" bottom: "a" top: "pool" pooling_param { global_pooling: true } }'


@pytest.mark.parametrize(
    ("outputs", "more", "words", "said"),
    [
        (3, WHOLE + ROW, [], "loss 'l' (HingeLoss) takes one label for each image; "),
        (3, EUCLIDEAN.replace("?", "label"), [], "with one number for each pixel; the net gives 3 as 'a'"),
        (3, EUCLIDEAN.replace("?", "data"), ["--normalization", "FULL"], "'l' is one that Caffe divides by the images"),
        (3, EUCLIDEAN.replace("?", "data"), ["--loss", "focal"], "--loss focal replaces a SoftmaxWithLoss"),
    ],
)
def test_the_program_says_what_it_cannot_train(
    outputs: int, more: str, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*prepared(tmp_path, outputs=outputs, more=more), *words]) == 1
    assert said in capsys.readouterr().err


def test_void_pixels_are_no_values_to_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*prepared(tmp_path, outputs=1, more=EUCLIDEAN.replace("?", "label"), void=True)]) != 0
    assert "ignores none" in capsys.readouterr().err
    assert run([*prepared(tmp_path / "image", outputs=3, more=EUCLIDEAN.replace("?", "data"), void=True)]) == 0
