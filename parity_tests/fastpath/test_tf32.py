"""An interrupted pass leaves the process's setting of TF32 as it was (test_threads.py has passes side by side)."""

from __future__ import annotations

import sys
import threading
from types import FrameType
from typing import Any

import pytest
import torch

from fcn_port.fastpath import tf32 as tf32_module
from fcn_port.fastpath.tf32 import tf32


@pytest.mark.parametrize("allowed", [False, True])
def test_an_interrupt_leaves_no_setting_of_tf32_and_nobody_waiting(
    allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every instruction up to the pass: a count that stayed would have passes that disagree wait for ever.

    Each try has a lock of its own: between taking it and entering its block, where Python itself heeds no signal, an
    interrupt leaves it locked.
    """
    at, left, code = 0, 0, tf32.__wrapped__.__code__  # type: ignore[attr-defined]

    def watch(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code is not code:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return watch

    before, traced = torch.backends.cudnn.allow_tf32, sys.gettrace()
    torch.backends.cudnn.allow_tf32 = not allowed
    sys._getframe().f_trace_opcodes = True  # Python 3.12 tells of opcodes where a frame had it before settrace
    try:
        interrupted = True
        while interrupted:
            at += 1
            left, entered, interrupted = at, False, False
            monkeypatch.setattr(tf32_module, "_change", threading.Condition())
            sys.settrace(watch)
            try:
                with tf32(allowed):
                    entered = True
                    sys.settrace(traced)
            except KeyboardInterrupt:
                interrupted = True
            finally:
                sys.settrace(traced)
            assert torch.backends.cudnn.allow_tf32 != allowed and not tf32_module._passes, at
            assert entered != interrupted
    finally:
        torch.backends.cudnn.allow_tf32 = before
        tf32_module._passes.clear()
    assert at > 20
