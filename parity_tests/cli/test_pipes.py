"""A pipe or a folder in the place of a file is one clear error: nobody waits for a writer that never comes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from fcn_port.cli import run
from parity_tests.verbs import PICTURE, SAMPLE

LINES = [
    "predict SAMPLE PIPE.png -o OUT",
    "predict SAMPLE PIPE.txt -o OUT",
    "predict SAMPLE PICTURE --classes PIPE -o OUT",
    "inspect SAMPLE --register PIPE.py",
    "inspect PIPE",
    "diff PIPE SAMPLE",
    "convert PIPE -o OUT/a.safetensors",
    "trace PIPE.prototxt",
    "fetch sample --from-file PIPE",
    "surgery voc-fcn8s --init PIPE -o OUT/a.safetensors",
    "train PIPE.toml --data OUT",
    "train --solver PIPE.prototxt --data OUT",
    "evaluate SAMPLE --data PIPE.toml",
    "report SAMPLE --results PIPE -o OUT/a.html",
    "report SAMPLE --golden PIPE -o OUT/a.html",
]


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """An alarm in the place of a hang."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(100)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("line", LINES)
def test_a_pipe_is_not_waited_for(
    line: str, no_waiting: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("FCN_PORT_OFFLINE", "1")
    words = [
        word.replace("SAMPLE", SAMPLE).replace("PICTURE", PICTURE).replace("OUT", str(tmp_path))
        for word in line.split()
    ]
    (name,) = [word for word in words if word.startswith("PIPE")]
    pipe = tmp_path / name
    os.mkfifo(pipe)
    assert run([str(pipe) if word == name else word for word in words]) in (1, 2, 3)
    said = capsys.readouterr().err
    assert (
        name in said and "Traceback" not in said and ("pipe" in said.replace(name, "") or "not a regular file" in said)
    )


def test_words_of_a_missing_data_set_keep_their_capitals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"")
    assert run(["evaluate", "--check-submission", str(tmp_path / "a.tar.gz"), "--data", str(tmp_path)]) == 2
    assert "there is no folder JPEGImages" in capsys.readouterr().err
    assert run(["fcn-score", "--generated", "NO FOLDER", "--data", "Neither", "--weights", SAMPLE]) == 2
    assert "fcn-port: Neither: there is no such folder" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_among_images_is_listed_and_the_rest_is_done(
    no_waiting: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert run(["predict", SAMPLE, str(tmp_path / "a.png"), PICTURE, "-o", str(tmp_path / "out")]) == 1
    assert "1 of 2 images could not be" in capsys.readouterr().err
    assert (tmp_path / "out" / "shapes.labels.png").is_file()
