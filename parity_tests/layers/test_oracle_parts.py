"""What the oracle does where there is none: it says so, bounded in time, and the suite runs without it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parity_tests.oracle import client, folder, install

FATAL = """WARNING: Logging before InitGoogleLogging() is written to STDERR
F0102 03:04:05.678901    23 crop_layer.cpp:65] Check failed: bottom[0]->shape(i) - crop_offset >= bottom[1]->shape(i)
*** Check failure stack trace: ***
"""


def test_a_failed_check_carries_caffes_own_message() -> None:
    error = client._failure(-6, FATAL)
    assert isinstance(error, client.CaffeAborted)
    assert str(error).startswith("crop_layer.cpp:65: Check failed: bottom[0]->shape(i)")
    assert error.stderr == FATAL


def test_any_other_end_is_not_taken_for_a_failed_check() -> None:
    error = client._failure(1, "Traceback (most recent call last):\nKeyError: 'nope'\n")
    assert not isinstance(error, client.CaffeAborted)
    assert "status 1" in str(error) and "KeyError: 'nope'" in str(error)


def test_a_folder_without_caffe_is_not_ready(tmp_path: Path) -> None:
    assert "make caffe-oracle" in str(folder.why_not_ready(tmp_path))


def test_install_never_touches_a_folder_with_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "is_root", lambda: True)
    monkeypatch.setattr(install.shutil, "which", lambda program: f"/usr/sbin/{program}")
    monkeypatch.setattr(install.sys, "platform", "linux")
    monkeypatch.setattr(install, "DISK_NEEDED", 0)
    (tmp_path / "thesis.tex").touch()
    assert "in the way" in str(install.why_impossible(tmp_path))
    assert install.why_impossible(tmp_path / "new") is None


def test_install_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.sys, "platform", "linux")
    monkeypatch.setattr(install, "is_root", lambda: False)
    assert "root" in str(install.why_impossible(tmp_path))
    monkeypatch.setattr(install, "is_root", lambda: True)
    monkeypatch.setattr(install.shutil, "which", lambda program: None)
    assert "apt-get install debootstrap" in str(install.why_impossible(tmp_path))


@pytest.mark.skipif(os.name != "posix", reason="debootstrap and chroot are for Linux")
def test_a_failing_step_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(install.InstallError, match=r"status 3:\n  no such mirror"):
        install.run(["sh", "-c", "echo no such mirror >&2; exit 3"], log=tmp_path / "log")
    assert "no such mirror" in (tmp_path / "log").read_text()


@pytest.mark.skipif(os.name != "posix", reason="debootstrap and chroot are for Linux")
def test_a_hanging_step_ends_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "STEP_LIMIT_S", 0.5)
    with pytest.raises(install.InstallError, match="not done after"):
        install.run(["sh", "-c", f"(sleep 2; touch {tmp_path}/late) & wait"])
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(["sh", "-c", f"until [ -e {tmp_path}/late ]; do sleep 0.1; done"], timeout=2.5)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [([], 5, "deselected"), (["-m", "not oracle"], 5, "deselected"), (["-m", "oracle"], 4, "make caffe-oracle")],
    ids=["make test", "not oracle", "oracle"],
)
def test_live_tests_run_only_where_asked_for(arguments: list[str], status: int, said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "parity_tests/formats/test_oracle_formats.py", *arguments],
        cwd=folder.PROJECT,
        env={**os.environ, "CAFFE_ORACLE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done.stdout + done.stderr
