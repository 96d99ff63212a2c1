"""Recipes: how a net is trained, as a TOML file that people read, copy and change.

    recipe = find_recipe("voc-fcn32s")      # one of the release's, or the path of a file of your own

A file says what it does itself; `like = "another recipe"` takes over everything that it does not say. The fields of
[solver] are Caffe's (converters/formats/solver.py).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from converters.errors import CaffeFormatError, place
from converters.formats import SolverSpec
from converters.safety import open_file, to_record
from weights.records import IGNORE_LABEL

from .choices import LossName, Multiplier, Normalization, Order

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FOLDER = files(__package__) / "recipes"
_DEEPEST = 8
MOST_BYTES = 1 << 20
"""The longest recipe that is read."""


@dataclass(frozen=True)
class Recipe:
    """A recipe: how a net is trained.

    `net` is a name for `fcn_port.build`, with other `widths` and another share of `dropout` (0 to below 1) if they are
    given; `init` is the release or file that it begins with, "" if that is for the user to say, "none" for nothing.
    `split` is what it learns from and `val_split` what it is scored on. The loss is divided by `normalization`. An
    update sees `batch_size` images in each of iter_size passes. `multipliers` replaces lr_mult and decay_mult of blobs
    by patterns of their keys ("conv*.bias").

    With `net_of_init` the net is the one that the first weights are of, with its widths, and `net` where those are of
    none that is written out here. With `measured_scores` score layers learn at rates by what goes into them
    (measuring.py). `loss`, `class_weights`, `gamma`, `mirror`, `crop` and `scales` are as in `Changes`;
    `median_frequency` works the weights out from the labels.
    """

    name: str
    about: str
    source: str
    net: str
    solver: SolverSpec
    init: str = ""
    widths: tuple[int, ...] = ()
    dropout: float | None = None
    split: str = "train"
    val_split: str = "val"
    normalization: Normalization = "BATCH_SIZE"
    ignore_label: int = IGNORE_LABEL
    batch_size: int = 1
    order: Order = "replacement"
    seed: int = 1337
    multipliers: Mapping[str, Mapping[Multiplier, float]] = field(default_factory=dict)
    net_of_init: bool = False
    measured_scores: bool = False
    loss: LossName = "softmax"
    class_weights: tuple[float, ...] = ()
    median_frequency: bool = False
    gamma: float | None = None
    mirror: bool = False
    crop: int = 0
    scales: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise CaffeFormatError(f"expected at least 0, found {self.crop}", where="crop")
        if not 0.05 <= self.scales[0] <= self.scales[1] <= 20:
            raise CaffeFormatError(f"expected a range between 0.05 and 20, found {self.scales}", where="scales")
        if not all(0 <= weight < math.inf for weight in self.class_weights):
            raise CaffeFormatError("expected numbers of at least 0", where="class_weights")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise CaffeFormatError(f"expected at least 0 and less than 1, found {self.dropout}", where="dropout")


def recipe_names() -> list[str]:
    """The recipes that come with the project."""
    return sorted(entry.name.removesuffix(".toml") for entry in _FOLDER.iterdir() if entry.name.endswith(".toml"))


def find_recipe(name_or_path: str) -> Recipe:
    """The recipe of that name, or in the file at that path.

    Raises CaffeFormatError for a file that is none, FileNotFoundError where there is neither.
    """
    path = Path(name_or_path)
    if path.suffix == ".prototxt":
        raise FileNotFoundError(2, "this is no recipe; a solver is given as --solver FILE", name_or_path)
    if path.suffix == ".toml" or path.parent != Path():
        return _to_recipe(path.stem, *_read(path, depth=0))
    if name_or_path not in recipe_names():
        close = get_close_matches(name_or_path, recipe_names(), n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(recipe_names())}"
        raise FileNotFoundError(2, f"there is no recipe of this name; {meant}", name_or_path)
    return _to_recipe(name_or_path, *_read(_own(name_or_path), depth=0))


def _own(name: str) -> Path:
    return Path(str(_FOLDER / f"{name}.toml"))


def _read(path: Path, *, depth: int) -> tuple[dict[str, Any], Path]:
    """The tables of a file, with those of the recipe that it is like."""
    try:
        with open_file(path) as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            problem = f"more than {MOST_BYTES >> 10} KiB, the limit (fcn_port.training.recipe.MOST_BYTES)"
            raise CaffeFormatError(problem, path=path)
        found = tomllib.loads(data.decode())
    except CaffeFormatError:
        raise
    except RecursionError:
        raise CaffeFormatError("not a recipe: too many lists within lists", path=path) from None
    except ValueError as error:  # TOMLDecodeError, bytes that are not UTF-8, integers of thousands of digits
        raise CaffeFormatError(f"not TOML: {error!s:.200}", path=path) from error
    like = found.pop("like", None)
    if like is None:
        return found, path
    if not isinstance(like, str) or depth >= _DEEPEST:
        raise CaffeFormatError(f"like = {like!r:.80}; expected the name of another recipe", path=path)
    base = path.parent / like if like.endswith(".toml") else _own(like)
    if "\0" in like or len(like) > 255 or not base.is_file():
        raise CaffeFormatError(f"like = '{like:.80}': there is no such recipe", path=path)
    return _merged(_read(base, depth=depth + 1)[0], found), path


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `over` says, table by table."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _to_recipe(name: str, found: Mapping[str, Any], path: Path) -> Recipe:
    try:
        _refuse_fields_of_a_run(found, ("name",))
        with place("solver"):
            _refuse_fields_of_a_run(found.get("solver"), _NOT_IN_RECIPES)
        return to_record({**found, "name": name}, Recipe)
    except CaffeFormatError as error:
        raise error.in_file(path) from None


_NOT_IN_RECIPES = (
    *("path", "train_net", "test_nets", "train_net_param", "test_net_params"),
    *("for_tests", "train_state", "test_states"),
    *("snapshot_prefix", "snapshot_format", "random_seed"),
)


def _refuse_fields_of_a_run(table: object, names: tuple[str, ...]) -> None:
    """CaffeFormatError for fields that the records have, and that are for a file's name or a run to say."""
    for name in names:
        if isinstance(table, dict) and name in table:
            raise CaffeFormatError(f"'{name}' is not for a recipe to say")
