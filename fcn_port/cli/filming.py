"""`fcn-port predict` of videos and cameras: frames in, a video with overlays out, one frame in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from converters.export import require

from .output import echo, note, write_columns, write_json
from .progress import progress_bar
from .segmenting import Failed, WantedFiles, failure, tell_failed, written
from .signals import stopping

if TYPE_CHECKING:
    from ..any_net import LoadedNet
    from ..predict.image_lists import ImageSource
    from ..predict.segmenting import OfPixels, ReadOptions
    from ..predict.video import Frame, VideoWriter

Filmed = tuple["dict[str, Any] | None", "Failed | None", bool]
"""The files written, what went wrong, and True if somebody stopped it."""


def film_all(
    net: LoadedNet,
    sources: Sequence[ImageSource],
    *,
    reading: ReadOptions,
    batch: int,
    wanted: WantedFiles,
    every_frame: bool,
    most: int | None,
    as_json: bool,
) -> int:
    """Write a video for each video; the exit status, 1 where one could not be done to its end."""

    def made(source: ImageSource, one: bool) -> Filmed:
        return _Film(net, source, reading, batch, wanted, every_frame, most).made(one=one)

    return film_each(sources, made, tell=_tell, head={"engine": net.engine}, as_json=as_json)


def film_each(
    sources: Sequence[ImageSource],
    made: Callable[[ImageSource, bool], Filmed],
    *,
    tell: Callable[[dict[str, Any]], None],
    head: Mapping[str, Any],
    as_json: bool,
) -> int:
    """Write a video for each video, and tell of it; `made` is also told whether it is the only one. The exit status."""
    done: list[dict[str, Any]] = []
    failed: list[Failed] = []
    for source in sources:
        result, problem, stopped = made(source, len(sources) == 1)
        if problem is not None:
            failed.append(problem)
        if result is not None:
            done.append(result)
            if not as_json:
                tell(result)
        if stopped:
            break
    if as_json:
        problems = [{"image": each.path, "problem": each.problem} for each in failed]
        write_json({**head, "videos": done, "failed": problems})
    tell_failed(failed, len(sources))
    return 1 if failed else 0


@dataclass(frozen=True)
class _Film:
    """One video, and what is wanted of it."""

    net: LoadedNet
    source: ImageSource
    reading: ReadOptions
    batch: int
    wanted: WantedFiles
    every_frame: bool
    most: int | None

    def made(self, *, one: bool) -> Filmed:
        """The files written, what went wrong, and True if somebody stopped it; an error for `one` without a frame."""
        from converters.errors import NetError

        from ..errors import ImageError
        from ..predict.image_lists import FRAMES
        from ..predict.video import opened_video

        base = self.wanted.out / self.source.name
        counted, problem, stopped = _Counts(), None, False
        with ExitStack() as files:
            videos = _Videos(files, base)
            try:
                with opened_video(self.source.path) as (facts, frames), self._watched() as (tell, asked):
                    for heads, frame in self._seen(frames):
                        videos.write(heads, frame, facts.rate)
                        counted.add(heads)
                        if self.every_frame:
                            place = base.with_name(base.name + FRAMES) / f"{frame.number:06d}"
                            list(written(heads, place, self.wanted))
                        tell(counted.frames, max(facts.frames, counted.frames) if facts.frames else 0)
                        stopped = asked()
                        if stopped or counted.frames == self.most:
                            break
            except (ImageError, NetError, FileNotFoundError) as error:
                if one and not counted.frames:
                    raise
                problem = failure(self.source.path, error)
        if not counted.frames:
            return None, problem or Failed(self.source.path, f"{self.source.path}: no frames"), stopped
        outputs = counted.outputs(videos.paths)
        return {"video": self.source.path, "frames": counted.frames, "outputs": outputs}, problem, stopped

    def _seen(self, frames: Iterator[Frame]) -> Iterator[tuple[Mapping[str, OfPixels], Frame]]:
        """The net's view of each frame, `batch` of them at a time."""
        from ..predict.meaning import outputs_of
        from ..predict.segmenting import read_all

        outputs = outputs_of(self.net)
        waiting: list[Frame] = []

        def run() -> Iterator[tuple[Mapping[str, OfPixels], Frame]]:
            found = read_all(self.net, [each.image for each in waiting], self.reading, outputs=outputs)
            yield from zip(found, list(waiting), strict=True)
            waiting.clear()

        try:
            for frame in frames:
                if waiting and frame.image.shape != waiting[0].image.shape:
                    yield from run()
                waiting.append(frame)
                if len(waiting) >= self.batch:
                    yield from run()
        except Exception:
            if waiting:
                yield from run()
            raise
        if waiting:
            yield from run()

    @contextmanager
    def _watched(self) -> Iterator[tuple[Callable[[int, int], None], Callable[[], bool]]]:
        with (
            progress_bar(str(self.source.path), active=True, unit="frames") as tell,
            stopping(note, "stopping after this frame, and completing the video") as asked,
        ):
            yield tell, asked


class _Videos:
    """The videos that are being written, one for each output; each appears whole when it is closed."""

    def __init__(self, files: ExitStack, base: Path) -> None:
        self._files, self._base = files, base
        self._writers: dict[str, VideoWriter] = {}
        self.paths: dict[str, dict[str, Path]] = {}

    def write(self, heads: Mapping[str, OfPixels], frame: Frame, rate: Fraction) -> None:
        from converters.escaping import file_name
        from converters.safety import whole_file

        from ..predict.value_map import ValueMap
        from ..predict.video import VideoWriter

        for head, seen in heads.items():
            if head not in self._writers:
                kind = "map" if isinstance(seen, ValueMap) else "overlay"
                name = f"{self._base.name}.{file_name(head, dots=False)}" if head else self._base.name
                path = self._base.with_name(f"{name}.{kind}.mp4")
                file = self._files.enter_context(whole_file(path, durable=False, follow=False))
                self._writers[head] = self._files.enter_context(closing(VideoWriter(file, rate)))
                self.paths[head] = {kind: path}
            drawn = seen.picture().convert("RGB") if isinstance(seen, ValueMap) else seen.overlay()
            self._writers[head].write(np.asarray(drawn), frame.seconds)


class _Counts:
    """The pixels of each class over all frames."""

    def __init__(self) -> None:
        self.frames = 0
        self._classes: dict[str, dict[int, dict[str, Any]]] = {}

    def add(self, heads: Mapping[str, OfPixels]) -> None:
        from ..predict.segmentation import Segmentation

        self.frames += 1
        for head, seen in heads.items():
            own = self._classes.setdefault(head, {})
            for each in seen.classes_found() if isinstance(seen, Segmentation) else []:
                color = "#{:02x}{:02x}{:02x}".format(*each.colour)
                row = {"label": each.label, "name": each.name, "color": color, "pixels": 0, "share": 0.0}
                own.setdefault(each.label, row)["pixels"] += each.pixels

    def outputs(self, paths: Mapping[str, Mapping[str, Path]]) -> list[dict[str, Any]]:
        """The files written of each output, with its classes over all frames, the largest first."""
        found = []
        for head, own in self._classes.items():
            total = sum(each["pixels"] for each in own.values())
            rows = sorted(({**each, "share": each["pixels"] / total} for each in own.values()), key=_by_share)
            found.append({**({"head": head} if head else {}), **paths[head], "found": rows})
        return found


def _by_share(row: Mapping[str, Any]) -> float:
    return -float(row["share"])


def _tell(result: Mapping[str, Any]) -> None:
    from ..predict.segmentation import share_text

    for each in result["outputs"]:
        write_columns([(row["name"], share_text(row["share"])) for row in each["found"]], right=(1,))
        echo(f"-> {each['overlay'] if 'overlay' in each else each['map']}: {result['frames']} frames")


def video_sources(given: Sequence[Path]) -> tuple[ImageSource, ...]:
    """The videos and cameras that are meant, () where images are; UsageError for both, ExportError without PyAV."""
    from converters.escaping import file_name

    from ..predict.image_lists import ImageSource, gather
    from ..predict.video import is_camera, is_video

    videos = [each for each in given if is_video(each) and not each.is_dir()]
    if not videos:
        return ()
    if others := [each for each in given if each not in videos]:
        raise click.UsageError(
            f"{videos[0]} is a video and {others[0]} is none, and their results are of different kinds: run predict "
            "for the videos, and again for the images"
        )
    require("av")
    cameras = [each for each in videos if is_camera(each)]
    files = gather([each for each in videos if each not in cameras]) if len(cameras) < len(videos) else ()
    return (*files, *(ImageSource(each, Path(file_name(f"camera-{str(each)[7:]}"))) for each in cameras))


def every_picture(sources: Sequence[ImageSource]) -> tuple[ImageSource, ...]:
    """The sources with each picture of a file of several for itself, `<image>.0001` and so on; others as they are."""
    from ..errors import ImageError
    from ..predict.image_lists import ImageSource
    from ..predict.pictures import frames_of

    found: list[ImageSource] = []
    for each in sources:
        try:
            count = frames_of(each.path)
        except (ImageError, OSError):  # told when it is read
            count = 1
        digits = max(4, len(str(count)))
        found += [each] if count == 1 else [
            ImageSource(each.path, each.name.with_name(f"{each.name.name}.{number + 1:0{digits}d}"), number)
            for number in range(count)
        ]  # fmt: skip
    return tuple(found)
