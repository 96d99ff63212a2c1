"""`fcn-port predict`"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..any_net import takes_arrays
from .anchors import anchors_option, with_given_anchors
from .blob_pictures import blobs_option, write_blob_pictures
from .clustering import check_goes_with_ray, check_is_not_packed, predict_on_ray, ray_option
from .described import images_of
from .device import device_option
from .engine import engine_option, low_memory_option, padded_option, precision_option, run_as_told
from .given_net import (
    check_inputs,
    like_option,
    load_as_told,
    load_cascade,
    load_to_predict,
    prototxt_option,
    refuse_picture,
)
from .input_options import input_change, input_options
from .names import name_classes, read_names
from .net_choice import net_options, tell_idle_shapes
from .numbers import Number
from .output import json_lines_option, json_option, note, refuse_to_replace, write_json
from .own_data import DATA_PATH, describe_option
from .predict_options import (
    PredictOptions,
    check_results,
    check_tiles,
    refuse_idle,
    refuse_of_others,
    refuse_of_pictures,
)
from .refining import refine_options, views_of
from .registering import register_option
from .sharding import noting, shard_option, still_to_do
from .threshold import threshold_option

if TYPE_CHECKING:
    from ..any_net import LoadedNet
    from ..nets import Net
    from ..predict.image_lists import ImageSource

_Folder = click.Path(file_okay=False, path_type=Path)
_File = click.Path(exists=True, dir_okay=False, path_type=Path)
_Path = click.Path(dir_okay=False, path_type=Path)


@click.command("predict")
@click.argument("weights")
@click.argument("images", nargs=-1, type=click.Path(path_type=Path))
@click.option("-o", "--out", type=_Folder, default=".", show_default="this folder", help="Where the results go.")
@like_option
@click.option("--scores", is_flag=True, help="Write the scores of all classes, too: <image>.scores.npz.")
@click.option("--probabilities", is_flag=True, help="Write a grey picture for each class: <image>.probabilities/.")
@click.option(
    "--geotiff", is_flag=True, help="Write labels as a GeoTIFF where the image lies, too: <image>.labels.tif."
)
@click.option("--polygons", is_flag=True, help="Write the outlines of labels: <image>.polygons.geojson.")
@threshold_option
@click.option(
    "--every-frame", is_flag=True, help="Of a file of several pictures: do each. Of a video: write its frames."
)
@click.option("--frames", type=click.IntRange(min=1), help="Of a video or a camera: stop after so many frames.")
@refine_options
@click.option("--areas", type=_Path, metavar="FILE", help="Write the pixels of each class of each image as CSV, too.")
@click.option("--coco", type=_Path, metavar="FILE", help="Write COCO's results, too: boxes, or run lengths of classes.")
@blobs_option
@describe_option
@click.option(
    "--data",
    type=DATA_PATH,
    help="A data set, or the .toml that describes one: class names, colours, and inputs where the net does not say; "
    "without IMAGES those of its split are done.",
)
@click.option("--split", help="Without IMAGES: a list in the data set, or the path of one; else its own.")
@click.option("--classes", type=_File, help="The names of the classes, a line each, the background first.")
@shard_option
@ray_option
@click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Images of one size at a time.")
@click.option(
    "--tile", type=click.IntRange(min=1), help="Let the net see N x N pixels at a time; the labels are the same."
)
@prototxt_option
@input_options
@click.option("--least-score", type=Number(0, 1), help="Of objects: tell those from this score on.  [default: 0.3]")
@anchors_option
@engine_option
@padded_option
@precision_option
@low_memory_option
@device_option
@click.option(
    "-v", "--verbose", is_flag=True, help="Say for each size of image how the net is run, and what it need not compute."
)
@json_option
@json_lines_option
@register_option
@net_options
def command(weights: str, images: tuple[Path, ...], out: Path, as_json: bool, **given: Any) -> int:
    """Tell what is in IMAGES with WEIGHTS, the name of a release, a file, or a folder with MTCNN's three nets.

    IMAGES are files, folders with everything below them, or lists (.txt, a path a line); or those of --data. For each
    `<image>.labels.png` holds the labels, coloured by PASCAL VOC's palette or the net's own, and `<image>.overlay.png`
    the image tinted by class, with a legend; folders are kept. The share of each class is printed.

    What a net says is read off its last layers: labels, scores or probabilities of classes, one value at each pixel
    (`<image>.map.png`, in greys), classes of the image as a whole (`<image>.classes.json`; the best five are printed),
    or objects (SSD, YOLO, Faster R-CNN, MTCNN and others: `<image>.detections.png` and `.json`, boxes and records).

    Of several images, those that cannot be read or do not fit the net are listed at the end, and the others are done;
    the exit status is then 1.

    With --shard 3/16 the third of sixteen parts of the images is done, and of that what has no results yet: sixteen
    machines with one folder do each image once, and a part that was ended goes on where it was.

    With --ray auto the images are shared out on a Ray cluster (the extra ray), one net for each core; they may lie in
    WebDataset tars and Parquet tables, too. What is found is written to results.parquet as well; what was done before
    is passed over.
    """
    refuse_picture(weights)
    options = PredictOptions(inputs=input_change(given), **given)
    if as_json and options.json_lines:
        raise click.UsageError("--json and --json-lines: one of them")
    if options.ray is not None:
        check_goes_with_ray(click.get_current_context())
        if not images:
            raise click.UsageError("which images? --ray takes files, folders, lists, tars and tables")
        return predict_on_ray(
            _for_workers(weights, options), images, options, weights=weights, out=out, as_json=as_json
        )
    job = _job_of(weights, images, options, out=out, as_json=as_json)
    if options.shard is not None and not job.sources:
        if as_json:
            write_json({"images": [], "failed": []})
        return 0
    return _tell(weights, job, options)


@dataclass(frozen=True)
class _PredictJob:
    """The pictures that are asked about, and where the answers go.

    `one` says that a single image was named, which is told of in full and is an error where it cannot be read; `videos`
    that they move.
    """

    sources: tuple[ImageSource, ...]
    out: Path
    as_json: bool
    one: bool
    videos: bool


def _job_of(
    weights: str, images: tuple[Path, ...], options: PredictOptions, *, out: Path, as_json: bool
) -> _PredictJob:
    """The job that the command line asks for; UsageError for options that do not go together or with such images."""
    from ..predict.image_lists import gather, is_single
    from .filming import every_picture, video_sources

    check_is_not_packed(images)
    videos = video_sources(images)
    try:
        sources = videos or gather(images) if images else images_of(options.data, options.split)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    refuse_idle(data=options.data is not None, videos=bool(videos))
    read = (weights, options.prototxt, options.classes, options.data, *(source.path for source in sources))
    for option, table in (("--areas", options.areas), ("--coco", options.coco)):
        refuse_to_replace(table, read, option=option, data=options.data)
    if options.areas is not None and options.areas == options.coco:
        raise click.UsageError("--areas and --coco: a file for each")
    if images and options.split is not None:
        raise click.UsageError("--split is of --data without IMAGES")
    if options.shard is not None:
        if videos:
            raise click.UsageError("--shard is for images; a video is one piece")
        sources = still_to_do(sources, options.shard, out=out, options=options)
    pages = options.every_frame and not videos
    if pages and options.shard is None:
        sources = every_picture(sources)
    return _PredictJob(sources, out, as_json, one=is_single(images) and not pages, videos=bool(videos))


def _tell(weights: str, job: _PredictJob, options: PredictOptions) -> int:
    """Bring the net and tell what it sees in the pictures, by what it says of them; the exit status."""
    from ..detection import finds_objects, refuse_unfinished
    from ..predict.image_lists import check_is_there
    from ..predict.meaning import names_images
    from ..publishing import is_published

    if Path(weights).is_dir() and not is_published(Path(weights)):
        nets = load_cascade(Path(weights), options)
        refuse_of_others("objects")
        return _of_objects(nets, job, options)
    check_is_there(() if job.videos else job.sources)
    needs_torch = options.crf or options.blobs is not None or options.anchors is not None
    count = None if job.videos else len(job.sources)
    net = load_to_predict(weights, options, data=options.data, images=count, quick=not needs_torch)
    net = with_given_anchors(net, options.anchors)
    if job.videos:
        refuse_of_pictures(net, options)
    if options.blobs is not None and not takes_arrays(net):
        check_inputs(net, weights)
        write_blob_pictures(net, job.sources, options.blobs, job.out)
    if not takes_arrays(net) and finds_objects(net):
        check_inputs(net, weights)
        refuse_of_others("objects")
        return _of_objects(net, job, options)
    refuse_unfinished(net)
    check_inputs(net, weights)
    if options.classes is not None:
        name_classes(net, read_names(options.classes))
    if names_images(net):
        from .classifying import classify_all

        refuse_of_others("classes")
        return classify_all(
            _run(net, options), job.sources, out=job.out, noted=noting(options.shard, job.out), as_json=job.as_json,
            one=job.one, lines=options.json_lines,
        )  # fmt: skip
    return _of_pixels(net, job, options, weights=weights)


def _for_workers(weights: str, options: PredictOptions) -> Net:
    """The net as the options have it, on the CPU: what is wrong with it is said here, once, and not by each worker."""
    from ..detection import finds_objects
    from ..predict.meaning import names_images
    from ..publishing import is_published

    if Path(weights).is_dir() and not is_published(Path(weights)):
        raise click.UsageError(f"--ray takes one net; {weights} is a folder")
    net = load_as_told(weights, replace(options, device="cpu"), data=options.data)
    check_inputs(net, weights)
    if options.classes is not None:
        name_classes(net, read_names(options.classes))
    if names_images(net):
        refuse_of_others("classes")
    elif finds_objects(net):
        refuse_of_others("objects")
    else:
        refuse_of_others("pixels")
        check_tiles(net, weights, options.tile)
        check_results(net, options)
    return net


def _of_objects(net: Net | Sequence[Net], job: _PredictJob, options: PredictOptions) -> int:
    from ..detection.rows import row_outputs
    from .detecting import detect_all
    from .filming_objects import film_objects, refuse_of_objects

    if not isinstance(net, Sequence) and row_outputs(net.spec):
        net = run_as_told(net, options)
    if job.videos:
        refuse_of_objects({"--coco": options.coco, "--every-frame": options.every_frame})
        return film_objects(
            net, job.sources, out=job.out, least=options.least_score, names=options.classes, most=options.frames,
            as_json=job.as_json,
        )  # fmt: skip
    return detect_all(
        net, job.sources, out=job.out, least=options.least_score, names=options.classes, coco=options.coco,
        noted=noting(options.shard, job.out), as_json=job.as_json, one=job.one, lines=options.json_lines,
    )  # fmt: skip


def _of_pixels(net: LoadedNet, job: _PredictJob, options: PredictOptions, *, weights: str) -> int:
    from ..predict.dense_crf import DenseCrf
    from ..predict.segmenting import ReadOptions
    from .filming import film_all
    from .geography import check_rasterio
    from .segmenting import WantedFiles, segment_images

    refuse_of_others("pixels")
    tell_idle_shapes(net)
    check_tiles(net, weights, options.tile)
    check_results(net, options)
    check_rasterio(wanted=options.geotiff or options.polygons)
    net = _run(net, options)
    keep = options.scores or options.probabilities
    explained: set[tuple[int, int]] = set()

    def explain(size: tuple[int, int]) -> None:
        _explain(net, size, options.tile, explained)

    reading = ReadOptions(
        options.tile,
        keep,
        options.threshold,
        views_of(options.flip, options.scales, options.resize),
        DenseCrf() if options.crf else None,
    )
    wanted = WantedFiles(
        out=job.out, scores=options.scores, probabilities=options.probabilities, geotiff=options.geotiff,
        polygons=options.polygons, areas=options.areas, coco=options.coco,
    )  # fmt: skip
    if job.videos:
        return film_all(
            net, job.sources, reading=reading, batch=options.batch, wanted=wanted, every_frame=options.every_frame,
            most=options.frames, as_json=job.as_json,
        )  # fmt: skip
    return segment_images(
        net,
        job.sources,
        reading=reading,
        batch=options.batch,
        wanted=wanted,
        noted=noting(options.shard, job.out),
        as_json=job.as_json,
        one=job.one,
        lines=options.json_lines,
        explain=explain if options.verbose else None,
    )


def _run(net: LoadedNet, options: PredictOptions) -> LoadedNet:
    return net if takes_arrays(net) else run_as_told(net, options)


def _explain(net: LoadedNet, image: tuple[int, int], tile: int | None, explained: set[tuple[int, int]]) -> None:
    """Say how the net is run for images of this size, once for each size."""
    h, w = image
    size = (h, w) if tile is None else (min(h, tile), min(w, tile))
    if size not in explained:
        explained.add(size)
        note(f"{size[0]}x{size[1]}: {net.explain(size)}")
