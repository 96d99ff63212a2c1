"""Standard streams that are closed, full, without a reader or in another encoding end no verb in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity_tests.forks import Forks
from parity_tests.test_architecture import ROOT
from parity_tests.verbs import RUNS, SAMPLE, argv_of, make_inputs

posix = pytest.mark.skipif(os.name != "posix", reason="shells and forks")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FCN_PORT_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        patch.setenv("FCN_PORT_OFFLINE", "1")
        with Forks() as server:
            yield server


CONDITIONS: dict[str, dict[str, str]] = {
    "all closed": {"stdin": "closed", "out": "closed", "err": "closed"},
    "no reader": {"out": "no reader", "err": "no reader", "encoding": "ascii"},
}


@posix
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("verb", RUNS)
def test_no_stream_ends_a_verb(verb: str, condition: str, inputs: Path, forks: Forks, tmp_path: Path) -> None:
    done = forks.run(argv_of(verb, inputs, tmp_path), **CONDITIONS[condition])
    assert "Traceback" not in done.err and "Exception ignored" not in done.err
    assert done.status == 0, done.err


@posix
@pytest.mark.parametrize("verb", ["releases", "fetch", "trace", "verify", "predict", "train"])
def test_a_full_disk_behind_standard_output_is_an_error(verb: str, inputs: Path, forks: Forks, tmp_path: Path) -> None:
    done = forks.run(argv_of(verb, inputs, tmp_path), out="/dev/full")
    assert done.status == 1 and done.err.endswith("fcn-port: standard output: no space left on device\n")


@posix
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_a_character_that_the_encoding_lacks_is_escaped(encoding: str, forks: Forks, tmp_path: Path) -> None:
    net = tmp_path / "net.prototxt"
    net.write_text('layer { name: "\u6771\u4eac" type: "ReLU" bottom: "data" top: "\u2500\u251c" } input: "data" '
                   "input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 4", encoding="utf-8")  # fmt: skip
    done = forks.run(["trace", str(net)], encoding=encoding)
    assert done.status == 0 and "Traceback" not in done.err, done.err
    assert b"data" in done.out and (b"\\u2500\\u251c" in done.out or "\u2500\u251c".encode() in done.out)
    done = forks.run(["inspect", str(net.with_name("\u6771.prototxt"))], encoding=encoding)
    assert done.status == 2 and "prototxt: no such file" in done.err


@posix
def test_a_file_opened_later_does_not_get_the_number_of_a_closed_stream(forks: Forks, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    assert forks.run(["convert", SAMPLE, "-o", str(out)], out="closed", err="closed", stdin="closed").status == 0
    beside = tmp_path / "y.safetensors"
    assert forks.run(["convert", SAMPLE, "-o", str(beside)]).status == 0
    assert out.read_bytes() == beside.read_bytes()


@posix
@pytest.mark.parametrize(
    "how", [">&-", "2>&-", "<&-", ">&- 2>&- <&-", "| head -n 1", "2>&1 | head -n 1", "| true", "2>&1 | true"]
)
def test_a_shell_may_do_it(how: str, tmp_path: Path) -> None:
    """The same from a process's first moment on, when Python itself finds its streams closed."""
    script = f"{sys.executable} -m fcn_port inspect {SAMPLE} {how}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "Exception" not in done.stderr, done.stderr
    assert "| head" not in how or done.stdout.startswith("layer")
