"""Errors that stop a training run; those about files are in converters.errors."""

from __future__ import annotations


class TrainingError(RuntimeError):
    """A run that cannot begin or go on; says what happened, where, and what to do."""


class NonFiniteLossError(TrainingError):
    """A loss of NaN or infinity; names the images."""


class MemoryFullError(TrainingError):
    """The device has no memory left; names the images and says what to change."""
