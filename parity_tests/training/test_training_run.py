"""A run from beginning to end: Caffe's weights, the same ones however often it was stopped, and what stops it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fcn_port
from fcn_port.training import TrainingPlan, train, update
from fcn_port.training.checkpoints import read_snapshot, snapshots
from fcn_port.training.errors import MemoryFullError, NonFiniteLossError
from fcn_port.training.events import Event, Saved, Updated, Validated
from fcn_port.training.folder import LOCK
from parity_tests import runs, solving
from parity_tests.runs import SGD, assert_same_bits, feed_of, narrow_task, shapes, solver_of, state_of
from parity_tests.training.test_solver_goldens import caffe_task, recipe, sides_of
from parity_tests.undecided import SameSides


@pytest.mark.parametrize("name", ["heavy", "accum"])
def test_a_run_that_is_stopped_and_goes_on_gives_caffes_weights(name: str, tmp_path: Path) -> None:
    """The recorded batches as a data set; stopped after five updates, resumed in a new net, compared with Caffe."""
    spec, caffes = recipe(name)
    data = runs.recorded_data(spec.max_iter, iter_size=spec.iter_size)
    losses: list[float] = []

    def report(event: Event) -> None:
        if isinstance(event, Updated):
            losses.append(event.loss)

    plan = TrainingPlan(tmp_path, name, max_iter=spec.max_iter)
    task = solving.start(caffe_task(spec), caffes.init)
    sides = SameSides(sides_of(name))
    with sides:
        first = train(
            task, solver_of(task, spec), runs.recorded_feed(data, task), plan, report=report,
            stop=lambda: len(losses) == 5,
        )  # fmt: skip
    assert (first.iteration, first.stopped) == (5, True)
    task = caffe_task(spec)
    assert first.snapshot is not None
    with sides:
        second = train(
            task, solver_of(task, spec), runs.recorded_feed(data, task), plan,
            resume=read_snapshot(first.snapshot), report=report,
        )  # fmt: skip
    assert (second.iteration, second.stopped) == (spec.max_iter, False)
    ours = solving.Trained({"loss": np.array(losses)}, caffes.init, solving.by_layer(state_of(task.net)))
    assert not solving.differences(ours, caffes, elementwise=True)


@pytest.mark.parametrize("settings", [{}, {"order": "shuffled", "batch_size": 2, "workers": 2}], ids=str)
def test_a_resumed_run_gives_the_same_bits(settings: dict, tmp_path: Path) -> None:
    """With dropout, momentum, and images drawn at random; stopped at every place in turn."""
    data = shapes(tmp_path)
    plan = TrainingPlan(tmp_path, "whole", max_iter=SGD.max_iter, average_loss=3)

    def run(name: str, *, until: int, resume: Path | None) -> tuple[dict[str, np.ndarray], Path, list[Updated]]:
        task = narrow_task(data)
        seen: list[Updated] = []

        def report(event: Event) -> None:
            if isinstance(event, Updated):
                seen.append(event)

        outcome = train(
            task, solver_of(task), feed_of(data, task, **settings), replace(plan, name=name),
            resume=None if resume is None else read_snapshot(resume),
            report=report, stop=lambda: bool(seen) and seen[-1].iteration >= until,
        )  # fmt: skip
        assert outcome.snapshot is not None
        return state_of(task.net), outcome.snapshot, seen

    whole, _, expected = run("whole", until=SGD.max_iter, resume=None)
    state, snapshot, seen = run("parts", until=1, resume=None)
    for until in (3, 4, SGD.max_iter):
        state, snapshot, more = run("parts", until=until, resume=snapshot)
        seen += more
    assert_same_bits(state, whole)
    told = [(event.iteration, event.loss, event.smoothed, event.images) for event in seen]
    assert told == [(event.iteration, event.loss, event.smoothed, event.images) for event in expected]


@pytest.mark.parametrize("lost", ["dropout", "momentum", "order"])
def test_what_a_snapshot_keeps_is_needed(lost: str, tmp_path: Path) -> None:
    """Without the random state, the history or the position in the order, other weights come out."""
    data = shapes(tmp_path)
    plan = TrainingPlan(tmp_path, "x", max_iter=4)
    task = narrow_task(data)
    whole = train(task, solver_of(task), feed_of(data, task), replace(plan, snapshot_every=2))
    assert whole.snapshot is not None
    snapshot = read_snapshot(snapshots(tmp_path, "x")[0])
    assert snapshot.iteration == 2
    again = narrow_task(data)
    solver, feed = solver_of(again), feed_of(data, again)
    if lost == "dropout":
        snapshot = replace(snapshot, progress=replace(snapshot.progress, random=None))
    if lost == "momentum":
        solver = solver_of(again, replace(SGD, momentum=0.0))
    if lost == "order":
        feed = replace(feed, seed=1)
    train(again, solver, feed, replace(plan, folder=tmp_path / "again"), resume=snapshot)
    found, expected = state_of(again.net), state_of(task.net)
    assert any(not np.array_equal(found[key], expected[key]) for key in expected)


def test_snapshots_and_scores_on_the_way(tmp_path: Path) -> None:
    data = shapes(tmp_path)
    task = narrow_task(data)
    events: list[Event] = []
    plan = TrainingPlan(
        tmp_path / "out", "x", max_iter=5, snapshot_every=2, keep=2, test_every=4, test_limit=2,
        validation=shapes(tmp_path, split="val"),
    )  # fmt: skip
    train(task, solver_of(task), feed_of(data, task), plan, report=events.append)
    assert [event.iteration for event in events if isinstance(event, Saved)] == [2, 4, 5]
    assert [path.stem for path in snapshots(tmp_path / "out", "x")] == ["x_iter_4", "x_iter_5"]
    best = {"x_best.caffemodel", "x_best.json"}
    assert len({path.name for path in (tmp_path / "out").iterdir()} - {LOCK, *best}) == 6
    scored = [event for event in events if isinstance(event, Validated)]
    assert [(event.iteration, event.images) for event in scored] == [(4, 2), (5, 2)]
    net = fcn_port.load(tmp_path / "out" / "x_iter_5.caffemodel")
    assert net.classes == data.classes and net.preprocessing.inputs[0].mean == pytest.approx((104, 117, 123), abs=0.7)
    from fcn_port.evaluation import EvaluationPlan, evaluate

    found = evaluate(net, plan.validation, plan=EvaluationPlan(limit=2)).scores()  # type: ignore[arg-type]
    assert scored[-1].scores["7 classes"]["mean_iu"] == found.mean_iu
    assert torch.is_grad_enabled() and task.net.training


def test_a_loss_that_is_not_finite_stops_and_names_the_image(tmp_path: Path) -> None:
    data = shapes(tmp_path)
    task = narrow_task(data)
    solver = solver_of(task, replace(SGD, base_lr=1e30))
    before: dict[int, dict[str, np.ndarray]] = {}

    def report(event: Event) -> None:
        if isinstance(event, Updated):
            before[event.iteration] = state_of(task.net)

    feed = feed_of(data, task)
    with pytest.raises(NonFiniteLossError) as raised:
        train(task, solver, feed, TrainingPlan(tmp_path, "x", max_iter=8), report=report)
    (due,) = next(feed.batches(solver.iteration)).names
    assert f"iteration {solver.iteration}: loss is nan for image {due}" in str(raised.value)
    assert_same_bits(state_of(task.net), before[solver.iteration])


def test_out_of_memory_says_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = shapes(tmp_path)
    task = narrow_task(data)

    def full(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(update.TrainingTask, "losses_of", full)
    said = r"out of memory at image shapes_\S+ \(data 1x3x40x56.*\n.*--batch-size 1"
    with pytest.raises(MemoryFullError, match=said):
        train(task, solver_of(task), feed_of(data, task), TrainingPlan(tmp_path, "x", max_iter=8))
    monkeypatch.setattr(
        update.TrainingTask, "losses_of", lambda *_, **__: torch.zeros(1) + torch.zeros(2, 2) @ torch.zeros(3)
    )
    with pytest.raises(RuntimeError, match="mat"):
        train(task, solver_of(task), feed_of(data, task), TrainingPlan(tmp_path, "x", max_iter=8))


def test_bfloat16_is_near_float32(tmp_path: Path) -> None:
    """Mixed precision as on a GPU: the first losses agree to bfloat16's three digits, and weights stay float32."""
    data = shapes(tmp_path)
    found = {}
    for precision in ("float32", "bfloat16"):
        task = narrow_task(data)
        losses: list[float] = []
        plan = TrainingPlan(tmp_path / precision, "x", max_iter=3, precision=precision)  # type: ignore[arg-type]
        report = lambda event: losses.append(event.loss) if isinstance(event, Updated) else None  # noqa: E731, B023
        train(task, solver_of(task, replace(SGD, base_lr=1e-4)), feed_of(data, task), plan, report=report)
        found[precision] = losses
        assert all(value.dtype == torch.float32 for value in task.net.state_dict().values())
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=3e-2) and found["bfloat16"] != found["float32"]
