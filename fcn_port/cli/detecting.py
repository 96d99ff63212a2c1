"""`fcn-port predict` of a net that finds objects: boxes drawn, and records as JSON and in COCO's form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .names import read_names
from .output import echo, write_columns, write_json, write_json_line
from .progress import progress_bar
from .segmenting import Failed, failure, say_frames, tell_failed

if TYPE_CHECKING:
    from ..detection import Detections
    from ..nets import Net
    from ..predict.image_lists import ImageSource
    from .segmenting import Noted

LEAST_SCORE = 0.3
"""The score from which on a detection is told, where none is asked for."""


def detect_all(
    net: Net | Sequence[Net],
    sources: Sequence[ImageSource],
    *,
    out: Path,
    least: float | None,
    names: Path | None,
    coco: Path | None,
    noted: Noted,
    as_json: bool,
    one: bool,
    lines: bool = False,
) -> int:
    """Write pictures and records of every image below `out`; the exit status, 1 where an image could not be read.

    `noted` is told of each image that is done, with its files.
    """
    from converters.errors import CaffeFormatError

    from ..detection import detect
    from ..errors import ImageError
    from ..predict.images import read_source

    classes = None if names is None else read_names(names)
    done: list[dict[str, Any]] = []
    failed: list[Failed] = []
    results: list[dict[str, Any]] = []
    with progress_bar("images", active=len(sources) > 1, kept="what is done is written") as progress:
        for number, source in enumerate(sources, start=1):
            try:
                pixels = read_source(source)
                found = detect(net, pixels, threshold=LEAST_SCORE if least is None else least, names=classes)
            except (ImageError, CaffeFormatError, OSError) as error:
                if one:
                    raise
                failed.append(failure(source.path, error))
                if lines:
                    write_json_line(failed[-1].to_json())
                progress(number, len(sources))
                continue
            files = _write(found, out / source.name)
            noted(source, files.values())
            done.append({**source.to_json(), **files, **found.to_json()})
            if lines:
                write_json_line(done[-1])
            results += found.to_coco(source.name.name)
            progress(number, len(sources))
    for each in done:
        if "frame" not in each:
            say_frames(each["image"])
    if coco is not None:
        _write_coco(results, coco)
    if lines:
        tell_failed(failed, len(sources))
    else:
        _tell(done, failed, as_json=as_json, one=one)
    return 1 if failed else 0


def _write(found: Detections, base: Path) -> dict[str, Path]:
    from ..detection.files import write_detections

    return write_detections(found, base)


def _write_coco(results: list[dict[str, Any]], path: Path) -> None:
    from ..detection.files import write_coco

    write_coco(results, path)


def _tell(done: list[dict[str, Any]], failed: list[Failed], *, as_json: bool, one: bool) -> None:
    if as_json:
        write_json({"images": done, "failed": [each.to_json() for each in failed]})
    for each in [] if as_json else done:
        if one:
            write_columns([_row(record) for record in each["detections"]], right=(1, 2, 3, 4, 5))
            for kind in ("picture", "records"):
                echo(f"-> {each[kind]}")
        else:
            counts = Counter(record["name"] for record in each["detections"])
            echo(f"{each['picture']}: {', '.join(f'{count} {name}' for name, count in counts.items()) or 'nothing'}")
    tell_failed(failed, len(done) + len(failed))


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    box = record["box"]
    return record["name"], f"{record['score']:.2f}", *(f"{box[side]:.0f}" for side in ("xmin", "ymin", "xmax", "ymax"))
