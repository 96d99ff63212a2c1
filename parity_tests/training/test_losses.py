"""Losses beside SoftmaxWithLoss: Caffe's own by its recordings, HED's balance, focal and dice by hand and by torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import NetError, parse_prototxt
from fcn_port.data import open_dataset
from fcn_port.data.frequencies import median_frequency_weights
from fcn_port.training import task_of
from fcn_port.training.errors import TrainingError
from fcn_port.training.losses import (
    DiceLoss,
    FocalLoss,
    InfogainLoss,
    LossChoice,
    SigmoidCrossEntropyLoss,
    SoftmaxWithLoss,
    chosen,
)
from fcn_port.training.testing import CaffeAccuracy
from parity_tests import loss_cases
from parity_tests.datasets import noise, save
from parity_tests.oracle.client import Oracle
from parity_tests.oracle.record_solver import solve_loss
from parity_tests.tolerances import tolerance


@pytest.mark.parametrize("name", loss_cases.CASES)
def test_losses_and_weights_are_caffes(name: str, tmp_path: Path) -> None:
    case = loss_cases.CASES[name]
    found = loss_cases.train(case, loss_cases.task(case, tmp_path))
    assert loss_cases.furthest(found, loss_cases.recorded(name)) <= tolerance("oracle-live")


@pytest.mark.oracle
@pytest.mark.parametrize("name", loss_cases.CASES)
def test_caffe_does_what_was_recorded(oracle: Oracle, name: str) -> None:
    found = solve_loss(oracle, loss_cases.CASES[name])
    assert loss_cases.furthest(found, loss_cases.recorded(name)) <= tolerance("oracle-live")


WRONG = {
    "infogain": lambda loss: replace(loss, matrix=tuple(zip(*loss.matrix, strict=True))),  # columns for rows
    "infogain-ignored": lambda loss: replace(loss, normalization="FULL"),
    "sigmoid": lambda loss: replace(loss, normalization="VALID"),  # what SoftmaxWithLoss takes where nothing is said
    "sigmoid-ignored": lambda loss: replace(loss, ignore_label=None),
    "euclidean": lambda loss: replace(loss, weight=2.0),  # without the half
    "euclidean-pair": lambda loss: replace(loss, stopped=(1,)),  # labels learn nothing
    "euclidean-first": lambda loss: replace(loss, stopped=()),
    "euclidean-second": lambda loss: replace(loss, stopped=(1,)),
    "hinge": lambda loss: replace(loss, norm="L2"),
    "multinomial": lambda loss: replace(loss, weight=7.0),  # the sum
    "contrastive": lambda loss: replace(loss, legacy=True),
    "contrastive-legacy": lambda loss: replace(loss, margin=1.0),
    "contrastive-first": lambda loss: replace(loss, stopped=(0,)),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_variant_is_seen(name: str, tmp_path: Path) -> None:
    case = loss_cases.CASES[name]
    task = loss_cases.task(case, tmp_path)
    wrong = replace(task, losses=tuple(WRONG[name](loss) for loss in task.losses))
    assert loss_cases.furthest(loss_cases.train(case, wrong), loss_cases.recorded(name)) > 1e-3


def test_the_unit_matrix_is_softmax_with_loss() -> None:
    scores, labels = loss_cases.tensors(loss_cases.CASES["infogain-ignored"])
    unit = tuple(tuple(row) for row in np.eye(loss_cases.CLASSES).tolist())
    blobs = {"score": scores, "label": labels}
    softmax, infogain = SoftmaxWithLoss(ignore_label=255), InfogainLoss(ignore_label=255, matrix=unit)
    assert torch.isclose(infogain(blobs), softmax(blobs))


@pytest.mark.parametrize(
    ("layer", "said"),
    {
        "": "neither in a file nor a third bottom",
        'infogain_loss_param { source: "no.binaryproto" }': "'no.binaryproto' is not there, nor beside",
        'infogain_loss_param { source: "x" } loss_param { normalize: true }': "normalization in place of normalize",
    }.items(),
)
def test_an_infogain_layer_that_cannot_be_is_refused(layer: str, said: str) -> None:
    own = 'infogain_loss_param { source: "H.binaryproto" }'
    text = loss_cases.net_of(loss_cases.CASES["infogain"]).replace(own, layer)
    with pytest.raises(NetError, match=said):
        task_of(parse_prototxt(text))


@pytest.mark.parametrize("label", [-100, -1, 4, 255])
@pytest.mark.parametrize("kind", ["softmax", "infogain", "focal", "dice", "accuracy"])
def test_a_label_that_is_no_class_is_refused(kind: str, label: int) -> None:
    """Caffe reads past its scores there; an infogain of -1 was the last class, others ended in IndexError."""
    scores, labels = loss_cases.tensors(loss_cases.CASES["infogain"])
    labels[0, 1, 2] = label
    unit = tuple(tuple(row) for row in np.eye(loss_cases.CLASSES).tolist())
    for ignored in (None, label):
        judge = {
            "softmax": SoftmaxWithLoss(ignore_label=ignored),
            "infogain": InfogainLoss(ignore_label=ignored, matrix=unit),
            "focal": FocalLoss(ignore_label=ignored),
            "dice": DiceLoss(ignore_label=ignored),
            "accuracy": CaffeAccuracy("loss", "score", "label", ignore_label=ignored),
        }[kind]
        if ignored is None:
            with pytest.raises(NetError, match=f"a label of {label}; the net scores 4 classes"):
                judge({"score": scores, "label": labels})
        else:
            assert np.isfinite(float(judge({"score": scores, "label": labels})))


# HED's balance


def test_the_balance_of_hed_by_hand() -> None:
    """Image by image: 1 of 4 pixels is an edge, so it counts 3/4, and each of the others 1/4."""
    scores = torch.tensor([[[[0.5, -1.0], [2.0, 0.0]]], [[[1.0, 1.0], [-3.0, 0.25]]]], requires_grad=True)
    labels = torch.tensor([[[1, 0], [0, 0]], [[1, 1], [255, 0]]])
    loss = SigmoidCrossEntropyLoss(ignore_label=255, normalization="BATCH_SIZE", balanced=True)
    found = loss({"score": scores, "label": labels})
    log = lambda x: np.log1p(np.exp(x))  # noqa: E731
    first = 0.75 * log(-0.5) + 0.25 * (log(-1.0) + log(2.0) + log(0.0))
    second = 1 / 3 * (log(-1.0) + log(-1.0)) + 2 / 3 * log(0.25)
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-6)
    found.backward()
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    assert scores.grad is not None
    assert scores.grad[0, 0, 0, 0].item() == pytest.approx(0.75 * (sigmoid(0.5) - 1) / 2, rel=1e-5)
    assert scores.grad[1, 0, 1, 0] == 0 and scores.grad[1, 0, 1, 1].item() == pytest.approx(
        2 / 3 * sigmoid(0.25) / 2, rel=1e-5
    )
    assert not torch.isclose(found, replace(loss, balanced=False)({"score": scores, "label": labels}))


def test_an_image_without_edges_has_no_balanced_loss_and_finite_gradients() -> None:
    scores = torch.randn(1, 1, 3, 3, requires_grad=True)
    found = SigmoidCrossEntropyLoss(balanced=True)({"score": scores, "label": torch.zeros(1, 3, 3)})
    found.backward()
    assert found.item() == 0 and scores.grad is not None and torch.isfinite(scores.grad).all()


# Focal and dice


def test_focal_by_hand_and_at_its_ends() -> None:
    scores, labels = loss_cases.tensors(loss_cases.CASES["infogain-ignored"])
    blobs, weights = {"score": scores, "label": labels}, (1.0, 0.5, 2.0, 0.0)
    p = torch.softmax(scores, 1)
    total = 0.0
    for n, y, x in np.argwhere(labels.numpy() != 255).tolist():
        label = int(labels[n, y, x])
        total += -weights[label] * float((1 - p[n, label, y, x]) ** 3 * torch.log(p[n, label, y, x]))
    found = FocalLoss(ignore_label=255, class_weights=weights, gamma=3.0)(blobs)
    assert found.item() == pytest.approx(total / int((labels != 255).sum()))
    plain = SoftmaxWithLoss(ignore_label=255, class_weights=weights)(blobs)
    assert torch.isclose(FocalLoss(ignore_label=255, class_weights=weights, gamma=0.0)(blobs), plain)
    assert not torch.isclose(found, plain)


def test_focal_of_certain_scores_has_finite_gradients() -> None:
    scores = torch.tensor([[200.0, -200.0]]).reshape(1, 2, 1, 1).requires_grad_()
    for label in (0, 1):
        FocalLoss(gamma=0.5)({"score": scores, "label": torch.full((1, 1, 1), label)}).backward()
    assert scores.grad is not None and torch.isfinite(scores.grad).all()


def test_dice_by_hand_and_of_a_perfect_answer() -> None:
    scores, labels = loss_cases.tensors(loss_cases.CASES["infogain-ignored"])
    labels[labels == 2] = 1  # a class without a pixel takes no part
    p, counted = torch.softmax(scores, 1).numpy(), labels.numpy() != 255
    dice = []
    for label in (0, 1, 3):
        g = labels.numpy() == label
        dice.append(2 * p[:, label][g].sum() / (p[:, label][counted].sum() + g.sum()))
    blobs = {"score": scores, "label": labels}
    assert DiceLoss(ignore_label=255)(blobs).item() == pytest.approx(1 - np.mean(dice))
    weighed = DiceLoss(ignore_label=255, class_weights=(1.0, 3.0, 9.0, 0.0))(blobs)
    assert weighed.item() == pytest.approx(1 - (dice[0] + 3 * dice[1]) / 4)
    sure = torch.nn.functional.one_hot(labels.masked_fill(labels == 255, 0), 4).movedim(-1, 1) * 100.0
    assert DiceLoss(ignore_label=255)({"score": sure, "label": labels}).item() == pytest.approx(0, abs=1e-6)
    nothing = DiceLoss(ignore_label=255)({"score": scores, "label": torch.full_like(labels, 255)})
    assert nothing.item() == 0


# Choosing


def test_a_choice_replaces_the_softmax_and_keeps_its_fields() -> None:
    loss = SoftmaxWithLoss("l", "s", "y", 0.5, 255, "VALID", class_weights=(1.0, 2.0))
    (focal,) = chosen((loss,), LossChoice("focal", gamma=1.0))
    assert focal == FocalLoss("l", "s", "y", 0.5, 255, "VALID", (1.0, 2.0), 1.0)
    both = chosen((loss,), LossChoice("softmax+dice", (3.0, 4.0)))
    assert [each.name for each in both] == ["l", "l_dice"] and both[1].class_weights == (3.0, 4.0)  # type: ignore[attr-defined]
    assert chosen((loss,), LossChoice()) == (loss,)
    (balanced,) = chosen((SigmoidCrossEntropyLoss(),), LossChoice(balanced=True))
    assert balanced.balanced  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("loss", "choice", "said"),
    [
        (SoftmaxWithLoss(normalization="BATCH_SIZE"), LossChoice("dice"), "say --normalization VALID"),
        (SoftmaxWithLoss(), LossChoice(gamma=1.0), "say --loss focal"),
        (SoftmaxWithLoss(), LossChoice("dice", gamma=1.0), "say --loss focal"),
        (SoftmaxWithLoss(), LossChoice("softmax+dice", gamma=1.0), "say --loss focal"),
        (SoftmaxWithLoss(), LossChoice(balanced=True), "--balance is for SigmoidCrossEntropyLoss"),
        (SigmoidCrossEntropyLoss(), LossChoice("focal"), "the net has none"),
        (SigmoidCrossEntropyLoss(), LossChoice(class_weights=(1.0, 2.0)), "the net has none"),
        (SoftmaxWithLoss(axis=2), LossChoice("focal"), "classes on axis 1"),
        (SoftmaxWithLoss(by_label_counts=True), LossChoice("focal"), "has no weight_by_label_freqs"),
        (SoftmaxWithLoss(by_label_counts=True), LossChoice("dice"), "has no weight_by_label_freqs"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(loss: SoftmaxWithLoss, choice: LossChoice, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        chosen((loss,), choice)


def test_median_frequency_by_hand(tmp_path: Path) -> None:
    """a: 6 of the 8 pixels that count where it is; b, c and d 2 of 4, the median. e is nowhere."""
    void = [255] * 4
    maps = {"i0": [[0, 0, 1, 1], void], "i1": [[0, 0, 0, 0], void], "i2": [[2, 2, 3, 3], void]}
    for name, labels in maps.items():
        save(tmp_path / "images" / f"{name}.png", noise(0, (2, 4, 3)))
        save(tmp_path / "labels" / f"{name}.png", np.array(labels, np.uint8))
    (tmp_path / "dataset.toml").write_text('classes = ["a", "b", "c", "d", "e"]\n')
    found = median_frequency_weights(open_dataset(tmp_path))
    assert found == pytest.approx((0.5 / 0.75, 1.0, 1.0, 1.0, 0.0))
