"""The artefacts that engines compile, kept on disk: by weights, version and processor, a few gigabytes at most.

One artefact serves images of every size. It is whole or not there; one that cannot be read is made again. Where others
could have put something into the folder, nothing is kept there and nothing loaded from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch

from converters.safety import fresh_folder, open_own, sha256_of, write_whole
from weights.cache import cache_folder as user_cache

from ... import __version__
from ...private import read_private, why_not_private
from ..lossless import Lossless
from ..processor import processor

T = TypeVar("T")

KEPT = 4
"""Artefacts, those that were used last; one of FCN-8s takes 0.55 GB."""
_DIGESTS = "sha256.json"


def cache_folder() -> Path:
    """The folder in which artefacts are kept, each in one of its own."""
    return user_cache("engines")


def kept(net: Lossless, *, engine: str, version: str, make: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """The artefact that `load` finds in the folder that `make` filled, now or in an earlier process."""
    root = cache_folder()
    if not _is_usable(root):
        with tempfile.TemporaryDirectory(prefix="fcn-port-") as passing:
            make(Path(passing))
            return load(Path(passing))
    folder = root / f"{engine}-{_key(net, version)}"
    if folder.is_dir():
        try:
            _refuse_changed(folder)
            found = load(folder)
        except Exception:  # whatever an engine says of a damaged file
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with suppress(OSError):  # forgotten by another thread or process; touch() would put a file there
                os.utime(folder)
            return found
    with fresh_folder(folder) as unfinished:
        make(unfinished)
        found = load(unfinished)
        _keep(unfinished, folder)
    _forget(root)
    return found


def _is_usable(root: Path) -> bool:
    """True where something can be kept there, and nobody else can have put there what an engine would run."""
    return why_not_private(root) is None and os.access(root, os.W_OK)


def _refuse_changed(folder: Path) -> None:
    """OSError or ValueError if an artefact is not, to the last byte, what this user kept: an engine may run it."""
    problem = why_not_private(folder)
    if problem is not None:
        raise PermissionError(problem)
    expected = json.loads(read_private(folder / _DIGESTS))
    if expected != _digests(folder):
        raise ValueError(f"{folder}: damaged")


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of an artefact; OSError for one that is not this user's own."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != _DIGESTS:
            with open_own(path) as file:
                found[path.name] = sha256_of(file)
    return found


def _keep(unfinished: Path, folder: Path) -> None:
    """Give the finished files their name; whoever was first wins."""
    write_whole(unfinished / _DIGESTS, json.dumps(_digests(unfinished)).encode(), durable=False)
    try:
        unfinished.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _forget(root: Path) -> None:
    used: dict[Path, float] = {}
    for each in root.iterdir():
        if not each.name.startswith("."):  # being made
            with suppress(FileNotFoundError):  # forgotten by another thread or process meanwhile
                if each.is_dir():
                    used[each] = each.stat().st_mtime
    for folder in sorted(used, key=lambda each: used[each], reverse=True)[KEPT:]:
        shutil.rmtree(folder, ignore_errors=True)


def _key(net: Lossless, version: str) -> str:
    """A name for everything that an artefact depends on."""
    state = net.state_dict()
    programs = [__version__, torch.__version__, version, processor(), torch.get_num_threads()]
    about = [*programs, repr(net), repr(net.graph), list(state)]
    digest = hashlib.sha256(json.dumps(about).encode())
    for value in state.values():
        digest.update(value.detach().contiguous().numpy())
    return digest.hexdigest()[:20]
