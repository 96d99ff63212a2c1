"""`fcn-port export`"""

from __future__ import annotations

from pathlib import Path

import click

from .bringing import here
from .inspect import SizeOption, SizeParam
from .output import echo, json_option, note, size_text, write_json

FORMATS = ("caffe", "python", "onnx", "torch-export", "safetensors", "hdf5")


@click.command("export")
@click.argument("weights")
@click.option("--to", "to", required=True, type=click.Choice(FORMATS), help="The format.")
@click.option("-o", "--out", type=click.Path(dir_okay=False), help="The file to write; default: named after WEIGHTS.")
@click.option("--prototxt", type=click.Path(dir_okay=False), help="The net of WEIGHTS, where the file holds none.")
@click.option("--size", type=SizeParam(), help="Fix the input size (onnx, torch-export), height first; default: any.")
@json_option
def command(weights: str, to: str, out: str | None, prototxt: str | None, size: SizeOption, as_json: bool) -> None:
    """Write WEIGHTS, a release or a file of any kind, in another format.

    \b
    caffe         .caffemodel (or .h5, by the name of OUT), and the net beside it as .prototxt
    python        source of a torch.nn.Module that stands alone; here WEIGHTS may be a prototxt
    onnx          for any height and width from 32 up (needs the extra: pip install fcn-port[onnx])
    torch-export  a .pt2 program for any height and width from 32 up
    safetensors   as `convert` writes, also of a PyTorch state dict
    hdf5          .caffemodel.h5 alone

    What was written is run before it gets its name, beside the net that it was made of, at several sizes; the largest
    difference is told. Exit status 1, and no file, if it is too large.
    """
    if size is not None and to not in ("onnx", "torch-export"):
        raise click.UsageError(f"--size is for onnx and torch-export; {to} takes any size")
    here(weights)
    from ..exporting import export

    report = export(weights, to=to, out=out, prototxt=prototxt, size=size)
    if as_json:
        write_json(report.to_json())
        return
    for file in report.files:
        echo(f"{file}  ({Path(file).stat().st_size:,} bytes)")
    sizes = ", ".join(" and ".join(size_text(shape) for shape in each.values()) for each in report.inputs)
    note(f"checked: largest difference from the module {report.error:.1e} of the largest value, for inputs {sizes}")
    if not report.any_size:
        note("takes only this input size")
