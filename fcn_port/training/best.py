"""The best weights of a run so far, by the mean IU of a validation: NAME_best.caffemodel, and a .json that says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from converters.errors import CaffeFormatError
from converters.escaping import json_text
from converters.execution import from_state_dict
from converters.formats import write_caffemodel
from converters.safety import make_folder, read_json, to_record, unlinked, whole_file
from weights.card import Card

from ..nets import definition
from .task import TrainingTask


@dataclass(frozen=True)
class Best:
    """The best validation so far: its update and its mean IU as a fraction of 1."""

    iteration: int
    mean_iu: float


def best_path(folder: Path, name: str) -> Path:
    """The weights of the best validation of a run."""
    return folder / f"{name}_best.caffemodel"


def read_best(folder: Path, name: str, *, until: int) -> Best | None:
    """The best of a run up to update `until`; None where there is none, or it comes after."""
    path = best_path(folder, name).with_suffix(".json")
    if not path.is_file() or not path.with_suffix(".caffemodel").is_file():
        return None
    try:
        found = to_record(read_json(path), Best, ignore_unknown=True)
    except CaffeFormatError:  # the next validation writes it anew
        return None
    return found if found.iteration <= until else None


def save_best(folder: Path, name: str, task: TrainingTask, best: Best, card: Card) -> Path:
    """Write the net's weights as the best ones; the .json, by which `load` knows classes and inputs, comes last."""
    make_folder(folder)
    path = best_path(folder, name)
    record = path.with_suffix(".json")
    record.unlink(missing_ok=True)
    net = task.spec if task.spec is not None else definition(task.net, name=type(task.net).__name__)
    write_caffemodel(from_state_dict(task.net.state_dict(), net), unlinked(path))
    with whole_file(record) as file:
        said = {"iteration": best.iteration, "mean_iu": best.mean_iu, "card": card.to_metadata()}
        file.write(json_text(said, indent=1).encode())
    return path
