"""A part of the images goes on where it was ended, whatever files its net's results are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from converters import CaffeModel, parse_prototxt, write_caffemodel
from fcn_port.cli import run
from fcn_port.predict import outputs
from fcn_port.predictor import Shard
from fcn_port.predictor.shards import DoneImages
from parity_tests.test_architecture import ROOT

SAMPLE = ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel"
CONV = (
    'layer {{ name: "{0}" type: "Convolution" bottom: "data" top: "{0}" '
    "convolution_param {{ num_output: {1} kernel_size: 1 }} }}"
)
NET = 'input: "data" input_shape { dim: [1, 3, 20, 20] } '


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), (80 * number, 9, 200)).save(folder / f"{number}.png")
    return folder


def net_of(tmp_path: Path, **heads: int) -> list[str]:
    """The arguments of `predict` for a net of these outputs and their channels."""
    text = NET + " ".join(CONV.format(name, channels) for name, channels in heads.items())
    r = np.random.RandomState(0)
    blobs = {
        name: (r.standard_normal((c, 3, 1, 1)).astype(np.float32), np.zeros(c, np.float32)) for name, c in heads.items()
    }
    (tmp_path / "net.prototxt").write_text(text)
    write_caffemodel(CaffeModel(parse_prototxt(text), blobs), tmp_path / "net.caffemodel")
    return [str(tmp_path / "net.caffemodel"), "--prototxt", str(tmp_path / "net.prototxt"), "--mean", "0,0,0"]


@pytest.mark.parametrize("heads", [{"sem": 3, "geo": 2}, {"score": 3}], ids=["two outputs", "one"])
def test_what_is_done_is_passed_over(
    heads: dict[str, int], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["predict", *net_of(tmp_path, **heads), str(images), "-o", str(tmp_path / "out"), "--shard", "1/1"]
    assert run(given) == 0 and "3 images, 0 done before" in capsys.readouterr().err
    assert run(given) == 0 and "3 images, 3 done before" in capsys.readouterr().err
    assert run([*given, "--json"]) == 0 and json.loads(capsys.readouterr().out) == {"images": [], "failed": []}


def test_pictures_of_one_file_that_are_done_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [Image.new("RGB", (20, 20), (80 * number, 9, 200)) for number in range(3)]
    pictures[0].save(tmp_path / "a.tif", save_all=True, append_images=pictures[1:])
    given = ["predict", str(SAMPLE), str(tmp_path / "a.tif"), "-o", str(tmp_path / "out"), "--shard", "1/1"]
    for done in (0, 3):
        assert run([*given, "--every-frame"]) == 0 and f"{done} done before" in capsys.readouterr().err
    assert len(list((tmp_path / "out").glob("a.*.labels.png"))) == 3


def test_an_image_that_was_ended_between_its_files_is_done_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["predict", str(SAMPLE), str(images), "-o", str(tmp_path / "out"), "--shard", "1/1", "--probabilities"]
    maps = outputs.probability_maps

    def ended(seen: object) -> Iterator[np.ndarray]:
        yield from list(maps(seen))[:2]  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "probability_maps", ended)
        assert run(given) == 130
    assert len(list((tmp_path / "out").glob("*.probabilities/*.png"))) == 2
    capsys.readouterr()
    assert run(given) == 0 and "0 done before" in capsys.readouterr().err
    assert len(list((tmp_path / "out").glob("*.probabilities/*.png"))) == 3 * 7


def test_a_file_that_has_changed_under_its_name_is_another_setting(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["predict", *net_of(tmp_path, score=3), str(images), "-o", str(tmp_path / "out"), "--shard"]
    assert run([*given, "1/2"]) == 0
    net = tmp_path / "net.prototxt"
    net.write_text(net.read_text() + 'layer { name: "p" type: "Power" bottom: "score" top: "score" }')
    assert run([*given, "2/2"]) == 2 and "(prototxt differ)" in capsys.readouterr().err


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_note_that_was_cut_short_counts_for_nothing(cut: int, tmp_path: Path) -> None:
    for name in ("a", "ab", "a.png", "ab.png", "ab.json"):
        (tmp_path / name).touch()
    name, done = Path("abc/\udc80\n"), DoneImages(tmp_path, Shard(1, 2))
    assert not done
    done.add(name, [tmp_path / "ab.png", tmp_path / "ab.json"])
    assert done and done.among([name, Path("a")]) == {name}
    whole = done.path.read_bytes()
    done.path.write_bytes(whole[:-cut])
    assert not done.among([Path("a"), Path("ab")])
    done.add(Path("d"), [tmp_path / "a.png"])
    assert done.among([Path("d")]) and DoneImages(tmp_path, Shard(2, 3)).among([Path("d")])
