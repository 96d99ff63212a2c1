"""`fcn-port export`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converters.export import HIGHEST_OPSET, LEAST_SIZE, LOWEST_OPSET, TARGETS, require
from converters.passes import chosen as choice_of_nets
from converters.wording import shape_text

from ..export_files import EXPORT_FORMATS
from .bringing import here
from .inspect import SizeParam, input_shapes
from .net_choice import net_options
from .output import echo, json_option, note, refuse_to_replace, write_json
from .progress import progress_bar
from .registering import register_option
from .sources import read_runnable

if TYPE_CHECKING:
    from converters.cancelling import ProgressCallback

    from ..export_files import ExportReport

_WIDTH = max(map(len, EXPORT_FORMATS))
_ABOUT = "\n    ".join(
    f"{name if first else '':{_WIDTH}}  {line}"
    for name, each in EXPORT_FORMATS.items()
    for first, line in ((line is each.about[0], line) for line in each.about)
)
_HELP = f"""Write WEIGHTS, a release or a file of any kind, in another format.

    \b
    {_ABOUT}

    What was written is run before it gets its name, beside the net that it was made of, at several sizes; the largest
    difference is told. Exit status 1, and no file, if it is too large.

    --target chooses forms that a program is known to read rightly, and runs the file in it where it is installed: in
    both engines of OpenCV 5. FCN_PORT_OPENCV5 and FCN_PORT_OPENCV4 name a Python with the OpenCV that this one lacks.
    """


@click.command("export", help=_HELP)
@click.argument("weights")
@click.option("--to", "to", required=True, type=click.Choice(tuple(EXPORT_FORMATS)), help="The format.")
@click.option("-o", "--out", type=click.Path(dir_okay=False), help="The file to write; default: named after WEIGHTS.")
@click.option(
    "--prototxt",
    type=click.Path(dir_okay=False),
    help="The net of WEIGHTS where the file holds none, or another one for them.",
)
@click.option(
    "--size", type=SizeParam(), help="Fix the input size (onnx, torch-export), height first; default: any size."
)
@click.option("--batch", type=click.IntRange(1), help="Fix the number of images (onnx); default: any number.")
@click.option("--outputs", multiple=True, metavar="BLOB", help="A blob to compute (onnx), or several.")
@click.option("--opset", type=click.IntRange(LOWEST_OPSET, HIGHEST_OPSET), help="ONNX's operator set; default: 17.")
@click.option(
    "--target",
    type=click.Choice(sorted(TARGETS)),
    help="The program to write for and to check in (onnx).",
)
@click.option("--fp16", is_flag=True, help="Store weights with 16 bits (onnx); they are computed with in 32.")
@click.option("--fold", is_flag=True, help="Make BatchNorm and Scale part of the layer before them (onnx).")
@click.option("--external-data", is_flag=True, help="Put the weights in OUT.data (onnx); over 2 GB they always are.")
@click.option("--check/--no-check", "checked", default=True, help="Run what was written (onnx); default: it is run.")
@json_option
@register_option
@net_options
def command(weights: str, to: str, out: str | None, prototxt: str | None, as_json: bool, **chosen: Any) -> None:
    _refuse_options_of_others(to, chosen)
    refuse_to_replace(None if out is None else Path(out))
    require("onnx" if to == "onnx" else "torch")
    path = here(weights)
    if chosen["size"] and choice_of_nets().input_shapes:
        input_shapes(read_runnable(prototxt or str(path)), chosen["size"])
    with progress_bar(weights, active=sys.stderr.isatty(), kept="nothing was written") as progress:
        if to == "onnx":
            report = _export_onnx(path, weights, out, prototxt, progress, chosen)
        else:
            from ..exporting import export

            report = export(weights, to=to, out=out, prototxt=prototxt, size=chosen["size"], progress=progress)
    if as_json:
        write_json(report.to_json())
        return
    for file in report.files:
        echo(f"{file}  ({Path(file).stat().st_size:,} bytes)")
    if report.checked:
        sizes = ", ".join(" and ".join(shape_text(shape) for shape in each.values()) for each in report.inputs)
        note(f"checked: largest difference from the module {report.error:.1e} of the largest value, for inputs {sizes}")
    else:
        note("not checked")
    for program in report.programs:
        note(f"{program}")
    if not report.any_size:
        note("takes only this input size")
    elif report.least_size is not None and report.least_size > LEAST_SIZE:
        note(f"takes images from {report.least_size}x{report.least_size} up")


def _refuse_options_of_others(to: str, chosen: dict[str, Any]) -> None:
    if chosen["size"] is not None and to not in ("onnx", "torch-export"):
        raise click.UsageError(f"--size is for onnx and torch-export; {to} takes any size")
    given = [name for name in ("batch", "outputs", "opset", "target", "fp16", "fold", "external_data") if chosen[name]]
    given += [] if chosen["checked"] else ["no_check"]
    if given and to != "onnx":
        raise click.UsageError(f"--{given[0].replace('_', '-')} is for onnx, not for {to}")


def _export_onnx(
    path: Path,
    weights: str,
    out: str | None,
    prototxt: str | None,
    progress: ProgressCallback,
    chosen: dict[str, Any],
) -> ExportReport:
    from converters.export import DEFAULT_OPSET, OnnxOptions, opset_of

    from ..export_files import destination
    from ..onnx_export import export_onnx

    options = OnnxOptions(
        size=chosen["size"],
        batch=chosen["batch"],
        outputs=chosen["outputs"] or None,
        opset=opset_of(chosen["target"], chosen["opset"], default=DEFAULT_OPSET),
        target=chosen["target"],
        fp16=chosen["fp16"],
        fold=chosen["fold"],
    )
    return export_onnx(
        path,
        destination(weights, to="onnx", out=out, prototxt=prototxt),
        prototxt=prototxt,
        options=options,
        external_data=chosen["external_data"],
        check=chosen["checked"],
        progress=progress,
    )
