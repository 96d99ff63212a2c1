"""Tiles: the scores of the whole image everywhere, borders included, and tilings one step off that are noticed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fcn_port
from converters import CaffeNet, parse_prototxt, register_layer
from converters.layers.base import Neuron
from converters.net.layer import _types
from fcn_port.fastpath.geometry import Interval
from fcn_port.nets import FCN
from fcn_port.predict import segment
from fcn_port.predict.tiles import ImageTile, Tiling, tiling_along, tiling_of
from parity_tests.nets import narrow_net, random_inputs, with_random_weights
from parity_tests.tolerances import tolerance
from weights import release

NETS = ("voc-fcn8s", "voc-fcn32s", "voc-fcn8s-atonce", "voc-fcn-alexnet")


@cache
def net_of(name: str) -> FCN:
    """A narrow net in double precision, so that only rounding five hundred million times finer may differ."""
    return with_random_weights(narrow_net(name)).double()


def put_together(net: FCN, x: Tensor, rows: tuple[ImageTile, ...], columns: tuple[ImageTile, ...]) -> Tensor:
    """The scores of `x` from tiles, as one would write it down."""
    with torch.no_grad():
        bands = []
        for r in rows:
            parts = []
            for c in columns:
                scores = net(x[:, :, slice(*r.seen), slice(*c.seen)])
                parts.append(scores[:, :, r.core.within(r.seen), c.core.within(c.seen)])
            bands.append(torch.cat(parts, dim=3))
        return torch.cat(bands, dim=2)


def error_of(net: FCN, x: Tensor, rows: tuple[ImageTile, ...], columns: tuple[ImageTile, ...]) -> float:
    """The largest difference to the whole image's scores, of the largest of these."""
    with torch.no_grad():
        whole = net(x)
    return float((put_together(net, x, rows, columns) - whole).abs().max() / whole.abs().max())


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=6)
@given(length=st.integers(1, 900), extra=st.integers(0, 150), tall=st.booleans())
def test_tiles_are_the_whole_image(name: str, length: int, extra: int, tall: bool) -> None:
    """Sizes and tiles drawn at random, down rows and along columns."""
    net = net_of(name)
    tiling = tiling_of(net)[0 if tall else 1]
    tiles = tiling.tiles(length, tiling.least + extra)
    assert [tile.core.lo for tile in tiles] == [0, *(tile.core.hi for tile in tiles[:-1])]
    assert tiles[-1].core.hi == length and all(tile.seen.size <= tiling.least + extra for tile in tiles)
    across = (ImageTile(Interval(0, 9), Interval(0, 9)),)
    size = (length, 9) if tall else (9, length)
    x = random_inputs(net, size)["data"].double()
    error = error_of(net, x, tiles, across) if tall else error_of(net, x, across, tiles)
    assert error <= tolerance("lossless-double")


def test_tiles_in_both_directions() -> None:
    net = net_of("voc-fcn8s")
    rows, columns = (t.tiles(length, 500) for t, length in zip(tiling_of(net), (523, 611), strict=True))
    assert len(rows) > 1 < len(columns)
    x = random_inputs(net, (523, 611))["data"].double()
    assert error_of(net, x, rows, columns) <= tolerance("lossless-double")


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("wrong", ["before", "after", "misaligned"])
def test_tilings_that_are_wrong_are_noticed(name: str, wrong: str) -> None:
    """A tile that keeps one period more than it may at either end, or begins half a period off."""
    net = net_of(name)
    length, tiling = 1000, tiling_of(net)[0]
    right = tiling.tiles(length, tiling.least + 100)
    assert len(right) > 2
    tiles = _spoiled(tiling, right, wrong)
    x = random_inputs(net, (length, 5))["data"].double()
    across = (ImageTile(Interval(0, 5), Interval(0, 5)),)
    assert error_of(net, x, right, across) <= tolerance("lossless-double")
    assert error_of(net, x, tiles, across) > 100 * tolerance("lossless-double")


def _spoiled(tiling: Tiling, tiles: tuple[ImageTile, ...], wrong: str) -> tuple[ImageTile, ...]:
    first, second, *rest = tiles
    if wrong == "misaligned":
        off = tiling.period // 2
        return first, replace(second, seen=Interval(second.seen.lo - off, second.seen.hi)), *rest
    if wrong == "after":
        more = Interval(first.core.lo, first.seen.hi - tiling.after + tiling.period)
        return replace(first, core=more), replace(second, core=Interval(more.hi, second.core.hi)), *rest
    less = Interval(second.seen.lo + tiling.before - tiling.period, second.core.hi)
    return replace(first, core=Interval(0, less.lo)), replace(second, core=less), *rest


def test_overlap_and_period_follow_from_the_layers() -> None:
    """By hand for FCN-32s: fc6 sees 404 pixels around a position 32 apart, and a pixel reads two positions."""
    tiling, _ = tiling_of(narrow_net("voc-fcn32s"))
    assert tiling.period == 32
    # Score y reads score_fr (y + 19 - 63) / 32 to (y + 19) / 32, and position j reads pixels 32 j - 200 + 32 ...
    first = min(y for y in range(2000) if all(32 * j - _reach_before() >= 0 for j in _positions(y)))
    assert tiling.before == first
    assert {tiling_of(narrow_net(name))[0].period for name in NETS} == {32}
    assert tiling_of(narrow_net("voc-fcn8s"))[0].before > tiling.before, "upsampling three times reaches further"


def _positions(y: int) -> range:
    return range(-(-(y + 19 - 63) // 32), (y + 19) // 32 + 1)


def _reach_before() -> int:
    """How far before pixel 32 j position j of fc6 reads: the pads of the layers, each in pixels of the image."""
    pads = [(1, 100 + 1), (2, 2), (4, 3), (8, 3), (16, 3)]
    return sum(stride * pad for stride, pad in pads)


def caffe_net(*layers: str) -> CaffeNet:
    """A net with random weights of these layers over `data`, in double precision."""
    data = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 64 dim: 64 } } }'
    net = CaffeNet(parse_prototxt(data + "".join(layers)))
    return with_random_weights(net).double()


def layer(kind: str, bottoms: str, top: str, settings: str = "") -> str:
    bottom = " ".join(f'bottom: "{name}"' for name in bottoms.split())
    return f'layer {{ name: "{top}" type: "{kind}" {bottom} top: "{top}" {settings} }}'


CONV = "convolution_param {{ num_output: 3 {} }}"
DILATED = {
    "pooling with a hole": [layer("Pooling", "data", "a", "pooling_param { kernel_size: 3 pad: 2 hole: 2 }")],
    "dilated convolution": [layer("Convolution", "data", "a", CONV.format("kernel_size: 3 pad: 4 dilation: 4"))],
    "dilated deconvolution": [layer("Deconvolution", "data", "a", CONV.format("kernel_size: 3 pad: 3 dilation: 3"))],
    "normalised within channels": [
        layer("LRN", "data", "a", "lrn_param { local_size: 5 norm_region: WITHIN_CHANNEL alpha: 3 }")
    ],
    "there and back": [
        layer("Convolution", "data", "down", CONV.format("kernel_size: 3 pad: 4 stride: 2")),
        layer("Pooling", "down", "pooled", "pooling_param { kernel_size: 3 pad: 2 stride: 2 hole: 1 }"),
        layer("Upsample", "pooled", "up", "upsample_param { scale: 4 }"),
        layer("Crop", "up data", "a", "crop_param { offset: 5 }"),
    ],
}


@pytest.mark.parametrize("layers", DILATED.values(), ids=DILATED)
@pytest.mark.parametrize("axis", [0, 1])
def test_windows_with_holes_are_followed(layers: list[str], axis: int) -> None:
    net = caffe_net(*layers, layer("TanH", "a", "score"))
    tiles = tiling_of(net)[axis].tiles(200, tiling_of(net)[axis].least + 20)
    assert len(tiles) > 3
    across = (ImageTile(Interval(0, 30), Interval(0, 30)),)
    size, along = ((200, 30), (tiles, across)) if axis == 0 else ((30, 200), (across, tiles))
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert error_of(net, x, *along) <= tolerance("lossless-double")


def test_a_tiling_that_ignores_holes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    net = caffe_net(*DILATED["pooling with a hole"], layer("TanH", "a", "score"))
    monkeypatch.setattr("converters.net.reach.Window.extent", property(lambda window: window.kernel))
    tiles = tiling_of(net)[0].tiles(200, tiling_of(net)[0].least + 20)
    x = torch.randn(1, 3, 200, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert error_of(net, x, tiles, (ImageTile(Interval(0, 30), Interval(0, 30)),)) > 1e-3


@pytest.mark.parametrize(
    ("kind", "bottoms", "settings", "axes"),
    [
        ("BatchNorm", "data", "batch_norm_param { use_global_stats: false }", "hw"),
        ("BN", "data", "bn_param { bn_mode: LEARN }", "hw"),
        ("MVN", "data", "", "hw"),
        ("Softmax", "data", "softmax_param { axis: 2 }", "h"),
        ("Softmax", "data", "softmax_param { axis: -1 }", "w"),
        ("Concat", "data data", "concat_param { axis: 2 }", "h"),
        ("Slice", "data", "slice_param { axis: 3 }", "w"),
        ("Scale", "data", "scale_param { axis: 1 num_axes: 3 }", "hw"),
    ],
)
def test_what_reads_a_whole_axis_is_refused(kind: str, bottoms: str, settings: str, axes: str) -> None:
    """Along that axis; a net of such a layer has no tiles at all, for a tile is cut along both."""
    net = caffe_net(layer(kind, bottoms, "all", settings))
    for axis, name in enumerate("hw"):
        if name in axes:
            with pytest.raises(ValueError, match=rf"layer 'all' .{kind}. may look at all of an image"):
                tiling_along(net.spec, axis)
        else:
            tiling_along(net.spec, axis)


def test_a_type_that_does_not_say_what_it_reads_is_refused_by_name() -> None:
    @register_layer("Outsider")
    class Outsider(Neuron):
        def forward(self, bottoms, blobs, *, training=False):  # type: ignore[no-untyped-def]
            return (bottoms[0],)

    try:
        net = caffe_net(layer("Outsider", "data", "score"))
        with pytest.raises(ValueError, match=r"layer 'score' .Outsider.: its type does not say which pixels it reads"):
            tiling_of(net)
    finally:
        _types.pop("Outsider")


def test_segment_in_tiles() -> None:
    """Single precision, `fast`, labels: the same but where two scores tie within the rounding bound."""
    net = with_random_weights(narrow_net("voc-fcn8s"))
    recipe = release("voc-fcn8s").preprocessing
    image = np.random.default_rng(3).integers(0, 256, (540, 507, 3), np.uint8)
    whole = segment(net, image, preprocessing=recipe)
    tiled = segment(fcn_port.fast(net), image, preprocessing=recipe, tile=500)
    assert not isinstance(whole, dict) and not isinstance(tiled, dict)
    assert whole.scores is not None and tiled.scores is not None
    bound = tolerance("lossless") * np.abs(whole.scores).max()
    assert np.abs(tiled.scores - whole.scores).max() <= bound
    first, second = np.sort(whole.scores, axis=0)[[-1, -2]]
    assert np.array_equal(tiled.labels[first - second > 2 * bound], whole.labels[first - second > 2 * bound])
    assert len(np.unique(whole.labels)) > 3 and (first - second > 2 * bound).mean() > 0.99
    assert segment(net, image, preprocessing=recipe, tile=500, keep_scores=False).scores is None  # type: ignore[union-attr]


def test_nets_with_two_outputs() -> None:
    net = with_random_weights(narrow_net("siftflow-fcn8s"))
    recipe = release("siftflow-fcn8s").preprocessing
    image = np.random.default_rng(3).integers(0, 256, (510, 20, 3), np.uint8)
    whole, tiled = (segment(net, image, preprocessing=recipe, tile=tile) for tile in (None, 500))
    assert isinstance(whole, dict) and isinstance(tiled, dict) and list(whole) == ["score_sem", "score_geo"]
    for head, seen in whole.items():
        assert seen.scores is not None and tiled[head].scores is not None
        assert np.abs(tiled[head].scores - seen.scores).max() <= tolerance("lossless") * np.abs(seen.scores).max()


def test_what_cannot_be_tiled_is_refused() -> None:
    net = narrow_net("voc-fcn8s")
    least = tiling_of(net)[0].least
    with pytest.raises(ValueError, match=f"it needs {least} or more"):
        tiling_of(net)[0].tiles(2000, least - 1)
    assert len(tiling_of(net)[0].tiles(300, 300)) == 1
    whole = CaffeNet(
        parse_prototxt(
            'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'
            'layer { name: "all" type: "Pooling" bottom: "data" top: "all" pooling_param { global_pooling: true } }'
        )
    )
    with pytest.raises(ValueError, match=r"layer 'all' .Pooling. may look at all of an image"):
        tiling_of(whole)
    with pytest.raises(ValueError, match="whose layers are known"):
        tiling_of(torch.nn.Conv2d(3, 3, 1))
