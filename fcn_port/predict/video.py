"""Videos and cameras as streams of frames, and videos written frame by frame; nothing is kept but one frame.

PyAV (`pip install 'fcn-port[video]'`) does the work, with FFmpeg inside. FFmpeg knows formats that name other files and
addresses; only those that hold their own pictures are read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from converters.errors import LimitError
from converters.safety import check_memory

from ..errors import ImageError

VIDEOS = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".ogv", ".wmv", ".flv", ".3gp")
)
"""The endings by which a file is taken for a video."""
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,ogg,asf,flv"
"""FFmpeg's names of the formats that are read: none that refers to other files, as playlists do."""
_CAMERA = re.compile(r"camera:(\d{1,3}|.+)")
_USUAL_RATE = Fraction(25)
_EXPANSION = 4096
"""Bytes of a frame for each byte of the file, beyond the first 64 MiB: a still scene takes a few bytes a frame."""
_FRAME_BYTES = 12
"""The bytes of a pixel of a frame while it is decoded and turned to RGB."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture of a video: its number from 0 on, its time in seconds, and (h, w, 3) uint8 RGB as a player shows it."""

    number: int
    seconds: float
    image: np.ndarray


@dataclass(frozen=True)
class VideoFacts:
    """The facts that a video says of itself: frames a second, and how many there are, 0 where it does not say."""

    rate: Fraction
    frames: int


def is_video(path: Path) -> bool:
    """True for what is read frame by frame: a file with the ending of a video, or camera:0, camera:1 ..."""
    return is_camera(path) or path.suffix.lower() in VIDEOS


def is_camera(path: Path) -> bool:
    """True for camera:0 and so on, where no file is called so."""
    return _CAMERA.fullmatch(str(path)) is not None and not path.exists()


@contextmanager
def opened_video(path: Path) -> Iterator[tuple[VideoFacts, Iterator[Frame]]]:
    """A video's facts and its frames, decoded one at a time, while the block lasts.

    ImageError for what is no video, at once, or from the frame on that is damaged; FileNotFoundError for a missing
    file; ModuleNotFoundError where PyAV is not installed.
    """
    import av

    camera = is_camera(path)
    if not camera and not path.exists():
        raise FileNotFoundError(2, "no such file", str(path))
    # Absolute, or FFmpeg takes what comes before a colon in a file's name for a protocol.
    file, given = _device(path) if camera else (str(path.absolute()), {"options": {"format_whitelist": FORMATS}})
    try:
        container = av.open(file, metadata_errors="replace", **given)  # titles are in any encoding
    except (av.error.FFmpegError, OSError) as error:
        what = "a camera that can be opened" if camera else "a video that can be read"
        raise ImageError(f"{path}: not {what}: {_said(error)}") from error
    with container:
        if not container.streams.video:
            raise ImageError(f"{path}: not a video that can be read: there is no picture in it")
        stream = container.streams.video[0]
        facts = VideoFacts(stream.average_rate or stream.guessed_rate or _USUAL_RATE, 0 if camera else stream.frames)
        yield facts, _frames(container, stream, path, None if camera else path.stat().st_size)


def _device(path: Path) -> tuple[str, dict[str, Any]]:
    """The camera as FFmpeg calls it on this system."""
    found = _CAMERA.fullmatch(str(path))
    assert found is not None
    if sys.platform == "darwin":
        return f"{found[1]}:none", {"format": "avfoundation", "options": {"framerate": "30"}}
    if sys.platform == "win32":
        return f"video={found[1]}", {"format": "dshow"}
    return f"/dev/video{found[1]}", {"format": "v4l2"}


def _frames(container: Any, stream: Any, path: Path, file_size: int | None) -> Iterator[Frame]:
    import av

    number = 0
    try:
        _check_size(stream.codec_context, file_size)  # before the first one is decoded; a frame may say otherwise
        for frame in container.decode(stream):
            _check_size(frame, file_size)
            turns = round(getattr(frame, "rotation", 0) / 90) % 4
            pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
            yield Frame(number, float(frame.time or 0.0), np.ascontiguousarray(pixels))
            number += 1
    except LimitError as error:
        raise ImageError(f"{path}: {error}") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ImageError(f"{path}: damaged from frame {number} on: {_said(error)}") from error


def _check_size(pictured: Any, file_size: int | None) -> None:
    """LimitError if frames as large as `pictured` says would take more memory than a file of this size may ask for.

    A camera is nobody's file, and has no size.
    """
    if file_size is None:
        return
    needed = pictured.width * pictured.height * _FRAME_BYTES
    what = f"{pictured.width} x {pictured.height} pixels of a frame would take"
    check_memory(needed, file_size=file_size, expansion=_EXPANSION, what=what)


class VideoWriter:
    """A video of frames of one size, written into an open file as MP4 (H.264, or MPEG-4 where there is none)."""

    def __init__(self, file: BinaryIO, rate: Fraction) -> None:
        import av

        self._container = av.open(file, "w", format="mp4")
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._stream = cast(Any, self._container.add_stream(codec, rate=rate))
        self._stream.pix_fmt = "yuv420p"
        if codec == "libx264":
            self._stream.options = {"crf": "18"}
        self._base = Fraction(1, 90000)
        self._stream.codec_context.time_base = self._base
        self._size: tuple[int, int] | None = None
        self._last = -1
        self._broken = False

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Add a frame (h, w, 3) uint8 RGB that is shown from `seconds` on.

        ImageError for one of another size, and for a size or a time that no MP4 holds.
        """
        import av

        h, w = image.shape[:2]
        if self._size is None:
            self._size = (h, w)
            self._stream.width, self._stream.height = w + w % 2, h + h % 2  # the codec has colours for 2 x 2 pixels
        if (h, w) != self._size:
            raise ImageError(f"a frame of {h}x{w} in a video of {self._size[0]}x{self._size[1]}")
        frame = av.VideoFrame.from_ndarray(np.pad(image, ((0, h % 2), (0, w % 2), (0, 0)), "edge"), format="rgb24")
        with self._telling(f"a frame of {h}x{w} at {seconds:g} s cannot be written"):
            self._last = max(self._last + 1, round(seconds / self._base))
            frame.pts, frame.time_base = self._last, self._base
            for packet in self._stream.encode(frame):
                self._container.mux(packet)

    def close(self) -> None:
        """Write what is left, and the end of the file; nothing where there was no frame, or one failed.

        ImageError where FFmpeg, which is some frames behind, cannot write one of them.
        """
        import av

        if self._size is None or self._broken:
            with suppress(av.error.FFmpegError):
                self._container.close()
            return
        with self._telling("the video cannot be written to its end"):
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._container.close()

    @contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """FFmpeg's errors inside the block become an ImageError that begins with `what`; OSError passes."""
        import av

        try:
            yield
        except OSError:
            raise
        except (av.error.FFmpegError, ValueError, OverflowError) as error:
            self._broken = True
            raise ImageError(f"{what}: {_said(error)}") from error


def _said(error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(said).splitlines()[0].lower()
