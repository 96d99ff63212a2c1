"""The trace as a diagram: what each blob covers, in the image's pixels, and what each crop keeps of its bottom."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from converters.layers import Convolution, Deconvolution, Pooling
from converters.net import CoordMap, LayerSpec, NetSpec, Shape, images_at, infer_shapes, layer_map, written_offset

from .html import Html, name_text, section, text

_MOST_CELLS = 60
"""Positions up to which each is drawn as a cell of its own."""


@dataclass(frozen=True)
class Extent:
    """The place of a blob of so many `cells` along the image's columns; pixel x is from x to x + 1."""

    start: Fraction
    stop: Fraction
    cells: int


@dataclass(frozen=True)
class BlobRow:
    """One blob of the diagram; `cut` is the whole bottom of a crop, `extent` None where it is nowhere in the image."""

    name: str
    shape: Shape
    layer: str
    extent: Extent | None
    cut: Extent | None = None


def diagram(spec: NetSpec, size: tuple[int, int] | None = None) -> Html:
    """The section with the diagram of a deploy net for an image of `size` (h, w), by default the net's own."""
    size = size or next((shape[2:] for shape in spec.inputs.values() if len(shape) == 4), (1, 1))
    rows = trace_rows(spec, size)
    drawn = [extent for row in rows for extent in (row.extent, row.cut) if extent is not None]
    drawn.append(Extent(Fraction(0), Fraction(size[1]), size[1]))
    start, stop = min(each.start for each in drawn), max(each.stop for each in drawn)
    axis = _Axis(start, stop, size[1])
    lead = (
        f"Every blob for an image of {size[0]} x {size[1]} (h x w), drawn to scale along the columns: a bar is what "
        "its blob covers of the image and the padding around it, and its cells are the blob's positions."
    )
    keys = (
        '<p class="keys"><i class="key" style="background:var(--bar)"></i>blob'
        '<i class="key" style="background:repeating-linear-gradient(45deg,var(--cut) 0 2px,transparent 2px 5px);'
        'border:1px solid var(--cut)"></i>cut away by a crop'
        '<i class="key" style="background:var(--image);border:solid var(--mark);border-width:0 1px"></i>the image</p>'
    )
    return section("trace", "From image to scores", lead, keys + "".join(axis.draw(row) for row in rows))


@dataclass(frozen=True)
class _Axis:
    """From pixels of the image to percents of the diagram's width."""

    start: Fraction
    stop: Fraction
    image: int

    def draw(self, row: BlobRow) -> Html:
        bars = f'<i class="image" style="{self._place(Extent(Fraction(0), Fraction(self.image), 1))}"></i>'
        if row.cut is not None:
            bars += f'<i class="whole cut" style="{self._place(row.cut)}"></i>'
        if row.extent is not None:
            cells = ""
            if 1 < row.extent.cells <= _MOST_CELLS:
                cells = f";--cell:{100 / row.extent.cells:.5f}%"
            kind = "whole kept cells" if cells else "whole kept"
            bars += f'<i class="{kind}" style="{self._place(row.extent)}{cells}"></i>'
        size = " x ".join(map(str, row.shape[1:])) or "scalar"
        return (
            f'<div class="blob"><span><span class="name">{name_text(row.name)}</span> '
            f'<span class="size">{text(size)}</span><small>{name_text(row.layer)}</small></span>'
            f'<span class="scale">{bars}</span></div>\n'
        )

    def _place(self, extent: Extent) -> str:
        whole = self.stop - self.start
        left, width = (extent.start - self.start) / whole, (extent.stop - extent.start) / whole
        return f"left:{float(100 * left):.3f}%;width:{float(100 * width):.3f}%"


def trace_rows(spec: NetSpec, size: Shape) -> list[BlobRow]:
    """The blobs in order with where they lie; layers in place add nothing."""
    shapes = infer_shapes(spec, images_at(spec.inputs, size, batch=1))
    maps: dict[str, CoordMap | None] = {}
    rows = []
    for layer in spec.layers:
        own = CoordMap() if layer.type == "Input" else layer_map(layer)
        before = CoordMap() if layer.type == "Input" else maps.get(layer.bottoms[0])
        for top in layer.tops:
            known = top in maps
            maps[top] = None if own is None or before is None else own.after(before)
            if not known:
                cut = _extent(maps[layer.bottoms[0]], shapes[layer.bottoms[0]]) if layer.type == "Crop" else None
                rows.append(BlobRow(top, shapes[top], describe(layer, shapes), _extent(maps[top], shapes[top]), cut))
    return rows


def _extent(mapped: CoordMap | None, shape: Shape) -> Extent | None:
    """The pixels that a blob's positions cover: position j has its middle at (j - shift) / scale."""
    if mapped is None or len(shape) != 4:
        return None
    half = Fraction(1, 2)
    start, stop = ((edge - half - mapped.shift[1]) / mapped.scale[1] + half for edge in (0, shape[3]))
    return Extent(start, stop, shape[3])


def describe(layer: LayerSpec, shapes: Mapping[str, Shape]) -> str:
    """A layer's work in a few words: "3x3, pad 100", "columns 5 to 15 of score_pool4's 19"."""
    if layer.type == "Input":
        return "input"
    if layer.type == "Crop":
        offset = (written_offset(layer) or (0, 0))[1]
        stop = offset + shapes[layer.tops[0]][-1]
        return f"crop: columns {offset} to {stop} of {layer.bottoms[0]}'s {shapes[layer.bottoms[0]][-1]}"
    words = " ".join(_words(layer))
    return f"{words} of {' and '.join(layer.bottoms)}" if len(layer.bottoms) > 1 else words


def _words(layer: LayerSpec) -> Iterator[str]:
    params = layer.params
    yield {"Eltwise": "sum", "Concat": "channels"}.get(layer.type, layer.type.lower())
    if isinstance(params, (Convolution, Deconvolution, Pooling)) and not getattr(params, "global_pooling", False):
        yield f"{params.kernel[0]}x{params.kernel[1]}"
        if params.stride[1] != 1:
            yield f"stride {params.stride[1]}"
        if params.pad[1]:
            yield f"pad {params.pad[1]}"
