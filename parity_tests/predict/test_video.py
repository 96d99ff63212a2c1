"""Videos: frames streamed in and out in order and size, what is damaged, and files of several pictures."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.errors import ImageError
from fcn_port.predict import video
from fcn_port.predict.video import VideoWriter, is_video, opened_video
from parity_tests.datasets import noise
from parity_tests.predict.output_nets import files_of

av = pytest.importorskip("av", reason="PyAV: pip install fcn-port[video]")
COLOURS = [(220, 30, 30), (30, 220, 30), (30, 30, 220)]


def clip(path: Path, frames: int = 9, size: tuple[int, int] = (33, 48)) -> Path:
    """Frames of one colour each, red, green and blue in turn."""
    with path.open("wb") as file:
        writer = VideoWriter(file, Fraction(10))
        for i in range(frames):
            writer.write(np.full((*size, 3), COLOURS[i % 3], np.uint8), i / 10)
        writer.close()
    return path


def frames_in(path: Path) -> list[np.ndarray]:
    with opened_video(path) as (_, frames):
        return [frame.image for frame in frames]


def test_what_is_a_video() -> None:
    assert all(is_video(Path(name)) for name in ("a.mp4", "A.MOV", "camera:0", "b.mkv"))
    assert not any(is_video(Path(name)) for name in ("a.png", "a.txt", "camera", "folder"))


def test_a_video_goes_in_and_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clip(tmp_path / "in.mp4")
    call = ["predict", *files_of("scores", tmp_path), str(source), "-o", str(tmp_path / "out")]
    assert run([*call, "--json", "--batch", "4"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["videos"]
    assert found["frames"] == 9
    assert {row["label"]: round(row["share"], 3) for row in found["outputs"][0]["found"]} == dict.fromkeys(
        range(3), 0.333
    )
    seen = frames_in(tmp_path / "out" / "in.overlay.mp4")
    assert len(seen) == 9 and seen[0].shape == (34, 48, 3)  # an even number of rows
    tint = {1: (128, 0, 0), 2: (0, 128, 0)}
    for i, image in enumerate(seen):
        label = i % 3
        expected = np.array(COLOURS[label], float)
        if label in tint:
            expected = 0.4 * expected + 0.6 * np.array(tint[label])
        assert np.abs(image.reshape(-1, 3).mean(axis=0) - expected).max() < 12, i
    with av.open(str(tmp_path / "out" / "in.overlay.mp4")) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert np.abs(np.diff(times) - 0.1).max() < 1e-3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"in.overlay.mp4"}


def test_every_frame_and_a_limit(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mp4")
    call = ["predict", *files_of("scores", tmp_path), str(source), "-o", str(tmp_path / "out"), "--frames", "4"]
    assert run([*call, "--every-frame", "--scores"]) == 0
    found = sorted((tmp_path / "out" / "in.frames").glob("*.labels.png"))
    assert [path.name[:6] for path in found] == ["000000", "000001", "000002", "000003"]
    assert [np.asarray(Image.open(path)).max() for path in found] == [0, 1, 2, 0]
    assert len(frames_in(tmp_path / "out" / "in.overlay.mp4")) == 4


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    args = files_of("scores", tmp_path)
    peaks = []
    for count in (8, 80):
        source = clip(tmp_path / f"{count}.mp4", count, (64, 96))
        tracemalloc.start()
        assert run(["predict", *args, str(source), "-o", str(tmp_path)]) == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 10 * 64 * 96 * 3  # ten frames; all of them would be 72 more


def test_a_damaged_video_is_done_up_to_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        stream = out.add_stream("mjpeg", rate=10, options={"strict": "-1"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        for i in range(8):
            for packet in stream.encode(av.VideoFrame.from_ndarray(noise(i, (32, 48, 3)), format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    whole = (tmp_path / "in.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 5 // 8])
    (tmp_path / "none.mp4").write_bytes(b"no video at all")
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nin.mkv\n#EXT-X-ENDLIST\n")
    args = files_of("scores", tmp_path)
    names = [str(tmp_path / name) for name in ("none.mp4", "cut.mkv", "list.mp4", "missing.mp4", "in.mkv")]
    assert run(["predict", *args, *names, "-o", str(tmp_path / "out")]) == 1
    err = capsys.readouterr().err
    for name in ("none.mp4: not a video", "list.mp4: not a video", "missing.mp4: no such file"):
        assert name in err
    assert 3 <= len(frames_in(tmp_path / "out" / "cut.overlay.mp4")) <= 5
    assert len(frames_in(tmp_path / "out" / "in.overlay.mp4")) == 8
    assert run(["predict", *args, names[0], "-o", str(tmp_path)]) == 3
    assert run(["predict", *args, names[3], "-o", str(tmp_path)]) == 2


def test_a_camera_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", *files_of("scores", tmp_path), "camera:97", "-o", str(tmp_path)]) == 3
    assert "camera:97: not a camera that can be opened" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["12:30.mp4", "http:x.mp4", "concat:a.mp4", "pipe:0.mp4"])
def test_a_colon_in_a_name_makes_no_address(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip(tmp_path / name, frames=2)
    monkeypatch.chdir(tmp_path)
    assert len(frames_in(Path(name))) == 2


@pytest.mark.parametrize("title", ["Stra\xdfe".encode("latin-1"), "\u8857".encode("gbk"), b"\xff\xfe"], ids=repr)
def test_a_title_in_any_encoding_costs_no_frame(title: bytes, tmp_path: Path) -> None:
    """FFmpeg hands on what old cameras and editors wrote."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as out:
        out.metadata["title"] = "x" * len(title)
        stream = out.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        out.mux(stream.encode(av.VideoFrame.from_ndarray(noise(0, (32, 48, 3)), format="rgb24")))
        out.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"\x7b\xa9" + bytes([128 + len(title)]) + b"x" * len(title),
                                               b"\x7b\xa9" + bytes([128 + len(title)]) + title))  # fmt: skip
    assert title in path.read_bytes() and len(frames_in(path)) == 1


@pytest.mark.parametrize(
    ("times", "size", "said"),
    [
        ([0, 1e5, 2e5, 3e5], (32, 48), "cannot be written to its end"),
        ([0, float("inf")], (32, 48), "a frame of 32x48 at inf s cannot be written"),
        ([0, 1], (32, 17000), "a frame of 32x17000 at 0 s cannot be written"),
    ],
)
def test_what_no_mp4_holds_is_an_error(times: list[float], size: tuple[int, int], said: str, tmp_path: Path) -> None:
    with (
        (tmp_path / "a.mp4").open("wb") as file,
        pytest.raises(ImageError, match=said),
        closing(VideoWriter(file, Fraction(10))) as writer,
    ):
        for seconds in times:
            writer.write(np.zeros((*size, 3), np.uint8), seconds)


def test_frames_of_different_sizes_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.mp4").open("wb") as file:
        writer = VideoWriter(file, Fraction(10))
        writer.write(np.zeros((8, 8, 3), np.uint8), 0)
        with pytest.raises(ImageError, match="10x8 in a video of 8x8"):
            writer.write(np.zeros((10, 8, 3), np.uint8), 0.1)
        writer.close()


@pytest.mark.parametrize(
    ("net", "more", "message"),
    [
        ("classes", [], "labels pixels"),
        ("scores", ["a.png"], "x.mp4 is a video and a.png is none, and their results are of different kinds"),
        ("scores", ["--scores"], "--every-frame"),
        ("scores", ["--areas", "x.csv"], "for images"),
    ],
)
def test_wrong_use(net: str, more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", *files_of(net, tmp_path), "x.mp4", *more]) == 2
    assert message in capsys.readouterr().err


def test_pictures_of_several_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = [Image.new("RGB", (9, 7), colour) for colour in COLOURS]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    pages[1].save(tmp_path / "one.png")
    call = ["predict", *files_of("scores", tmp_path), str(tmp_path / "pages.tif"), str(tmp_path / "one.png")]
    assert run([*call, "-o", str(tmp_path / "out"), "--every-frame", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["images"]
    assert [each.get("frame") for each in found] == [0, 1, 2, None]
    for number in range(3):
        labels = np.asarray(Image.open(tmp_path / "out" / f"pages.{number + 1:04d}.labels.png"))
        assert (labels == number).all()
    assert (tmp_path / "out" / "one.labels.png").is_file()


def test_a_frame_that_is_too_large_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes its memory, and several times that with threads, before anybody sees the frame."""
    source = clip(tmp_path / "a.mp4", size=(48, 64))
    monkeypatch.setattr(video, "_FRAME_BYTES", 1 << 30)
    with opened_video(source) as (_, frames):
        monkeypatch.setattr(av.container.InputContainer, "decode", None, raising=False)
        with pytest.raises(ImageError, match=r"a\.mp4: 64 x 48 pixels of a frame would take"):
            next(frames)


def test_a_camera_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no file's size that could be too small: 3840x2160 pixels were refused."""
    source = clip(tmp_path / "a.mp4", size=(48, 64))
    monkeypatch.setattr(video, "_FRAME_BYTES", 1 << 30)
    monkeypatch.setattr(video, "_device", lambda _: (str(source), {}))
    assert [image.shape for image in frames_in(Path("camera:0"))] == [(48, 64, 3)] * 9
