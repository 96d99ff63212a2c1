"""The folder of a run: one run at a time, the latest snapshots kept, a finished run whose files are gone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fcn_port.cli import run
from fcn_port.training.checkpoints import prune, snapshots
from fcn_port.training.errors import TrainingError
from fcn_port.training.folder import locked_folder
from parity_tests.runs import shapes, write_recipe
from parity_tests.test_architecture import ROOT

ENDINGS = (".json", ".caffemodel", ".solverstate")
HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom fcn_port.training.folder import locked_folder\n"
    "with locked_folder(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    shapes(tmp_path)
    recipe = write_recipe(tmp_path)
    where = ["--data", str(tmp_path / "shapes"), "--out", str(tmp_path / "out"), "--workers", "0"]
    return ["train", str(recipe), *where, "--val-split", "none", "--max-iter", "4", "--snapshot", "2"]


# --- one at a time ---------------------------------------------------------------------------------------------------


def test_a_second_training_is_refused_until_the_first_is_gone(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        for more in ([], ["--resume"]):
            assert run([*command, *more]) == 1
            assert f"fcn-port: {out}: another training is writing here; " in capsys.readouterr().err
        assert [path.name for path in out.iterdir()] == ["train.lock"]
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    assert run(command) == 0, "a run that was killed holds nothing"
    assert run([*command, "--resume"]) == 0, "nor does one that has ended"


def test_a_thread_holds_a_folder_too_and_enters_it_again(tmp_path: Path) -> None:
    refused: list[bool] = []

    def other() -> None:
        try:
            with locked_folder(tmp_path / "x" / ".." / "x"):
                refused.append(False)
        except TrainingError:
            refused.append(True)

    for name, expected in (("x", True), ("y", False)):
        with locked_folder(tmp_path / name), locked_folder(tmp_path / name):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
        assert refused.pop() is expected


@pytest.mark.parametrize("more", [
    ["--data", "no-such-folder"], ["--split", "no-such-split"], ["--init", "no-such-file.caffemodel"],
    ["--resume", "no-such-snapshot"], ["--classes", "no-such-classes.txt"],
], ids=lambda more: more[0])  # fmt: skip
@pytest.mark.parametrize("there", [False, True], ids=["new folder", "old folder"])
def test_a_run_that_did_not_begin_leaves_nothing(
    more: list[str], there: bool, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lock stayed, in a folder that was made for it alone."""
    out = tmp_path / "new" / "out"
    if there:
        out.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    assert run([*command, *more, "--out", str(out)]) == 2, capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


# --- which are kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_latest_by_iteration_stay(seed: int, tmp_path: Path) -> None:
    """Whatever their names sort like, whatever their files' times say, whatever stands beside them."""
    numbers = random.Random(seed)
    iterations = [9, 10, 90, 100, 900, 1000, 1001, 12000]
    numbers.shuffle(iterations)
    for iteration in iterations:
        for ending in ENDINGS:
            path = tmp_path / f"x_iter_{iteration}{ending}"
            path.write_text("")
            os.utime(path, (numbers.uniform(1e9, 2e9),) * 2)
    others = {"y_iter_1.json", "x_iter_best.json", "xx_iter_5.json", "x_iter_7.caffemodel"}
    for name in others:
        (tmp_path / name).write_text("")
    prune(tmp_path, "x", keep=3)
    kept = {f"x_iter_{iteration}{ending}" for iteration in (1000, 1001, 12000) for ending in ENDINGS}
    assert {path.name for path in tmp_path.iterdir()} == kept | others
    assert [path.stem for path in snapshots(tmp_path, "x")] == ["x_iter_1000", "x_iter_1001", "x_iter_12000"]


def test_what_a_pruning_that_was_killed_left_goes_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for iteration in (1, 2, 3):
        for ending in ENDINGS:
            (tmp_path / f"x_iter_{iteration}{ending}").write_text("")
    real, count = Path.unlink, [0]

    def unlink(path: Path, missing_ok: bool = False) -> None:
        count[0] += 1
        if count[0] == 2:
            raise KeyboardInterrupt
        real(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        with pytest.raises(KeyboardInterrupt):
            prune(tmp_path, "x", keep=2)
    assert len(snapshots(tmp_path, "x")) == 2 and len(list(tmp_path.iterdir())) > 6
    prune(tmp_path, "x", keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {f"x_iter_{i}{ending}" for i in (2, 3) for ending in ENDINGS}


# --- a finished run --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [("narrow.safetensors",), ("narrow.safetensors", "narrow_iter_4.json")], ids=str)
def test_a_finished_run_makes_again_what_is_gone(
    gone: tuple[str, ...], command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(command) == 0
    expected = (out / "narrow.safetensors").read_bytes()
    for name in gone:
        (out / name).unlink()
    capsys.readouterr()
    assert run([*command, "--resume"]) == 0
    assert capsys.readouterr().out == f"{out / 'narrow.safetensors'}\n"
    assert (out / "narrow.safetensors").read_bytes() == expected


def test_a_snapshot_whose_weights_are_gone_is_named(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 0
    (tmp_path / "out" / "narrow_iter_4.caffemodel").unlink()
    assert run([*command, "--resume"]) == 2
    assert "narrow_iter_4.caffemodel: there is no such file; it belongs to" in capsys.readouterr().err


def test_a_run_finished_from_a_snapshot_elsewhere_is_saved_here(command: list[str], tmp_path: Path) -> None:
    assert run(command) == 0
    elsewhere = [str(tmp_path / "two") if part == str(tmp_path / "out") else part for part in command]
    assert run([*elsewhere, "--resume", str(tmp_path / "out" / "narrow_iter_4.json")]) == 0
    for name in ("narrow.safetensors", "narrow_iter_4.caffemodel", "narrow_iter_4.solverstate"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_a_snapshot_beyond_the_end_is_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 0
    assert run([*command, "--max-iter", "3", "--resume"]) == 2
    assert "narrow_iter_4.json is of iteration 4, and the run ends at 3: " in capsys.readouterr().err
