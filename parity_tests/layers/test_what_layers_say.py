"""What a layer type says of itself is true: disturb one pixel, and only what it says it reads may change.

Every registered type has its examples in golden/layers; a type without one, or one that says nothing, fails here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from converters import read_prototxt
from converters.export.indices import index_inputs
from converters.layers.pooling import Pooling
from converters.net.layer import Layer, LayerSpec, all_layers
from converters.net.reach import Everything, Interval, Nothing, Reach, Transposed, Window
from converters.net.shapes import iter_layer_shapes, known_params
from parity_tests.goldens import GOLDEN
from parity_tests.layers.test_layers import make

FILES = sorted((GOLDEN / "layers").glob("*.prototxt"))
UNSAID = {"Embed", "Reshape", "Flatten", "Reduction", "SPP"}
"""Types whose tops have no channels of their own."""


@dataclass(frozen=True)
class Example:
    """One layer at work: its parameters, the values of its bottoms and of its learnable blobs."""

    spec: LayerSpec
    params: Layer
    bottoms: tuple[Tensor, ...]
    blobs: tuple[Tensor, ...]

    def tops(self, bottoms: tuple[Tensor, ...] | None = None) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return self.params.forward(self.bottoms if bottoms is None else bottoms, self.blobs)


@cache
def examples() -> dict[str, Example]:
    found: dict[str, Example] = {}
    for path in FILES:
        spec = read_prototxt(path)
        generator = torch.Generator().manual_seed(len(found))
        limits = index_inputs(spec, spec.inputs)
        values = {name: _feed(name, shape, limits.get(name), generator) for name, shape in spec.inputs.items()}
        for row in iter_layer_shapes(spec):
            params, bottoms = known_params(row.layer), tuple(values[bottom] for bottom in row.layer.bottoms)
            blobs = tuple(torch.rand(shape, generator=generator, dtype=torch.float64) + 0.1 for shape in row.blobs)
            example = Example(row.layer, params, bottoms, blobs)
            if row.layer.type != "Input":
                values.update(zip(row.layer.tops, example.tops(), strict=True))
            if row.layer.name.startswith(path.stem.lower()):
                found[row.layer.name] = example
    return found


def _feed(name: str, shape: tuple[int, ...], limit: int | None, generator: torch.Generator) -> Tensor:
    if limit is not None and name != "rois":
        return torch.randint(0, limit, shape, generator=generator).double()
    if name == "rois":
        corners = torch.rand(shape[0], 2, 2, generator=generator, dtype=torch.float64).cumsum(1) * 30
        return torch.cat([torch.zeros(shape[0], 1), corners.flatten(1)], 1).reshape(shape)
    if name == "sizes":
        return torch.full(shape, 20, dtype=torch.float64)
    if name == "selector":
        return torch.ones(shape, dtype=torch.float64)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def names() -> list[str]:
    return [
        layer.name
        for path in FILES
        for layer in read_prototxt(path).layers
        if layer.name.startswith(path.stem.lower()) and layer.bottoms
    ]


def test_every_registered_type_has_an_example() -> None:
    shown = set()
    for example in examples().values():
        shown.add(example.spec.type)
        if example.spec.type == "Python":
            shown.add(f"Python:{example.spec.to_message().python_param.layer}")
    ours = {name for name, layer_class in all_layers().items() if layer_class.__module__.startswith("converters.")}
    assert shown == ours


# Reach


def disturbed(example: Example) -> Iterator[tuple[int, tuple[int, int], tuple[Tensor, ...]]]:
    """Bottom, position and which places of each top change, for pixels in the corners and inside of every image."""
    before = example.tops()
    for index, bottom in enumerate(example.bottoms):
        if bottom.ndim != 4 or bottom.shape[2:] == (1, 1) or (example.spec.type in ("Upsample", "Unpooling") and index):
            continue  # a selector or a mask: what it chooses cannot be told by disturbing it
        h, w = bottom.shape[2:]
        for row, column in {(0, 0), (h - 1, w - 1), (h // 2, w // 2), (1, w - 2)}:
            after_bottom = bottom.clone()
            after_bottom[:, :, row, column] += torch.tensor([1.5, -0.75]).repeat(bottom.shape[1])[: bottom.shape[1]]
            bottoms = (*example.bottoms[:index], after_bottom, *example.bottoms[index + 1 :])
            changed = tuple(map(_changed, example.tops(bottoms), before))
            yield index, (row, column), changed


def _changed(top: Tensor, before: Tensor) -> Tensor:
    """Where a top changed: everywhere, if it has another number of boxes."""
    return top != before if top.shape == before.shape else torch.ones_like(top, dtype=torch.bool)


def allowed(reach: Reach, position: int, length: int) -> Interval:
    """The positions of a top of this length that may change with a bottom's position."""
    whole = Interval(0, length)
    if isinstance(reach, (Window, Transposed)):
        return reach.touched(Interval(position, position + 1)).clip(whole)
    return whole if isinstance(reach, Everything) else Interval(0, 0)


def wrong_places(example: Example, params: Layer) -> list[str]:
    """What changed although `params` says that it cannot, or was not said at all."""
    wrong = []
    for bottom, position, changes in disturbed(example):
        for top, changed in enumerate(changes):
            reaches = [params.reach(axis=axis, bottom=bottom, top=top) for axis in (2, 3)]
            if None in reaches:
                wrong.append(f"bottom {bottom}, top {top}: not said")
            elif changed.ndim != 4:
                fine = all(isinstance(reach, (Everything, Nothing)) for reach in reaches)
                wrong += [] if fine else [f"bottom {bottom}, top {top}: has no pixels"]
            else:
                rows, columns = (allowed(r, position[i], changed.shape[2 + i]) for i, r in enumerate(reaches))
                left = changed.clone()
                left[:, :, rows.lo : max(rows.lo, rows.hi), columns.lo : max(columns.lo, columns.hi)] = False
                wrong += [f"bottom {bottom} at {position} changes top {top}"] if left.any() else []
    return wrong


@pytest.mark.parametrize("name", names())
def test_a_layer_reads_what_it_says(name: str) -> None:
    example = examples()[name]
    assert not wrong_places(example, example.params)


@pytest.mark.parametrize("name", ["convolution1", "deconvolution1", "pooling2", "lrn1", "crop0"])
def test_windows_are_as_tight_as_they_can_be(name: str) -> None:
    """A window that is too wide would make every tile larger than it must be."""
    example = examples()[name]
    reach = example.params.reach(axis=2)
    assert isinstance(reach, (Window, Transposed))
    for _, (row, _), (changed,) in disturbed(example):
        rows = changed.any(dim=3).any(dim=1)[0].nonzero().flatten().tolist()
        span = allowed(reach, row, changed.shape[2])
        if example.spec.type != "Pooling":  # the largest of a window may lie elsewhere
            assert not rows or (rows[0] - span.lo < reach.dilation and span.hi - 1 - rows[-1] < reach.dilation)
        assert all(span.lo <= place < span.hi for place in rows)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution", "Im2col"])
@pytest.mark.parametrize(
    "settings", ["kernel_size: [3, 3, 2]", "kernel_size: 3 stride: [1, 2, 1]", "kernel_size: 3 axis: 2"]
)
def test_a_kernel_along_other_axes_says_nothing_of_an_image(kind: str, settings: str) -> None:
    """So that whoever asks does without tiles and crops, and no window of h and w is made up."""
    layer = make(kind, f"convolution_param {{ num_output: 2 {settings} }}")
    assert layer.reach(axis=2) is None


class _Undilated(Pooling):
    """Wrong on purpose: windows without their holes."""

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(self.kernel[axis - 2], self.stride[axis - 2], self.pad[axis - 2])


class _Silent(Layer):
    """A type from outside that says nothing."""


@pytest.mark.parametrize("wrong", ["undilated", "silent", "one off"])
def test_wrong_variants_are_caught(wrong: str) -> None:
    example = examples()["pooling2"]
    params = example.params
    assert isinstance(params, Pooling)
    if wrong == "undilated":
        lie: Layer = _Undilated(*(getattr(params, field.name) for field in fields(params)))
    elif wrong == "silent":
        lie = _Silent()
    else:
        lie = Pooling(params.method, params.kernel, params.stride, (3, 3), params.dilation)
    assert wrong_places(example, lie)


# Windows, against counting by hand


@given(
    kernel=st.integers(1, 5), stride=st.integers(1, 4), pad=st.integers(-3, 6), dilation=st.integers(1, 4),
    lo=st.integers(0, 20), size=st.integers(1, 12), transposed=st.booleans(),
)  # fmt: skip
def test_windows_count_as_one_does_by_hand(
    kernel: int, stride: int, pad: int, dilation: int, lo: int, size: int, transposed: bool
) -> None:
    given_ = range(lo, lo + size)
    window = (Transposed if transposed else Window)(kernel, stride, pad, dilation)
    outputs = range(-60, 160)

    def span(j: int) -> range:
        """The inputs from the first to the last one that output j may read."""
        if not transposed:
            first = j * stride - pad
            return range(first, first + dilation * (kernel - 1) + 1)
        within = [i for i in range(-200, 200) if 0 <= j + pad - i * stride <= dilation * (kernel - 1)]
        return range(min(within), max(within) + 1) if within else range(0)

    touched = [j for j in outputs if set(span(j)) & set(given_)]
    inside = [j for j in outputs if span(j) and set(span(j)) <= set(given_)]
    found = window.touched(Interval(*(given_[0], given_[-1] + 1)))
    assert not touched or (found.lo <= touched[0] and touched[-1] < found.hi)
    assert transposed or list(range(*found)) == touched
    sure = window.inside(Interval(given_[0], given_[-1] + 1))
    assert set(inside) == {j for j in range(*sure) if span(j)}
    if not transposed:
        assert window.reads(Interval(4, 7)) == Interval(span(4)[0], span(6)[-1] + 1)


# What else a layer says


@pytest.mark.parametrize("name", names())
def test_channels_come_out_as_said(name: str) -> None:
    example = examples()[name]
    images = [tuple(bottom.shape) for bottom in example.bottoms]
    tops = example.params.top_shapes(images)
    if all(len(shape) == 4 for shape in (*images, *tops)):
        said = example.params.channels([shape[1] for shape in images])
        assert said == tuple(shape[1] for shape in tops) or (said is None and _moves_channels(example))


def _moves_channels(example: Example) -> bool:
    return example.spec.type in UNSAID | {"Permute", "InnerProduct"}


@pytest.mark.parametrize("name", names())
def test_what_else_is_said_holds(name: str) -> None:
    example = examples()[name]
    shapes = [tuple(bottom.shape) for bottom in example.bottoms]
    tops = example.tops()
    assert example.params.learns == bool(example.params.blob_shapes(shapes))
    if example.params.idle:
        assert all(torch.equal(top, example.bottoms[0]) for top in tops)
    if example.params.moves:
        there = {value for bottom in example.bottoms for value in bottom.flatten().tolist()}
        assert all(there.issuperset(top.flatten().tolist()) for top in tops)
