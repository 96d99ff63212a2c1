"""`fcn-port convert`"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from converters.conversion import PYTORCH, ConversionReport, convert
from converters.errors import CaffeFormatError
from converters.formats import read_caffemodel, read_prototxt
from converters.given import without_ending
from converters.net import NetSpec, derive_crops, infer_shapes
from converters.passes import prepare
from converters.wording import first_of, shape_text
from weights.card import Card

from .bringing import bring, looks_like_a_name
from .explain import explain_crop
from .like import card_of_own
from .net_choice import net_options
from .output import bar, echo, echo_lines, human_bytes, json_option, note, write_columns, write_json
from .registering import register_option
from .sources import read_net

_WRITTEN = ("", ".safetensors", *PYTORCH)
_EXPORTED = (".onnx", ".caffemodel", ".prototxt", ".pt2", ".py", ".h5")
_SHOWN = 8
"""The number of layers to name that the net does not have; --json names all."""


@click.command("convert")
@click.argument("what")
@click.option("-o", "--out", type=click.Path(dir_okay=False), help="The .safetensors file to write, or a .pth with the "
              "state dict alone.")  # fmt: skip
@click.option("--prototxt", type=click.Path(dir_okay=False), help="The net of the blobs, as for a .h5, which has none.")
@click.option("--auto-crop", is_flag=True, help="Derive the offsets of crops that give none (nets of 2014 and 2015).")
@click.option("--like", metavar="RELEASE", help="For a file: its inputs, classes and palette are those of RELEASE.")
@click.option(
    "--from-file", type=click.Path(exists=True, dir_okay=False), help="For a release: take a file obtained elsewhere."
)
@json_option
@register_option
@net_options
def command(
    what: str,
    out: str | None,
    prototxt: str | None,
    auto_crop: bool,
    like: str | None,
    from_file: str | None,
    as_json: bool,
) -> int:
    """Turn WHAT, a release or a .caffemodel or .h5 file, into a safetensors file for PyTorch.

    A release is fetched and verified first, and goes to the folder for weights; a file goes beside itself. The report
    accounts for every blob. Exit status 1 if the weights are converted, and yet no net can be made of them.
    """
    ending = "" if out is None else Path(out).suffix.lower()
    if ending not in _WRITTEN:
        problem = f"{out}: convert writes .safetensors, .pth or .pt"
        raise click.UsageError(f"{problem}; other formats are `fcn-port export`'s" if ending in _EXPORTED else problem)
    if not looks_like_a_name(what):
        if from_file is not None:
            raise click.UsageError("--from-file goes with the name of a release")
        return _convert_file(what, out, prototxt, auto_crop, like, as_json)
    if prototxt is not None or auto_crop or like is not None:
        raise click.UsageError("a release brings its own net; --prototxt, --auto-crop and --like are for files")
    _convert_release(what, out, from_file, as_json)
    return 0


def _convert_file(
    path: str, out: str | None, prototxt: str | None, auto_crop: bool, like: str | None, as_json: bool
) -> int:
    card = Card.of_file(Path(path).name)
    if like is not None:
        card = replace(card_of_own(like, _net_of(path, prototxt)), release=card.release, licence=card.licence)
    target = out or f"{without_ending(Path(path))}.safetensors"
    with bar(Path(path).name) as update:
        report = convert(
            path,
            target,
            prototxt=prototxt,
            auto_crop_offsets=auto_crop,
            metadata=card.to_metadata(),
            progress=update,
        )
    if as_json:
        write_json(report.to_json())
    else:
        _print(report)
    if report.no_net is not None:
        note(f"fcn-port: {report.out} has the weights, but no net can be made of them: {report.no_net}")
        return 1
    if auto_crop and not as_json:
        _explain(target)
    return 0


def _net_of(path: str, prototxt: str | None) -> NetSpec | None:
    """The net that a file is fitted to; None where it cannot be made, which converting says better."""
    try:
        model = None if prototxt is not None else read_caffemodel(path)
        spec = read_prototxt(prototxt) if prototxt is not None else model.spec if model is not None else None
        return None if spec is None else prepare(spec, blobs=None if model is None else model.blobs)
    except (CaffeFormatError, OSError):
        return None


def _explain(converted: str) -> None:
    """The derivation of every crop of the net in a converted file."""
    spec = read_net(converted)
    shapes = infer_shapes(spec)
    for derivation in derive_crops(spec):
        echo()
        echo_lines(explain_crop(derivation, shapes))


def _convert_release(name: str, out: str | None, from_file: str | None, as_json: bool) -> None:
    ported = bring(name, out=out, from_file=from_file)
    if ported.fetched.already_there:
        note(ported.fetched.explanation)
    if as_json:
        write_json({"out": ported.path, "already_converted": ported.report is None, **_report_json(ported.report)})
    elif ported.report is None:
        echo(f"{ported.path} is there already, from the same bytes and by this version")
    else:
        _print(ported.report)


def _report_json(report: ConversionReport | None) -> dict[str, object]:
    return {} if report is None else report.to_json()


def _print(report: ConversionReport) -> None:
    rows = [
        (e.key, shape_text(e.source_shape), shape_text(e.shape) if e.shape != e.source_shape else "", e.fit)
        for e in report.entries
    ]
    if rows:
        write_columns(rows, header=("key", "shape in Caffe", "shape here", "how"))
    strangers = list(dict.fromkeys(layer for layer, _, _ in report.unused))
    if strangers:
        echo(f"not used, for the net has no such layers: {first_of(strangers, _SHOWN)}")
    crops = ", ".join(f"{layer} {shape_text(offset)}" for layer, offset in report.crops.items())
    upsampling = ", ".join(f"{layer} {kind}" for layer, kind in report.upsampling.items())
    echo(f"{report.parameters:,} parameters in {len(report.entries)} blobs converted, {len(report.unused)} not used")
    if crops:
        echo(f"crops: {crops}")
    if upsampling:
        echo(f"upsampling: {upsampling}")
    echo(f"{report.source} ({human_bytes(report.source_size)}, sha256 {report.source_sha256})")
    echo(f"-> {report.out}")
    for warning in report.warnings:
        note(f"note: {warning}")
