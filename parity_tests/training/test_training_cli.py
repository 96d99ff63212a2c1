"""`fcn-port train` as a person meets it: begun, stopped, killed, resumed, on two processes, with Caffe's own files."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

import fcn_port
from converters import read_caffemodel
from converters.errors import CaffeFormatError
from converters.formats.solverstate import read_solverstate
from fcn_port.cli import run
from fcn_port.fastpath import kernels
from fcn_port.training.checkpoints import read_snapshot, snapshots
from parity_tests import solving
from parity_tests.goldens import GOLDEN, formats
from parity_tests.runs import shapes, write_recipe
from parity_tests.test_architecture import ROOT
from parity_tests.tolerances import tolerance

INIT = GOLDEN / "solver" / "solver-heavy.iter12.caffemodel"
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a small data set and a recipe for a narrow net."""
    shapes(tmp_path)
    write_recipe(tmp_path)
    return tmp_path


def arguments(place: Path, *more: str, out: str = "out") -> list[str]:
    recipe, data = place / "narrow.toml", place / "shapes"
    return ["train", str(recipe), "--data", str(data), "--out", str(place / out), "--workers", "0", *more]


def start(arguments: list[str], *, processes: int = 1) -> subprocess.Popen[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launch if processes > 1 else []), "-m", "fcn_port", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=ONE_THREAD, stdout=pipe, stderr=pipe, text=True)


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and process.poll() is None and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.002)


def blobs(path: Path) -> dict[str, np.ndarray]:
    return solving.by_key(read_caffemodel(path).blobs)


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_run_tells_what_it_does_and_leaves_a_net(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(place, "--val-limit", "2")) == 0
    out, err = capsys.readouterr()
    weights = place / "out" / "narrow.safetensors"
    assert out == f"{weights}\n"
    assert "shapes, train: 12 images, replacement, seed 1337; data: color, BGR, less 104.007, 116.669, 122.679" in err
    assert "fixed: upscore2.weight, upscore_pool4.weight, upscore8.weight" in err
    assert re.search(r"iteration 4 of 8: loss [\d.]+, rate 0.001, [\d.e-]+ s, \d+ s left", err)
    assert re.search(r"iteration 8, 2 images, 7 classes: overall accuracy [\d.]+, mean accuracy .*, mean IU ", err)
    events = log(place / "out")
    kinds = [e["event"] for e in events if e["event"] != "updated"]
    assert [kind for kind in kinds if kind != "improved"] == ["begun", *["saved", "validated"] * 2]
    assert kinds[3] == "improved"  # the first score is the best so far
    assert [e["iteration"] for e in events if e["event"] == "updated"] == list(range(1, 9))
    net = fcn_port.load(weights)
    assert net.classes == {"score": ("background", "circle", "square", "triangle", "star", "cross", "ring")}
    seen = fcn_port.segment(net, next((place / "shapes" / "JPEGImages").iterdir()))
    assert seen.labels.shape == (40, 56)  # type: ignore[union-attr]


@pytest.mark.parametrize(("precision", "can"), [("fp32", False), ("bf16", True), ("bf16", False)])
def test_who_trains_in_bf16_is_told_of_a_processor_without_it(
    precision: str, can: bool, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: can)
    assert run(arguments(place, "--max-iter", "1", "--val-split", "none", "--precision", precision)) == 0
    told = "cannot multiply bfloat16" in capsys.readouterr().err
    assert told is (precision == "bf16" and not can)


def test_an_earlier_run_is_not_written_over(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments(place, "--max-iter", "2", "--val-split", "none")) == 0
    assert run(arguments(place, "--max-iter", "4", "--val-split", "none")) == 2
    assert "narrow_iter_2.json is there already: --resume goes on from it" in capsys.readouterr().err
    assert run(arguments(place, "--max-iter", "4", "--val-split", "none", "--resume", "--json")) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["iteration"] == 4 and "going on from" in err
    assert "note: the weights will not be those of an unbroken run: solver: " in err  # another max_iter
    assert run(arguments(place, "--max-iter", "4", "--resume")) == 0


def test_another_batch_has_its_rate_translated(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--batch-size", "2", "--normalization", "BATCH_SIZE", "--max-iter", "1", "--val-split", "none"]
    assert run(arguments(place, *more)) == 0
    err = capsys.readouterr().err
    found = re.search(
        r"learning rate (\S+), translated from 0.001: 2 images an update instead of 1; "
        r"normalization BATCH_SIZE instead of VALID; an image has (\d+) pixels that count", err,
    )  # fmt: skip
    assert found is not None, err
    assert float(found[1]) == pytest.approx(1e-3 * 2 / int(found[2]), rel=1e-3) and 1500 < int(found[2]) < 40 * 56
    assert "momentum stays at 0.9; 0.81 would remember as many images" in err
    state = json.loads((place / "out" / "narrow_iter_1.json").read_text())
    assert state["settings"]["batch_size"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "kill"])
def test_a_polite_stop_saves(number: signal.Signals, place: Path) -> None:
    process = start(arguments(place, "--max-iter", "5000", "--snapshot", "0"))
    wait_for(lambda: (place / "out" / "log.jsonl").exists() and len(log(place / "out")) > 2, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert "stopping after this update, and saving" in err and "--resume goes on" in err
    (snapshot,) = snapshots(place / "out", "narrow")
    assert read_snapshot(snapshot).iteration == max(e["iteration"] for e in log(place / "out")) >= 2


def test_killed_at_any_moment_a_run_loses_nothing_earlier(place: Path) -> None:
    """kill -9 in the middle of updates and snapshots, three times; then the weights of an unbroken run, to the bit."""
    more = ["--max-iter", "30", "--snapshot", "1", "--val-split", "none", "--order", "shuffled"]
    numbers = random.Random(7)
    folder = place / "killed"

    def latest() -> int:
        found = snapshots(folder, "narrow")
        return int(found[-1].stem.rpartition("_")[2]) if found else 0

    for _ in range(3):
        before = latest()
        process = start(arguments(place, *more, "--resume", out="killed"))
        wait_for(lambda before=before: latest() > before + 1, process)
        time.sleep(numbers.uniform(0, 0.06))
        process.kill()
        process.communicate()
        for path in snapshots(folder, "narrow"):
            assert read_snapshot(path).iteration >= 1
        assert before < latest() < 30
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"event": "upda')
    with one_thread():
        assert run(arguments(place, *more, "--resume", out="killed")) == 0
        assert run(arguments(place, *more, out="whole")) == 0
    expected = blobs(place / "whole" / "narrow_iter_30.caffemodel")
    for key, blob in blobs(folder / "narrow_iter_30.caffemodel").items():
        np.testing.assert_array_equal(blob, expected[key], err_msg=key)
    last = {event["iteration"]: event["loss"] for event in log(folder) if event["event"] == "updated"}
    assert last == {event["iteration"]: event["loss"] for event in log(place / "whole") if event["event"] == "updated"}


@contextmanager
def one_thread() -> Iterator[None]:
    """As in the processes that are started here: the bits of a sum depend on how many threads add it up."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def test_a_damaged_snapshot_is_named_and_an_earlier_one_goes_on(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(place, "--val-split", "none")) == 0
    weights = place / "out" / "narrow_iter_8.caffemodel"
    raw = bytearray(weights.read_bytes())
    raw[5000] ^= 1
    weights.write_bytes(raw)
    more = ["--val-split", "none", "--max-iter", "9", "--resume"]
    assert run(arguments(place, *more)) == 3
    assert "narrow_iter_8.caffemodel: not the file that narrow_iter_8.json was saved with" in capsys.readouterr().err
    assert run(arguments(place, *more, str(place / "out" / "narrow_iter_4.json"))) == 0
    record = place / "out" / "narrow_iter_4.json"
    record.write_text(record.read_text()[:300])
    assert run(arguments(place, *more, str(record))) == 3
    assert "narrow_iter_4.json: no snapshot of a run" in capsys.readouterr().err
    record.with_suffix(".caffemodel").unlink()
    with pytest.raises(CaffeFormatError):
        read_snapshot(record)


# Caffe's own files


def narrow_solver(folder: Path, *, more: str = "") -> Path:
    """A solver beside its net: the narrow FCN-8s without dropout that Caffe trained for golden/solver."""
    shutil.copyfile(GOLDEN / "solver" / "solver-heavy.train.prototxt", folder / "train.prototxt")
    path = folder / "solver.prototxt"
    path.write_text(
        'train_net: "train.prototxt" base_lr: 1e-8 lr_policy: "step" gamma: 0.1 stepsize: 2 momentum: 0.9 '
        f'max_iter: 4 snapshot: 2 snapshot_prefix: "snapshot/mini" {more}'
    )
    return path


def test_a_solver_prototxt_trains_the_net_that_it_names(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solver = narrow_solver(place)
    common = ["--solver", str(solver), "--data", str(place / "shapes"), "--val-split", "none", "--workers", "0"]
    assert run(["train", *common, "--init", str(INIT), "--out", str(place / "a")]) == 0
    assert "39 copied" in capsys.readouterr().err
    rates = [event["rate"] for event in log(place / "a") if event["event"] == "updated"]
    assert rates == pytest.approx([1e-8, 1e-8, 1e-9, 1e-9])
    state = read_solverstate(place / "a" / "mini_iter_4.solverstate")
    assert (state.iteration, state.learned_net) == (4, "mini_iter_4.caffemodel") and len(state.history) == 39

    for ending in ("caffemodel", "solverstate"):  # as Caffe would leave them
        source = place / "a" / f"mini_iter_2.{ending}"
        (place / f"mini_iter_2.{ending}").write_bytes(source.read_bytes())
    resume = str(place / "mini_iter_2.solverstate")
    assert run(["train", *common, "--resume", resume, "--out", str(place / "b")]) == 0
    expected = blobs(place / "a" / "mini_iter_4.caffemodel")
    for key, blob in blobs(place / "b" / "mini_iter_4.caffemodel").items():
        np.testing.assert_array_equal(blob, expected[key], err_msg=key)


def test_a_caffe_net_with_other_classes_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solver = narrow_solver(place)
    net = place / "train.prototxt"
    net.write_text(net.read_text().replace("num_output: 7", "num_output: 6"))
    assert run(["train", "--solver", str(solver), "--data", str(place / "shapes")]) == 1
    err = capsys.readouterr().err
    assert "the net scores 6 classes as 'score'; shapes has 7" in err and "classes.txt" in err


def test_own_classes_from_a_trained_net(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scores are replaced where the classes differ, or grown where the old ones are the first of the new."""
    assert run(arguments(place, "--max-iter", "2", "--val-split", "none")) == 0
    names = (place / "shapes" / "classes.txt").read_text()
    (place / "shapes" / "classes.txt").write_text(names + "kite\nbow\n")
    init = ["--init", str(place / "out" / "narrow.safetensors"), "--max-iter", "1", "--val-split", "none"]
    capsys.readouterr()
    assert run(arguments(place, *init, out="replaced")) == 0
    assert "not used: score_fr.weight: score_fr.weight is (9, 16, 1, 1)" in capsys.readouterr().err
    assert run(arguments(place, *init, "--expand-scores", "--lr", "0", out="grown")) == 0
    assert re.search(r"first weights: \d+ copied.* 6 expanded", capsys.readouterr().err)
    old, new = (blobs(place / path) for path in ("out/narrow_iter_2.caffemodel", "grown/narrow_iter_1.caffemodel"))
    np.testing.assert_array_equal(new["score_fr.weight"][:7], old["score_fr.weight"])
    assert new["score_fr.weight"].shape[0] == 9 and not new["score_fr.weight"][7:].any()


# Wrong use


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        (["train"], 2, "what to train"),
        (["train", "voc-fcn32s"], 2, "what to learn from"),
        (["train", "voc-fcn32", "--data", "{shapes}"], 2, "did you mean voc-fcn32s"),
        (["train", "{recipe}", "--data", "nowhere"], 2, "nowhere: there is no such folder"),
        (["train", "{recipe}", "--data", "{shapes}", "--split", "test"], 2, "test"),
        (["train", "{recipe}", "--data", "{shapes}", "--val-split", "test"], 2, "test"),
        (["train", "{recipe}", "--data", "{shapes}", "--init", "nothing.caffemodel"], 2, "nothing.caffemodel"),
        (["train", "{recipe}", "--data", "{shapes}", "--init", "none", "--expand-scores"], 2, "name one with --init"),
        (["train", "{recipe}", "--data", "{shapes}", "--init", "{zoo}"], 3, "nothing in it fits the net"),
        (["train", "voc-fcn-alexnet", "--data", "{shapes}"], 2, "what to begin with? Say --init"),
        (["train", "--solver", "{recipe}", "--data", "{shapes}"], 3, "narrow.toml"),
        (["train", "{recipe}", "--data", "{shapes}", "--resume", "gone.json"], 2, "no such snapshot"),
    ],
    ids=str,
)
def test_wrong_use_is_told(
    more: list[str], status: int, said: str, place: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    known = {"shapes": place / "shapes", "recipe": place / "narrow.toml", "zoo": formats("layer-zoo-0.caffemodel")}
    assert run([part.format(**known) for part in more]) == status
    assert said in capsys.readouterr().err


def test_a_damaged_image_stops_the_run_with_its_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (place / "shapes" / "JPEGImages").iterdir():
        path.write_bytes(b"no image")
    assert run(arguments(place)) == 3
    assert re.search(r"JPEGImages/shapes_\S+\.jpg", capsys.readouterr().err)


# Two processes


def test_two_processes_train_as_one_with_twice_the_batch(place: Path) -> None:
    """Weights within 1e-5 of each blob's largest change, for a loss that is summed beside one divided by its pixels."""
    solver = narrow_solver(place, more="iter_size: 2")
    net = place / "train.prototxt"
    summed = """layer { name: "summed" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "summed"
      loss_weight: 0.0005 loss_param { ignore_label: 255 normalization: BATCH_SIZE } }"""
    side = """layer { name: "side" type: "Convolution" bottom: "score" top: "side"  # of no loss: it decays
      convolution_param { num_output: 2 kernel_size: 1 } }"""
    net.write_text(net.read_text().replace("normalize: false", "normalize: true") + summed + side)
    common = ["train", "--solver", str(solver), "--data", str(place / "shapes"), "--init", str(INIT), "--lr", "2e-3"]
    common += ["--workers", "0", "--val-limit", "3"]
    process = start([*common, "--out", str(place / "two")], processes=2)
    assert run([*common, "--batch-size", "2", "--out", str(place / "one")]) == 0
    assert run([*common, "--iter-size", "4", "--out", str(place / "each")]) == 0
    _, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    begun = blobs(INIT)
    one, two, each = (blobs(place / name / "mini_iter_4.caffemodel") for name in ("one", "two", "each"))
    begun |= {key: np.zeros_like(blob) for key, blob in one.items() if key.startswith("side.")}
    assert worst(one, two, begun) <= tolerance("two-processes")
    assert worst(one, each, begun) > 1e-3  # there each image is divided by its own pixels, a mean of means
    events = [log(place / name) for name in ("one", "two")]
    scored = [[event["scores"] for event in own if event["event"] == "validated"] for own in events]
    assert scored[0] == scored[1] and len(scored[0]) == 2
    for name in ("loss", "summed"):
        first, second = ([e["losses"][name] for e in own if e["event"] == "updated"] for own in events)
        assert first == pytest.approx(second, rel=1e-5)


def worst(found: dict[str, np.ndarray], other: dict[str, np.ndarray], begun: dict[str, np.ndarray]) -> float:
    """The largest difference of two trained nets, less two roundings of a weight, by the largest change in the blob."""
    off = {key: float(np.abs(found[key] - other[key]).max()) for key in found}
    change = {key: float(np.abs(found[key] - begun[key]).max()) for key in found}
    rounding = {key: 2 * float(np.spacing(np.abs(found[key]).max())) for key in found}
    assert all(off[key] == 0 for key in off if change[key] == 0)
    return max(max(0.0, off[key] - rounding[key]) / change[key] for key in off if change[key])
