"""Pictures of one animation after another: each is what it is by itself, and none is decoded twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.predict.images import picture_of, read_image

from ..datasets import noise

PICTURES = 12


def animated(path: Path, *, seed: int) -> None:
    pictures = [Image.fromarray(noise(seed + each, (9, 7, 3))) for each in range(PICTURES)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:])


@pytest.mark.parametrize("kind", ["color", "bands", "grey"])
@pytest.mark.parametrize("form", ["gif", "png", "webp", "tiff"])
def test_any_order_and_a_file_that_changes(form: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}"
    for seed, order in ((0, range(5)), (50, (5, 5, 6, 2, 11, 0, 1, 10))):
        animated(path, seed=seed)
        for frame in order:
            alone = picture_of(path.read_bytes(), frame=frame, kind=kind)
            assert np.array_equal(read_image(path, frame=frame, kind=kind), alone), frame


def test_none_is_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL.GifImagePlugin import GifImageFile

    decoded: list[int] = []
    seek = GifImageFile._seek

    def counted(self: GifImageFile, frame: int, update_image: bool = True) -> None:
        decoded.append(frame)
        seek(self, frame, update_image)

    animated(tmp_path / "a.gif", seed=0)
    monkeypatch.setattr(GifImageFile, "_seek", counted)
    for frame in range(PICTURES):
        read_image(tmp_path / "a.gif", frame=frame)
    assert len(decoded) <= PICTURES + 2  # the first with each of the two times that it is opened
