"""Settings of a net to train that were passed over: transform_param, SegNet's class weights, any ignore_label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from converters.execution import CaffeNet
from converters.formats import parse_prototxt, read_caffemodel, read_solver
from converters.passes import prepare as spec_of
from fcn_port.cli import run
from fcn_port.cli.like import card_like
from fcn_port.data import open_dataset
from fcn_port.training import softmax_with_loss, task_of
from fcn_port.training.errors import TrainingError
from fcn_port.training.losses import losses_of
from fcn_port.training.prepare import prepare
from fcn_port.training.source import source_of_solver
from fcn_port.training.transforms import Variation, transforms_of, varied
from parity_tests.datasets import noise, save

NET = """
name: "tiny"
layer {{ name: "data" type: "ImageData" top: "data" top: "label" {transform} image_data_param {{ source: "x" }} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score"
  convolution_param {{ num_output: {classes} kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_param {{ {loss} }} }}
"""


def camvid(folder: Path, *, transform: str = "", loss: str = "ignore_label: 11", grey: bool = False) -> Path:
    """A tiny net for 11 classes with its solver, and a data set in VOC's layout whose void is 11; the solver's path."""
    for number in range(3):
        labels = (noise(number, (12, 16)) % 12).astype(np.uint8)
        save(folder / "set" / "JPEGImages" / f"i{number}.jpg", noise(number, (12, 16, 3)[: 2 if grey else 3]))
        save(folder / "set" / "SegmentationClass" / f"i{number}.png", labels)
    lists = folder / "set" / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("i0\ni1\ni2\n")
    (folder / "set" / "classes.txt").write_text("".join(f"class {i}\n" for i in range(11)))
    (folder / "net.prototxt").write_text(NET.format(transform=transform, classes=11, loss=loss))
    solver = folder / "solver.prototxt"
    solver.write_text(f'net: "{folder}/net.prototxt"\nbase_lr: 0.01\nmax_iter: 2\nlr_policy: "fixed"\n')
    return solver


def prepared(folder: Path, **settings: object) -> object:
    solver = camvid(folder, **settings)  # type: ignore[arg-type]
    return prepare(source_of_solver(read_solver(solver)), open_dataset(folder / "set", split="train"), workers=0)


def test_the_ignore_label_of_a_loss_is_void_everywhere(tmp_path: Path) -> None:
    found = prepared(tmp_path)
    batch = next(found.feed.batches())  # type: ignore[attr-defined]
    assert 11 in batch.blobs["label"] and 255 not in batch.blobs["label"]
    assert 11 in found.feed.data.void  # type: ignore[attr-defined]
    labels = found.feed.data.read("i0").labels["score"]  # type: ignore[attr-defined]
    assert 255 in labels and 11 not in labels
    with pytest.raises(ValueError, match="label 11 is no class"):
        open_dataset(tmp_path / "set", split="train").read("i0")


def test_transform_param_makes_the_input_and_is_in_the_card(tmp_path: Path) -> None:
    says = "transform_param { mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.5 crop_size: 8 mirror: true }"
    found = prepared(tmp_path, transform=says)
    recipe = found.feed.preprocessing.inputs[0]  # type: ignore[attr-defined]
    assert (recipe.mean, recipe.scale, recipe.channels) == ((10, 20, 30), 0.5, "bgr")
    batch = next(found.feed.batches())  # type: ignore[attr-defined]
    assert batch.blobs["data"].shape[-2:] == (8, 8) == batch.blobs["label"].shape[-2:]


def test_a_mean_file_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"mean_file 'no.binaryproto' is not there"):
        prepared(tmp_path, transform='transform_param { mean_file: "no.binaryproto" }')


def test_a_transform_without_a_mean_subtracts_none() -> None:
    spec = parse_prototxt(NET.format(transform="transform_param { scale: 2 }", classes=3, loss=""))
    assert transforms_of(spec)["data"].mean == () and transforms_of(spec)["data"].scale == 2


def test_cuts_and_mirrors_are_the_same_for_image_and_labels_and_can_be_found_again() -> None:
    values = torch.arange(12 * 16).reshape(12, 16)
    blobs = {"data": values.float()[None], "label": values}
    seen = set()
    for position in range(40):
        cut = varied(blobs, Variation(5, True), seed=3, position=position)
        assert torch.equal(cut["data"][0].long(), cut["label"]) and cut["label"].shape == (5, 5)
        again = varied(blobs, Variation(5, True), seed=3, position=position)
        assert torch.equal(cut["label"], again["label"])
        seen.add((int(cut["label"].min()), bool(cut["label"][0, 0] > cut["label"][0, 1])))
    assert len(seen) > 20 and {flipped for _, flipped in seen} == {False, True}
    filled = varied(blobs, Variation(20), fill={"data": 0, "label": 255}.__getitem__, seed=3, position=0)
    assert filled["label"].shape == (20, 20) and int((filled["label"] == 255).sum()) == 20 * 20 - 12 * 16


@pytest.mark.parametrize("normalization", ["VALID", "BATCH_SIZE"])
def test_segnets_class_weights_by_hand(normalization: str) -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 4, 5))
    weights = (0.5, 2.0, 3.0)
    found = softmax_with_loss(scores, labels, ignore_label=3, normalization=normalization, class_weights=weights)  # type: ignore[arg-type]
    logs = torch.log_softmax(scores, 1)
    total = sum(
        -weights[int(labels[n, y, x])] * logs[n, labels[n, y, x], y, x]
        for n in range(2) for y in range(4) for x in range(5) if labels[n, y, x] != 3
    )  # fmt: skip
    divisor = int((labels != 3).sum()) if normalization == "VALID" else 2
    assert torch.isclose(found, total / divisor)
    plain = softmax_with_loss(scores, labels, ignore_label=3, normalization=normalization)  # type: ignore[arg-type]
    assert not torch.isclose(found, plain)


def test_segnets_fields_are_read_from_the_prototxt() -> None:
    loss = "ignore_label: 2 weight_by_label_freqs: true class_weighting: 0.5 class_weighting: 2"
    (found,) = losses_of(parse_prototxt(NET.format(transform="", classes=2, loss=loss)))
    assert (found.class_weights, found.by_label_counts, found.ignore_label) == ((0.5, 2.0), False, 2)
    (found,) = losses_of(parse_prototxt(NET.format(transform="", classes=2, loss="class_weighting: 3")))
    assert found.class_weights == ()
    (found,) = losses_of(parse_prototxt(NET.format(transform="", classes=2, loss="weight_by_label_freqs: true")))
    scores, labels = torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 0, 1]]])
    assert found.by_label_counts
    loss_value = found({"score": scores, "label": labels})
    assert torch.isclose(loss_value, torch.tensor(2 * np.log(2) / 3, dtype=torch.float32))


def test_like_with_another_number_of_classes_takes_inputs_only(capsys: pytest.CaptureFixture[str]) -> None:
    spec = parse_prototxt(
        'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }\n'
        'layer { name: "score" type: "Convolution" bottom: "data" top: "score"'
        " convolution_param { num_output: 5 kernel_size: 1 } }"
    )
    found = card_like("voc-fcn8s", spec_of(spec))
    assert found.classes == {} and found.palette is None and found.preprocessing is not None
    assert "21 classes and this net 5" in capsys.readouterr().err
    assert len(card_like("voc-fcn8s", None).classes["score"]) == 21


HEADS = """
{net}
input: "data" input_shape {{ dim: 2 dim: 3 dim: 4 dim: 5 }} input: "label" input_shape {{ dim: 2 dim: 1 dim: 4 dim: 5 }}
layer {{ name: "low" type: "Convolution" bottom: "data" top: "low"
  convolution_param {{ num_output: 4 kernel_size: 1 }} }}
layer {{ name: "one" type: "Convolution" bottom: "low" top: "one" {one}
  convolution_param {{ num_output: 3 kernel_size: 1 }} }}
layer {{ name: "two" type: "Convolution" bottom: "low" top: "two"
  convolution_param {{ num_output: 3 kernel_size: 1 }} }}
layer {{ name: "loss1" type: "SoftmaxWithLoss" bottom: "one" bottom: "label" top: "loss1" }}
layer {{ name: "loss2" type: "SoftmaxWithLoss" bottom: "two" bottom: "label" top: "loss2" {two} }}
"""
NO = "propagate_down: false"


@pytest.mark.parametrize("net", ["", "force_backward: true"])
@pytest.mark.parametrize("two", ["", f"{NO} {NO}"])
@pytest.mark.parametrize("one", ["", NO])
def test_propagate_down_says_who_learns(one: str, two: str, net: str) -> None:
    """net.cpp, AppendBottom: a bottom is told nothing where it is false, but with force_backward (Init) it is."""
    task = task_of(parse_prototxt(HEADS.format(net=net, one=one, two=two)))
    r = np.random.default_rng(1)
    state = {key: r.standard_normal(tuple(blob.shape)) for key, blob in task.net.state_dict().items()}
    task.net.double().load_state_dict({key: torch.from_numpy(blob) for key, blob in state.items()})
    x, label = r.standard_normal((2, 3, 4, 5)), r.integers(0, 3, (2, 4, 5))
    blobs = {"data": torch.from_numpy(x), "label": torch.from_numpy(label[:, None])}
    task.net.train()
    losses = task.losses_of(blobs)
    torch.stack(list(losses.values())).sum().backward()

    low = np.einsum("ok,nkyx->noyx", state["low.weight"][:, :, 0, 0], x) + state["low.bias"][:, None, None]
    expected = {"low": 0.0, "one": 0.0, "two": 0.0}
    for layer, (loss_learns, low_learns) in {
        "one": (True, not one or bool(net)), "two": (not two or bool(net), not two or bool(net)),
    }.items():  # fmt: skip
        weight = state[f"{layer}.weight"][:, :, 0, 0]
        scores = np.einsum("ok,nkyx->noyx", weight, low) + state[f"{layer}.bias"][:, None, None]
        p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
        slope = (p - (label[:, None] == np.arange(3)[:, None, None])) / label.size
        expected[layer] = np.einsum("noyx,nkyx->ok", slope, low) * loss_learns
        expected["low"] = expected["low"] + np.einsum("noyx,ok,nlyx->kl", slope, weight, x) * low_learns
    for layer, gradient in expected.items():
        found = task.net.get_parameter(f"{layer}.weight").grad
        found = np.zeros_like(gradient) if found is None else found.numpy()[:, :, 0, 0]
        np.testing.assert_allclose(found, gradient, atol=1e-12, err_msg=layer)


def test_a_net_of_which_nothing_learns_gathers_its_statistics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = camvid(tmp_path)
    still = "param { lr_mult: 0 } param { lr_mult: 0 }"
    net = NET.format(transform="", classes=11, loss="ignore_label: 11").replace(
        "convolution_param", f"{still} convolution_param"
    )
    norm = 'layer { name: "norm" type: "BatchNorm" bottom: "data" top: "norm" }\n'
    net = net.replace('layer { name: "score"', f'{norm}layer {{ name: "score"').replace(
        'bottom: "data" top: "score"', 'bottom: "norm" top: "score"'
    )
    (tmp_path / "net.prototxt").write_text(net)
    words = ["train", "--solver", str(solver), "--data", str(tmp_path / "set"), "--val-split", "none", "--workers", "0"]
    assert run([*words, "--out", str(tmp_path / "out"), "--snapshot", "1"]) == 0
    first, second = (read_caffemodel(tmp_path / "out" / f"tiny_iter_{i}.caffemodel").blobs for i in (1, 2))
    np.testing.assert_array_equal(first["score"][0], second["score"][0])
    assert second["norm"][2] == pytest.approx(0.999 * first["norm"][2] + 1)
    layers = NET.format(transform="", classes=11, loss="ignore_label: 11").strip().splitlines()
    repeated = 'layer { name: "tile" type: "Tile" bottom: "data" top: "tile" tile_param { tiles: 4 } }'
    cut = 'layer { name: "cut" type: "Slice" bottom: "tile" top: "score" top: "rest" slice_param { slice_point: 11 } }'
    (tmp_path / "net.prototxt").write_text("\n".join([*layers[:2], repeated, cut, layers[-1]]))
    assert run([*words, "--out", str(tmp_path / "none")]) == 1
    assert "has no weights" in capsys.readouterr().err


def test_a_rate_that_grows_beyond_float32_is_the_solvers_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    solver = camvid(tmp_path)
    solver.write_text(f'net: "{tmp_path}/net.prototxt" base_lr: 1e-30 lr_policy: "exp" gamma: 1e30 max_iter: 9')
    words = ["train", "--solver", str(solver), "--data", str(tmp_path / "set"), "--val-split", "none", "--workers", "0"]
    assert run([*words, "--out", str(tmp_path / "out")]) == 3
    assert f"fcn-port: {solver}: lr_policy 'exp' gives no learning rate at iteration 3" in capsys.readouterr().err


@pytest.mark.parametrize("layer", ["BatchNorm", "BN"])
@pytest.mark.parametrize("training", [False, True])
def test_statistics_get_no_gradients(layer: str, training: bool) -> None:
    """As people who train a net of their own say `requires_grad_()` to all of it: PyTorch ended the pass."""
    net = CaffeNet(
        parse_prototxt(f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: [2, 3, 4, 4] }} }} }}
        layer {{ name: "c" type: "Convolution" bottom: "x" top: "c" convolution_param {{ num_output: 4 kernel_size: 1
          weight_filler {{ type: "xavier" }} }} }}
        layer {{ name: "b" type: "{layer}" bottom: "c" top: "b" }}""")
    )
    net.train(training).requires_grad_()
    net(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    learned = {"c.weight", "c.bias"} | ({"b.weight", "b.bias"} if layer == "BN" else set())
    assert {name for name, each in net.named_parameters() if each.grad is not None} == learned
