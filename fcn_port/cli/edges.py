"""`fcn-port edges`"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converters.export import require
from converters.safety import whole_file

from ..errors import ImageError
from .bringing import here
from .device import device_option, find_device
from .given_net import prototxt_option, refuse_picture
from .inspect import SizeParam
from .net_choice import net_options, tell_idle_shapes
from .numbers import Number
from .output import echo, json_option, write_json
from .progress import progress_bar
from .registering import register_option
from .segmenting import Failed, failure, say_frames, tell_failed
from .together import only_without

if TYPE_CHECKING:
    import numpy as np

    from ..nets import Net
    from ..predict.image_lists import ImageSource

_Folder = click.Path(file_okay=False, path_type=Path)


@dataclass(frozen=True, kw_only=True)
class EdgesOptions:
    prototxt: Path | None
    out: Path
    border: int
    size: tuple[int, int]
    keep_size: bool
    threshold: float
    small_edge: int
    soft: bool
    device: str
    as_json: bool


@click.command("edges")
@click.argument("weights")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@prototxt_option
@click.option("-o", "--out", type=_Folder, default=".", show_default="this folder", help="Where the edges go.")
@click.option("--border", type=click.IntRange(min=0), default=128, show_default=True, help="Mirrored pixels around an "
              "image while the net looks at it.")  # fmt: skip
@click.option("--size", type=SizeParam(), default="256x256", show_default=True, help="Of the edges, height first.")
@click.option("--keep-size", is_flag=True, help="Draw edges at the size of the image instead.")
@click.option("--threshold", type=Number(0, 1), default=25 / 255, show_default="25/255", help="The least "
              "probability of an edge.")  # fmt: skip
@click.option("--small-edge", type=click.IntRange(min=1), default=5, show_default=True, help="The least number of "
              "pixels of an edge.")  # fmt: skip
@click.option("--soft", is_flag=True, help="Write the net's probabilities, too: <image>.soft.png, 255 for certainty.")
@device_option
@json_option
@register_option
@net_options
def command(weights: str, images: tuple[Path, ...], **given: Any) -> int:
    """Draw the edges of IMAGES with WEIGHTS, a HED net, as pix2pix made its edges2photo pairs.

    For each image `<image>.edges.png` has thin edges in black on white. Images that cannot be read are listed at the
    end, and the others are done; the exit status is then 1.
    """
    require("skimage", "torch")
    from ..loading import load
    from ..predict.edges import aligned, check_room, edge_output
    from ..predict.image_lists import check_is_there, gather

    refuse_picture(weights)
    try:
        sources = gather(images)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    options = EdgesOptions(**given)
    if options.keep_size:
        only_without("--keep-size", {"size"})
    else:
        check_room(options.size)
    check_is_there(sources)
    net = aligned(load(here(weights), find_device(options.device), prototxt=options.prototxt))
    edge_output(net.spec)
    tell_idle_shapes(net)
    done: list[dict[str, Path]] = []
    failed: list[Failed] = []
    with progress_bar("images", active=len(sources) > 1, kept="what is done is written") as progress:
        for number, source in enumerate(sources, start=1):
            try:
                done.append({"image": source.path, **_draw(net, source, options)})
            except (ImageError, ValueError, OSError) as error:
                if len(sources) == 1 and isinstance(error, ImageError | OSError):
                    raise
                failed.append(failure(source.path, error))
            progress(number, len(sources))
    if options.as_json:
        problems = [{"image": each.path, "problem": each.problem} for each in failed]
        write_json({"engine": net.engine, "images": done, "failed": problems})
    tell_failed(failed, len(sources))
    return 1 if failed else 0


def _draw(net: Net, source: ImageSource, options: EdgesOptions) -> dict[str, Path]:
    """The files written of an image, by kind."""
    from ..predict.edges import Cleaning, edge_map, edges, picture
    from ..predict.images import read_image

    base = options.out / source.name
    probability = edge_map(net, read_image(source.path), border=options.border)
    cleaning = Cleaning(
        size=None if options.keep_size else options.size,
        threshold=options.threshold,
        small_edge=options.small_edge,
    )
    drawn = {"edges": picture(edges(probability, cleaning))}
    if options.soft:
        drawn["soft"] = (probability * 255).round().astype("uint8")
    paths = {kind: base.with_name(f"{base.name}.{kind}.png") for kind in drawn}
    for kind, grey in drawn.items():
        _save(grey, paths[kind])
        if not options.as_json:
            echo(f"-> {paths[kind]}")
    say_frames(source.path, advice="")
    return paths


def _save(grey_hw: np.ndarray, path: Path) -> None:
    from PIL import Image

    with whole_file(path, durable=False, follow=False) as file:
        Image.fromarray(grey_hw).save(file, format="PNG")
