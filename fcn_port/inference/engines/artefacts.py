"""What engines compile, kept on disk: by weights, version and processor, a few gigabytes at most.

One artefact serves images of every size. It is whole or not there; one that cannot be read is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import platformdirs
import torch

from ... import __version__
from ..lossless import Lossless
from ..processor import processor

T = TypeVar("T")

KEPT = 4
"""Artefacts, those that were used last; one of FCN-8s takes 0.55 GB."""


def cache_folder() -> Path:
    """Where artefacts are kept, a folder for each."""
    return platformdirs.user_cache_path("fcn-port", appauthor=False) / "engines"


def kept(net: Lossless, *, engine: str, version: str, make: Callable[[Path], None], load: Callable[[Path], T]) -> T:
    """What `load` finds in the folder that `make` filled, now or in an earlier process."""
    root = cache_folder()
    if not _is_writable(root):
        with tempfile.TemporaryDirectory(prefix="fcn-port-") as passing:
            make(Path(passing))
            return load(Path(passing))
    folder = root / f"{engine}-{_key(net, version)}"
    if folder.is_dir():
        try:
            found = load(folder)
        except Exception:  # whatever an engine says of a damaged file
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.touch()
            return found
    with tempfile.TemporaryDirectory(dir=root, prefix="unfinished-") as unfinished:
        make(Path(unfinished))
        found = load(Path(unfinished))
        _keep(Path(unfinished), folder)
    _forget(root)
    return found


def _is_writable(root: Path) -> bool:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(root, os.W_OK)


def _keep(unfinished: Path, folder: Path) -> None:
    """Give the finished files their name; whoever was first wins."""
    whole = unfinished / "whole"
    whole.mkdir()
    for path in list(unfinished.iterdir()):
        if path != whole:
            path.replace(whole / path.name)
    try:
        whole.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _forget(root: Path) -> None:
    folders = [each for each in root.iterdir() if each.is_dir() and not each.name.startswith("unfinished-")]
    for folder in sorted(folders, key=lambda each: each.stat().st_mtime, reverse=True)[KEPT:]:
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
