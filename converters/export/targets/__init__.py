"""The programs that ONNX models are written for, and the check of a model inside them.

known.py       what targets there are: the opset and the interpreter of each
running.py     a model run in one of them, in a process of its own
worker.py      the program of that process; it needs none of this package
checking.py    a model in all programs of its target, beside the numbers that it should give
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy_attributes

if TYPE_CHECKING:
    from .checking import Checked, TargetError, check_target, summary
    from .known import TARGETS, Program, Target, opset_of, programs_of
    from .running import Answer, ProgramError, run_model

__all__ = [
    "TARGETS",
    "Answer",
    "Checked",
    "Program",
    "ProgramError",
    "Target",
    "TargetError",
    "check_target",
    "opset_of",
    "programs_of",
    "run_model",
    "summary",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        **dict.fromkeys(("Checked", "TargetError", "check_target", "summary"), "checking"),
        **dict.fromkeys(("TARGETS", "Program", "Target", "opset_of", "programs_of"), "known"),
        **dict.fromkeys(("Answer", "ProgramError", "run_model"), "running"),
    },
)
