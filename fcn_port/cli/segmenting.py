"""`fcn-port predict` of a net that says something of each pixel: labels, overlays, maps, and what is asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weights.store import in_words

from ..errors import one_line
from .output import echo, note, write_columns, write_json, write_json_line
from .progress import progress_bar

if TYPE_CHECKING:
    from ..any_net import LoadedNet
    from ..predict.image_lists import ImageSource
    from ..predict.prediction import Predicted
    from ..predict.segmenting import OfPixels, ReadOptions

    Noted = Callable[[ImageSource, Iterable[Path]], None]


_Key = tuple[Path, int | None]
"""An image: its file, and which picture in it."""


@dataclass(frozen=True, kw_only=True)
class WantedFiles:
    """The results that are asked for: below `out`, and for all images together the files `areas` and `coco`."""

    out: Path
    scores: bool = False
    probabilities: bool = False
    geotiff: bool = False
    polygons: bool = False
    areas: Path | None = None
    coco: Path | None = None


@dataclass(frozen=True)
class Failed:
    """An image that could not be done, and why."""

    path: Path
    problem: str

    def to_json(self) -> dict[str, Any]:
        """The record, as --json has it."""
        return {"image": self.path, "problem": self.problem}


def failure(path: Path, error: Exception) -> Failed:
    """The image with an error in one line that names it once."""
    return Failed(path, one_line(OSError(in_words(error)) if isinstance(error, OSError) else error, path))


def segment_images(
    net: LoadedNet,
    sources: Sequence[ImageSource],
    *,
    reading: ReadOptions,
    batch: int,
    wanted: WantedFiles,
    noted: Noted,
    as_json: bool,
    one: bool,
    lines: bool = False,
    explain: Callable[[tuple[int, int]], None] | None = None,
) -> int:
    """Write the results of every image; the exit status, 1 where an image could not be done.

    `noted` is told of each image that is done, with its files. `one` image that cannot be read is an error; `explain`
    is told the size of each image. `lines` of JSON take the place of what else is printed.
    """
    from ..predict.prediction import predict_all

    results: list[dict[str, Any]] = []
    failed: list[Failed] = []
    together = Together(wanted)
    told: set[str] = set()
    alone = len(sources) == 1
    watched = not alone or reading.tile is not None or reading.views.several
    unit, kept = ("passes", "nothing is written") if alone else ("images", "what is done is written")
    with progress_bar(unit, active=watched, kept=kept, unit=unit) as progress:
        passes = progress if alone else None
        for number, each in enumerate(predict_all(net, sources, batch=batch, options=reading, progress=passes), 1):
            result = _done(each, wanted, together, failed, one=one)
            if result is not None:
                if "problem" not in result:
                    noted(each.source, _files(result))
                results.append(result)
                if lines:
                    write_json_line(result)
                elif not as_json and not one:
                    _tell_line(result)
                _say_coarse(result, told)
            elif lines:
                write_json_line(failed[-1].to_json())
            if each.seen is not None and explain is not None:
                explain(_size(each.seen))
            if not alone:
                progress(number, len(sources))
    for result in results:
        if "frame" not in result:
            say_frames(result["image"])
    if one and failed and not results:
        _raise_again(net, sources[0])
    order = {(source.path, source.frame): i for i, source in enumerate(sources)}
    results.sort(key=lambda result: order[result["image"], result.get("frame")])
    together.write(order)
    if lines:
        tell_failed(failed, len(sources))
    else:
        tell(results, failed, len(sources), engine=net.engine, as_json=as_json, one=one)
    return 1 if failed else 0


class Together:
    """The rows of --areas and the records of --coco, gathered over all images."""

    def __init__(self, wanted: WantedFiles) -> None:
        self._wanted = wanted
        self._rows: dict[_Key, list[Sequence[object]]] = {}
        self._records: dict[_Key, list[dict[str, Any]]] = {}

    def add(self, source: ImageSource, heads: Mapping[str, OfPixels]) -> None:
        from ..predict.class_table import area_rows
        from ..predict.run_lengths import to_coco
        from ..predict.segmentation import Segmentation

        for head, seen in heads.items():
            if not isinstance(seen, Segmentation):
                continue
            if self._wanted.areas is not None:
                self._rows.setdefault((source.path, source.frame), []).extend(area_rows(seen, source.path, head))
            if self._wanted.coco is not None:
                records = self._records.setdefault((source.path, source.frame), [])
                of_head = {"output": head} if head else {}
                records += [record | of_head for record in to_coco(seen, coco_id(source.name.name))]

    def write(self, order: Mapping[_Key, int]) -> None:
        """Write the files, the images in this order."""
        from converters.safety import whole_file

        from ..detection.files import write_coco
        from ..predict.class_table import AREA_HEADER

        if self._wanted.areas is not None:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(AREA_HEADER)
            writer.writerows(row for key in sorted(self._rows, key=order.__getitem__) for row in self._rows[key])
            with whole_file(self._wanted.areas, durable=False, follow=False) as file:
                file.write(text.getvalue().encode())
        if self._wanted.coco is not None:
            write_coco([r for key in sorted(self._records, key=order.__getitem__) for r in self._records[key]],
                       self._wanted.coco)  # fmt: skip


def coco_id(name: str) -> int | str:
    """The id of an image in COCO's results: the twelve digits in which its name ends, as COCO's do, else its name."""
    return int(name[-12:]) if len(name) >= 12 and name[-12:].isascii() and name[-12:].isdigit() else name


def _done(
    predicted: Predicted, wanted: WantedFiles, together: Together, failed: list[Failed], *, one: bool
) -> dict[str, Any] | None:
    """The result of an image, written, None where it could not be done; a line in `failed` for all that was not."""
    from converters.errors import CaffeFormatError

    from ..errors import ImageError
    from .geography import add_geography

    if predicted.seen is None:
        failed.append(Failed(predicted.source.path, predicted.problem or ""))
        return None
    problem = None
    try:
        outputs = list(written(predicted.seen, wanted.out / predicted.source.name, wanted))
        if wanted.geotiff or wanted.polygons:
            problem = add_geography(
                predicted.seen, outputs, predicted.source, geotiff=wanted.geotiff, polygons=wanted.polygons
            )
    except (CaffeFormatError, ImageError) as error:  # labels that a picture cannot hold
        if one:
            raise
        failed.append(failure(predicted.source.path, error))
        return None
    together.add(predicted.source, predicted.seen)
    result = {**predicted.source.to_json(), "outputs": outputs}
    if problem is None:
        return result
    failed.append(Failed(predicted.source.path, problem))
    return {**result, "problem": problem}


def written(heads: Mapping[str, OfPixels], base: Path, wanted: WantedFiles) -> Iterator[dict[str, Any]]:
    """The files written of each output, and what it says, as --json has it."""
    from converters.escaping import file_name

    from ..predict.class_table import class_table
    from ..predict.outputs import write_map, write_outputs
    from ..predict.value_map import ValueMap

    for head, seen in heads.items():
        place = base.with_name(f"{base.name}.{file_name(head, dots=False)}") if head else base
        named = {"head": head} if head else {}
        coarse = {} if seen.coarse is None else {"upsampled_from": list(seen.coarse)}
        if isinstance(seen, ValueMap):
            paths = write_map(seen, place, scores=wanted.scores)
            low, high = seen.range
            yield {**named, "kind": "map", **paths, **coarse, "least": low, "largest": high}
            continue
        paths = write_outputs(seen, place, scores=wanted.scores, probabilities=wanted.probabilities)
        paths["table"] = paths.pop("classes")
        table = sorted((each for each in class_table(seen) if each["pixels"]), key=lambda each: -each["pixels"])
        yield {**named, "kind": seen.kind, **paths, **coarse, "classes": seen.share_of_classes(), "found": table}


def _files(result: Mapping[str, Any]) -> list[Path]:
    return [path for output in result["outputs"] for path in output.values() if isinstance(path, Path)]


def _size(heads: Mapping[str, OfPixels]) -> tuple[int, int]:
    h, w = next(iter(heads.values())).image.shape[:2]
    return int(h), int(w)


def _say_coarse(result: Mapping[str, Any], told: set[str]) -> None:
    """Say once for each output that it was interpolated."""
    for each in result["outputs"]:
        head = each.get("head", "")
        if "upsampled_from" in each and head not in told:
            told.add(head)
            h, w = each["upsampled_from"]
            note(f"{result['image']}: the net's output{f' {head}' if head else ''} is {h}x{w}, less than the image: "
                 "upsampled bilinearly")  # fmt: skip


def say_frames(image: Path, advice: str = "; --every-frame takes them all") -> None:
    """Say that a file of several pictures was taken for its first."""
    from ..predict.pictures import frames_of

    if image.suffix.lower() == ".npy" or not image.is_file():  # an array, or a record of a data set
        return
    frames = frames_of(image)
    if frames > 1:
        note(f"{image}: the first of its {frames} pictures{advice}")


def _raise_again(net: LoadedNet, source: ImageSource) -> None:
    """One image was asked for and cannot be read: that is the command's error."""
    from ..predict.images import read_source
    from ..predict.running import kind_of

    read_source(source, kind=kind_of(net))


def _said(output: Mapping[str, Any]) -> str:
    if output["kind"] == "map":
        return f"values from {output['least']:.4g} to {output['largest']:.4g}"
    from ..predict.segmentation import share_text

    return ", ".join(f"{name} {share_text(share)}" for name, share in output["classes"].items())


def _tell_line(result: Mapping[str, Any]) -> None:
    """A line for each output of one of several images, as soon as it is written: a pipe has it at once."""
    for each in result["outputs"]:
        echo(f"{each['labels'] if 'labels' in each else each['map']}: {_said(each)}")


def tell(
    results: list[dict[str, Any]], failed: list[Failed], count: int, *, engine: str, as_json: bool, one: bool
) -> None:
    """Print the results, and those of `count` images that could not be done."""
    from ..predict.segmentation import share_text

    if as_json:
        write_json({"engine": engine, "images": results, "failed": [each.to_json() for each in failed]})
    for result in results if one and not as_json else []:
        for each in result["outputs"]:
            if each["kind"] == "map":
                echo(_said(each))
            else:
                write_columns([(name, share_text(share)) for name, share in each["classes"].items()], right=(1,))
            for kind in ("labels", "overlay", "map", "scores", "probabilities", "geotiff", "polygons"):
                if kind in each:
                    echo(f"-> {each[kind]}")
    tell_failed(failed, count)


def tell_failed(failed: Sequence[Failed], count: int) -> None:
    """Say on standard error which of `count` images could not be done, and why."""
    if failed:
        note(f"{len(failed)} of {count} images could not be done:")
        for each in failed:
            note(f"  {each.problem}")
