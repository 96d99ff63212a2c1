"""The folder of what is kept for a user, also for one of whom the system knows only a number."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from fcn_port.cli import run
from weights.cache import cache_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="users have numbers elsewhere")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files of a user without a home: no $HOME, and no line in the list of users."""
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_user_without_a_home(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that asks for the folder ended in a traceback, or made a folder called ~."""
    own = temporary / f"fcn-port-{os.geteuid()}"
    assert cache_folder("native") == own / "native"
    own.mkdir()
    assert cache_folder("native") == own / "native"
    assert run(["--version"]) == 0 and str(own) in capsys.readouterr().out


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_somebody_else_put_there(what: str, temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = temporary / f"fcn-port-{os.geteuid()}"
    place.touch() if what == "file" else place.symlink_to(temporary)
    with pytest.raises(FileExistsError, match="set XDG_CACHE_HOME"):
        cache_folder("native")
    assert run(["--version"]) == 2
    assert "set XDG_CACHE_HOME" in capsys.readouterr().err
