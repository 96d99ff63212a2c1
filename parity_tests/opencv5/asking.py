"""Asking OpenCV 5 from the suite: jobs for inside.py, and their answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.opencv5.environment import run


@dataclass(frozen=True)
class Read:
    """What a net that the door read said and computed: its outputs by layer, and those of forward() without a name."""

    said: Mapping[str, Any]
    outputs: Mapping[str, np.ndarray]
    last: np.ndarray


def through_the_door(
    folder: Path,
    prototxt: Path,
    model: Path,
    inputs: Mapping[str, np.ndarray],
    *,
    layers: Sequence[str] = (),
    blobs: Mapping[str, np.ndarray] | None = None,
    set_blobs: Mapping[str, np.ndarray] | None = None,
    **settings: Any,
) -> Read:
    """Read a net with fcn_port.opencv in OpenCV 5 and run it."""
    job: dict[str, Any] = {
        "do": "door",
        "prototxt": str(prototxt),
        "model": str(model),
        "layers": list(layers),
        **settings,
    }
    for key, arrays in (("input", inputs), ("blobs", blobs), ("set", set_blobs)):
        if arrays:
            job[key] = str(folder / f"{key}.npz")
            np.savez(job[key], **arrays)  # type: ignore[arg-type]
    job["outputs"] = str(folder / "outputs.npz")
    said = ask(folder, job)
    found = np.load(job["outputs"])
    return Read(said, {name: found[str(number)] for number, name in enumerate(layers)}, found["last"])


def ask(folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a job; AssertionError with what was said where it failed."""
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    done = run("-m", "parity_tests.opencv5.inside", str(path))
    assert done.returncode == 0, done.stderr[-2000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
