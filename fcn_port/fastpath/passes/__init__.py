"""Passes of a net that `fast` plans in native code: early and late layers as steps over one arena."""

from __future__ import annotations

from .passes import NativePasses

__all__ = ["NativePasses"]
