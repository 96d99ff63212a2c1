"""`fcn-port train finetune`: it moves, keeps the best weights, draws its curves, and outlives a damaged image."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from converters.execution import from_state_dict
from converters.formats import write_caffemodel
from fcn_port.cli import run
from fcn_port.data import DataError
from fcn_port.loading import load
from fcn_port.nets import FCN8s, definition
from fcn_port.training import Recipe, find_recipe
from fcn_port.training.best import Best, read_best
from fcn_port.training.changes import Changes
from fcn_port.training.curves import draw_curves, read_curves
from fcn_port.training.distributed import DistributedGroup
from fcn_port.training.errors import TrainingError
from fcn_port.training.losses import FocalLoss, SoftmaxWithLoss
from fcn_port.training.measuring import measure_scores
from fcn_port.training.prepare import prepare
from fcn_port.training.source import source_of_recipe
from fcn_port.training.transforms import Variation
from parity_tests.runs import NARROW, feed_of, narrow_task, shapes


def prepared(folder: Path, recipe: Recipe | None = None, **changes: object) -> object:
    """The recipe, or another, on small shapes, from a narrow FCN-8s of four classes whose pool3 is far louder."""
    torch.manual_seed(1)
    data, source = shapes(folder), FCN8s(4, widths=NARROW)
    for name, parameter in source.named_parameters():
        if name.startswith(("conv", "fc")) and parameter.ndim == 4:
            torch.nn.init.kaiming_normal_(parameter)
    return prepare(
        source_of_recipe(recipe or find_recipe("finetune")), data, sources=[source.state_dict()], workers=0,
        changes=Changes(max_iter=40, **changes),  # type: ignore[arg-type]
    )  # fmt: skip


def steps(made: object, count: int) -> list[float]:
    """The loss at each of some updates, each on the same image."""
    batch = next(made.feed.batches())  # type: ignore[attr-defined]
    found = []
    for _ in range(count):
        loss = torch.stack(list(made.task.losses_of(batch.blobs).values())).sum()  # type: ignore[attr-defined]
        loss.backward()
        made.solver.step()  # type: ignore[attr-defined]
        made.solver.zero_grad()  # type: ignore[attr-defined]
        found.append(loss.item())
    return found


def test_the_net_is_that_of_the_first_weights_and_the_loss_moves(tmp_path: Path) -> None:
    made = prepared(tmp_path, mirror=False)
    assert isinstance(made.task.net, FCN8s) and made.task.net.conv1_1.weight.shape[0] == NARROW.conv1  # type: ignore[attr-defined]
    made.task.net.eval()  # type: ignore[attr-defined]
    losses = steps(made, 12)
    assert losses[-1] < 0.6 * losses[0]
    # the release's way does not move: its rate is 1e-14, of a sum over the pixels of an image
    recipe = replace(find_recipe("voc-fcn8s"), widths=tuple(NARROW), init="none")
    still = prepare(source_of_recipe(recipe), shapes(tmp_path), workers=0, changes=Changes(max_iter=40))
    before = steps(still, 12)
    assert before[-1] == pytest.approx(before[0], rel=1e-3)


def test_a_rate_of_nothing_learns_nothing_and_one_below_is_refused(tmp_path: Path) -> None:
    """The rates of score layers are multiples of it: a division by zero."""
    made = prepared(tmp_path, lr=0.0)
    before = {key: value.clone() for key, value in made.task.net.state_dict().items()}  # type: ignore[attr-defined]
    steps(made, 2)
    assert all(torch.equal(value, before[key]) for key, value in made.task.net.state_dict().items())  # type: ignore[attr-defined]
    for changes in ({"lr": -1.0}, {"lr": float("nan")}, {"batch_size": 0}, {"iter_size": -1}):
        with pytest.raises(TrainingError, match=f"{next(iter(changes))} is .*; expected a"):
            Changes(**changes)  # type: ignore[arg-type]


def test_score_layers_learn_at_rates_by_their_inputs(tmp_path: Path) -> None:
    made = prepared(tmp_path)
    rates = {group["name"]: group["lr_mult"] * made.solver.spec.base_lr for group in made.solver.param_groups}  # type: ignore[attr-defined]
    net = made.task.net.eval()  # type: ignore[attr-defined]
    with torch.no_grad():
        seen = [net.blobs(batch.blobs["data"]) for batch in islice(made.feed.batches(), 8)]  # type: ignore[attr-defined]
    for layer, below in (("score_fr", "fc7"), ("score_pool4", "pool4"), ("score_pool3", "pool3")):
        energy = np.mean([blobs[below].clamp(min=0).square().sum(1).mean().item() for blobs in seen])
        assert rates[f"{layer}.weight"] == rates[f"{layer}.bias"] == pytest.approx(0.2 / (1 + energy), rel=1e-4)
    assert rates["conv1_1.weight"] == pytest.approx(1e-4)
    heavy = prepared(tmp_path, class_weights=(1.0,) * 6 + (10.0,))
    group = next(group for group in heavy.solver.param_groups if group["name"] == "score_fr.weight")  # type: ignore[attr-defined]
    assert group["lr_mult"] * 1e-4 == pytest.approx(rates["score_fr.weight"] / 10, rel=1e-6)


def test_several_processes_share_the_measured_rates(tmp_path: Path) -> None:
    torch.manual_seed(1)
    data = shapes(tmp_path)
    task = narrow_task(data)
    given: list[list[float]] = []

    class OfTwo(DistributedGroup):
        def sum(self, numbers: Sequence[float]) -> list[float]:
            given.append(list(numbers))
            return [sum(both) for both in zip(*given, strict=True)]

    feed = feed_of(data, task, order="listed")
    alone = measure_scores(task, replace(feed, batch_size=2), group=DistributedGroup())
    for rank in range(2):
        both = measure_scores(task, replace(feed, rank=rank, size=2), group=OfTwo())
    assert both == pytest.approx(alone, rel=1e-6)
    assert given[0] != given[1]  # each saw images of its own


def test_a_run_from_weights_of_a_net_of_its_own_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    data, init = shapes(tmp_path), tmp_path / "init.caffemodel"
    net = narrow_task(data).net
    with torch.no_grad():
        net.conv1_1.weight *= 9  # type: ignore[operator, union-attr]  # nothing that begins at random has such scores
    write_caffemodel(from_state_dict(net.state_dict(), definition(net)), init)
    words = ["train", "finetune", "--data", str(data.root), "--workers", "0", "--val-split", "none", "--max-iter", "4"]
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert run([*words, "--init", str(init), "--out", str(whole), "--snapshot", "2"]) == 0
    parted.mkdir()
    for path in whole.glob("finetune_iter_2.*"):
        shutil.copy(path, parted)
    for more in ((), ("--init", str(tmp_path / "no.caffemodel"))):
        assert run([*words, *more, "--resume", "--out", str(parted)]) == 0
        ends = [folder / "finetune_iter_4.caffemodel" for folder in (whole, parted)]
        assert ends[0].read_bytes() == ends[1].read_bytes()
        for path in parted.glob("finetune_iter_4.*"):
            path.unlink()
    record = parted / "finetune_iter_2.json"
    said = json.loads(record.read_text())
    del said["settings"]["score_rates"]  # a snapshot of before they were kept: they are measured on its weights
    record.write_text(json.dumps(said))
    assert run([*words, "--resume", "--out", str(parted)]) == 0


def test_losses_and_variations_are_chosen_for_a_recipe(tmp_path: Path) -> None:
    made = prepared(tmp_path, loss="focal", gamma=1.0, class_weights="median", crop=24, scales=(0.5, 2.0))
    (loss,) = made.task.losses  # type: ignore[attr-defined]
    assert isinstance(loss, FocalLoss) and loss.gamma == 1 and len(loss.class_weights) == 7
    assert made.feed.variation == Variation(24, True, (0.5, 2.0))  # type: ignore[attr-defined]
    assert next(made.feed.batches()).blobs["data"].shape[-2:] == (24, 24)  # type: ignore[attr-defined]
    assert made.settings["losses"][0]["type"] == "FocalLoss"  # type: ignore[attr-defined]
    plain = prepared(tmp_path)
    assert isinstance(plain.task.losses[0], SoftmaxWithLoss) and plain.feed.variation == Variation(0, True)  # type: ignore[attr-defined]


def test_the_gamma_of_a_recipe_goes_with_its_own_loss(tmp_path: Path) -> None:
    """--loss softmax was refused for a gamma that nobody had given."""
    recipe = replace(find_recipe("finetune"), loss="focal", gamma=3.0)
    (own,) = prepared(tmp_path, recipe).task.losses  # type: ignore[attr-defined]
    assert isinstance(own, FocalLoss) and own.gamma == 3
    (plain,) = prepared(tmp_path, recipe, loss="softmax").task.losses  # type: ignore[attr-defined]
    assert isinstance(plain, SoftmaxWithLoss)


def test_an_image_that_cannot_be_read_gives_way_to_the_next(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = shapes(tmp_path)
    feed = replace(feed_of(data, narrow_task(data)), order="listed", workers=0)
    path = data.image_path(data.ids[1])
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(DataError, match=path.name):
        list(islice(feed.batches(), 2))
    names = [batch.names[0] for batch in islice(replace(feed, skip_bad=True).batches(), 3)]
    assert names == [data.ids[0], data.ids[2], data.ids[2]]
    assert path.name in caplog.text and "the next image takes its place" in caplog.text
    for id_ in data.ids:
        data.image_path(id_).write_bytes(b"")
    with pytest.raises(DataError, match="shapes_"):
        next(replace(feed, skip_bad=True).batches())


RECIPE = """
about = "a short run"
source = "this test"
like = "finetune"
init = "none"
net_of_init = false
widths = [4, 8, 8, 16, 16, 16, 16]

[solver]
max_iter = 4
snapshot = 2
"""


def test_a_run_keeps_its_best_weights_and_curves_and_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shapes(tmp_path, count=6)
    (tmp_path / "short.toml").write_text(RECIPE)
    words = ["train", str(tmp_path / "short.toml"), "--data", str(data.root), "--out", str(tmp_path / "run")]
    assert run([*words, "--workers", "0", "--json"]) == 0
    out = capsys.readouterr()
    best = tmp_path / "run" / "short_best.caffemodel"
    assert json.loads(out.out)["best"] == str(best) and "the best so far, mean IU" in out.err
    record = json.loads(best.with_suffix(".json").read_text())
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    ious = {each["iteration"]: next(iter(each["scores"].values()))["mean_iu"] for each in log if "scores" in each}
    assert set(ious) == {2, 4} and record["mean_iu"] == max(ious.values()) == ious[record["iteration"]]
    assert load(best).classes == data.classes  # type: ignore[comparison-overlap]
    assert read_best(tmp_path / "run", "short", until=4) == Best(record["iteration"], record["mean_iu"])
    assert read_best(tmp_path / "run", "short", until=record["iteration"] - 1) is None
    picture = Image.open(tmp_path / "run" / "curves.png")
    assert picture.size == (960, 720) and len(picture.getcolors(1 << 16) or ()) > 10
    assert run(words) == 2
    assert "--resume goes on from it, and --out begins elsewhere" in capsys.readouterr().err
    assert run(["train", "shapes-fcn8s", *words[2:]]) == 2
    assert "another run wrote here" in capsys.readouterr().err


def test_curves_forget_what_a_resumed_run_did_again(tmp_path: Path) -> None:
    def line(kind: str, iteration: int, **more: object) -> str:
        return json.dumps({"event": kind, "iteration": iteration, **more})

    scores = {"2 classes": {"mean_iu": 0.5, "overall_accuracy": 0.75}}
    lines = [line("begun", 0), *(line("updated", i, smoothed=float(i)) for i in (1, 2, 3)), "torn {"]
    lines += [line("validated", 3, scores=scores), line("begun", 1), line("updated", 2, smoothed=9.0), "[]"]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(lines))
    found = read_curves(log)
    assert found.loss == {1: 1.0, 2: 9.0} and found.scores == {
        "mean IU, 2 classes": {},
        "pixel accuracy, 2 classes": {},
    }
    found.scores["mean IU, 2 classes"][2] = 50.0
    pixels = np.asarray(draw_curves(found))
    assert (pixels == (0x1F, 0x5F, 0xA8)).all(-1).sum() > 100
    for values in ({}, {1: 3.0}, {1: 1e-30, 2: 1e-30}, {1: -1e30, 2: 1e30}):
        found.loss = values
        draw_curves(found)
