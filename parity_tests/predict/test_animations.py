"""Pictures of one animation after another: each is what it is by itself, and none is decoded twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.exporting import export_net
from fcn_port.nets import Net
from fcn_port.predict.images import picture_of, read_image

from ..datasets import noise
from ..detection.nets import ssd
from ..serving.nets import of_whole_images

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


@pytest.mark.parametrize("make", [of_whole_images, ssd], ids=["names", "objects"])
def test_the_first_picture_is_said(make: Callable[[], Net], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = tmp_path / "net.safetensors"
    export_net(make(), to="safetensors", out=net)
    animated(tmp_path / "a.gif", seed=3)
    Image.fromarray(noise(4, (9, 7, 3))).save(tmp_path / "b.png")
    common = ["predict", str(net), str(tmp_path / "a.gif"), str(tmp_path / "b.png"), "-o", str(tmp_path / "out")]
    for more in ([], ["--json"], ["--json-lines"], ["--every-frame"]):
        assert run([*common, *more]) == 0
        told = [line for line in capsys.readouterr().err.splitlines() if "the first of its" in line]
        first = f"{tmp_path / 'a.gif'}: the first of its 12 pictures; --every-frame takes them all"
        assert told == ([] if more == ["--every-frame"] else [first])
