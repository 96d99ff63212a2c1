"""`fcn-port predict` of a net that names images: the best classes of each, printed and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output import echo, write_columns, write_json, write_json_line
from .progress import progress_bar
from .segmenting import Failed, failure, say_frames, tell_failed

if TYPE_CHECKING:
    from ..any_net import LoadedNet
    from ..predict.image_lists import ImageSource
    from .segmenting import Noted


def classify_all(
    net: LoadedNet, sources: Sequence[ImageSource], *, out: Path, noted: Noted, as_json: bool, one: bool,
    lines: bool = False,
) -> int:  # fmt: skip
    """Write `<image>.classes.json` of every image below `out`; the exit status, 1 where an image could not be done.

    `noted` is told of each image that is done, with its files.
    """
    from converters.errors import CaffeFormatError
    from converters.escaping import json_text
    from converters.safety import whole_file

    from ..errors import ImageError
    from ..predict.classifying import MOST_NAMED, classify
    from ..predict.image_lists import CLASSIFICATION
    from ..predict.images import read_source
    from ..predict.meaning import outputs_of
    from ..predict.running import kind_of

    outputs, kind = outputs_of(net), kind_of(net)
    done: list[dict[str, Any]] = []
    failed: list[Failed] = []
    with progress_bar("images", active=len(sources) > 1, kept="what is done is written") as progress:
        for number, source in enumerate(sources, start=1):
            try:
                found = classify(net, read_source(source, kind=kind), outputs=outputs)
            except (ImageError, CaffeFormatError, OSError) as error:
                if one:
                    raise
                failed.append(failure(source.path, error))
                if lines:
                    write_json_line(failed[-1].to_json())
                progress(number, len(sources))
                continue
            base = out / source.name
            path = base.with_name(base.name + CLASSIFICATION)
            with whole_file(path, durable=False, follow=False) as file:
                file.write(json_text(found.to_json(), indent=2).encode())
            noted(source, [path])
            done.append({**source.to_json(), "records": path, **found.to_json()})
            best = [(each.name, found.shown(each)) for each in found.found[:MOST_NAMED]]
            if lines:
                write_json_line(done[-1])
            elif not as_json and one:
                write_columns(best, right=(1,))
                echo(f"-> {path}")
            elif not as_json:
                which = "" if source.frame is None else f", picture {source.frame + 1}"
                echo(f"{source.path}{which}: {', '.join(f'{name} {score}'.rstrip() for name, score in best)}")
            progress(number, len(sources))
    for each in done:
        if "frame" not in each:
            say_frames(each["image"])
    if as_json:
        write_json({"engine": net.engine, "images": done, "failed": [each.to_json() for each in failed]})
    tell_failed(failed, len(done) + len(failed))
    return 1 if failed else 0
