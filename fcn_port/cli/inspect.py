"""`fcn-port inspect`"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from converters.errors import CaffeFormatError, NetError
from converters.formats import Blobs, read_mean, sniff
from converters.net import NetSpec, Shape, check_weights_fit, images_at_asked, iter_layer_shapes
from converters.passes import chosen, prepare
from converters.wording import shape_text

from .bringing import looks_like_a_name
from .net_choice import net_options, not_told
from .output import echo, json_option, note, write_columns, write_json
from .registering import register_option
from .sources import is_only_a_file, read_net, read_net_and_blobs

_HEADER = ("layer", "type", "bottoms", "tops", "shape", "parameters", "MACs")
SizeOption = tuple[int, int] | None

if TYPE_CHECKING:
    _SizeType = click.ParamType["tuple[int, int]"]
else:
    _SizeType = click.ParamType  # takes no argument before click 8.4


class SizeParam(_SizeType):
    """HEIGHTxWIDTH, or one number for a square."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        sides = value.lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
            self.fail(f"'{value}' is not a size such as 500x375 (height first) or 500", param, ctx)
        return int(sides[0]), int(sides[-1])


@click.command("inspect")
@click.argument("what")
@click.option("--size", type=SizeParam(), help="Input size, height first; default: the size that the net names.")
@json_option
@register_option
@net_options
def command(what: str, size: SizeOption, as_json: bool) -> None:
    """Show what is in WHAT: a prototxt, caffemodel, .h5, mean, converted file, or the name of a net.

    For a net: its layers with the shapes of their tops, learnable parameters and multiply-accumulates of one forward
    pass. Data and loss layers of a training net are left out, as in its deploy net, and so are Caffe's Split copies.
    """
    if looks_like_a_name(what) or sniff.sniff_file(what) == sniff.SAFETENSORS:
        _show_net(read_net(what), {}, size, as_json)
        if looks_like_a_name(what) and not as_json:
            _explain(what, size or (500, 500))
        return
    mean = _mean_or_none(what)
    if mean is not None:
        _show_mean(mean, as_json)
        return
    spec, blobs = read_net_and_blobs(what)
    if spec is None:
        _show_blobs(blobs, as_json)
    else:
        _show_net(spec, blobs, size, as_json)


def _explain(name: str, size: tuple[int, int]) -> None:
    """Say what `fast` saves of a hand-written net; no weights are made."""
    if is_only_a_file(name):
        return
    import torch

    from ..fastpath.lossless import fast
    from ..nets import NETS, build

    if name in NETS:
        with torch.device("meta"):
            net = build(name)
        echo(f"fast: {fast(net).explain(size)}")


def _mean_or_none(path: str) -> np.ndarray | None:
    """The mean in a .binaryproto; None for every other file."""
    if sniff.sniff_file(path) != sniff.PROTOBUF:
        return None
    try:
        return read_mean(path)
    except CaffeFormatError:
        return None


def _show_mean(mean: np.ndarray, as_json: bool) -> None:
    channels = _channel_means(mean)
    if as_json:
        write_json({"kind": "mean", "shape": mean.shape, "dtype": str(mean.dtype), "channel_means": list(channels)})
    else:
        echo(f"mean image {shape_text(mean.shape)} {mean.dtype}; by channel: {', '.join(f'{c:.6g}' for c in channels)}")


def _channel_means(mean: np.ndarray) -> np.ndarray:
    """The mean of each channel of (..., h, w); the values themselves where there are fewer axes or none at all."""
    if mean.ndim < 2 or mean.size == 0:
        return mean.reshape(-1)
    channels: np.ndarray = mean.reshape(-1, *mean.shape[-2:]).mean(axis=(1, 2), dtype=np.float64)
    return channels


def _show_blobs(blobs: Blobs, as_json: bool) -> None:
    rows = [(n, i, b.shape, str(b.dtype), int(b.size)) for n, own in blobs.items() for i, b in enumerate(own)]
    if as_json:
        keys = ("layer", "position", "shape", "dtype", "parameters")
        write_json({"kind": "blobs", "blobs": [dict(zip(keys, row, strict=True)) for row in rows]})
        return
    table = [(name, str(i), shape_text(shape), dtype, f"{count:,}") for name, i, shape, dtype, count in rows]
    write_columns(table, header=("layer", "blob", "shape", "type", "parameters"), right=(4,))
    echo(f"{len(blobs)} layers, {sum(row[4] for row in rows):,} parameters, no net definition")


def _show_net(spec: NetSpec, blobs: Blobs, size: SizeOption, as_json: bool) -> None:
    deploy = prepare(spec, blobs=blobs)
    rows, problem = _layer_rows(deploy, blobs, size)
    if as_json:
        write_json({"kind": "net", "name": spec.name, "notes": deploy.notes, "problem": problem, "layers": rows})
        return
    table = [
        (
            row["layer"],
            row["type"],
            ", ".join(row["bottoms"]),
            ", ".join(row["tops"]),
            ", ".join(map(shape_text, row["shapes"])),
            f"{row['parameters']:,}" if row["parameters"] else "",
            f"{row['macs']:,}" if row["macs"] else "",
        )
        for row in rows
    ]
    write_columns(table, header=_HEADER, right=(5, 6))
    parameters, macs = (sum(row[key] for row in rows) for key in ("parameters", "macs"))
    echo(
        f"{spec.name or 'net'}: {len(rows)} layers, {parameters:,} parameters, {macs / 1e9:.3f} G multiply-accumulates"
    )
    for name, shape in (deploy.inputs if size is None else input_shapes(deploy, size)).items():
        assumed = name in deploy.assumed and shape == deploy.inputs[name]
        echo(f"input {name}: {shape_text(shape)}{' (assumed)' if assumed else ''}")
    for line in (*not_told(deploy.notes), *([problem] if problem else ())):
        note(line)


def _layer_rows(deploy: NetSpec, blobs: Blobs, size: SizeOption) -> tuple[list[dict[str, Any]], str | None]:
    """A row for each layer, as far as the shapes are known, and what stopped them."""
    rows: dict[int, dict[str, Any]] = {
        i: {
            "layer": layer.name,
            "type": layer.type,
            "bottoms": layer.bottoms,
            "tops": layer.tops,
            "shapes": (),
            "parameters": sum(int(blob.size) for blob in blobs.get(layer.name, ())),
            "macs": 0,
        }
        for i, layer in enumerate(deploy.layers)
    }
    try:
        inputs = input_shapes(replace(deploy, assumed=()) if blobs else deploy, size)
        for row, found in zip(rows.values(), iter_layer_shapes(deploy, inputs), strict=True):
            row["shapes"], row["macs"] = found.tops, found.macs
            row["parameters"] = row["parameters"] or sum(map(prod, found.blobs))
    except NetError as error:
        return list(rows.values()), str(error)
    return list(rows.values()), None


def input_shapes(spec: NetSpec, size: SizeOption) -> dict[str, Shape]:
    """The shapes of the net's inputs, images at `size` with a batch of one; as the net says without a size.

    UsageError where the net has no image, or has weights or a size of its own and does not run at this one, and where
    --input says another one.
    """
    if size is None:
        return dict(spec.inputs)
    try:
        found = images_at_asked(spec.inputs, size, batch=1)
        if not spec.assumed:
            check_weights_fit(spec, found)
    except NetError as error:
        raise click.UsageError(str(error)) from error
    for name, shape in chosen().input_shapes.items():
        if found.get(name, shape)[2:] != shape[2:]:
            said = f"--size {shape_text(size)} and --input {name}={shape_text(shape)}"
            raise click.UsageError(f"{said}: one of them says how large the image is")
    return found
