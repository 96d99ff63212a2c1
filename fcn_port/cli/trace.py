"""`fcn-port trace`"""

from __future__ import annotations

from collections.abc import Mapping

import click

from converters.export import takes_any_size
from converters.net import Derivation, LayerSpec, NetSpec, Shape, derive_crops, infer_shapes, written_offset
from converters.passes import chosen
from converters.wording import shape_text

from .explain import explain_crop
from .inspect import SizeParam, input_shapes
from .net_choice import net_options
from .output import echo, echo_lines, json_option, write_columns, write_json
from .registering import register_option
from .sources import read_runnable


@click.command("trace")
@click.argument("what")
@click.argument("size", type=SizeParam(), required=False)
@click.option("--size", "asked", type=SizeParam(), help="SIZE, height first.")
@click.option("--explain-crops", is_flag=True, help="Say in words and numbers why each crop is where it is.")
@click.option("--auto-crop", "derive", is_flag=True, help="Derive the offsets of crops that give none.")
@json_option
@register_option
@net_options
def command(
    what: str,
    size: tuple[int, int] | None,
    asked: tuple[int, int] | None,
    explain_crops: bool,
    derive: bool,
    as_json: bool,
) -> None:
    """Show the shape of every blob of WHAT for an image of SIZE, height first.

    Without SIZE it is that of --input, else 100x100, or the net's own where its weights fit no other.

    WHAT is the name of a net, a prototxt, a caffemodel or a converted file. Nothing is computed.
    """
    if size and asked and size != asked:
        raise click.BadParameter(f"SIZE is {shape_text(size)}; expected one size", param_hint="'--size'")
    spec = read_runnable(what, crops=derive)
    size = size or asked or ((100, 100) if takes_any_size(spec) and not chosen().input_shapes else None)
    shapes = infer_shapes(spec, None if size is None else input_shapes(spec, size))
    derivations = derive_crops(spec) if explain_crops or derive else ()
    if as_json:
        write_json(_as_json(spec, shapes, derivations))
        return
    crops = {layer.tops[0]: layer for layer in spec.layers if layer.type == "Crop"}
    rows = [
        (name, shape_text(shape), _cut(crops[name], shapes) if name in crops else "") for name, shape in shapes.items()
    ]
    write_columns(rows, header=("blob", "shape", "cut from"))
    for derivation in derivations:
        echo()
        echo_lines(explain_crop(derivation, shapes))


def _cut(layer: LayerSpec, shapes: Mapping[str, Shape]) -> str:
    """The place of a crop in its bottom: "score_pool4[5:15]", or for both axes where they differ "x[5:15, 7:20]"."""
    ranges = _ranges(layer, shapes)
    text = ", ".join(f"{start}:{stop}" for start, stop in (ranges[:1] if ranges[0] == ranges[1] else ranges))
    return f"{layer.bottoms[0]}[{text}]"


def _ranges(layer: LayerSpec, shapes: Mapping[str, Shape]) -> list[tuple[int, int]]:
    offset = written_offset(layer) or (0, 0)
    return [(o, o + length) for o, length in zip(offset, shapes[layer.tops[0]][-2:], strict=True)]


def _as_json(spec: NetSpec, shapes: Mapping[str, Shape], derivations: tuple[Derivation, ...]) -> dict[str, object]:
    derived = {d.layer.name: d.derived for d in derivations}
    return {
        "net": spec.name,
        "blobs": shapes,
        "crops": {
            layer.name: {
                "bottoms": layer.bottoms,
                "offset": written_offset(layer) or (0, 0),
                "rows_and_columns": _ranges(layer, shapes),
                **({"derived_offset": derived[layer.name]} if layer.name in derived else {}),
            }
            for layer in spec.layers
            if layer.type == "Crop"
        },
    }
