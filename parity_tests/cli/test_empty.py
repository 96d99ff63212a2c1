"""Empty text, as a shell makes it of a variable that is not set, is wrong use, and not the working folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_port.cli import run

EMPTY = [
    (["convert", "net.caffemodel", "-o", ""], "'-o' / '--out'"),
    (["convert", "net.caffemodel", "--out="], "'-o' / '--out'"),
    (["convert", ""], "'WHAT'"),
    (["predict", "net.caffemodel", "a.png", ""], "'[IMAGES]...'"),
    (["evaluate", "net.caffemodel", "--data", ""], "'--data'"),
    (["evaluate", "net.caffemodel", "--void", "3", "--input", ""], "'--input'"),
    (["report", "net.caffemodel", "--json", "--like", ""], "'--like'"),
    (["data", "--check", ""], "'--check'"),
]


@pytest.mark.parametrize(("command", "named"), EMPTY, ids=[" ".join(command) for command, _ in EMPTY])
def test_empty_text_is_wrong_use(
    command: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command) == 2
    err = capsys.readouterr().err
    assert f"Invalid value for {named}: it is empty; is a variable of the shell not set?" in err
    assert f"Usage: fcn-port {command[0]} " in err
    assert not list(tmp_path.iterdir())


DASHES = [
    (["convert", "net.caffemodel", "-o", "-"], "'-o' / '--out'"),
    (["evaluate", "net.caffemodel", "--data", "x", "--markdown=-"], "'--markdown'"),
    (["predict", "net.caffemodel", "a.png", "--out", "-"], "'-o' / '--out'"),
    (["inspect", "net.caffemodel", "--register", "-"], "'--register'"),
]


@pytest.mark.parametrize(("command", "named"), DASHES, ids=[" ".join(command) for command, _ in DASHES])
def test_a_dash_is_no_stream(
    command: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It became a file of that name, which most programs take for an option."""
    monkeypatch.chdir(tmp_path)
    assert run(command) == 2
    assert f"Invalid value for {named}: '-': files are neither read from" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_other_mistakes_are_told_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "--nonsense", ""]) == 2
    assert "No such option" in capsys.readouterr().err
