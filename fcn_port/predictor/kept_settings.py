"""Settings kept beside the results of a folder, so that results of others are not put among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from converters.escaping import json_text
from converters.safety import read_json, write_whole


def keep_settings(
    path: Path, settings: Mapping[str, Any], *, out: Path, have_results: Callable[[], bool] = lambda: True
) -> None:
    """Write the settings of the results in `out` to `path`, as JSON.

    ValueError where other settings lie there, and `have_results` says that results of these do; CaffeFormatError where
    what lies there is no JSON.
    """
    there = read_json(path) if path.is_file() else None
    if there == settings:
        return
    if path.is_file() and have_results():
        known = there if isinstance(there, dict) else {}
        changed = ", ".join(sorted(name for name in settings if known.get(name) != settings[name]))
        raise ValueError(f"{out}: it holds results of other settings ({changed} differ); give another folder")
    write_whole(path, json_text(settings, indent=2).encode())
