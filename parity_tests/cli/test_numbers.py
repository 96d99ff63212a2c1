"""Numbers on the command line are numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_port.cli import run

NUMBERS = [
    ["data", "shapes", "--make", "new", "--val"],
    ["edges", "net.caffemodel", "a.png", "--threshold"],
    ["evaluate", "net.caffemodel", "--threshold"],
    ["evaluate", "net.caffemodel", "--scale"],
    ["evaluate", "net.caffemodel", "--scales"],
    ["evaluate", "net.caffemodel", "--mean"],
    ["predict", "net.caffemodel", "a.png", "--least-score"],
    ["report", "net.caffemodel", "--threshold"],
    ["serve", "net.caffemodel", "--most-megapixels"],
    ["train", "net.prototxt", "--lr"],
    ["train", "net.prototxt", "--gamma"],
    ["train", "net.prototxt", "--class-weights"],
]


def test_a_seed_has_64_bits(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "finetune", "--data", "own", "--seed", "99999999999999999999"]) == 2
    assert "seeds are numbers of 64 bits" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    ["train finetune --lr=-1", "train finetune --lr=-1e-9", "train finetune --workers 99999999",
     "evaluate x.caffemodel --workers 99999999", "serve x.caffemodel --threads 99999999"],
)  # fmt: skip
def test_what_unlearns_and_what_cannot_be_begun_is_wrong_use(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command.split()) == 2
    assert "is not in the range" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("predict x.caffemodel a.png --scale 0", "0 would make every image the same"),
        ("predict x.caffemodel a.png --mean 1e39", "one is more than a float32 holds"),
        ("evaluate x.caffemodel --scale 1e39", "'1e39' is more than a float32 holds"),
        ("train finetune --lr 1e39", "'1e39' is more than a float32 holds"),
    ],
)
def test_what_no_net_computes_with_is_wrong_use(
    command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command.split()) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", NUMBERS, ids=lambda command: f"{command[0]} {command[-1]}")
@pytest.mark.parametrize("value", ["nan", "-nan", "inf", "-inf"])
def test_what_is_not_finite_is_wrong_use(
    command: list[str], value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*command[:-1], f"{command[-1]}={value}"]) == 2
    err = capsys.readouterr().err
    assert f"Invalid value for '{command[-1]}'" in err and value in err
    assert not list(tmp_path.iterdir())
