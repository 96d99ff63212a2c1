"""`fcn-port predict` with a net that finds objects: pictures, records, COCO's results, and wrong use."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from converters.export import write_caffe
from fcn_port.cli import run
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program.runner import Runner
from parity_tests.detection.nets import NAMES, ssd
from parity_tests.detection.test_detect import BLUE, RED, drawn


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Arguments: the weights, and what they do not say."""
    folder = tmp_path_factory.mktemp("ssd")
    net = ssd()
    write_caffe(net.spec, net.state_dict(), folder / "ssd.caffemodel", prototxt=folder / "ssd.prototxt")
    (folder / "names.txt").write_text("\n".join(NAMES))
    return (
        str(folder / "ssd.caffemodel"),
        "--prototxt",
        str(folder / "ssd.prototxt"),
        "--classes",
        str(folder / "names.txt"),
    )


def test_one_image(files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn((64, 128), ((0.25, 0, 0.5, 0.25), RED)).save(tmp_path / "street.png")
    assert run(["predict", *files, str(tmp_path / "street.png"), "--mean", "0,0,0", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["red", "thing", "0.98", "16", "0", "32", "32"]
    record = json.loads((tmp_path / "out" / "street.detections.json").read_text())
    assert (record["width"], record["height"]) == (64, 128) and record["detections"][0]["name"] == "red thing"
    with Image.open(tmp_path / "out" / "street.detections.png") as picture:
        assert picture.size == (64, 128)
        assert tuple(np.asarray(picture)[20, 16]) == (128, 0, 0), "the box's left edge in the colour of class 1"


@pytest.mark.skipif(why_not() is not None, reason="no C compiler")
@pytest.mark.parametrize(("padded", "passes"), [([], 1), (["--padded"], 0)])
def test_fast_finds_them(
    padded: list[str], passes: int, files: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does what other nets are asked for; the test above has the numbers."""
    seen, plainly = [], Runner.run

    def watched(self: Runner, *arguments: Any) -> Any:
        seen.append(arguments)
        return plainly(self, *arguments)

    monkeypatch.setattr(Runner, "run", watched)
    drawn((32, 32), ((0.25, 0, 0.5, 0.25), RED)).save(tmp_path / "a.png")
    assert run(["predict", *files, str(tmp_path / "a.png"), "--mean", "0,0,0", "-o", str(tmp_path), *padded]) == 0
    assert len(seen) == passes


def test_a_folder_with_an_image_that_cannot_be_read(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    drawn((32, 32), ((0.25, 0, 0.5, 0.25), RED)).save(folder / "a.png")
    drawn((32, 32), ((0.5, 0.5, 0.75, 0.75), BLUE)).save(folder / "deep" / "b000000000017.png")
    (folder / "broken.png").write_bytes(b"no picture")
    call = ["predict", *files, str(folder), "--mean", "0,0,0", "-o", str(out), "--coco", str(out / "coco.json")]
    assert run([*call, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["detections"][0]["name"] for each in found["images"]] == ["red thing", "blue thing"]
    assert len(found["failed"]) == 1 and "broken.png" in found["failed"][0]["problem"]
    assert run([*call, "--json-lines"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["image"]: each for each in lines} == {
        each["image"]: each for each in found["images"] + found["failed"]
    }
    coco = json.loads((out / "coco.json").read_text())
    assert [(each["image_id"], each["category_id"]) for each in coco] == [("a", 1), (17, 2)]
    assert (out / "deep" / "b000000000017.detections.png").is_file()
    assert run(["predict", *files, str(out), "--mean", "0,0,0", "-o", str(tmp_path / "again")]) == 2
    assert "no image" in capsys.readouterr().err, "results are not taken for images"


def test_a_score_decides_what_is_told(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn((32, 32), ((0.25, 0, 0.5, 0.25), (255, 80, 80)), ((0.5, 0.5, 0.75, 0.75), RED)).save(tmp_path / "a.png")
    counts = []
    for least in ("0.1", "0.9", "1"):
        call = ["predict", *files, str(tmp_path / "a.png"), "--mean", "0,0,0", "--least-score", least]
        assert run([*call, "--json", "-o", str(tmp_path)]) == 0
        counts.append(len(json.loads(capsys.readouterr().out)["images"][0]["detections"]))
    assert counts == [2, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "--mean B,G,R"),
        (["--mean", "1,2"], 2, "the net's input data is (1, 3, 32, 32)"),
        (["--mean", "grey"], 2, "neither numbers such as"),
        (["--mean", "0,0,0", "--least-score", "2"], 2, "least-score"),
        (["--mean", "0,0,0", "--scores", "--tile", "64"], 2, "finds objects; --scores, --tile is for one that says"),
        (["--mean", "0,0,0", "--threshold", "0.5"], 2, "--threshold"),
        (["--mean", "0,0,0", "--precision", "bf16"], 2, "goes without --precision"),
        (["--mean", "0,0,0", "--engine", "torch"], 2, "without --engine"),
        (["--mean", "0,0,0", "--classes", "/nothing/here"], 2, "classes"),
    ],
)
def test_wrong_use_is_told(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], status: int, said: str,
) -> None:  # fmt: skip
    drawn((32, 32)).save(tmp_path / "a.png")
    assert run(["predict", *files[:3], str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), *arguments]) == status
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_one_image_that_cannot_be_read_is_the_commands_error(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert run(["predict", *files, str(tmp_path / "a.png"), "--mean", "0,0,0"]) == 3
    assert "a.png" in capsys.readouterr().err


def test_verify_compares_detections_as_sets_and_at_a_size_that_the_net_takes(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    caffe, _, prototxt, *_ = files
    assert run(["convert", caffe, "--prototxt", prototxt, "-o", str(tmp_path / "ssd.safetensors")]) == 0
    capsys.readouterr()
    assert run(["verify", str(tmp_path / "ssd.safetensors"), "--against", caffe, "--prototxt", prototxt]) == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if "opencv" in line)
    assert said.startswith("ok") and "found" in said


def test_a_video_has_its_objects_drawn_and_on_record(
    files: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av", reason="PyAV: pip install fcn-port[video]")
    from fcn_port.predict.video import VideoWriter, opened_video

    with (tmp_path / "drive.mp4").open("wb") as file:
        writer = VideoWriter(file, Fraction(10))
        for i in range(4):
            box = (0.25, 0, 0.5, 0.25) if i % 2 else (0.5, 0.5, 0.75, 0.75)
            writer.write(np.asarray(drawn((64, 128), (box, RED)).convert("RGB")), i / 10)
        writer.close()
    call = ["predict", *files, str(tmp_path / "drive.mp4"), "--mean", "0,0,0", "-o", str(tmp_path / "out")]
    assert run(call) == 0
    assert "4 red thing, over 4 frames" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "out" / "drive.detections.jsonl").read_text().splitlines()]
    assert [(each["frame"], len(each["detections"])) for each in lines] == [(i, 1) for i in range(4)]
    assert lines[0]["detections"][0]["box"] != lines[1]["detections"][0]["box"]
    with opened_video(tmp_path / "out" / "drive.detections.mp4") as (_, frames):
        assert [frame.image.shape for frame in frames] == [(128, 64, 3)] * 4
    assert run([*call, "--frames", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["videos"][0]["frames"] == 2
    assert run([*call, "--coco", str(tmp_path / "c.json")]) == 2
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "drive.mp4").read_bytes()[:200])
    cut = ["predict", *files, str(tmp_path / "cut.mp4"), "--mean", "0,0,0", "-o", str(tmp_path / "o2")]
    assert run(cut) in (1, 3)
    assert not list((tmp_path / "o2").glob("cut*"))
