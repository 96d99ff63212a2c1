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
    from .checking import Checked, Claim, TargetError, TargetRefusal, check_target, difference, summary
    from .known import TARGETS, Target, TargetProgram, opset_of, programs_of
    from .running import Answer, ProgramError, run_model

__all__ = [
    "TARGETS",
    "Answer",
    "Checked",
    "Claim",
    "ProgramError",
    "Target",
    "TargetError",
    "TargetProgram",
    "TargetRefusal",
    "check_target",
    "difference",
    "opset_of",
    "programs_of",
    "run_model",
    "summary",
]

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {
        **dict.fromkeys(
            ("Checked", "Claim", "TargetError", "TargetRefusal", "check_target", "difference", "summary"), "checking"
        ),
        **dict.fromkeys(("TARGETS", "TargetProgram", "Target", "opset_of", "programs_of"), "known"),
        **dict.fromkeys(("Answer", "ProgramError", "run_model"), "running"),
    },
)
