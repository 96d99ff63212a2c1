"""Recipes, how weights begin, and learning rates from elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import CaffeFormatError, CaffeNet, NetError, parse_prototxt
from converters.schema import FillerParameter
from fcn_port.nets import FCN8s
from fcn_port.training import TrainingTask, find_recipe, parameter_groups, recipe_names, task_of
from fcn_port.training.changes import Changes
from fcn_port.training.errors import TrainingError
from fcn_port.training.fillers import fill
from fcn_port.training.initial import begin
from fcn_port.training.multipliers import definition
from fcn_port.training.prepare import prepare
from fcn_port.training.source import source_of_recipe
from fcn_port.training.translation import Gathering, equal_memory, translate
from parity_tests import solving
from parity_tests.datasets import make_siftflow
from parity_tests.runs import NARROW, RECIPE, shapes, state_of, write_recipe

RELEASE = {
    "voc-fcn32s": (1e-10, 0.99, 1, "BATCH_SIZE", 100000),
    "voc-fcn16s": (1e-12, 0.99, 1, "BATCH_SIZE", 100000),
    "voc-fcn8s": (1e-14, 0.99, 1, "BATCH_SIZE", 100000),
    "voc-fcn8s-atonce": (1e-10, 0.99, 1, "BATCH_SIZE", 300000),
    "voc-fcn-alexnet": (1e-4, 0.9, 20, "VALID", 100000),
    "siftflow-fcn8s": (1e-12, 0.99, 1, "BATCH_SIZE", 300000),
    "nyud-fcn32s-color-hha": (1e-12, 0.99, 1, "BATCH_SIZE", 300000),
    "cvpr-fcn-alexnet": (1e-3, 0.9, 20, "VALID", 80000),
    "cvpr-fcn32s": (1e-4, 0.9, 20, "VALID", 80000),
    "cvpr-fcn-googlenet": (5e-5, 0.9, 20, "VALID", 80000),
}
"""base_lr, momentum, iter_size, normalisation and max_iter as the solvers of the release, and the paper, have them."""


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_whole(name: str) -> None:
    from fcn_port.nets import NETS

    recipe = find_recipe(name)
    assert recipe.net in NETS and recipe.about and recipe.source
    if name != "shapes-fcn8s":  # the project's own
        assert (recipe.solver.weight_decay, recipe.batch_size, recipe.seed) == (0.0005, 1, 1337)
    if name in RELEASE:
        spec = recipe.solver
        assert (spec.base_lr, spec.momentum, spec.iter_size, recipe.normalization, spec.max_iter) == RELEASE[name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("like = 'voc-fcn33s'", "there is no such recipe"),
        ("like = 'loop.toml'", "like = 'loop.toml'; expected the name of another recipe"),
        ("net = 'voc-fcn8s'", "about is missing"),
        (RECIPE.replace("momentum", "momentun"), "solver: unknown field 'momentun'; did you mean 'momentum'"),
        (RECIPE.replace("0.9", "'high'"), "solver.momentum: expected a number, found 'high'"),
        (
            RECIPE.replace("[solver]", "order = 'random'\n[solver]"),
            "order: expected 'replacement', 'shuffled' or 'listed', found 'random'",
        ),
        (RECIPE.replace("max_iter", "lr_policy = 'cosine'\nmax_iter"), "no policy 'cosine'"),
        (RECIPE + "\n[multipliers]\n'a*' = {lr = 1}", r"multipliers.a\*.lr: expected 'lr_mult' or 'decay_mult', found"),
        (RECIPE.replace("init", "dropout = 1\ninit"), "dropout: expected at least 0 and less than 1, found 1.0"),
        (RECIPE.replace("max_iter = 8", "train_net = 'x'"), "solver: 'train_net' is not for a recipe to say"),
        ("name = 'x'\n" + RECIPE, "'name' is not for a recipe to say"),
        ("about = ", "not TOML"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, text, name="loop")
    with pytest.raises(CaffeFormatError, match=f"loop.toml: .*{said}"):
        find_recipe(str(path))


def test_a_wrong_name_gets_the_closest() -> None:
    with pytest.raises(FileNotFoundError, match="did you mean voc-fcn32s"):
        find_recipe("voc-fcn-32s")


# First weights


def test_a_net_from_nothing_begins_as_he_et_al() -> None:
    net = FCN8s(7, widths=NARROW._replace(fc6=64, fc7=64))
    beginning = begin(net, definition(net))
    state = state_of(net)
    fc6 = state["fc6.weight"]
    assert fc6.std() == pytest.approx(math.sqrt(2 / np.prod(fc6.shape[1:])), rel=0.03) and abs(fc6.mean()) < 1e-3
    assert not state["score_fr.weight"].any() and not state["conv1_1.bias"].any()
    assert state["upscore2.weight"][0, 0].max() == pytest.approx(0.5625)
    assert set(beginning.random) == {name for name, _ in net.named_children() if name.startswith(("conv", "fc"))}
    again = FCN8s(7, widths=NARROW._replace(fc6=64, fc7=64))
    begin(again, definition(again))
    assert all(np.array_equal(state[key], value) for key, value in state_of(again).items())
    begin(again, definition(again), seed=2)
    assert not np.array_equal(state["fc6.weight"], state_of(again)["fc6.weight"])


def test_a_net_from_another_keeps_what_fits_and_replaces_the_scores() -> None:
    """FCN-8s with 7 classes into one with 9: as it is fine-tuned on another data set."""
    source, net = FCN8s(7, widths=NARROW), FCN8s(9, widths=NARROW)
    begin(source, definition(source))
    torch.nn.init.normal_(source.score_fr.weight)
    beginning = begin(net, definition(net), source.state_dict())
    assert torch.equal(net.conv3_2.weight, source.conv3_2.weight) and not beginning.random
    assert net.score_fr.weight.shape[0] == 9 and not net.score_fr.weight.any()
    assert {change.source for change in beginning.surgery.of("dropped")} >= {"score_fr.weight", "upscore8.weight"}
    begin(net, definition(net), source.state_dict(), expand_scores=True)
    assert torch.equal(net.score_fr.weight[:7], source.score_fr.weight) and not net.score_fr.weight[7:].any()


def test_the_scores_of_a_prototxts_net_are_expanded_as_well() -> None:
    text = """layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, 9, 9] }} }} }}
    layer {{ name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param {{ num_output: 8 kernel_size: 3
      weight_filler {{ type: "xavier" }} }} }}
    layer {{ name: "score" type: "Convolution" bottom: "a" top: "score" convolution_param {{ num_output: {classes}
      kernel_size: 1 weight_filler {{ type: "constant" value: {value} }} }} }}"""
    old, net = (CaffeNet(parse_prototxt(text.format(classes=k, value=v))) for k, v in ((3, 5), (4, 7)))
    begin(old, old.spec)
    plain = begin(net, net.spec, old.state_dict())
    assert torch.equal(net.state_dict()["score.weight"].unique(), torch.tensor([7.0])) and plain.surgery.of("dropped")
    grown = begin(net, net.spec, old.state_dict(), expand_scores=True)
    assert net.state_dict()["score.weight"][:, 0, 0, 0].tolist() == [5, 5, 5, 7]
    assert grown.surgery.summary() == "2 copied, 2 expanded"


def test_a_net_of_a_prototxt_begins_by_its_fillers() -> None:
    text = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 50 dim: 9 dim: 9 } } }
    layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 1 dim: 1 dim: 9 dim: 9 } } }
    layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 60 kernel_size: 3
      pad: 1 weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0.25 } } }
    layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param { num_output: 40 kernel_size: 1
      weight_filler { type: "gaussian" std: 0.5 mean: 1 } bias_filler { type: "uniform" min: 2 max: 3 } } }
    layer { name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param { num_output: 30 kernel_size: 1
      weight_filler { type: "msra" variance_norm: FAN_OUT } } }
    layer { name: "d" type: "Convolution" bottom: "c" top: "d" convolution_param { num_output: 3 kernel_size: 1
      weight_filler { type: "positive_unitball" } } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "d" bottom: "label" top: "loss" }"""
    task = task_of(parse_prototxt(text))
    assert task.spec is not None
    begin(task.net, task.spec)
    state = state_of(task.net)
    bound = math.sqrt(3 / 450)
    assert np.abs(state["a.weight"]).max() == pytest.approx(bound, rel=0.01)
    assert state["a.weight"].std() == pytest.approx(bound / math.sqrt(3), rel=0.02) and (state["a.bias"] == 0.25).all()
    assert (state["b.weight"].mean(), state["b.weight"].std()) == pytest.approx((1, 0.5), rel=0.05)
    assert state["b.bias"].min() >= 2 and state["b.bias"].max() <= 3
    assert state["c.weight"].std() == pytest.approx(math.sqrt(2 / 30), rel=0.06)
    assert state["d.weight"].sum(axis=(1, 2, 3)) == pytest.approx(1) and state["d.weight"].min() >= 0
    with pytest.raises(CaffeFormatError, match=r"layer 'a' .*there is no filler 'orthogonal'"):
        wrong = task_of(parse_prototxt(text.replace("xavier", "orthogonal")))
        begin(wrong.net, wrong.spec)  # type: ignore[arg-type]


def normed(layer: str, *, rows: int = 5) -> TrainingTask:
    """A net of a layer that normalises two channels, called norm, with the weights that it begins with."""
    text = f"""input: "data" input_shape {{ dim: 3 dim: 2 dim: {rows} dim: 4 }} input: "label"
    input_shape {{ dim: 3 dim: 1 dim: {rows} dim: 4 }} layer {{ name: "norm" bottom: "data" top: "norm" {layer} }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "norm" bottom: "label" top: "loss" }}"""
    task = task_of(parse_prototxt(text))
    assert task.spec is not None
    begin(task.net, task.spec)
    return task


def test_batch_norm_gathers_from_nothing_as_caffe_does() -> None:
    """batch_norm_layer.cpp, LayerSetUp: all three blobs are 0 at first, so that the first batch is all there is."""
    task, r = normed('type: "BatchNorm" batch_norm_param { moving_average_fraction: 0.9 }'), np.random.default_rng(3)
    batches = [r.standard_normal((3, 2, 5, 4)).astype(np.float32) * 9 + 4 for _ in range(3)]
    sums, factor = np.zeros((2, 2)), 0.0
    for batch in batches:
        task.net.train()(torch.from_numpy(batch))
        own = batch.astype(np.float64).transpose(1, 0, 2, 3).reshape(2, -1)
        sums = 0.9 * sums + np.stack([own.mean(1), own.var(1, ddof=1)])
        factor = 0.9 * factor + 1
        state = state_of(task.net)
        np.testing.assert_allclose(state["norm.weight"], sums[0], rtol=1e-5)
        np.testing.assert_allclose(state["norm.bias"], sums[1], rtol=1e-5)
        assert state["norm.blob2"] == pytest.approx(factor)


FORKS = {  # what is said, the first blobs, and which of them nothing changes
    'type: "BN" bn_param { scale_filler { value: 2 } shift_filler { value: 0.001 } }': ((2, 0.001), ()),
    'type: "BN" bn_param { slope_filler { value: 3 } bias_filler { value: 0.5 } }': ((3, 0.5, 0, 0), (2, 3)),
    'type: "BN" bn_param { slope_filler { value: 3 } frozen: true }': ((3, 0, 0, 1), (0, 1, 2, 3)),
    'type: "BatchNorm" batch_norm_param { scale_filler { value: 2 } bias_filler { value: 7 } }': (
        (0, 0, 0, 2, 7), (0, 1, 2),
    ),
    'type: "Normalize" norm_param { across_spatial: false scale_filler { type: "constant" value: 20 } }': ((20,), ()),
}  # fmt: skip


@pytest.mark.parametrize("said", FORKS)
def test_layers_of_forks_that_normalise_begin_by_their_fillers(said: str) -> None:
    """bn_layer.cpp of SegNet and PSPNet, NVIDIA/caffe's batch_norm_layer.cpp, SSD's normalize_layer.cpp."""
    task = normed(said)
    first, fixed = FORKS[said]
    assert [float(blob.ravel()[0]) for blob in state_of(task.net).values()] == pytest.approx(first)
    groups = parameter_groups(task.net, task.spec)
    assert [place for place, group in enumerate(groups) if group["lr_mult"] == 0] == list(fixed)


def test_a_frozen_bn_trains_on_what_it_has_stored() -> None:
    """hszhao/PSPNet, bn_layer.cpp: frozen, its own averages count in training, too, and stay."""
    x = torch.randn(3, 2, 5, 4) * 9 + 4
    for frozen, same in (("frozen: true", True), ("", False)):
        task = normed(f'type: "BN" bn_param {{ slope_filler {{ value: 1 }} momentum: 0.9 {frozen} }}')
        stored = {"norm.blob2": torch.tensor([3.0, 5.0]), "norm.blob3": torch.tensor([4.0, 16.0])}
        task.net.load_state_dict({**task.net.state_dict(), **{k: v.reshape(1, 2, 1, 1) for k, v in stored.items()}})
        found = task.net.train()(x)
        expected = (x - torch.tensor([3.0, 5.0])[:, None, None]) / torch.tensor([2.0, 4.0])[:, None, None]
        assert torch.allclose(found, expected, atol=1e-4) == same  # type: ignore[arg-type]
        kept = [torch.equal(task.net.state_dict()[key].flatten(), value) for key, value in stored.items()]
        assert kept == [same, same]


def test_a_layer_that_shares_its_weight_has_a_bias_of_its_own() -> None:
    """net.cpp, AppendParam: as many ParamSpecs as are given, and a blob without one has multipliers of 1."""
    convolution = (
        'layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}" param {{ name: "w" lr_mult: 2 }}'
        " convolution_param {{ num_output: 3 kernel_size: 1 }} }}\n"
    )
    task = task_of(
        parse_prototxt(
            'layer { name: "data" type: "Input" top: "data" top: "label"'
            " input_param { shape { dim: [1, 3, 4, 4] } shape { dim: [1, 1, 4, 4] } } }\n"
            + convolution.format("one", "data")
            + convolution.format("two", "one")
            + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "two" bottom: "label" top: "loss" }'
        )
    )
    groups = parameter_groups(task.net, task.spec)
    found = [(group["name"], group["lr_mult"]) for group in groups]
    assert found == [("one.weight", 2.0), ("one.bias", 1.0), ("two.bias", 1.0)]


@pytest.mark.parametrize("shape", [(5,), (), (4, 3), (2, 3, 4, 4)])
def test_fillers_of_blobs_of_any_rank(shape: tuple[int, ...]) -> None:
    """filler.hpp: a unit ball for each place of the first axis, and num() of a blob without axes is 1 (blob.hpp)."""
    r = torch.Generator().manual_seed(1)
    ball = fill(FillerParameter(type="positive_unitball"), shape, r)
    assert ball.shape == shape and torch.allclose(ball.reshape(len(ball) if shape else 1, -1).sum(1), torch.tensor(1.0))
    fan = math.prod(shape[1:])
    spread = fill(FillerParameter(type="xavier"), shape, r).abs().max()
    assert 0 < spread <= math.sqrt(3 / fan)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"type": "uniform", "min": 2}, "uniform filler from 2 to 1"),
        ({"type": "uniform", "min": math.nan}, "uniform filler from nan to 1"),
        ({"type": "uniform", "max": math.inf}, "uniform filler from 0 to inf"),
        ({"type": "gaussian", "std": -1}, "gaussian filler with std -1"),
        ({"type": "gaussian", "std": math.nan}, "gaussian filler with std nan"),
        ({"type": "gaussian", "std": 0}, "std 0; it must be above 0"),
        ({"type": "gaussian", "sparse": -2}, "gaussian filler with sparse -2"),
        ({"type": "gaussian", "sparse": 3}, "gaussian filler with sparse 3"),
        *(({"type": kind, "sparse": 1}, f"{kind} filler with sparse 1") for kind in ("constant", "xavier", "msra")),
    ],
)
def test_fillers_that_caffe_refuses(settings: dict, said: str) -> None:
    with pytest.raises(NetError, match=said):
        fill(FillerParameter(**settings), (2, 3), torch.Generator())


# Rates

RELEASED = Gathering(1, 1, "BATCH_SIZE")


@pytest.mark.parametrize(
    ("goal", "rate"),
    [
        (Gathering(1, 1, "BATCH_SIZE"), 1e-10),
        (Gathering(4, 5, "BATCH_SIZE"), 20e-10),
        (Gathering(1, 1, "VALID"), 1e-10 * 180000),
        (Gathering(2, 10, "VALID"), 20e-10 * 180000),
        (Gathering(4, 1, "NONE"), 1e-10),
        (Gathering(4, 3, "NONE"), 3e-10),
    ],
)
def test_a_rate_is_translated(goal: Gathering, rate: float) -> None:
    found = translate(1e-10, RELEASED, goal, pixels=lambda: 180000.0)
    assert found.rate == pytest.approx(rate) and bool(found.reason) == (found.rate != 1e-10)
    assert translate(found.rate, goal, RELEASED, pixels=lambda: 180000.0).rate == pytest.approx(1e-10)


def test_the_papers_momentum_for_online_learning() -> None:
    """PAMI 2016: momentum 0.9 with batches of 20 is about 0.9^(1/20) = 0.995 with one image."""
    assert equal_memory(0.9, Gathering(20, 1, "VALID"), Gathering(1, 1, "VALID")) == pytest.approx(0.9 ** (1 / 20))


@pytest.mark.parametrize("goal", [Gathering(1, 1, "VALID"), Gathering(2, 1, "FULL"), Gathering(1, 2, "NONE")], ids=str)
def test_a_translated_rate_moves_the_weights_as_much(goal: Gathering) -> None:
    """One step of plain SGD on images with equal pixels: the steps per image are the same to rounding."""
    case = solving.CASES["loss-no-ignored"]
    moved = {}
    for gathering in (RELEASED, goal):
        task = solving.zoo_task(case)
        losses = tuple(replace(loss, normalization=gathering.normalization, ignore_label=None) for loss in task.losses)
        rate = translate(1e-3, RELEASED, gathering, pixels=lambda: 80.0).rate
        from converters.formats.solver import SolverSpec

        spec = SolverSpec(base_lr=rate, iter_size=gathering.iter_size)
        batch = {name: blob[:1] for name, blob in solving.zoo_batches(case, steps=1)[0].items()}
        whole = {name: np.repeat(blob, gathering.batch_size, axis=0) for name, blob in batch.items()}
        done = solving.train(replace(task, losses=losses), spec, [whole])
        change = done.blobs["conv"][0] - done.init["conv"][0]
        moved[gathering] = change / gathering.images
    np.testing.assert_allclose(moved[goal], moved[RELEASED], rtol=1e-3, atol=1e-7)


# Everything together


def test_a_recipe_becomes_a_run(tmp_path: Path) -> None:
    data = shapes(tmp_path)
    text = RECIPE + "\n[multipliers]\n'conv1_*' = { lr_mult = 0 }\n'score*.bias' = { lr_mult = 3, decay_mult = 1 }\n"
    source = source_of_recipe(find_recipe(str(write_recipe(tmp_path, text))))
    ready = prepare(source, data, changes=Changes(batch_size=2, iter_size=3, max_iter=5))
    assert ready.rate.rate == pytest.approx(6e-3) and ready.solver.spec.base_lr == ready.rate.rate
    assert "6 images an update instead of 1" in ready.rate.reason
    groups = {group["name"]: group for group in ready.solver.param_groups}
    assert groups["conv1_1.weight"]["lr_mult"] == groups["upscore8.weight"]["lr_mult"] == 0
    assert (groups["score_fr.bias"]["lr_mult"], groups["score_fr.bias"]["decay_mult"]) == (3, 1)
    assert not ready.task.net.conv1_1.weight.requires_grad and ready.task.net.conv2_1.weight.requires_grad
    assert prepare(source, data, changes=Changes(batch_size=2, lr=0.5)).solver.spec.base_lr == 0.5


@pytest.mark.parametrize(("line", "expected"), [("", 0.5), ("dropout = 0\n", 0.0), ("dropout = 0.25\n", 0.25)])
def test_a_recipe_may_drop_other_shares(line: str, expected: float, tmp_path: Path) -> None:
    """Its definition says so too: Caffe would go on with the same share."""
    source = source_of_recipe(find_recipe(str(write_recipe(tmp_path, line + RECIPE))))
    net = prepare(source, shapes(tmp_path)).task.net
    layers = [layer for layer in definition(net).layers if layer.type == "Dropout"]
    assert [layer.to_message().dropout_param.dropout_ratio for layer in layers] == [expected, expected]
    assert (net.drop6.p, net.drop7.p) == (expected, expected)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    data = shapes(tmp_path)
    source = source_of_recipe(find_recipe(str(write_recipe(tmp_path))))
    assert source.recipe is not None
    for changed, said in [
        ({"net": "fcn"}, "there is no net 'fcn'"),
        ({"widths": (1, 2)}, "widths are those of conv1"),
        ({"net": "voc-fcn-googlenet"}, "has no widths to choose"),
        ({"net": "siftflow-fcn8s", "widths": ()}, "does not score what shapes is labelled for"),
        ({"multipliers": {"convv*": {"lr_mult": 1.0}}}, "the net has no blob 'convv"),
    ]:
        with pytest.raises(TrainingError, match=said):
            prepare(replace(source, recipe=replace(source.recipe, **changed)), data)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="give max_iter in the solver, or --max-iter"):
        prepare(replace(source, solver=replace(source.solver, max_iter=0)), data)


def test_two_heads_have_two_losses(tmp_path: Path) -> None:
    from fcn_port.data import open_dataset

    make_siftflow(tmp_path, np.full((30, 40), 3), np.full((30, 40), 1))
    data = open_dataset(tmp_path, split="test")
    recipe = replace(find_recipe("siftflow-fcn8s"), widths=tuple(NARROW), init="none")
    ready = prepare(source_of_recipe(recipe), data)
    assert [(loss.name, loss.score, loss.label) for loss in ready.task.losses] == [
        ("loss_sem", "score_sem", "sem"), ("loss_geo", "score_geo", "geo"),
    ]  # fmt: skip
    batch = ready.feed.read([0])
    losses = ready.task.losses_of(batch.blobs)
    pixels = {name: float((batch.blobs[name] != 255).sum()) for name in ("sem", "geo")}
    assert losses["loss_sem"].item() == pytest.approx(math.log(33) * pixels["sem"], rel=1e-5)
    assert losses["loss_geo"].item() == pytest.approx(math.log(3) * pixels["geo"], rel=1e-5)
