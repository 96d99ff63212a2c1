"""The setting that lets convolutions on CUDA round their inputs to 10 bits, for some threads of a process at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_change = threading.Condition()
_passes: set[object] = set()
"""Passes that run with the setting as it is."""
_before = True
"""The setting before the first of them."""


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Run a pass with TF32 or without; PyTorch's default is with it.

    PyTorch has one setting for the whole process. Passes that agree on it run side by side, one that does not waits
    until they have been launched, and the last one puts the setting back.
    """
    global _before
    own = object()  # not a number: an interrupt comes before it is there or after, and not between a count and its note
    try:
        with _change:
            while _passes and torch.backends.cudnn.allow_tf32 != allowed:
                _change.wait()
            if not _passes:
                _before = torch.backends.cudnn.allow_tf32
            _passes.add(own)
            torch.backends.cudnn.allow_tf32 = allowed
        yield
    finally:
        with _change:
            if own in _passes:
                _passes.remove(own)
                if not _passes:
                    torch.backends.cudnn.allow_tf32 = _before
                    _change.notify_all()
