"""The folder for weights: `$FCN_PORT_WEIGHTS`, else `weights/files/` of a checkout, else the user's cache folder.

A file that is fetched has a few others beside it, all named after it:

    x.caffemodel              the file, always whole and verified under this name
    x.caffemodel.sha256       what was verified (`sidecar.py`); `sha256sum -c` reads it too
    x.caffemodel.part         what has arrived of a download, with x.caffemodel.part.json saying from where
    x.caffemodel.lock         held by the process that fetches
"""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from converters.given import path_of, refuse_other_than
from weights.cache import cache_folder
from weights.download.progress import human_bytes
from weights.errors import FetchError
from weights.records import Release

WEIGHTS_VARIABLE = "FCN_PORT_WEIGHTS"
SPARE_BYTES = 16 << 20
"""Disk space that is left free, so that a full disk does not stop other programs."""


def weights_dir() -> Path:
    """The folder for weights, absolute; it need not exist yet."""
    named = os.environ.get(WEIGHTS_VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    package = Path(__file__).resolve().parent
    if _is_checkout(package.parent) and os.access(package, os.W_OK):
        return package / "files"
    return cache_folder("weights")


def _is_checkout(root: Path) -> bool:
    """True if `root` is this project's source, not a folder of installed packages."""
    project = root / "pyproject.toml"
    return project.is_file() and 'name = "fcn-port"' in project.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class StoredFile:
    """A file's place on the disk, and the names of what lies beside it."""

    folder: Path
    file: str

    @property
    def path(self) -> Path:
        """The file under its final name."""
        return self.folder / self.file

    @property
    def record(self) -> Path:
        """The record of what was verified about it."""
        return self._beside(".sha256")

    @property
    def part(self) -> Path:
        """The part of a download that has arrived."""
        return self._beside(".part")

    @property
    def origin(self) -> Path:
        """The note of where that came from."""
        return self._beside(".part.json")

    @property
    def lock(self) -> Path:
        """Held by the process that works here."""
        return self._beside(".lock")

    def _beside(self, suffix: str) -> Path:
        return self.folder / (self.file + suffix)


def place_of(release: Release, *, directory: str | os.PathLike[str] | None = None) -> StoredFile:
    """The place of a release's caffemodel; `directory` instead of `weights_dir()`."""
    _refuse_no_release(release)
    return StoredFile(_folder(directory), release.file)


def converted_path(release: Release, *, directory: str | os.PathLike[str] | None = None) -> Path:
    """The path of the converted release: `<name>.safetensors` beside its caffemodel."""
    _refuse_no_release(release)
    return _folder(directory) / f"{release.name}.safetensors"


def prototxt_place(release: Release, *, directory: str | os.PathLike[str] | None = None) -> StoredFile:
    """The place of a release's net definition: `<name>.prototxt` beside its caffemodel."""
    return StoredFile(_folder(directory), f"{release.name}.prototxt")


def _refuse_no_release(given: object) -> None:
    refuse_other_than(Release, given, 'a Release, as weights.release("voc-fcn8s") gives it')


def _folder(directory: str | os.PathLike[str] | None) -> Path:
    return weights_dir() if directory is None else path_of(directory, "a folder for weights").expanduser().absolute()


def free_bytes(folder: Path) -> int:
    """Free disk space where `folder` is, or will be once it is made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def in_words(error: OSError) -> str:
    """The system's error: which file, and what is wrong; without room, or where weights cannot be kept, what to do."""
    problem = str(error)  # our own words, which may begin with a name
    if error.strerror:
        problem = error.strerror[:1].lower() + error.strerror[1:]  # names of files in it stay as they are
    if error.filename is None:
        gone = error.errno == errno.ENOENT and _is_homeless()  # nobody names that folder
        return "the current folder was removed; change to one that is there, or give whole paths" if gone else problem
    text = f"{os.fsdecode(error.filename)}: {problem}"
    if error.errno == errno.EFBIG:
        return f"{text}; files may not be larger here (ulimit -f, or the file system's own limit)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR):
        inside = Path(os.fsdecode(error.filename)).absolute().is_relative_to(weights_dir().absolute())
        return f"{text}\n  set {WEIGHTS_VARIABLE} to a folder that you can write to" if inside else text
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return text
    folder = Path(os.fsdecode(error.filename)).absolute().parent
    return f"{text}; {human_bytes(free_bytes(folder))} are free in {folder}; free some, or write to another disk"


def _is_homeless() -> bool:
    """True where the current folder was removed, from which relative paths go."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def require_room(folder: Path, needed: int) -> None:
    """FetchError if `needed` more bytes do not fit in `folder`."""
    free = free_bytes(folder)
    if needed + SPARE_BYTES > free:
        raise FetchError(
            f"{folder}: {human_bytes(needed)} more are needed and {human_bytes(free)} are free\n"
            f"  free some, or set {WEIGHTS_VARIABLE} to a folder on a larger disk"
        )
