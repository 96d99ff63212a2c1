"""`fcn-port predict`"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .device import device_option
from .engine import engine_option, low_memory_option, padded_option, precision_option, run_as_told
from .given_net import (
    NetOptions,
    check_inputs,
    like_option,
    load_as_told,
    mean_option,
    prototxt_option,
    scale_option,
)
from .net_choice import net_options
from .output import echo, json_option, note, write_columns, write_json
from .progress import progress_bar
from .registering import register_option

if TYPE_CHECKING:
    from ..nets import Net
    from ..predict.image_lists import ImageSource
    from ..predict.prediction import Predicted
    from ..predict.segmenting import Seen

_Folder = click.Path(file_okay=False, path_type=Path)
_File = click.Path(exists=True, dir_okay=False, path_type=Path)
_Path = click.Path(dir_okay=False, path_type=Path)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(NetOptions):
    scores: bool
    probabilities: bool
    batch: int
    tile: int | None
    verbose: bool
    least_score: float | None
    classes: Path | None
    coco: Path | None


@click.command("predict")
@click.argument("weights")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=_Folder, default=".", show_default="this folder", help="Where the results go.")
@like_option
@click.option("--scores", is_flag=True, help="Write the scores of all classes, too: <image>.scores.npz.")
@click.option("--probabilities", is_flag=True, help="Write a grey picture for each class: <image>.probabilities/.")
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images of one size at a time.")
@click.option(
    "--tile", type=click.IntRange(min=1), help="Let the net see N x N pixels at a time; the labels are the same."
)
@prototxt_option
@mean_option
@scale_option
@click.option(
    "--least-score", type=click.FloatRange(0, 1), help="Of objects: tell those from this score on.  [default: 0.3]"
)
@click.option("--classes", type=_File, help="Of objects: the names of the classes, a line each, the background first.")
@click.option("--coco", type=_Path, metavar="FILE", help="Of objects: write them as COCO's results, too.")
@engine_option
@padded_option
@precision_option
@low_memory_option
@device_option
@click.option("-v", "--verbose", is_flag=True, help="Say for each size of image what the net need not compute.")
@json_option
@register_option
@net_options
def command(weights: str, images: tuple[Path, ...], out: Path, as_json: bool, **given: Any) -> int:
    """Segment IMAGES with WEIGHTS, the name of a release or a file.

    IMAGES are files, folders with everything below them, or lists (.txt, a path a line). For each image
    `<image>.labels.png` holds the labels, coloured by PASCAL VOC's palette, and `<image>.overlay.png` the image tinted
    by class, with a legend; folders are kept. The share of each class is printed.

    A net that finds objects (SSD, YOLO, Faster R-CNN, R-FCN) writes `<image>.detections.png`, the image with boxes, and
    `<image>.detections.json`, the records, and prints them.

    Of several images, those that cannot be read are listed at the end, and the others are done; the exit status is
    then 1.
    """
    from ..detection import finds_objects
    from ..predict.image_lists import gather, is_single
    from ..predict.prediction import predict_all

    try:
        sources = gather(images)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    options = PredictOptions(**given)
    net = load_as_told(weights, options)
    one = is_single(images)
    if finds_objects(net):
        from .detecting import detect_all

        check_inputs(net, weights)
        return detect_all(
            net, sources, out=out, least=options.least_score, names=options.classes, coco=options.coco,
            as_json=as_json, one=one,
        )  # fmt: skip
    net = _net(net, weights, options)
    results: list[dict[str, Any]] = []
    failed: list[Predicted] = []
    explained: set[tuple[int, int]] = set()
    keep = options.scores or options.probabilities
    with progress_bar("images", active=len(sources) > 1, kept="what is done is written") as progress:
        found = predict_all(net, sources, batch=options.batch, tile=options.tile, keep_scores=keep)
        for number, each in enumerate(found, start=1):
            if each.seen is None:
                failed.append(each)
            else:
                results.append(_write(each, out, options))
                if not as_json and not one:
                    _tell_line(results[-1])
                if options.verbose:
                    _explain(net, each.seen, options.tile, explained)
            progress(number, len(sources))
    for result in results:
        _say_frames(result["image"])
    if one and failed:
        _raise_again(sources[0])
    order = {source.path: i for i, source in enumerate(sources)}
    results.sort(key=lambda result: order[result["image"]])
    _tell(results, failed, engine=net.engine, as_json=as_json, one=one)
    return 1 if failed else 0


def _explain(net: Net, seen: Seen, tile: int | None, explained: set[tuple[int, int]]) -> None:
    """Say how the net is run for images of this size, once for each size."""
    h, w = (next(iter(seen.values())) if isinstance(seen, dict) else seen).labels.shape
    size = (h, w) if tile is None else (min(h, tile), min(w, tile))
    if size not in explained:
        explained.add(size)
        note(f"{size[0]}x{size[1]}: {net.explain(size)}")


def _net(net: Net, weights: str, options: PredictOptions) -> Net:
    from ..predict.tiles import tiling_of

    check_inputs(net, weights)
    assert net.preprocessing is not None
    names = ", ".join(each.name for each in net.preprocessing.inputs)
    if ", " in names:
        raise click.UsageError(f"{weights} looks at several images at once ({names}); predict takes nets with one")
    tile = options.tile
    if tile is not None:
        _lift_bound_on_size()
        try:
            least = max(tiling.least for tiling in tiling_of(net))
        except ValueError as error:
            raise click.UsageError(f"--tile: {error}") from error
        if tile < least:
            raise click.UsageError(f"--tile {tile} is too small for this net; {least} is the least")
    return run_as_told(net, options)


def _lift_bound_on_size() -> None:
    """Pillow refuses images of more than 179 million pixels, which are what tiles are for."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None


def _write(predicted: Predicted, out: Path, options: PredictOptions) -> dict[str, Any]:
    from converters.escaping import file_name

    from ..predict.outputs import write_outputs

    seen, base = predicted.seen, out / predicted.source.name
    heads = seen if isinstance(seen, dict) else {"": seen}
    written = []
    for head, each in heads.items():
        assert each is not None
        place = base.with_name(f"{base.name}.{file_name(head, dots=False)}") if head else base
        paths = write_outputs(each, place, scores=options.scores, probabilities=options.probabilities)
        written.append({**({"head": head} if head else {}), **paths, "classes": each.share_of_classes()})
    return {"image": predicted.source.path, "outputs": written}


def _say_frames(image: Path) -> None:
    """Say that a file of several pictures was taken for its first."""
    from ..predict.pictures import frames_of

    frames = frames_of(image)
    if frames > 1:
        note(f"{image}: the first of its {frames} pictures; split the file for the others")


def _raise_again(source: ImageSource) -> None:
    """One image was asked for and cannot be read: that is the command's error."""
    from ..predict.images import read_image

    read_image(source.path)


def _tell_line(result: dict[str, Any]) -> None:
    """A line for each output of one of several images, as soon as it is written: a pipe has it at once."""
    for written in result["outputs"]:
        listed = ", ".join(f"{name} {share:.1%}" for name, share in written["classes"].items())
        echo(f"{written['labels']}: {listed}")


def _tell(results: list[dict[str, Any]], failed: list[Predicted], *, engine: str, as_json: bool, one: bool) -> None:
    if as_json:
        problems = [{"image": f.source.path, "problem": f.problem} for f in failed]
        write_json({"engine": engine, "images": results, "failed": problems})
    for result in results if one and not as_json else []:
        for written in result["outputs"]:
            write_columns([(name, f"{share:.1%}") for name, share in written["classes"].items()], right=(1,))
            for kind in ("labels", "overlay", "scores", "probabilities"):
                if kind in written:
                    echo(f"-> {written[kind]}")
    if failed:
        note(f"{len(failed)} of {len(results) + len(failed)} images could not be read:")
        for each in failed:
            note(f"  {each.problem}")
