"""`fcn-port predict` of videos and cameras with a net that finds objects: boxes drawn frame by frame, and records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from .detecting import LEAST_SCORE
from .filming import Filmed, film_each
from .names import read_names
from .output import echo, note
from .progress import progress_bar
from .segmenting import failure
from .signals import stopping

if TYPE_CHECKING:
    from ..nets import Net
    from ..predict.image_lists import ImageSource

VIDEO, RECORDS = ".detections.mp4", ".detections.jsonl"
"""The endings of a video with boxes, and of its records, a line of JSON for each frame."""


@dataclass(frozen=True)
class _Looking:
    """The net, and what of its answers is told."""

    net: Net | Sequence[Net]
    least: float
    names: tuple[str, ...] | None
    out: Path
    most: int | None


def film_objects(
    net: Net | Sequence[Net],
    sources: Sequence[ImageSource],
    *,
    out: Path,
    least: float | None,
    names: Path | None,
    most: int | None,
    as_json: bool,
) -> int:
    """Write a video with boxes and the records of each video; the exit status, 1 where one is not done to its end."""
    classes = None if names is None else read_names(names)
    looking = _Looking(net, LEAST_SCORE if least is None else least, classes, out, most)

    def made(source: ImageSource, one: bool) -> Filmed:
        return _filmed(looking, source, one=one)

    return film_each(sources, made, tell=_tell, head={}, as_json=as_json)


def _filmed(looking: _Looking, source: ImageSource, *, one: bool) -> Filmed:
    """The files written, what went wrong, and True if somebody stopped it; an error for `one` without a frame."""
    from converters.errors import NetError
    from converters.escaping import json_text
    from converters.safety import whole_file

    from ..detection import detect
    from ..errors import ImageError
    from ..predict.video import VideoWriter, opened_video

    base = looking.out / source.name
    video, records = (base.with_name(base.name + end) for end in (VIDEO, RECORDS))
    counts: Counter[str] = Counter()
    frames, problem, stopped = 0, None, False
    try:
        with (
            opened_video(source.path) as (facts, pictures),
            whole_file(video, durable=False, follow=False) as film,
            whole_file(records, durable=False, follow=False) as lines,
            closing(VideoWriter(film, facts.rate)) as writer,
            progress_bar(str(source.path), active=True, unit="frames") as tell,
            stopping(note, "stopping after this frame, and completing the video") as asked,
        ):
            try:
                for frame in pictures:
                    found = detect(looking.net, frame.image, threshold=looking.least, names=looking.names)
                    writer.write(np.asarray(found.picture()), frame.seconds)
                    record = {"frame": frame.number, "seconds": frame.seconds, **found.to_json()}
                    lines.write(json_text(record, compact=True).encode() + b"\n")
                    counts.update(each.name for each in found)
                    frames += 1
                    tell(frames, max(facts.frames, frames) if facts.frames else 0)
                    stopped = asked()
                    if stopped or frames == looking.most:
                        break
            except (ImageError, NetError) as error:
                if not frames:  # nothing is written
                    raise
                problem = failure(source.path, error)
            if not frames:
                raise ImageError(f"{source.path}: no frames")
    except (ImageError, NetError, FileNotFoundError) as error:
        if one:
            raise
        return None, failure(source.path, error), stopped
    return {"video": source.path, "frames": frames, "picture": video, "records": records,
            "objects": dict(counts.most_common())}, problem, stopped  # fmt: skip


def _tell(result: dict[str, Any]) -> None:
    found = ", ".join(f"{count} {name}" for name, count in result["objects"].items()) or "nothing"
    echo(f"{found}, over {result['frames']} frames")
    for kind in ("picture", "records"):
        echo(f"-> {result[kind]}")


def refuse_of_objects(wrong: dict[str, object]) -> None:
    """UsageError for results that a video with objects does not have."""
    asked = [name for name, value in wrong.items() if value]
    if asked:
        raise click.UsageError(f"of a video in which objects are found, {', '.join(asked)} cannot be had")
