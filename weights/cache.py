"""The user's cache folder, by kind of what is kept there; known without importing what downloads."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import platformdirs


def cache_folder(kind: str) -> Path:
    """The folder for one kind of what is kept in the user's cache: weights, data, evaluations, compiled code.

    A user without a home has it among temporary files; FileExistsError where somebody else has put something there.
    """
    try:
        folder = platformdirs.user_cache_path("fcn-port", appauthor=False)
    except RuntimeError:  # platformdirs before 4.11 gave a folder called ~
        folder = Path("~")
    return (_without_home() if folder.parts[:1] == ("~",) else folder) / kind


def _without_home() -> Path:
    """The folder of a user of whom the system knows nothing but a number, as in a container."""
    folder = Path(tempfile.gettempdir(), f"fcn-port-{os.geteuid()}")
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return folder
    if found.st_uid != os.geteuid() or not stat.S_ISDIR(found.st_mode):
        raise FileExistsError(17, "this user has no home, and it is another's; set XDG_CACHE_HOME", str(folder))
    return folder
