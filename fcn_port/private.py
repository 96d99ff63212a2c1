"""Folders for compiled code: used only where nobody else can have put there what is about to run."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from converters.safety import open_own

ROOT = 0
"""Whoever is root can do everything anyway."""


def why_not_private(folder: Path, *, make: bool = True) -> str | None:
    """The reason why others could have put something into `folder`, or another in its place; None if nobody could.

    It is made for this user alone where it is missing, or with `make=False` what is there of the way is judged. It has
    to be the user's, and writable by nobody else; so do all folders above it, but that they may be root's, and writable
    by others where these can only move what is their own (as in /tmp).
    """
    try:
        if make:
            _make(folder)
        there = next(each for each in (folder, *folder.parents) if make or each.exists())
        last = folder.resolve()
        problems = (_problem(each, is_last=each == last) for each in _way_to(there))
        return next((problem for problem in problems if problem is not None), None)
    except OSError as error:
        return f"{error.filename or folder}: {(error.strerror or str(error)).lower()}"


def read_private(path: Path) -> bytes:
    """A file of a private folder, whole; OSError unless it is a regular file that only this user can have written."""
    with open_own(path) as file:
        if _is_writable_by_others(os.fstat(file.fileno())):
            raise PermissionError(1, "others may write to it", str(path))
        return file.read()


def _make(folder: Path) -> None:
    """Make what is missing on the way, each folder for this user alone, which `mkdir(parents=True)` does not."""
    for each in (*reversed(folder.absolute().parents), folder.absolute()):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)


def _way_to(folder: Path) -> Iterator[Path]:
    """Every folder and link on the way to `folder`, as it is written and as it is."""
    for way in dict.fromkeys((folder.absolute(), folder.resolve(strict=True))):
        yield from (*reversed(way.parents), way)


def _problem(place: Path, *, is_last: bool) -> str | None:
    if not hasattr(os, "geteuid"):
        return None  # Windows has lists of rights, and keeps others out of a user's folders
    found = place.lstat()
    if found.st_uid != os.geteuid() and (is_last or found.st_uid != ROOT):
        return f"{place}: it belongs to another user"
    if stat.S_ISLNK(found.st_mode):
        return None
    if not stat.S_ISDIR(found.st_mode):
        return f"{place}: it is no folder"
    is_sticky = bool(found.st_mode & stat.S_ISVTX) and not is_last
    if _is_writable_by_others(found) and not is_sticky:
        return f"{place}: others may write in it (chmod go-w would change that)"
    return None


def _is_writable_by_others(found: os.stat_result) -> bool:
    return hasattr(os, "geteuid") and bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
