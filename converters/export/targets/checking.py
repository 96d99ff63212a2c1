"""check_target: a written model in every program of its target that is installed, beside the numbers it should give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...escaping import terminal
from ...net.onnx_form import OPENCV
from ..checking import TOLERANCE, ExportError
from ..detections import are_detections, detections_differ
from ..empty_windows import LARGEST, with_something
from .known import TargetProgram, programs_of
from .running import Answer, ProgramError, run_model

Arrays = Mapping[str, np.ndarray]
"""Arrays by the name of their blob."""


class TargetError(ExportError):
    """A program of the target does not read the model, or computes something else with it."""


class TargetRefusal(TargetError):
    """A program of the target does not read the model, or does not run it."""


@dataclass(frozen=True)
class Checked:
    """The result of a model in one program.

    `error` is the largest difference of an output, of its largest magnitude; None where the program is not on this
    machine, and then `problem` says what is missing. Outputs in `magnified` differ by more on some input, but by no
    more than the net's own rounding, which a division can make that large; they count where nothing else does.
    """

    program: str
    version: str = ""
    error: float | None = None
    problem: str | None = None
    magnified: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The program with its version, or that nothing was checked in it."""
        if self.error is None:
            return f"{self.program}: not checked ({self.problem})"
        more = f" (not {', '.join(map(terminal, self.magnified))}: rounding decides)" if self.magnified else ""
        return f"{self.program} {self.version}: {self.error:.1e}{more}".replace("  ", " ")


@dataclass(frozen=True)
class Claim:
    """The numbers that a model should give: the `expected` outputs of each of the `inputs`, and how near is near.

    `tolerance` is of an output's largest magnitude; `allowed` gives a larger one for the outputs of a trial whose own
    rounding is known to be more. In `ties`, trials such as those of zeros, many scores are alike, and rounding says
    which of two detections suppresses the other: of detections no more is asked there than finite numbers; and what is
    near 0 there, as a map less its own mean, is measured by the largest value of all trials.
    """

    inputs: Sequence[Arrays]
    expected: Sequence[Arrays]
    tolerance: float = TOLERANCE
    allowed: Callable[[int], Mapping[str, float]] | None = None
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
            raise TargetRefusal(f"{program.title} does not take this model: {error}; nothing written") from None
        if answer.not_run is not None:
            found.append(Checked(program.title, answer.version, problem=answer.not_run))
            continue
        worst, magnified = _compare(claim, program, answer, first_difference)
        found.append(Checked(program.title, answer.version, worst, magnified=magnified))
    return tuple(found)


def _compare(
    claim: Claim,
    program: TargetProgram,
    answer: Answer,
    first_difference: Callable[[TargetProgram, Arrays], str | None] | None,
) -> tuple[float, tuple[str, ...]]:
    """The largest difference over all trials, and the outputs that rounding decides; TargetError where one is wrong."""
    largest = {name: max(map(_magnitude, (each[name] for each in claim.expected))) for name in claim.expected[0]}
    near: list[float] = []
    magnified: dict[str, float] = {}
    for trial, (given, right, outputs) in enumerate(zip(claim.inputs, claim.expected, answer.trials, strict=True)):
        sizes = ", ".join(f"{terminal(name)} {array.shape}" for name, array in given.items())
        where = f"{program.title} {answer.version}, inputs {sizes}"
        if isinstance(outputs, str):
            raise TargetRefusal(f"{where}: it does not run this model: {outputs}; nothing written")
        allowed: Mapping[str, float] | None = None
        for name, expected in right.items():
            found = _flat(outputs[name], expected.shape) if program.library in OPENCV else outputs[name]
            if trial in claim.ties and are_detections(expected) and np.isfinite(found).all():
                continue
            error = difference(found, expected, least=largest[name] if trial in claim.ties else 0.0)
            if error <= claim.tolerance:
                near.append(error)
                continue
            if allowed is None:
                allowed = claim.allowed(trial) if claim.allowed else {}
            if not error <= allowed.get(name, 0.0):
                first = first_difference(program, given) if first_difference is not None else None
                raise TargetError(_wrong(where, name, found, expected, error, first))
            magnified[name] = max(magnified.get(name, 0.0), error)
    return max(near or magnified.values(), default=0.0), tuple(magnified) if near else ()


def _flat(found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The array as a vector or a number, which OpenCV 4 gives as (n, 1) and (1, 1), and 5 as (n,) and (1,)."""
    alike = {0: ((1,), (1, 1)), 1: ((*shape, 1),)}.get(len(shape), ())
    return found.reshape(shape) if found.shape in alike else found


def _magnitude(array: np.ndarray) -> float:
    sizes = np.abs(array[np.isfinite(array)])
    return float(sizes[sizes < LARGEST].max(initial=0.0))


def difference(found: np.ndarray, right: np.ndarray, *, least: float = 0.0) -> float:
    """The largest difference, of `right`'s largest magnitude or of `least` where that is more.

    Infinite where shapes or what is finite differ. Detections are compared as sets.
    """
    if are_detections(found) and are_detections(right):
        return detections_differ(found, right)
    if found.shape != right.shape:
        return float("inf")
    if not right.size:
        return 0.0
    pair = with_something(found.astype(np.float64), right.astype(np.float64))
    if pair is None:
        return float("inf")
    found, right = pair
    finite = np.isfinite(right)
    if (np.isfinite(found) != finite).any() or not np.array_equal(found[~finite], right[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    largest = max(_magnitude(right), least)
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
