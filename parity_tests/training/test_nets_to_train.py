"""What a net to train says and a loss must not pass over: names, labels, axes, weights, phases, and fields of forks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import NetError, from_state_dict, parse_prototxt
from converters.formats import SolverSpec
from converters.formats.solver import parse_solver
from fcn_port.cli import run
from fcn_port.training import CaffeSolver, parameter_groups, softmax_with_loss, task_of
from fcn_port.training.building import groups_of, net_and_losses
from fcn_port.training.changes import Changes
from fcn_port.training.choices import Normalization
from fcn_port.training.losses import SigmoidCrossEntropyLoss
from fcn_port.training.snapshots import to_solverstate
from fcn_port.training.source import TrainingSource
from fcn_port.training.testing import CaffeAccuracy
from fcn_port.training.translation import Gathering
from parity_tests.runs import shapes
from parity_tests.training.test_test_net import RECORDED, prepared, told_in

NET = """
input: "data" input_shape {{ dim: 2 dim: 3 dim: 4 dim: 5 }} input: "label" input_shape {{ dim: 2 dim: 1 dim: 4 dim: 5 }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score" {conv}
  convolution_param {{ num_output: 3 kernel_size: 1 }} }}
{before}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "{label}" top: "loss" {loss} }}
{more}
"""


def net(*, conv: str = "", before: str = "", label: str = "label", loss: str = "", more: str = "") -> str:
    return NET.format(conv=conv, before=before, label=label, loss=loss, more=more)


def losses(text: str, seed: int = 0) -> Mapping[str, float]:
    """The losses of a net with weights, images and labels by a seed; the labels are fed under `label`."""
    task = task_of(parse_prototxt(text))
    r = np.random.default_rng(seed)
    state = {key: torch.from_numpy(r.standard_normal(tuple(b.shape))) for key, b in task.net.state_dict().items()}
    task.net.double().load_state_dict(state)
    blobs = {"data": torch.from_numpy(r.standard_normal((2, 3, 4, 5)))}
    blobs["label"] = torch.from_numpy(r.integers(0, 3, (2, 1, 4, 5)))
    return {name: loss.item() for name, loss in task.losses_of(blobs).items()}


@pytest.mark.parametrize("weight", ["", "loss_weight: 0"])
def test_a_loss_that_depends_on_no_weights_is_computed_beside_others(weight: str) -> None:
    """Caffe computes it, and nothing learns from it; its scores were taken for labels and left out."""
    image = 'layer { name: "shown" type: "Sigmoid" bottom: "data" top: "shown" } '
    beside = f'layer {{ name: "own" type: "SoftmaxWithLoss" bottom: "shown" bottom: "label" top: "own" {weight} }}'
    found = losses(net(more=image + beside))
    assert found["loss"] == pytest.approx(losses(net())["loss"])
    r = np.random.default_rng(0)
    for shape in ((3, 3, 1, 1), (3,)):
        r.standard_normal(shape)  # the weights
    x = torch.from_numpy(r.standard_normal((2, 3, 4, 5))).sigmoid()
    labels = torch.from_numpy(r.integers(0, 3, (2, 1, 4, 5)))
    expected = -x.log_softmax(1).gather(1, labels).mean()
    assert found["own"] == pytest.approx(0 if weight else float(expected))


# Fields of forks, and mistyped ones


@pytest.mark.parametrize(
    ("part", "text", "field"),
    [
        ("loss", "loss_param { ignore_lable: 0 }", "loss_param.ignore_lable"),
        ("loss", "loss_param { normalisation: NONE }", "loss_param.normalisation"),
        ("loss", "softmax_param { temperature: 2 }", "softmax_param.temperature"),
        ("conv", "param { lr_multi: 0 }", "param.lr_multi"),
        ("conv", "param { decay_mul: 0 }", "param.decay_mul"),
        ("conv", "weight_lr_mult: 0", "weight_lr_mult"),
        (
            "before",
            'layer { name: "n" type: "BatchNorm" bottom: "score" top: "score" batch_norm_param { var_momentum: 0.5 } }',
            "batch_norm_param.var_momentum",
        ),
        (
            "before",
            'layer { name: "n" type: "Normalize" bottom: "score" top: "score" normalize_param { bp_norm: true } }',
            "normalize_param.bp_norm",
        ),
    ],
)
def test_a_field_that_says_how_a_net_learns_is_not_passed_over(part: str, text: str, field: str) -> None:
    with pytest.raises(NetError, match=field) as caught:
        task_of(parse_prototxt(net(**{part: text})))
    assert caught.value.hint


def test_fields_of_which_nothing_depends_pass() -> None:
    more = 'layer { name: "a" type: "Accuracy" bottom: "score" bottom: "label" top: "a" accuracy_param { fork: 1 } }'
    expected = losses(net())
    assert losses(net(loss="softmax_param { engine: MKL2017 }", conv="forward_type: FLOAT", more=more)) == expected


# Labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "before",
    [
        'layer { name: "l" type: "Split" bottom: "label" top: "l" top: "m" }',
        'layer { name: "l" type: "Reshape" bottom: "label" top: "l" reshape_param { shape { dim: 0 dim: -1 } } }',
        'layer { name: "k" type: "Flatten" bottom: "label" top: "k" }'
        'layer { name: "l" type: "Split" bottom: "k" top: "l" }',
    ],
    ids=["split", "reshape", "flatten"],
)
def test_labels_under_another_name_are_the_data_layers(before: str, seed: int) -> None:
    assert losses(net(before=before, label="l"), seed) == losses(net(), seed)


@pytest.mark.parametrize("top", ["l", "label"])
@pytest.mark.parametrize(
    "layer", ['"Power" power_param { shift: 1 }', '"Interp" interp_param { shrink_factor: 2 }', '"Threshold"']
)
def test_labels_that_are_computed_are_refused(layer: str, top: str) -> None:
    kind, _, settings = layer.partition(" ")
    before = f'layer {{ name: "l" type: {kind} bottom: "label" top: "{top}" {settings} }}'
    with pytest.raises(NetError, match=f"its labels '{top}' must be data"):
        task_of(parse_prototxt(net(before=before, label=top)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ignore", [None, 0])
@pytest.mark.parametrize("normalization", ["BATCH_SIZE", "VALID"])
def test_labels_of_a_sigmoid_loss_are_probabilities(
    normalization: Normalization, ignore: int | None, seed: int
) -> None:
    """sigmoid_cross_entropy_loss_layer.cpp:79-87 and 104-117: target[i] counts, its whole part alone is ignored."""
    r = np.random.default_rng(seed)
    x, target = r.standard_normal((2, 1, 3, 4)) * 3, r.uniform(0, 2, (2, 1, 3, 4))
    scores = torch.from_numpy(x).requires_grad_()
    loss = SigmoidCrossEntropyLoss(ignore_label=ignore, normalization=normalization)
    found = loss({"score": scores, "label": torch.from_numpy(target)})
    found.backward()
    known = np.ones_like(x, bool) if ignore is None else target.astype(int) != ignore
    each = -(x * (target - (x >= 0)) - np.log(1 + np.exp(x - 2 * x * (x >= 0))))
    divisor = 2 if normalization == "BATCH_SIZE" else known.sum()
    assert found.item() == pytest.approx((each * known).sum() / divisor, rel=1e-12)
    assert scores.grad is not None
    np.testing.assert_allclose(scores.grad, (1 / (1 + np.exp(-x)) - target) * known / divisor, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_net_without_its_data_layer_trains_on_what_it_reads(seed: int) -> None:
    """As DeepLab's and DIGITS' nets of one phase are: whoever runs them adds the layer."""
    bare = net().split("\n", 2)[2]
    assert 'input: "data"' in net() and "input" not in bare
    assert losses(bare, seed) == losses(net(), seed)


# Names, weights, axes and phases


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_two_losses_of_one_name_both_count(weight: float) -> None:
    """net.cpp sets no bound on names: each layer's loss is added."""
    again = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "b" loss_weight: ? }'
    found = losses(net(more=again.replace("?", str(weight))))
    assert list(found) == ["loss", "loss_2"]
    assert found["loss_2"] == pytest.approx(weight * found["loss"])


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"loss": "loss_weight: 2 loss_weight: 3"}, "loss_weight is given 2 times"),  # layer.hpp, SetLossWeights
        ({"loss": "propagate_down: false"}, "propagate_down is given 1 times; expected 0 or 2"),  # net.cpp, Init
        (
            {"more": 'layer { name: "p" type: "Power" bottom: "score" top: "score" power_param { scale: 3 } }'},
            "changes 'score' in place, which another layer reads",  # insert_splits.cpp, and AppendTop of net.cpp
        ),
        (
            {"before": 'layer { name: "d" type: "Dropout" bottom: "score" top: "score" phase: TEST }'},
            "phase is TEST in a net of the phase TRAIN",  # net.cpp, Init
        ),
    ],
)
def test_what_caffe_refuses_or_does_otherwise_is_refused(parts: dict[str, str], said: str) -> None:
    with pytest.raises(NetError, match=said):
        task_of(parse_prototxt(net(**parts)))


@pytest.mark.parametrize("first", ["VALID", "BATCH_SIZE"])
@pytest.mark.parametrize("second", ["VALID", "BATCH_SIZE"])
def test_a_normalization_that_is_asked_for_is_that_of_all_losses(first: str, second: str, tmp_path: Path) -> None:
    more = f"""layer {{ name: "b" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "b"
        loss_param {{ normalization: {second} }} }}"""
    spec = parse_prototxt(net(loss=f"loss_param {{ normalization: {first} }}", more=more))
    source = TrainingSource("it", SolverSpec(base_lr=1.0), Gathering(1, 1, first), net=spec)  # type: ignore[arg-type]
    task = net_and_losses(source, shapes(tmp_path), changes=Changes(normalization="VALID"))
    assert {loss.normalization for loss in task.losses} == {"VALID"}
    assert [each.normalization for each in net_and_losses(source, shapes(tmp_path)).losses] == [first, second]


@pytest.mark.parametrize("axis", [4, 5, -5])
def test_an_axis_that_is_not_there_is_refused(axis: int) -> None:
    scores, labels = torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 5)
    with pytest.raises(NetError, match=f"the classes are on axis {axis}; the scores have 4 axes"):
        softmax_with_loss(scores, labels, axis=axis)
    with pytest.raises(NetError, match=f"the classes are on axis {axis}; the scores have 4 axes"):
        CaffeAccuracy("a", "s", "l", axis=axis)({"s": scores, "l": labels})


def test_a_label_is_asked_for_each_place() -> None:
    """softmax_loss_layer.cpp, Reshape."""
    with pytest.raises(NetError, match=r"labels of \(2, 4, 4\) for scores of \(2, 3, 4, 5\)"):
        softmax_with_loss(torch.zeros(2, 3, 4, 5), torch.zeros(2, 4, 4))


def test_an_accuracy_of_more_places_than_classes_is_refused() -> None:
    """accuracy_layer.cpp, Reshape."""
    blobs = {"s": torch.zeros(1, 3, 1, 1), "l": torch.zeros(1, 1, 1)}
    assert CaffeAccuracy("a", "s", "l", top_k=3)(blobs) == 1.0
    with pytest.raises(NetError, match="top_k is 4; the net scores 3 classes"):
        CaffeAccuracy("a", "s", "l", top_k=4)(blobs)


def test_a_loss_without_a_top_is_tested_too(tmp_path: Path) -> None:
    """loss_layer.hpp, AutoTopBlobs; solver.cpp, Test, adds its loss up."""
    given = prepared(tmp_path)
    path = tmp_path / "net.prototxt"
    path.write_text(path.read_text().replace(' top: "loss"', ""))
    assert run([*given, "--max-iter", "1"]) == 0
    (found,) = told_in(tmp_path)
    assert found["loss"] == pytest.approx(RECORDED["tested"][0]["outputs"]["loss"], rel=2e-5)


# What leads to no loss

BRANCH = """
layer {{ name: "side" type: "Convolution" bottom: "score" top: "side"
  convolution_param {{ num_output: 2 kernel_size: 1 }} }}
layer {{ name: "norm" type: "BatchNorm" bottom: "side" top: "norm"
  batch_norm_param {{ moving_average_fraction: 0.5 }} }}
{end}
"""
ENDS = {
    "output": "",
    "silence": 'layer { name: "end" type: "Silence" bottom: "norm" }',
    "accuracy": 'layer { name: "end" type: "Accuracy" bottom: "norm" bottom: "label" top: "end" }',
    "no weight": 'layer { name: "end" type: "SoftmaxWithLoss" bottom: "norm" bottom: "label" loss_weight: 0 }',
}


@pytest.mark.parametrize("end", ENDS.values(), ids=list(ENDS))
def test_weights_that_lead_to_no_loss_are_kept_and_decay(end: str) -> None:
    """net.cpp, AppendParam and ToProto: all layers' blobs are learned and saved; sgd_solver.cpp: all of them decay."""
    task = task_of(parse_prototxt(net(more=BRANCH.format(end=end))))
    spec = parse_solver('base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 weight_decay: 0.5')
    solver = CaffeSolver(parameter_groups(task.net, task.spec), spec)
    r = np.random.default_rng(1)
    state = {key: torch.from_numpy(r.standard_normal(tuple(b.shape))) for key, b in task.net.state_dict().items()}
    state |= {"norm.weight": torch.zeros(2), "norm.bias": torch.zeros(2), "norm.blob2": torch.zeros(1)}
    task.net.double().load_state_dict(state)
    task.net.train()
    side, history = state["side.weight"].clone(), torch.zeros(())
    for _ in range(3):
        blobs = {"data": torch.from_numpy(r.standard_normal((2, 3, 4, 5))), "label": torch.zeros(2, 1, 4, 5)}
        torch.stack(list(task.losses_of(blobs).values())).sum().backward()
        solver.step()
        solver.zero_grad()
        history = 0.9 * history + 0.1 * 0.5 * side
        side = side - history
    saved = from_state_dict(task.net.state_dict(), task.spec).blobs
    np.testing.assert_allclose(saved["side"][0], side, rtol=1e-6)
    assert saved["norm"][2] == pytest.approx(1.75) and np.abs(saved["norm"][0]).min() > 0
    assert len(to_solverstate(solver, learned_net="it").history) == 7


def test_a_loss_of_no_weight_is_not_counted_whatever_it_is() -> None:
    """layer.hpp:420-425: a top whose loss weight is 0 is passed over."""
    more = """layer { name: "big" type: "Power" bottom: "score" top: "big" power_param { scale: 1e38 power: 9 } }
        layer { name: "none" type: "SoftmaxWithLoss" bottom: "big" bottom: "label" top: "none" loss_weight: 0 }"""
    found = losses(net(more=more))
    assert found["none"] == 0 and found["loss"] == losses(net())["loss"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("forced", [False, True])
def test_clipping_counts_the_gradients_of_fixed_blobs_where_they_are_forced(forced: bool, seed: int) -> None:
    """net.cpp:234-251: with force_backward every blob has its gradient, which ClipGradients adds to the norm."""
    still = "param { lr_mult: 0 } param { lr_mult: 0 }"
    top = 'layer { name: "top" type: "Convolution" bottom: "score" top: "top"'
    top += " convolution_param { num_output: 3 kernel_size: 1 } }"
    text = net(conv=still, before=top).replace('bottom: "score" bottom: "label"', 'bottom: "top" bottom: "label"')
    task = task_of(parse_prototxt(f"force_backward: {str(forced).lower()} {text}"))
    r = np.random.default_rng(seed)
    state = {key: torch.from_numpy(r.standard_normal(tuple(b.shape))) for key, b in task.net.state_dict().items()}
    task.net.double().load_state_dict(state)
    blobs = {"data": torch.from_numpy(r.standard_normal((2, 3, 4, 5)))}
    blobs["label"] = torch.from_numpy(r.integers(0, 3, (2, 1, 4, 5)))
    solver = CaffeSolver(groups_of(task, {}), parse_solver('base_lr: 1 lr_policy: "fixed" clip_gradients: 0.125'))
    task.losses_of(blobs)["loss"].backward()
    solver.step()

    copies = {key: blob.clone().requires_grad_() for key, blob in state.items()}
    score = torch.nn.functional.conv2d(blobs["data"], copies["score.weight"], copies["score.bias"])
    found = torch.nn.functional.conv2d(score, copies["top.weight"], copies["top.bias"])
    softmax_with_loss(found, blobs["label"]).backward()
    counted = [blob.grad for key, blob in copies.items() if forced or key.startswith("top.")]
    norm = torch.cat([gradient.flatten() for gradient in counted if gradient is not None]).norm()
    assert norm > 0.125
    for key, blob in task.net.state_dict().items():
        gradient = copies[key].grad if key.startswith("top.") else None
        expected = state[key] if gradient is None else state[key] - gradient * 0.125 / norm
        torch.testing.assert_close(blob, expected, rtol=1e-6, atol=1e-9)


def test_a_normalization_that_is_none_is_named() -> None:
    with pytest.raises(NetError, match="there is no normalization 'valid'; expected VALID, FULL, BATCH_SIZE, NONE"):
        softmax_with_loss(torch.zeros(1, 2, 1, 1), torch.zeros(1, 1, 1), normalization="valid")  # type: ignore[arg-type]
