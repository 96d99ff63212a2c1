"""`fcn-port evaluate` as a researcher meets it: tables, verdict, interruption, two processes, mistakes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fcn_port.cli import run
from fcn_port.data import make_shapes, open_dataset
from fcn_port.evaluation import ImageResult, comparison, evaluate, read_evaluation
from fcn_port.evaluation.comparison import verdict
from fcn_port.evaluation.tables import to_markdown
from fcn_port.fastpath.lossless import fast
from fcn_port.loading import load
from fcn_port.nets import FCN8s
from parity_tests.datasets import make_voc
from parity_tests.evaluation.test_evaluate import NARROW, filled
from parity_tests.test_architecture import ROOT
from weights import Score, datasets, releases


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("FCN_PORT_OFFLINE", "1")
    monkeypatch.setenv("FCN_PORT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def weights(tmp_path: Path) -> str:
    path = tmp_path / "narrow.safetensors"
    save_file(filled(FCN8s(7, widths=NARROW)).state_dict(), path)
    return str(path)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Somebody's own data set, by its classes: the published numbers of VOC may be held against it."""
    folder = make_shapes(tmp_path / "shapes", count=6, seed=1, size=(33, 44), val=0.5)
    (folder / "classes.txt").write_text("background\ndisc\nsquare\ntriangle\nstar\ncross\nring\n", encoding="utf-8")
    return folder


@pytest.fixture
def common(weights: str, shapes: Path, tmp_path: Path) -> list[str]:
    return ["evaluate", weights, "--data", str(shapes), "--split", "trainval", "--cache", str(tmp_path / "cache")]


def test_the_table(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(common) == 0
    out, err = capsys.readouterr()
    assert "on shapes, trainval: 6 images, 7 classes, in percent" in out
    rows = {line.split("  ")[0].strip(): line.split() for line in out.splitlines() if line.strip()}
    net = load(common[1])
    found = evaluate(net, open_dataset(common[3], split="trainval")).scores()
    assert rows["star"][1:3] == [f"{100 * found.iu[4]:.2f}", f"{100 * found.accuracy[4]:.2f}"]
    assert rows["mean IU"][-1] == f"{100 * found.mean_iu:.2f}"
    assert "6 of 6 images" in err


def test_the_net_of_a_file_that_holds_none(
    common: list[str], shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a .pth of another net than those that are written out here."""
    text = (
        'input: "data" input_shape { dim: [1, 3, 9, 9] } layer { name: "x" type: "Convolution" bottom: "data" '
        'top: "score" convolution_param { num_output: 7 kernel_size: 1 } }'
    )
    (tmp_path / "x.prototxt").write_text(text)
    torch.save({"x.weight": torch.ones(7, 3, 1, 1), "x.bias": torch.arange(7.0)}, tmp_path / "x.pth")
    call = ["evaluate", str(tmp_path / "x.pth"), *common[2:], "--json"]
    assert run(call) == 3 and "prototxt" in capsys.readouterr().err
    assert run([*call, "--prototxt", str(tmp_path / "x.prototxt")]) == 0
    (tmp_path / "found.json").write_text(capsys.readouterr().out)
    counts = read_evaluation(tmp_path / "found.json").histogram()
    assert counts[:, 6].sum() == counts.sum() > 0, "the largest bias is that of the last class"


def test_json_csv_and_markdown(common: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run([*common, "--json"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "found.json").write_text(text)
    scores = read_evaluation(tmp_path / "found.json").scores()
    assert json.loads(text)["tasks"][0]["mean_iu"] == scores.mean_iu
    assert run([*common, "--csv", "--markdown", str(tmp_path / "out" / "table.md")]) == 0
    rows = {row["what"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert float(rows["mean IU"]["value"]) == pytest.approx(100 * scores.mean_iu, abs=1e-6)
    assert float(rows["IU ring"]["value"]) == pytest.approx(100 * scores.iu[6], abs=1e-6)
    markdown = (tmp_path / "out" / "table.md").read_text()
    assert f"| mean IU | {100 * scores.mean_iu:.2f} |\n" in markdown and "published" not in markdown
    assert "R-CNN" not in markdown  # own classes are no VOC, whose other scores say nothing here
    image = ImageResult("a", {"score": np.eye(21, dtype=np.int64)})
    voc = replace(read_evaluation(tmp_path / "found.json"), classes=datasets()["voc"].heads, images=(image,))
    part = replace(voc, release="voc-fcn8s", dataset="voc", split="seg11valid", complete=False)
    assert "1 images, NOT the whole published split" in to_markdown([part], {})
    markdown = to_markdown([voc], {})
    assert "| R-CNN | seg11test | 47.9 |" in markdown and "| SDS | seg12test | 51.6 | 50 s |" in markdown


def test_interrupted_by_ctrl_c_and_resumed(weights: str, tmp_path: Path) -> None:
    """The process is stopped as a user stops it, in the middle, and the next one computes the rest."""
    folder = make_shapes(tmp_path / "many", count=40, seed=1, size=(60, 80), val=1.0)
    arguments = ["evaluate", weights, "--data", str(folder), "--cache", str(tmp_path / "cache"), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "fcn_port", *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 300
    while _lines(tmp_path / "cache") < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    kept = _lines(tmp_path / "cache")
    assert 2 <= kept < 40 and process.returncode == 130
    assert out == b"" and b"the same command goes on from there" in err and b"Traceback" not in err
    again = evaluate(fast(load(weights)), open_dataset(folder), plan=_plan(tmp_path / "cache"))
    assert again.computed == 40 - kept and len(again.images) == 40


def test_interrupted_where_nothing_is_kept(weights: str, tmp_path: Path) -> None:
    folder = make_shapes(tmp_path / "many", count=40, seed=1, size=(60, 80), val=1.0)
    arguments = ["evaluate", weights, "--data", str(folder), "--no-cache", "--save-labels", str(tmp_path / "labels")]
    process = subprocess.Popen([sys.executable, "-m", "fcn_port", *arguments], cwd=ROOT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("labels/*.png")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and b"no result is kept, as --no-cache says" in err and b"goes on" not in err


def test_two_processes_count_the_same_to_the_integer(common: list[str], tmp_path: Path) -> None:
    """`torchrun` on this machine, gloo; one image is bad, and both know."""
    data = open_dataset(common[3], split="trainval")
    (data.root / "JPEGImages" / f"{data.ids[2]}.jpg").write_bytes(b"no image")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, "-m", "fcn_port", *common, "--skip-bad", "--json", "--save-labels", str(tmp_path / "labels")],
        cwd=ROOT, capture_output=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "found.json").write_bytes(done.stdout)
    found = read_evaluation(tmp_path / "found.json")
    alone = evaluate(load(common[1]), data, plan=_plan(None, skip_bad=True))
    assert np.array_equal(found.histogram(), alone.histogram()) and found.histogram().sum() > 0
    assert [image.id for image in found.images] == [image.id for image in alone.images]
    assert found.computed == 5 and list(found.skipped) == [data.ids[2]]
    assert len(list((tmp_path / "labels").iterdir())) == 5
    assert sorted(path.name for path in (tmp_path / "cache").rglob("*.jsonl")) == ["0000.jsonl", "0001.jsonl"]


def test_processes_may_be_joined_inside_of_a_join(tmp_path: Path) -> None:
    """The inner one neither waits for a second meeting nor ends the first."""
    (tmp_path / "twice.py").write_text(
        "from fcn_port.evaluation.processes import joined\n"
        "with joined('cpu') as outer:\n"
        "    with joined('cpu') as inner:\n"
        "        assert inner == outer and inner.size == 2\n"
        "    print(f'{outer.from_first(outer.rank + 5)}\\n', end='', flush=True)\n"  # one write: the two share a pipe
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*launch, str(tmp_path / "twice.py")], capture_output=True, timeout=60, env=env, check=False)
    assert done.returncode == 0 and done.stdout.split() == [b"5", b"5"], done.stderr.decode()


# --- the verdict -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "status", "says"), [(0.099, 0, "reproduced"), (-0.11, 1, "NOT reproduced"), (0.11, 1, "NOT reproduced")]
)
def test_the_verdict(
    off: float, status: int, says: str, common: list[str], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The whole set with weights that are a release: mean IU may be off by 0.1 point of the most precise number."""
    assert run([*common, "--json"]) == 0
    ours = 100 * json.loads(capsys.readouterr().out)["tasks"][0]["mean_iu"]
    published = (
        Score("trainval", "a rounded one", mean_iu=round(ours + 3)),
        Score("trainval", "a precise one", mean_iu=ours + off, overall_accuracy=50.0, mean_accuracy=50.0, fwavacc=50.0),
        Score("seg12test", "another split", mean_iu=1.0),
    )
    release = replace(releases()["voc-fcn8s"], scores=published)
    monkeypatch.setattr(comparison, "releases", lambda: {"voc-fcn8s": release})
    monkeypatch.setattr("fcn_port.data.sets.voc.is_seg11valid", lambda ids: len(ids) == 6)
    assert run([*common, "--like", "voc-fcn8s"]) == status
    out = capsys.readouterr().out
    assert says in out.splitlines()[-1] and "on all 6 images of trainval" in out
    assert f"{-off:+.2f}" in out and "a rounded one" in out and "another split" not in out
    assert run([*common, "--like", "voc-fcn8s", "--limit", "5"]) == 0
    assert "no verdict" in capsys.readouterr().out


def test_published_values_of_the_catalogue(shapes: Path) -> None:
    """The numbers of the issue stand in the catalogue, and the verdict takes the measured one of four digits."""
    data = replace(open_dataset(shapes), split="seg11valid", complete=True)
    found = evaluate(filled(FCN8s(7, widths=NARROW)), data, release="voc-fcn8s")
    (task,) = found.tasks
    rows = {row.metric: row.published for row in comparison.compare(found, task)}
    assert [value for value, _ in rows["mean_iu"]] == [65.5, 65.5126]
    others = {metric: row[-1][0] for metric, row in rows.items() if metric != "mean_iu"}
    assert others == {"overall_accuracy": 91.2212, "mean_accuracy": 77.6146, "fwavacc": 84.5445}
    said = verdict(found)
    assert said is not None and not said.ok and "published 65.51" in said.text
    expected = {"voc-fcn32s": 63.6261, "voc-fcn16s": 65.005, "voc-fcn8s-atonce": 65.3998, "voc-fcn-alexnet": 48.0}
    for name, value in expected.items():
        assert comparison.published_scores(replace(found, release=name), task)[-1].mean_iu == value
    assert verdict(replace(found, release=None)) is None
    assert verdict(replace(found, complete=False)) is None
    assert verdict(replace(found, release="siftflow-fcn8s")) is None


def test_weights_that_cannot_be_had_do_not_stop_the_others(
    common: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "table.md"
    assert run([*common[:2], "voc-fcn32s", *common[2:], "--markdown", str(table)]) == 1
    out, err = capsys.readouterr()
    assert "7 classes" in out and "fcn32s-heavy-pascal.caffemodel is not here" in err
    assert "- `voc-fcn32s`: voc-fcn32s: fcn32s-heavy-pascal.caffemodel is not here" in table.read_text()


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["evaluate"], 2, "which weights?"),
        (["evaluate", "voc-fcn9s"], 2, "did you mean voc-fcn8s"),
        (["evaluate", "voc-fcn8s"], 2, "where are the images? Say --data FOLDER"),
        (["evaluate", "WEIGHTS", "--data", "NOWHERE"], 2, "there is no such folder"),
        (["evaluate", "NOWHERE.caffemodel", "--data", "SHAPES"], 2, "NOWHERE.caffemodel"),
        (["evaluate", "WEIGHTS", "--data", "SHAPES", "--split", "vall"], 2, "there are train, trainval, val"),
        (["evaluate", "WEIGHTS", "--data", "SHAPES", "--csv", "--json"], 2, "one of them"),
        (["evaluate", "WEIGHTS", "sample", "--prototxt", "WEIGHTS", "--data", "SHAPES"], 2, "the net of one file"),
        (
            ["evaluate", "WEIGHTS", "x/narrow.pth", "--data", "SHAPES", "--save-labels", "x"],
            2,
            "weights are called narrow",
        ),
        (["evaluate", "WEIGHTS", "--data", "SHAPES", "--like", "voc-fcn"], 2, "no release called 'voc-fcn'"),
        (["evaluate", "WEIGHTS", "--data", "SHAPES", "--device", "cuda:9"], 2, "cannot be used here"),
        (["evaluate", "WEIGHTS", "--data", "SHAPES", "--limit", "0"], 2, "--limit"),
        (["evaluate", "WEIGHTS", "--data", "VOC", "--split", "val", "--no-cache"], 3, "the net scores 7 classes"),
        (["evaluate", "WEIGHTS", "--data", "VOC", "--split", "test"], 2, "has no labels for test"),
        (["evaluate", "WEIGHTS", "--data", "VOC", "--submission", "x.tar.gz", "--limit", "2"], 2, "every image"),
    ],
)
def test_mistakes(
    arguments: list[str], status: int, says: str, weights: str, shapes: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make_voc(tmp_path / "VOC2012")
    make_voc(tmp_path / "VOC2012", split="test")
    names = {"WEIGHTS": weights, "SHAPES": str(shapes), "VOC": str(tmp_path / "VOC2012"), "NOWHERE": "/no/where"}
    assert run([names.get(each, each) for each in arguments]) == status
    out, err = capsys.readouterr()
    assert says in err and out == "" and "Traceback" not in err


def test_a_bad_label_map_is_named(common: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    path = next((Path(common[3]) / "SegmentationClass").iterdir())
    Image.open(path).convert("RGB").save(path)
    assert run(common) == 3
    assert f"{path}: the colours of VOC's palette (RGB) instead of labels" in capsys.readouterr().err
    assert run([*common, "--skip-bad"]) == 0
    assert "1 images of" in (err := capsys.readouterr().err) and str(path) in err


def _lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.rglob("*.jsonl"))


def _plan(cache: Path | None, *, skip_bad: bool = False):  # type: ignore[no-untyped-def]
    from fcn_port.evaluation import EvaluationPlan

    return EvaluationPlan(cache=cache, skip_bad=skip_bad)


def test_a_cache_that_cannot_be_written_costs_only_the_next_run(
    common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run([*common[:-1], str(tmp_path / "file" / "cache")]) == 0
    out, err = capsys.readouterr()
    assert "mean IU" in out and err.count("results are not kept") == 1


@pytest.mark.parametrize("broken", ["empty.caffemodel", "missing.caffemodel"])
def test_a_net_that_fails_leaves_the_scores_of_the_others(
    broken: str, common: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scores of the first net, which may have taken a night, were lost with the second."""
    (tmp_path / "empty.caffemodel").write_bytes(b"")
    bad = str(tmp_path / broken)
    status = 3 if broken.startswith("empty") else 2
    assert run([*common[:2], bad, *common[2:], "--json"]) == status
    out, err = capsys.readouterr()
    (found,) = json.loads(out)
    assert found["weights"] == common[1] and broken in err
    assert run([common[0], bad, common[1], *common[2:]]) == status
    assert capsys.readouterr().out == "", "the first may be wrong in a way that all are"
