"""A folder that is a link which another user left where everybody writes: nothing is made behind it."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from converters.safety import make_folder
from fcn_port.data.shapes import make_shapes
from fcn_port.evaluation.cache import Cache
from fcn_port.evaluation.results import ImageResult
from fcn_port.training.events import Begun
from fcn_port.training.folder import locked_folder
from fcn_port.training.logs import JsonLines
from parity_tests.fetching import BODY, get, published
from parity_tests.test_architecture import ROOT
from weights.errors import FetchError


def _training(folder: Path) -> None:
    with locked_folder(folder):
        pass


def _fetched(folder: Path) -> None:
    with NamedTemporaryFile() as source:
        source.write(BODY)
        source.flush()
        get(published([], checksums=["sha1"]), folder, from_file=Path(source.name))


WRITERS: dict[str, Callable[[Path], None]] = {
    "folder": make_folder,
    "training": _training,
    "log": lambda folder: JsonLines(folder / "log.jsonl")(Begun(0, 1, None)),
    "cache": lambda folder: Cache(folder).append(ImageResult("a", {}), []),
    "shapes": lambda folder: make_shapes(folder, count=2, size=(8, 8)) and None,
    "fetch": _fetched,
}


@pytest.mark.parametrize("below", ["", "more"])
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("what", WRITERS)
def test_nothing_is_made_behind_it(
    what: str, there: bool, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    shared.mkdir()
    shared.chmod(0o1777)
    elsewhere.mkdir()
    goal = elsewhere if there else elsewhere / "made"
    (shared / "run").symlink_to(goal)
    lstat, link = Path.lstat, shared / "run"

    def of_another(self: Path) -> os.stat_result:
        found = lstat(self)
        return os.stat_result((*found[:4], os.geteuid() + 7, *found[5:])) if self == link else found

    monkeypatch.setattr(Path, "lstat", of_another)
    with pytest.raises((OSError, FetchError)) as caught:
        WRITERS[what](shared / "run" / below)
    assert "another user" in str(caught.value)
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("what", WRITERS)
def test_a_link_of_ones_own_is_followed(what: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    WRITERS[what](tmp_path / "run" / "more")
    assert (tmp_path / "elsewhere" / "more").is_dir()


@pytest.mark.parametrize("kind", ["link", "pipe", "name", "folder"])
def test_results_of_others_in_a_cache_are_not_believed(kind: str, tmp_path: Path) -> None:
    """A pipe would also hang, and a link to a device never end."""
    cache, other = Cache(tmp_path / "cache"), Cache(tmp_path / "other")
    for each, id_ in ((cache, "mine"), (other, "forged")):
        each.append(ImageResult(id_, {}), [])
    forged, path = tmp_path / "other" / "0000.jsonl", tmp_path / "cache" / "0001.jsonl"
    make = {"link": lambda: path.symlink_to(forged), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}
    make.get(kind, lambda: path.hardlink_to(forged))()
    assert list(cache.read({})) == ["mine"]


PLACES = {
    "converters/safety/files.py",
    "fcn_port/private.py",
    "fcn_port/fastpath/engines/artefacts.py",  # in a private folder
    "fcn_port/data/unpacking.py",  # below a fresh folder
}


def test_folders_are_made_in_one_place() -> None:
    for package in ("converters", "fcn_port", "weights"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            calls = {node.func.attr for node in tree if isinstance(node, ast.Call) and hasattr(node.func, "attr")}
            if calls & {"mkdir", "makedirs"}:
                assert path.relative_to(ROOT).as_posix() in PLACES
