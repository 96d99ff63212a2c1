"""check_target: a written model in every program of its target that is installed, beside the numbers it should give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...escaping import terminal
from ..checking import TOLERANCE, ExportError
from ..detections import are_detections, detections_apart
from .known import TargetProgram, programs_of
from .running import Answer, ProgramError, run_model

Arrays = Mapping[str, np.ndarray]
"""Arrays by the name of their blob."""


class TargetError(ExportError):
    """A program of the target does not read the model, or computes something else with it."""


@dataclass(frozen=True)
class Checked:
    """The result of a model in one program.

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


@dataclass(frozen=True)
class Claim:
    """The numbers that a model should give: the `expected` outputs of each of the `inputs`, and how near is near.

    `tolerance` is of an output's largest magnitude; `allowed` gives a larger one for a trial whose own rounding is
    known to be more. In `ties`, trials such as those of zeros, many scores are alike, and rounding says which of two
    detections suppresses the other: of detections no more is asked there than finite numbers.
    """

    inputs: Sequence[Arrays]
    expected: Sequence[Arrays]
    tolerance: float = TOLERANCE
    allowed: Callable[[int], float] | None = None
    ties: frozenset[int] = frozenset()


def check_target(
    model: Path,
    claim: Claim,
    *,
    target: str,
    programs: Sequence[TargetProgram] | None = None,
    first_difference: Callable[[TargetProgram, Arrays], str | None] | None = None,
) -> tuple[Checked, ...]:
    """Run a model in each program of `target`, or in these `programs`, and compare with what is claimed of it.

    With `first_difference` an error names the first blob that differs. Programs that are not on this machine are told
    as not checked. Raises TargetError where one refuses the model or gives other numbers.
    """
    found: list[Checked] = []
    for program in programs_of(target) if programs is None else programs:
        if program.python is None:
            found.append(Checked(program.title, problem=program.missing))
            continue
        try:
            answer = run_model(model, program, claim.inputs, outputs=list(claim.expected[0]))
        except ProgramError as error:
            raise TargetError(f"{program.title} does not take this model: {error}; nothing written") from None
        found.append(Checked(program.title, answer.version, _compare(claim, program, answer, first_difference)))
    return tuple(found)


def _compare(
    claim: Claim,
    program: TargetProgram,
    answer: Answer,
    first_difference: Callable[[TargetProgram, Arrays], str | None] | None,
) -> float:
    """The largest difference over all trials; TargetError where it is too large."""
    worst = 0.0
    for trial, (given, right, outputs) in enumerate(zip(claim.inputs, claim.expected, answer.trials, strict=True)):
        sizes = ", ".join(f"{terminal(name)} {array.shape}" for name, array in given.items())
        where = f"{program.title} {answer.version}, inputs {sizes}"
        if isinstance(outputs, str):
            raise TargetError(f"{where}: it does not run this model: {outputs}; nothing written")
        for name, expected in right.items():
            if trial in claim.ties and are_detections(expected) and np.isfinite(outputs[name]).all():
                continue
            error = difference(outputs[name], expected)
            if not error <= claim.tolerance and not (claim.allowed and error <= claim.allowed(trial)):
                first = first_difference(program, given) if first_difference is not None else None
                raise TargetError(_wrong(where, name, outputs[name], expected, error, first))
            worst = max(worst, error)
    return worst


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
    """The programs that a model was checked in, as metadata and messages say it."""
    return "; ".join(each.title for each in checked)
