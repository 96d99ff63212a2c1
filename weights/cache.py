"""The user's cache folder, by kind of what is kept there; known without importing what downloads."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def cache_folder(kind: str) -> Path:
    """The folder for one kind of what is kept in the user's cache: weights, data, evaluations, compiled code."""
    return platformdirs.user_cache_path("fcn-port", appauthor=False) / kind
