"""Long calls that their caller ends: at the step that is asked for, nothing half written, and what is done kept."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest

import converters
import fcn_port
from fcn_port import Cancelled, stop_when
from fcn_port.evaluation import EvaluationPlan, evaluate
from fcn_port.exporting import export_net
from fcn_port.nets import FCN8s
from fcn_port.porting import card_of_net
from fcn_port.publishing import publish
from fcn_port.training import TrainingPlan, train
from fcn_port.training import events as told_by
from fcn_port.training.checkpoints import read_snapshot
from fcn_port.verification import verify
from parity_tests.fetching import assert_whole, get, published
from parity_tests.goldens import formats
from parity_tests.http_server import HostileServer
from parity_tests.nets import with_random_weights
from parity_tests.runs import NARROW, assert_same_bits, feed_of, narrow_task, shapes, solver_of, state_of
from parity_tests.test_architecture import ROOT
from parity_tests.verbs import SAMPLE
from weights import Progress
from weights.store import place_of

pytest_plugins = ["parity_tests.fetch_fixtures"]


def shapes_net() -> fcn_port.Net:
    """A narrow net with as many classes as the shapes have."""
    net = with_random_weights(FCN8s(7, widths=NARROW)).eval()
    net.card = card_of_net("voc-fcn8s")
    return net


class After:
    """A wish to stop that comes after so many steps, and the steps that were told until then."""

    def __init__(self, steps: int) -> None:
        self.steps, self.wish = steps, Event()
        self.told: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.told.append((done, total))
        if len(self.told) == self.steps:
            self.wish.set()  # as another thread would


def test_a_callback_that_stops_tells_another_until_then() -> None:
    steps = After(2)
    tell = stop_when(steps.wish.is_set, steps)
    tell(1, 9)
    tell(2, total=9)
    with pytest.raises(Cancelled):
        tell(3, 9)
    assert steps.told == [(1, 9), (2, 9)]
    stop_when(lambda: False)("anything", of="any call")
    assert fcn_port.stop_when is converters.stop_when and fcn_port.Cancelled is converters.Cancelled


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_conversion_leaves_no_part_and_the_former_file(ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"net.{ending}"
    out.write_bytes(b"former")
    steps = After(1)
    with pytest.raises(Cancelled):
        converters.convert(SAMPLE, out, progress=stop_when(steps.wish.is_set, steps))
    assert steps.told[0][0] < steps.told[0][1]
    assert [path.name for path in tmp_path.iterdir()] == [out.name] and out.read_bytes() == b"former"
    converters.convert(SAMPLE, out)
    assert out.read_bytes() != b"former"


def test_a_checksum_that_is_not_waited_for_ends_with_the_block() -> None:
    """Of a file without an end."""
    if not Path("/dev/zero").exists():
        pytest.skip("no file without an end here")
    lines = (
        "from converters.safety import sha256_beside",
        "with sha256_beside('/dev/zero'):",
        "    raise SystemExit(7)",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, timeout=100)
    assert done.returncode == 7


@pytest.mark.parametrize("to", ["caffe", "onnx"])
def test_an_export_is_ended_at_a_trial_and_leaves_no_part(to: str, tmp_path: Path) -> None:
    net = shapes_net()
    every, out = After(99), tmp_path / f"net.{to}"
    export_net(net, to=to, out=out, progress=every)
    count = every.told[-1][1]
    assert every.told == [(done, count) for done in range(count + 1)] and count > 2, "the writing, and the trials"
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    steps = After(2)
    with pytest.raises(Cancelled):
        export_net(net, to=to, out=out, progress=stop_when(steps.wish.is_set, steps))
    assert steps.told == [(0, count), (1, count)]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_publish_and_verify_tell_their_steps_and_end_within_them(tmp_path: Path) -> None:
    model, folder = formats("fcn8s-mini.caffemodel"), tmp_path / "published"
    for number in (1, 9):
        steps = After(number)
        with pytest.raises(Cancelled):
            publish(model, folder, onnx=False, progress=stop_when(steps.wish.is_set, steps))
        assert not list(tmp_path.iterdir())
    every = After(99)
    publish(model, folder, onnx=False, progress=every)
    assert list(dict.fromkeys(every.told)) == [(done, 5) for done in range(6)] and every.told.count((0, 5)) > 2
    weights = folder / "model.safetensors"
    told = After(99)
    checks = list(verify(weights, model, progress=told))
    count = told.told[-1][1]
    assert told.told == [(done, count) for done in range(count + 1)] and count > 2 * len(checks)
    steps = After(3)
    with pytest.raises(Cancelled):
        list(verify(weights, model, progress=stop_when(steps.wish.is_set, steps)))


def test_an_evaluation_keeps_the_images_that_were_done(tmp_path: Path) -> None:
    data, net = shapes(tmp_path), shapes_net()
    plan = EvaluationPlan(limit=5, cache=tmp_path / "cache")
    steps = After(4)  # told of none, and of three images
    with pytest.raises(Cancelled):
        evaluate(net, data, plan=plan, progress=stop_when(steps.wish.is_set, steps))
    assert steps.told == [(0, 5), (1, 5), (2, 5), (3, 5)]
    rest = evaluate(net, data, plan=plan)
    assert rest.computed == 1 and len(rest.images) == 5  # the fourth was done when it was asked
    whole = evaluate(net, data, plan=replace(plan, cache=None))
    for one, other in zip(rest.images, whole.images, strict=True):
        assert one.id == other.id and np.array_equal(one.histograms["score"], other.histograms["score"])


@pytest.mark.parametrize("how", [{"tile": 512}, {"flip": True, "scales": (0.5, 1.0)}], ids=["tiles", "views"])
def test_prediction_stops_between_tiles_and_views(how: dict) -> None:
    net = shapes_net()
    image = np.random.default_rng(0).integers(0, 256, (40, 800, 3), np.uint8)
    every = After(99)
    whole = fcn_port.segment(net, image, progress=every, **how)
    count = every.told[-1][1]
    assert every.told == [(done, count) for done in range(count + 1)] and count > 1
    steps = After(2)
    with pytest.raises(Cancelled):
        fcn_port.segment(net, image, progress=stop_when(steps.wish.is_set, steps), **how)
    assert steps.told == [(0, count), (1, count)]
    assert np.array_equal(fcn_port.segment(net, image, **how).labels, whole.labels)


def test_a_download_is_ended_and_not_tried_again(server: HostileServer, tmp_path: Path) -> None:
    entry = published([server.url("x")], checksums=["sha1"])
    stages: list[str] = []
    with pytest.raises(Cancelled):
        get(entry, tmp_path, progress=stop_when(lambda: "downloading" in stages, lambda now: stages.append(now.stage)))
    assert len(server.seen) == 1 and not place_of(entry, directory=tmp_path).path.exists()
    assert_whole(get(entry, tmp_path))


def test_load_tells_of_the_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path))
    with pytest.raises(Cancelled):
        fcn_port.load("sample", progress=stop_when(lambda: True))
    told: list[Progress] = []
    fcn_port.load("sample", progress=told.append)
    assert told[-1].stage == "done" and told[-1].file == "shapes-fcn8s.caffemodel"


@pytest.mark.parametrize("where", ["update", "validation"])
def test_training_stops_with_a_snapshot_that_goes_on(where: str, tmp_path: Path) -> None:
    data = shapes(tmp_path)
    wish = Event()
    said: list[told_by.Event] = []

    def report(event: told_by.Event) -> None:
        said.append(event)
        if isinstance(event, told_by.Updated) and event.iteration == 2 and where == "update":
            wish.set()

    class Asked:
        """Says stop at the second time it is asked about one update: in the validation after it."""

        def __init__(self) -> None:
            self.seen: list[int] = []

        def __call__(self) -> bool:
            updates = [event for event in said if isinstance(event, told_by.Updated)]
            self.seen.append(updates[-1].iteration)
            return wish.is_set() or (where == "validation" and self.seen.count(2) > 2)

    asked = Asked()
    plan = TrainingPlan(tmp_path / "run", "x", max_iter=4, validation=data, test_every=2, test_limit=5)
    task = narrow_task(data)
    outcome = train(task, solver_of(task), feed_of(data, task), plan, report=report, stop=asked)
    assert (outcome.iteration, outcome.stopped) == (2, True) and outcome.snapshot is not None
    assert not any(isinstance(event, told_by.Validated) for event in said)
    assert where == "update" or asked.seen.count(2) == 3, "one image of the validation, not all of them"
    again = narrow_task(data)
    train(again, solver_of(again), feed_of(data, again), plan, resume=read_snapshot(outcome.snapshot))
    unbroken = narrow_task(data)
    train(unbroken, solver_of(unbroken), feed_of(data, unbroken), replace(plan, folder=tmp_path / "whole"))
    assert_same_bits(state_of(again.net), state_of(unbroken.net))


def test_the_library_is_silent_until_somebody_listens() -> None:
    """Without a handler Python writes warnings to standard error."""
    say = "import fcn_port, logging; logging.getLogger('fcn_port.evaluation').warning('results are not kept')"
    for listen, expected in (("", ""), ("import logging; logging.basicConfig(); ", "results are not kept")):
        done = subprocess.run(
            [sys.executable, "-c", listen + say], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0 and done.stdout == "" and expected in done.stderr
        assert expected or done.stderr == ""
