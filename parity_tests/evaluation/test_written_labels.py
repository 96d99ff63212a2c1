"""Label maps and tables that are written replace nothing that is read."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from fcn_port.cli import run
from fcn_port.data import open_dataset
from fcn_port.evaluation import EvaluationPlan, evaluate
from fcn_port.loading import load
from fcn_port.nets import FCN8s
from parity_tests.datasets import noise, save
from parity_tests.evaluation.test_evaluate import NARROW, filled


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        save(tmp_path / "own" / "images" / f"i{number}.png", noise(number, (16, 24, 3)))
        save(tmp_path / "own" / "labels" / f"i{number}.png", noise(40 + number, (16, 24)) % 3)
        save(tmp_path / "made" / f"i{number}.png", noise(80 + number, (8, 8, 3)))
    (tmp_path / "own" / "dataset.toml").write_text('classes = ["ground", "wall", "sky"]\n')
    (tmp_path / "names.txt").write_text("ground\nwall\nsky\n")
    (tmp_path / "link").symlink_to("own/labels")
    save_file(filled(FCN8s(3, widths=NARROW)).state_dict(), tmp_path / "net.safetensors")
    return tmp_path / "own"


EVALUATE = ["evaluate", "net.safetensors", "--data", "own", "--no-cache"]
SCORE = ["fcn-score", "--generated", "made", "--data", "own", "--weights", "net.safetensors", "--no-cache"]
REPORT = ["report", "net.safetensors", "--data", "own/dataset.toml"]


@pytest.mark.parametrize(
    ("command", "lost"),
    [
        ([*EVALUATE, "--save-labels", "own/labels"], "own/labels/i0.png"),
        ([*EVALUATE, "--save-labels", "link"], "own/labels/i0.png"),
        ([*EVALUATE, "--save-labels", "own/images"], "own/images/i0.png"),
        ([*EVALUATE, "--markdown", "net.safetensors"], "net.safetensors"),
        ([*EVALUATE, "--classes", "names.txt", "--markdown", "names.txt"], "names.txt"),
        ([*EVALUATE, "--submission", "net.safetensors"], "net.safetensors"),
        ([*SCORE, "--save-labels", "own/labels"], "own/labels/i0.png"),
        ([*SCORE, "--save-labels", "made"], "made/i0.png"),
        ([*SCORE, "--save-labels", "own/images"], "own/images/i0.png"),
        ([*REPORT, "-o", "own/dataset.toml"], "own/dataset.toml"),
        ([*REPORT, "--classes", "names.txt", "-o", "names.txt"], "names.txt"),
    ],
    ids=lambda given: " ".join(given[-2:]) if isinstance(given, list) else given,
)
def test_what_is_read_is_not_written_over(
    command: list[str], lost: str, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in own.parent.rglob("*") if path.is_file()}
    assert run(command) == 2
    assert lost in (err := capsys.readouterr().err) and "choose another" in err
    assert before == {path: path.read_bytes() for path in own.parent.rglob("*") if path.is_file()}


def test_label_maps_beside_others_are_written_as_often_as_is_asked(own: Path) -> None:
    for _ in range(2):
        assert run([*EVALUATE, "--save-labels", "out"]) == 0 and run([*SCORE, "--save-labels", "out"]) == 0


def test_what_a_limit_leaves_out_is_not_written_and_not_refused(own: Path) -> None:
    (own.parent / "out").mkdir()
    (own.parent / "out" / "i1.png").hardlink_to(own / "labels" / "i1.png")
    command = [*EVALUATE, "--save-labels", "out"]
    assert run(command) == 2
    assert run([*command, "--limit", "1"]) == 0 and (own.parent / "out" / "i0.png").is_file()


def test_a_submission_of_another_data_set_is_refused_before_the_work(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*EVALUATE, "--submission", "sub.tar.gz"]) == 3
    err = capsys.readouterr().err
    assert "the server takes PASCAL VOC only" in err and " of 2 images" not in err
    assert not (own.parent / "sub.tar.gz.labels").exists()


def test_the_function_refuses_too(own: Path) -> None:
    net, data = load(own.parent / "net.safetensors"), open_dataset(own)
    with pytest.raises(FileExistsError, match="over this file of the data set"):
        evaluate(net, data, plan=EvaluationPlan(save_labels=own / "labels"))
