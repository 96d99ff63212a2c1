"""Images for tests of clusters: loose, in tars, in tables, and one that is none."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from parity_tests.test_architecture import ROOT

SAMPLE = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"


def png(seed: int, size: tuple[int, int] = (40, 48)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.RandomState(seed).randint(0, 255, (*size, 3), np.uint8)).save(out, format="PNG")
    return out.getvalue()


def folder_of(root: Path, count: int, *, size: tuple[int, int] = (40, 48)) -> Path:
    """So many images, and one that cannot be read."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (root / f"{i}.png").write_bytes(png(i, size))
    (root / "broken.png").write_bytes(b"not a picture")
    return root


def tar_of(path: Path, members: Mapping[str, bytes], *, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
