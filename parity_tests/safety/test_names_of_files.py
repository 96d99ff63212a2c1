"""What a stranger's file calls its nets, blobs and classes never says where a file of ours goes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters import CaffeNet
from converters.formats.prototxt import parse_prototxt
from converters.formats.solver import read_solver
from converters.safety.files import fresh_file, fresh_folder, write_whole
from fcn_port.cli import run
from fcn_port.evaluation.labels import save_labels, saved_path
from fcn_port.exporting import export_net
from fcn_port.predict.outputs import write_outputs
from fcn_port.training.checkpoints import snapshots
from fcn_port.training.source import source_of_solver
from parity_tests.datasets import noise, save
from parity_tests.goldens import GOLDEN
from parity_tests.runs import shapes
from parity_tests.safety.test_planted_links import seen

HOSTILE = [
    "../../up/x", "/etc/x", "..", ".", "a/..", "a/../../b", "\\\\host\\share", "C:x", "-o", ".bashrc", "~", "a\nb",
    "a\0b", "[red]", "*", "x" * 10_000, "con", "‮gpj", "é/中",
]  # fmt: skip


def everything_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\\u0000", "\\000")


@pytest.fixture
def solver(tmp_path: Path) -> Path:
    shutil.copyfile(GOLDEN / "solver" / "solver-heavy.train.prototxt", tmp_path / "train.prototxt")
    path = tmp_path / "solver.prototxt"
    path.write_text('train_net: "train.prototxt" base_lr: 1e-8 lr_policy: "fixed" max_iter: 1\n')
    return path


def named(net: Path, name: str) -> None:
    lines = [line for line in net.read_text().splitlines() if not line.startswith("name:")]
    net.write_text("\n".join([f"name: {quoted(name)}", *lines]))


@pytest.mark.parametrize("name", HOSTILE)
def test_snapshots_are_called_after_one_component(name: str, solver: Path, tmp_path: Path) -> None:
    named(tmp_path / "train.prototxt", name)
    by_net = source_of_solver(read_solver(solver)).name
    by_prefix = source_of_solver(replace(read_solver(solver), snapshot_prefix=name)).name
    for found in (by_net, by_prefix):
        out = tmp_path / "out" / "deep" / "er"
        path = out / f"{found}_iter_1.json"
        assert path.resolve().parent == out.resolve()
        out.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        assert snapshots(out, found) == [path]
        path.unlink()


@pytest.mark.parametrize("by", ["net", "prefix"])
def test_training_writes_below_its_folder(
    by: str, solver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes(tmp_path)
    named(tmp_path / "train.prototxt", "../../up/x" if by == "net" else "FCN")
    if by == "prefix":
        solver.write_text(solver.read_text() + 'snapshot_prefix: "../.."')
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    before = everything_below(tmp_path)
    options = ["--data", str(tmp_path / "shapes"), "--val-split", "none", "--workers", "0", "--init", "none"]
    assert run(["train", "--solver", str(solver), *options, "--out", "a/b/c"]) == 0
    assert run(["train", "--solver", str(solver), *options]) == 0
    made = everything_below(tmp_path) - before - {"work/a", "work/a/b", "work/a/b/c", "work/runs"}
    assert {name.split("/")[-1].rpartition(".")[2] for name in made} >= {"caffemodel", "json", "safetensors"}
    assert all(name.startswith(("work/a/b/c/", "work/runs/")) for name in made)


def test_outputs_with_slashes_have_files_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in every GoogLeNet: inception_3a/output. Without a slash the name is the blob's, as before."""
    tops = ["inception_3a/output", "inception_3a_output", "../../up", "score", "/x"]
    layers = "".join(
        f'layer {{ name: "l{i}" type: "Convolution" bottom: "data" top: {quoted(top)} '
        f"convolution_param {{ num_output: 3 kernel_size: 1 }} }}\n"
        for i, top in enumerate(tops)
    )
    text = f'name: "two"\ninput: "data" input_shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }}\n{layers}'
    export_net(CaffeNet(parse_prototxt(text)), to="safetensors", out=tmp_path / "net.safetensors")
    save(tmp_path / "work" / "x.png", noise(1, (8, 8, 3)))
    before = everything_below(tmp_path)
    arguments = [str(tmp_path / "net.safetensors"), str(tmp_path / "work" / "x.png"), "--like", "voc-fcn8s", "--json"]
    assert run(["predict", *arguments, "-o", str(tmp_path / "work" / "out"), "--scores", "--probabilities"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["images"]
    assert {each["head"] for each in found["outputs"]} == set(tops)
    files = [each[kind] for each in found["outputs"] for kind in ("labels", "overlay", "scores", "probabilities")]
    assert len(set(files)) == 4 * len(tops) and all(Path(each).exists() for each in files)
    made = everything_below(tmp_path) - before
    assert all(name.startswith("work/out") for name in made)
    assert {"work/out/x.score.labels.png", "work/out/x.inception_3a_output.labels.png"} <= made


def test_no_image_writes_the_files_of_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """x with the output score.a, and x.score with the output a: dots divide the parts of a name."""
    layers = "".join(
        f'layer {{ name: "{top}" type: "Convolution" bottom: "data" top: "{top}" '
        "convolution_param { num_output: 2 kernel_size: 1 } }\n"
        for top in ("a", "score.a", "score_a", "b")
    )
    text = f'name: "two"\ninput: "data" input_shape {{ dim: 1 dim: 3 dim: 8 dim: 8 }}\n{layers}'
    export_net(CaffeNet(parse_prototxt(text)), to="safetensors", out=tmp_path / "net.safetensors")
    pictures = [str(save(tmp_path / name, noise(1, (8, 8, 3)))) for name in ("x.png", "x.score.png")]
    arguments = [str(tmp_path / "net.safetensors"), *pictures, "--like", "voc-fcn8s", "--json"]
    assert run(["predict", *arguments, "-o", str(tmp_path / "out")]) == 0
    found = json.loads(capsys.readouterr().out)["images"]
    assert len({output["labels"] for each in found for output in each["outputs"]}) == 8
    assert len(list((tmp_path / "out").glob("*.labels.png"))) == 8


@pytest.mark.parametrize("name", HOSTILE)
def test_probabilities_are_called_after_classes(name: str, tmp_path: Path) -> None:
    folder = write_outputs(replace(seen(), classes=(name, "cat")), tmp_path / "x", probabilities=True)["probabilities"]
    assert folder == tmp_path / "x.probabilities"
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 2 and names[0].startswith("0") and names[1] == "1-cat.png"


@pytest.mark.parametrize("name", HOSTILE)
def test_label_maps_are_called_after_outputs(name: str, tmp_path: Path) -> None:
    heads = {name: np.zeros((2, 2), np.uint8), "score": np.ones((2, 2), np.uint8)}
    save_labels(tmp_path / "out", "a", heads)
    assert saved_path(tmp_path / "out", "a", name, list(heads)).resolve().parents[1] == (tmp_path / "out").resolve()
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize("make", [fresh_file, fresh_folder], ids=["a file", "a folder"])
def test_what_cannot_be_made_is_named_as_it_was_asked_for(make: Callable[[Path], Any], tmp_path: Path) -> None:
    """And not as its part, which nobody knows: a name of 256 letters, which is too long."""
    asked = tmp_path / ("x" * 256)
    with pytest.raises(OSError, match="too long") as caught, make(asked):
        pass
    assert caught.value.filename == str(asked)


@pytest.mark.parametrize("name", ["x" * 240, "x" * 241, "x" * 255, "é" * 127, "\udcff" * 255], ids=len)
def test_a_name_as_long_as_may_be_has_parts_too(name: str, tmp_path: Path) -> None:
    """What is in the making has a name of its own beside it, which is no longer than a file system takes."""
    for content in (b"first", b"second"):
        write_whole(tmp_path / name, content)
        assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == content
    with fresh_folder(tmp_path / name), fresh_file(tmp_path / name):
        assert len(list(tmp_path.iterdir())) == 3
    assert len(list(tmp_path.iterdir())) == 1
