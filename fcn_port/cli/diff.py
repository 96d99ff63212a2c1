"""`fcn-port diff`"""

from __future__ import annotations

from pathlib import Path

import click

from converters.diff import Difference, diff_blobs, diff_nets
from converters.formats import with_lent

from .blob_pictures import write_side_by_side
from .bringing import here
from .net_choice import net_options
from .output import json_option, note, write_columns, write_json
from .registering import register_option
from .sources import is_definition, read_net_and_blobs
from .together import only_with


@click.command("diff")
@click.argument("first")
@click.argument("second")
@click.option("--meaning", is_flag=True, help="Compare nets only in what changes the numbers of a forward pass.")
@click.option(
    "--pictures", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Write the blobs that both nets have for --image, side by side with their difference.",
)  # fmt: skip
@click.option("--image", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The image for --pictures.")
@click.option("--blobs", metavar="NAME,NAME...", help="With --pictures: only these blobs.")
@json_option
@register_option
@net_options
def command(
    first: str, second: str, meaning: bool, pictures: Path | None, image: Path | None, blobs: str | None, as_json: bool
) -> int:
    """Show what differs between FIRST and SECOND: layers, settings, blobs, values.

    Each is a caffemodel, an .h5, a converted file (.safetensors or .pth), a prototxt, or the name of a release or net.

    Exit status 0 if nothing does, 1 if something does.
    """
    weights = not is_definition(first) and not is_definition(second)
    if (pictures is None) != (image is None):
        raise click.UsageError("--pictures FOLDER and --image FILE go together")
    if pictures is None:
        only_with("--pictures", {"blobs"})
    if pictures is not None and image is not None:
        _write_pictures(first, second, image, blobs, pictures, weights=weights)
    (net_a, blobs_a), (net_b, blobs_b) = (read_net_and_blobs(what, blobs=weights) for what in (first, second))
    if (
        not (blobs_a or net_a)
        or not (blobs_b or net_b)
        or ((net_a is None) != (net_b is None) and not (blobs_a and blobs_b))
    ):
        raise click.UsageError("one of the files has only blobs, the other only a net: there is nothing to compare")
    found: list[Difference] = []
    if net_a is not None and net_b is not None:
        found += diff_nets(net_a, net_b, meaning_only=meaning)
    if blobs_a and blobs_b:
        shared_by = net_b if net_a is None else net_a
        if shared_by is not None:  # a file may have blobs that layers share once, or for each layer
            blobs_a, blobs_b = with_lent(blobs_a, shared_by), with_lent(blobs_b, shared_by)
        found += diff_blobs(blobs_a, blobs_b)
    if as_json:
        write_json(found)
    elif found:
        write_columns([(d.where, d.what, d.first, d.second) for d in found], header=("where", "what", first, second))
    else:
        compared = [n for n, both in (("nets", net_a and net_b), ("blobs", blobs_a and blobs_b)) if both]
        note(f"no differences ({' and '.join(compared)} compared)")
    return 1 if found else 0


def _write_pictures(first: str, second: str, image: Path, blobs: str | None, folder: Path, *, weights: bool) -> None:
    if not weights:
        raise click.UsageError("--pictures needs two nets with weights")
    from ..loading import load

    write_side_by_side(load(here(first)), load(here(second)), image, blobs, folder)
