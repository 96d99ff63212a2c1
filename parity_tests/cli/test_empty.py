"""Empty text, as of a shell's variable that is not set, and "-" for a file are wrong use, and no file or folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_port.cli import run

EMPTY, DASH = "it is empty; is a variable of the shell not set?", "'-': files are neither read from"
GIVEN = [
    (["convert", "net.caffemodel", "-o", ""], "'-o' / '--out'", EMPTY),
    (["convert", "net.caffemodel", "--out="], "'-o' / '--out'", EMPTY),
    (["convert", ""], "'WHAT'", EMPTY),
    (["predict", "net.caffemodel", "a.png", ""], "'[IMAGES]...'", EMPTY),
    (["evaluate", "net.caffemodel", "--data", ""], "'--data'", EMPTY),
    (["evaluate", "net.caffemodel", "--void", "3", "--input", ""], "'--input'", EMPTY),
    (["report", "net.caffemodel", "--json", "--like", ""], "'--like'", EMPTY),
    (["data", "--check", ""], "'--check'", EMPTY),
    (["convert", "net.caffemodel", "-o", "-"], "'-o' / '--out'", DASH),
    (["evaluate", "net.caffemodel", "--data", "x", "--markdown=-"], "'--markdown'", DASH),
    (["predict", "net.caffemodel", "a.png", "--out", "-"], "'-o' / '--out'", DASH),
    (["inspect", "net.caffemodel", "--register", "-"], "'--register'", DASH),
]


@pytest.mark.parametrize(("command", "named", "problem"), GIVEN, ids=[" ".join(command) for command, *_ in GIVEN])
def test_what_is_no_text_and_no_file_is_wrong_use(
    command: list[str], named: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A dash became a file of that name, which most programs take for an option."""
    monkeypatch.chdir(tmp_path)
    assert run(command) == 2
    err = capsys.readouterr().err
    assert f"Invalid value for {named}: {problem}" in err
    assert f"Usage: fcn-port {command[0]} " in err
    assert not list(tmp_path.iterdir())


def test_other_mistakes_are_told_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "--nonsense", ""]) == 2
    assert "No such option" in capsys.readouterr().err
