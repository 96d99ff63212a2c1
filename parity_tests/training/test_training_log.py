"""What a run leaves on record, and how it is asked to stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fcn_port.cli.output import duration
from fcn_port.cli.training_output import to_line
from fcn_port.training.errors import TrainingError
from fcn_port.training.events import Begun, Saved, Updated, Validated
from fcn_port.training.logs import JsonLines, TensorBoard

UPDATED = Updated(3, 10, 2.0, 1.5, {"loss": 1.25, "loss_geo": 0.75}, 1e-10, ("a",), 0.5, 3.5)
SCORES = {"overall_accuracy": 0.5, "mean_accuracy": 0.25, "mean_iu": float("nan")}
VALIDATED = Validated(3, 2, {"7 classes": SCORES}, 1.0)


def test_lines_are_json_and_an_unfinished_one_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.jsonl"
    for _ in range(2):
        lines = JsonLines(path)
        for event in (Begun(0, 10), UPDATED, VALIDATED, Saved(3, tmp_path / "x.json")):
            lines(event)
        lines.close()
        with path.open("a") as file:
            file.write('{"event": "updated", "itera' * 300)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    whole = path.read_text().splitlines()[:-1]
    records = [json.loads(line, parse_constant=refuse) for line in whole]
    assert [record["event"] for record in records] == ["begun", "updated", "validated", "saved"] * 2
    assert records[1]["losses"] == {"loss": 1.25, "loss_geo": 0.75} and records[1]["images"] == ["a"]
    assert records[2]["scores"]["7 classes"] == {"overall_accuracy": 0.5, "mean_accuracy": 0.25, "mean_iu": None}


def test_tensorboard_gets_losses_rates_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            told.append(("begun", folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told.append((name, value, step))

        def flush(self) -> None:
            pass

        close = flush

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    board = TensorBoard(tmp_path)
    for event in (Begun(2, 10), UPDATED, VALIDATED):
        board(event)
    board.close()
    assert told[:2] == [("begun", str(tmp_path), 3), ("loss/loss", 1.25, 3)]
    assert told[2:4] == [("loss/loss_geo", 0.75, 3), ("rate", 1e-10, 3)]
    assert ("7 classes/mean_accuracy", 0.25, 3) in told


def test_without_tensorboard_no_log_stands_in_the_way_of_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcn_port.cli.training_output import reporting

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError), reporting(tmp_path, display=1, tensorboard=True, active=True):
        pass
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match=r"pip install 'fcn-port\[tensorboard\]'"):
        TensorBoard(tmp_path)


def test_lines_for_people() -> None:
    said = to_line(UPDATED, display=3)
    assert said == "iteration 3 of 10: loss 1.5, loss 1.25, loss_geo 0.75, rate 1e-10, 0.5 s, 4 s left"
    assert to_line(UPDATED, display=20) == ""
    assert [duration(seconds) for seconds in (5, 700, 9000, 400000)] == ["5 s", "12 min", "2.5 h", "4.6 days"]


SECOND_CTRL_C = """
import os, signal
from fcn_port.cli.signals import stopping

before = signal.signal(signal.SIGINT, signal.default_int_handler) and signal.getsignal(signal.SIGINT)
said = []
try:
    with stopping(said.append) as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop() and len(said) == 1
        signal.raise_signal(signal.SIGINT)
        raise SystemExit("it went on")
except KeyboardInterrupt:
    assert signal.getsignal(signal.SIGINT) is before
os.environ["TORCHELASTIC_RUN_ID"] = "x"
with stopping(said.append) as stop:
    for _ in range(2):
        signal.raise_signal(signal.SIGINT)
    assert stop() and len(said) == 2
print("done")
"""


def test_the_second_ctrl_c_stops_at_once() -> None:
    """In a process of its own: a signal to a worker of the suite has ended that, twice."""
    environment = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"}
    run = subprocess.run([sys.executable, "-c", SECOND_CTRL_C], env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "done\n", "")
