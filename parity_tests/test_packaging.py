"""What a package index and `make` are told: metadata, pins for every Python that is promised, and the environment."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.markers import Marker

from parity_tests.test_architecture import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = [
    line.partition("#")[0].strip()
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if line.partition("#")[0].strip()
]
PYTHONS = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", each)]


def test_the_pythons_are_those_that_are_promised() -> None:
    assert PYTHONS == ["3.10", "3.11", "3.12", "3.13"] and PROJECT["requires-python"] == f">={PYTHONS[0]}"


@pytest.mark.parametrize("python", PYTHONS)
def test_each_package_has_one_pin_on_each_python(python: str) -> None:
    environment = {"python_version": python, "sys_platform": "linux", "platform_machine": "x86_64"}
    names = []
    for pin in PINS:
        requirement, _, marker = pin.partition(";")
        if not marker or Marker(marker.strip()).evaluate(environment):
            names.append(requirement.partition("==")[0])
    assert sorted(names) == sorted(set(names))
    assert set(names) == {pin.partition("==")[0] for pin in PINS}


def test_the_page_for_a_package_index_stands_alone() -> None:
    """There a link or a picture of the repository leads nowhere."""
    text = (ROOT / PROJECT["readme"]).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert all(link.startswith("https://") for link in links)
    extras = PROJECT["optional-dependencies"]
    assert all(extra in extras for extra in re.findall(r"fcn-port\[(\w+)\]", text))
    assert all(url.startswith("https://") for url in PROJECT["urls"].values())


def script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / ".ci" / "venv.py")))


def environment(folder: Path, answer: str) -> Path:
    """A folder that looks like a virtual environment, whose Python answers so."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f"#!/bin/sh\n{answer}\n")
    (folder / "bin" / "python").chmod(0o755)
    return folder


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("echo 3.11.7", None),
        ("echo 3.13.0", None),
        ("echo 3.9.18", "is of Python 3.9, and 3.10 or newer is needed"),
        ("exit 1", "is half made, or its Python is gone"),
    ],
)
def test_what_is_wrong_with_an_environment_is_named(tmp_path: Path, answer: str, problem: str | None) -> None:
    assert script().what_is_wrong(environment(tmp_path / "v", answer)) == problem


def test_an_environment_that_was_begun_is_half_made(tmp_path: Path) -> None:
    assert script().what_is_wrong(tmp_path / "v") == "is missing"
    (tmp_path / "v").mkdir()
    assert script().what_is_wrong(tmp_path / "v") == "is half made, or its Python is gone"


def made_with(monkeypatch: pytest.MonkeyPatch, status: int = 0) -> list[list[str]]:
    """The command lines of environments that are made, with nothing made."""
    commands: list[list[str]] = []
    real = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        if "venv" not in command:
            return real(command, **options)
        commands.append(command)
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_it_is_made_again_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands, folder = made_with(monkeypatch), environment(tmp_path / "v", "echo 3.9.18")
    assert script().main([str(folder)]) == 0
    assert commands == [[sys.executable, "-m", "venv", "--clear", str(folder)]]
    said = capsys.readouterr().err
    assert f"{folder} is of Python 3.9, and 3.10 or newer is needed: made again with Python 3." in said
    good = environment(tmp_path / "good", "echo 3.12.1")
    assert script().main([str(good)]) == 0 and len(commands) == 1 and capsys.readouterr().err == ""


def test_a_python_that_is_too_old_is_told_what_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands, old = made_with(monkeypatch), script()
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert old.main([str(tmp_path / "v")]) == 2 and commands == []
    said = capsys.readouterr().err
    assert "fcn-port needs Python 3.10 or newer" in said and "PYTHON=python3." in said


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_python_that_was_asked_for_takes_the_place_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = environment(tmp_path / "same", f"echo {sys.version_info[0]}.{sys.version_info[1]}.99")
    other = environment(tmp_path / "other", "echo 3.99.0")
    for folder in (same, other, tmp_path / "missing"):
        assert script().main([str(folder), "--outdated"]) == 0
    assert same.exists() and not other.exists()
    assert f"{other} is of Python 3.99: made again" in capsys.readouterr().err


def test_the_script_runs_on_pythons_that_are_too_old() -> None:
    """Nothing in it is younger than Python 3.6, or it could not say so."""
    text = (ROOT / ".ci" / "venv.py").read_text(encoding="utf-8")
    assert not re.search(r"from __future__|:=|match |\) ->|f\"[^\"]*=}", text)
    compile(text, "venv.py", "exec")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_the_shell_completes_after_the_line_of_the_readme(tmp_path: Path) -> None:
    (line,) = re.findall(r"`(eval .*bash_source.*)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    program = tmp_path / "fcn-port"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m fcn_port \"$@\"\n")
    program.chmod(0o755)
    asked = 'COMP_WORDS=(fcn-port {}); COMP_CWORD={}; _fcn_port_completion fcn-port; echo "${{COMPREPLY[*]}}"'
    script = "\n".join([line, asked.format("predi", 1), asked.format("predict --prob", 2)])
    environ = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["predict", "predict", "--probabilities"], done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash, which .ci/run is for")
@pytest.mark.parametrize(
    ("failing", "status"),
    [((), 0), (("test",), 0), (("test", "test-again"), 2), (("lint",), 2), (("extras", "fuzz"), 0)],
)
def test_ci_fails_where_a_test_fails_twice(failing: tuple[str, ...], status: int, tmp_path: Path) -> None:
    """A `make` that does nothing but fail at these targets. In a list behind || what fails would be passed over."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    make = tmp_path / "make"
    make.write_text(f'#!/bin/sh\ncase " {" ".join(failing)} " in *" $1 "*) exit 2;; esac\n')
    make.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert done.returncode == status
