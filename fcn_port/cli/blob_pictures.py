"""Pictures of blobs: `predict --blobs`, and `diff --pictures`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from converters.escaping import file_name

from .output import note

if TYPE_CHECKING:
    from PIL import Image

    from ..nets import Net
    from ..predict.image_lists import ImageSource

blobs_option = click.option(
    "--blobs", metavar="NAME,NAME...", help="Write pictures of these blobs, too, <image>.blobs/<blob>.png; or 'all'."
)


def check_blobs(net: Net, wanted: str) -> tuple[str, ...]:
    """The names of the blobs that are wanted; UsageError, with the nearest name, for one that the net lacks."""
    from ..inspection import trace
    from ..view.feature_maps import blob_names

    there = trace(net, (224, 224)) if _takes(net) else dict.fromkeys(net.shapes(dict(net.inputs)))
    try:
        return blob_names(wanted, there)
    except KeyError as error:
        near = get_close_matches(error.args[0], list(there), n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(there)}"
        raise click.BadParameter(f"the net has no blob '{error.args[0]}'; {hint}", param_hint="'--blobs'") from error


def _takes(net: Net) -> bool:
    from converters.export import takes_any_size

    return takes_any_size(net.spec)


def write_blob_pictures(net: Net, sources: Sequence[ImageSource], wanted: str, out: Path) -> None:
    """Write the blobs of every image that can be read; the net is run as it is written, padding and all."""
    from ..errors import ImageError, one_line

    names = check_blobs(net, wanted)
    for source in sources:
        try:
            found = blob_pictures(net, source.path, names)
        except (ImageError, OSError, ValueError) as error:
            note(f"no blobs of {one_line(error, source.path)}")
            continue
        folder = (out / source.name).with_name(f"{source.name.name}.blobs")
        for name, picture in found.items():
            _save(picture, folder, name)
        note(f"-> {folder}")


def blob_pictures(net: Net, image: Path, names: Sequence[str]) -> dict[str, Image.Image]:
    """The pictures of blobs by name, for an image."""
    from ..inspection import blobs
    from ..predict import prepare
    from ..view.feature_maps import feature_maps

    found = blobs(net, prepare(net, image))
    return {name: feature_maps(name, found[name].cpu().numpy()) for name in names}


def write_side_by_side(first: Net, second: Net, image: Path, wanted: str | None, folder: Path) -> None:
    """Write the blobs that two nets have in common, for one image, side by side with their difference."""
    from ..inspection import blobs
    from ..predict import prepare
    from ..view.feature_maps import beside

    recipe = first.preprocessing or second.preprocessing
    if recipe is None:
        raise click.UsageError("neither net says how its inputs are made; convert one with --like RELEASE first")
    found = [blobs(net, prepare(net, image, preprocessing=recipe)) for net in (first, second)]
    both = {name: None for name in found[0] if name in found[1]}
    names = check_blobs(first, wanted) if wanted is not None else tuple(both)
    for name in names:
        if name not in both:
            raise click.BadParameter(f"only the first net has a blob '{name}'", param_hint="'--blobs'")
        _save(beside(name, found[0][name].cpu().numpy(), found[1][name].cpu().numpy()), folder, name)
    note(f"-> {folder}")


def _save(picture: Image.Image, folder: Path, name: str) -> None:
    from converters.safety import whole_file

    with whole_file(folder / f"{file_name(name)}.png", durable=False, follow=False) as file:
        picture.save(file, format="PNG")
