"""check_target: a written model in every program of its target that is installed, beside the numbers it should give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...escaping import terminal
from ..checking import TOLERANCE, ExportError
from ..detections import are_detections, detections_apart
from .known import Program, programs_of
from .running import ProgramError, run_model

Arrays = Mapping[str, np.ndarray]
"""Arrays by the name of their blob."""


class TargetError(ExportError):
    """A program of the target does not read the model, or computes something else with it."""


@dataclass(frozen=True)
class Checked:
    """What came of a model in one program.

    `error` is the largest difference of an output, of its largest magnitude; None where the program is not on this
    machine, and then `problem` says what is missing.
    """

    program: str
    version: str = ""
    error: float | None = None
    problem: str | None = None

    @property
    def title(self) -> str:
        """The program with its version, or that nothing was checked in it."""
        if self.error is None:
            return f"{self.program}: not checked ({self.problem})"
        return f"{self.program} {self.version}: {self.error:.1e}".replace("  ", " ")


def check_target(
    model: Path,
    *,
    target: str,
    inputs: Sequence[Arrays],
    expected: Sequence[Arrays],
    tolerance: float = TOLERANCE,
    allowed: Callable[[int, str], float] | None = None,
    first_difference: Callable[[Program, Arrays], str | None] | None = None,
) -> tuple[Checked, ...]:
    """Run a model on all `inputs` in each program of `target`, and compare with the `expected` outputs, in order.

    `allowed` gives a larger tolerance for an output of a trial where its own rounding is known to be more. With
    `first_difference` an error names the first blob that differs. Programs that are not on this machine are told as
    not checked. Raises TargetError where one refuses the model or gives other numbers.
    """
    found: list[Checked] = []
    for program in programs_of(target):
        if program.python is None:
            found.append(Checked(program.title, problem=program.missing))
            continue
        names = list(expected[0])
        try:
            answer = run_model(model, program, inputs, outputs=names)
        except ProgramError as error:
            raise TargetError(f"{program.title} does not take this model: {error}; nothing written") from None
        worst = 0.0
        for trial, (given, right, outputs) in enumerate(zip(inputs, expected, answer.trials, strict=True)):
            sizes = ", ".join(f"{terminal(name)} {array.shape}" for name, array in given.items())
            where = f"{program.title} {answer.version}, inputs {sizes}"
            if isinstance(outputs, str):
                raise TargetError(f"{where}: it does not run this model: {outputs}; nothing written")
            for name in names:
                limit = max(tolerance, allowed(trial, name) if allowed is not None else 0.0)
                error_of_name = difference(outputs[name], right[name])
                if not error_of_name <= limit:
                    first = first_difference(program, given) if first_difference is not None else None
                    raise TargetError(_wrong(where, name, outputs[name], right[name], error_of_name, first))
                worst = max(worst, error_of_name)
        found.append(Checked(program.title, answer.version, worst))
    return tuple(found)


def difference(found: np.ndarray, right: np.ndarray) -> float:
    """The largest difference of `right`'s largest magnitude; infinite where shapes or what is finite differ.

    Detections are compared as sets.
    """
    if are_detections(found) and are_detections(right):
        return detections_apart(found, right)
    if found.shape != right.shape:
        return float("inf")
    if not right.size:
        return 0.0
    found, right = found.astype(np.float64), right.astype(np.float64)
    finite = np.isfinite(right)
    if (np.isfinite(found) != finite).any() or not np.array_equal(found[~finite], right[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    largest = float(np.abs(right[finite]).max())
    return float(np.abs(found[finite] - right[finite]).max()) / (largest or 1.0)


def _wrong(where: str, name: str, found: np.ndarray, right: np.ndarray, error: float, first: str | None) -> str:
    if found.shape != right.shape and not are_detections(found):
        what = f"{terminal(name)} is {found.shape}, expected {right.shape}"
    else:
        what = f"{terminal(name)} differs by {error:.1e} of its largest value"
    blame = f"; the first blob that differs is {terminal(first)}" if first is not None else ""
    return f"{where}: {what}{blame}; nothing written"


def summary(checked: Sequence[Checked]) -> str:
    """What a model was checked in, as metadata and messages say it."""
    return "; ".join(each.title for each in checked)
