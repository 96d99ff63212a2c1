"""Options that would do nothing are wrong use."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.core import ParameterSource

from fcn_port.cli import run
from fcn_port.cli.together import given_options

IDLE = [
    ("data --check own --fetch", "--check goes without --fetch"),
    ("data voc2011 --check own", "--check goes without"),
    ("data --check own --count 3 --root .", "--check goes without --root and --count"),
    ("data shapes --make new --fetch", "--make goes without --fetch"),
    ("data shapes --make new --void 3", "--void goes with --check"),
    ("data --split val --strict", "--split and --strict go with --check"),
    ("data voc2011 --seed 3", "--seed goes with shapes --make"),
    ("data voc2011 --keep-archive", "--keep-archive goes with --fetch or --from-file"),
    ("report voc-fcn8s --limit 3", "--limit goes with --data"),
    ("report voc-fcn8s --flip --void 3", "--void and --flip go with --data"),
    ("report voc-fcn8s --threshold 0.3 --skip-bad", "--skip-bad and --threshold go with --data"),
    ("report voc-fcn8s --results found.json --limit 3", "--results goes without --limit"),
    ("report voc-fcn8s --results found.json --data own --skip-bad", "--results goes without --skip-bad"),
    ("diff voc-fcn8s voc-fcn16s --blobs score", "--blobs goes with --pictures"),
    ("train voc-fcn8s --data own --val-split none --val-every 3", "--val-split none goes without --val-every"),
    ("train voc-fcn8s --data own --no-check --skip-bad", "--no-check goes without --skip-bad"),
    ("view voc-fcn8s --out graph.json --port 8080", "--out goes without --port"),
    ("view voc-fcn8s --out graph.json --browser", "--out goes without --browser"),
    ("fetch voc-fcn8s --from-file nothing", "'nothing' does not exist"),
    ("convert voc-fcn8s --from-file nothing", "'nothing' does not exist"),
    ("data voc2011 --from-file nothing", "'nothing' does not exist"),
    ("evaluate voc-fcn8s --check-submission a.tar.gz", "--check-submission goes without"),
    ("evaluate --check-submission a.tar.gz --limit 3 --json", "--check-submission goes without --limit and --json"),
]


@pytest.mark.parametrize(("command", "said"), IDLE, ids=[command for command, _ in IDLE])
def test_what_would_be_passed_over_is_refused(
    command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FCN_PORT_OFFLINE", "1")
    assert run(command.split()) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_argument_of_which_there_are_none_is_not_given() -> None:
    """Click 8.2 says that it is, and `evaluate --check-submission` was refused for WEIGHTS."""
    weights = click.Argument(["weights"], nargs=-1, metavar="WEIGHTS")
    command = click.Command("verb", params=[weights, click.Option(["--limit"])])
    with command.make_context("verb", ["--limit", "3"]) as context:
        context.set_parameter_source("weights", ParameterSource.COMMANDLINE)
        assert given_options(context) == {"limit": "--limit"}
    with command.make_context("verb", ["a.safetensors"]) as context:
        assert given_options(context) == {"weights": "WEIGHTS"}
