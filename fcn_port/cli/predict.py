"""`fcn-port predict`"""

from __future__ import annotations

from pathlib import Path

import click

from weights.card import Card
from weights.catalogue import release as find_release

from .device import device_option, find_device
from .output import json_option, write_columns, write_json


@click.command("predict")
@click.argument("weights")
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=".", show_default="this folder")
@click.option(
    "--like", metavar="RELEASE", help="Make inputs and name classes as for RELEASE, where a file does not say."
)
@click.option("--padded", is_flag=True, help="Run the net as it is written, with all of its padding's work.")
@device_option
@json_option
def command(weights: str, image: Path, out: Path, like: str | None, padded: bool, device: str, as_json: bool) -> None:
    """Segment IMAGE with WEIGHTS, the name of a release or a file.

    Writes `<image>.labels.png`, whose pixel values are the labels, coloured by PASCAL VOC's palette, and
    `<image>.overlay.png`, the image tinted by class, and prints the share of each class.
    """
    from ..inference import Segmentation, segment
    from ..inference.lossless import fast
    from ..loading import attach, load

    net = load(weights, find_device(device))
    if like is not None:
        attach(net, Card.of(find_release(like)))
    if net.preprocessing is None:
        raise click.UsageError(f"{weights} does not say how its inputs are made; add --like RELEASE, such as voc-fcn8s")
    seen = segment(net if padded else fast(net), image)
    out.mkdir(parents=True, exist_ok=True)
    results = []
    for head, result in seen.items() if isinstance(seen, dict) else [("", seen)]:
        assert isinstance(result, Segmentation)
        stem = image.stem + (f".{head}" if head else "")
        paths = out / f"{stem}.labels.png", out / f"{stem}.overlay.png"
        result.label_image().save(paths[0])
        result.overlay().save(paths[1])
        results.append({"labels": paths[0], "overlay": paths[1], "classes": result.share_of_classes()})
    if as_json:
        write_json(results)
        return
    for found in results:
        write_columns([(name, f"{share:.1%}") for name, share in found["classes"].items()], right=(1,))  # type: ignore[attr-defined]
        click.echo(f"-> {found['labels']}\n-> {found['overlay']}")
