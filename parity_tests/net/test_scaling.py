"""Time in proportion to a net's size, whatever its shape: four times the net, at most some four times the time.

Each step is timed alone, by the processor's time, the least of a few runs, so that a busy machine does not matter.
What is quadratic takes sixteen times as long; 10 is allowed.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fcn_port
from converters.diff import diff_nets
from converters.errors import LimitError, NetError
from converters.execution.caffe_net import CaffeNet
from converters.formats.prototxt import format_prototxt, parse_prototxt
from converters.net.aliasing import aliases
from converters.net.parameter_sharing import borrowed_blobs
from converters.net.shapes import infer_shapes
from converters.net.validate import validate
from converters.passes.auto_crop import auto_crop
from converters.passes.deploy import to_deploy
from converters.passes.input_size import fit_size
from converters.passes.merge_splits import merge_splits

SMALL, TIMES, ALLOWED, NOTHING = 150, 4, 10, 0.02


def layer(name: str, kind: str, bottoms: list[str], tops: list[str], more: str = "") -> str:
    wires = "".join(f'bottom: "{b}" ' for b in bottoms) + "".join(f'top: "{t}" ' for t in tops)
    return f'layer {{ name: "{name}" type: "{kind}" {wires}{more} }}\n'


def start(channels: int = 4) -> str:
    return layer("data", "Input", [], ["x"], f"input_param {{ shape {{ dim: [1, {channels}, 8, 8] }} }}")


def chain(n: int, kind: str, more: str = "") -> str:
    return start() + "".join(layer(f"l{i}", kind, [f"b{i - 1}" if i else "x"], [f"b{i}"], more) for i in range(n))


def readers(n: int, blobs: Callable[[int], str]) -> str:
    return "".join(layer(f"r{i}", "ReLU", [blobs(i)], [f"out{i}"]) for i in range(n))


def many(n: int, stem: str) -> list[str]:
    return [f"{stem}{i}" for i in range(n)]


NETS: dict[str, Callable[[int], str]] = {
    "a chain": lambda n: chain(n, "ReLU"),
    "in place": lambda n: start() + "".join(layer(f"l{i}", "ReLU", ["x"], ["x"]) for i in range(n)),
    "many readers": lambda n: start() + readers(n, lambda i: "x"),
    "many bottoms": lambda n: start() + readers(n, lambda i: "x") + layer("c", "Concat", many(n, "out"), ["all"]),
    "many tops": lambda n: start(n) + layer("s", "Slice", ["x"], many(n, "b")) + readers(n, lambda i: f"b{i}"),
    "tops of a data layer": lambda n: layer("d", "HDF5Data", [], many(4 * n, "b")) + readers(4 * n, lambda i: f"b{i}"),
    "data layers": lambda n: (
        "".join(layer(f"d{i}", "HDF5Data", [], [f"b{i}"]) for i in range(n)) + readers(n, lambda i: f"b{i}")
    ),
    "losses": lambda n: (
        chain(1, "InnerProduct", "inner_product_param { num_output: 2 }")
        + "".join(layer(f"s{i}", "SoftmaxWithLoss", ["b0", "x"], [f"loss{i}"]) for i in range(n))
    ),
    "silenced tops": lambda n: (
        start(n)
        + layer("s", "Slice", ["x"], many(n, "b"))
        + "".join(layer(f"s{i}", "Silence", [f"b{i}"], []) for i in range(n - 1))
    ),
    "copies of a split": lambda n: (
        start()
        + layer("x_data_0_split", "Split", ["x"], many(n, "x_data_0_split_"))
        + readers(n, lambda i: f"x_data_0_split_{i}")
    ),
    "one shared blob": lambda n: chain(n, "Scale", 'param { name: "w" }'),
    "one memory": lambda n: (
        chain(n, "Flatten") + "".join(layer(f"p{i}", "Power", [f"b{n - 1}"], [f"b{n - 1}"]) for i in range(n))
    ),
    "convolutions": lambda n: chain(n, "Convolution", "convolution_param { num_output: 1 kernel_size: 1 }"),
    "old padding": lambda n: (
        'input: "x" input_dim: [1, 2, 8, 8]\n'
        + "".join(
            f'layers {{ layer {{ name: "p{i}" type: "padding" pad: 1 }} bottom: "{bottom}" top: "p{i}" }}\n'
            f'layers {{ layer {{ name: "c{i}" type: "conv" num_output: 1 kernelsize: 3 }} '
            f'bottom: "p{i}" top: "b{i}" }}\n'
            for i in range(n // 2)
            for bottom in [f"b{i - 1}" if i else "x"]
        )
    ),
    "fields of forks": lambda n: chain(n, "ReLU", "fork_param { a: 1 } b: 2"),
}


def steps(text: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is done with a net, one thing after the other."""
    spec = parse_prototxt(text)
    yield "read", lambda: parse_prototxt(text)
    yield "write", lambda: format_prototxt(spec)
    yield "deploy", lambda: to_deploy(spec)
    weights = {"nothing": [np.empty((1, 3, 1, 1), np.float32)]}
    yield "deploy with weights", lambda: to_deploy(spec, blobs=weights)
    deploy = merge_splits(to_deploy(spec))
    yield "merge", lambda: merge_splits(spec)
    yield "validate", lambda: validate(deploy)
    yield "shapes", lambda: infer_shapes(deploy, deploy.inputs)
    yield "aliases", lambda: aliases(deploy)
    yield "sharing", lambda: borrowed_blobs(deploy)
    yield "diff", lambda: diff_nets(spec, spec, meaning_only=True)
    yield "make", lambda: CaffeNet(spec)
    net = CaffeNet(spec)
    yield "trace", lambda: fcn_port.trace(net, (8, 8))


def least_time(step: Callable[[], Any], runs: int) -> float:
    times = []
    for _ in range(runs):
        began = time.process_time()
        step()
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize("shape", NETS)
def test_time_follows_the_size_of_the_net(shape: str) -> None:
    gc.disable()
    try:
        pairs = zip(steps(NETS[shape](SMALL)), steps(NETS[shape](SMALL * TIMES)), strict=True)
        for (name, few), (_, much) in pairs:
            for _ in range(3):
                before, after = least_time(few, 3), least_time(much, 1)
                if after < max(NOTHING, ALLOWED * before):
                    break
            else:
                pytest.fail(f"{name}: {before * 1000:.0f} ms, and for four times the net {after * 1000:.0f} ms")
    finally:
        gc.enable()


def test_crops_are_derived_within_a_limit() -> None:
    """A crop of a crop of a crop: each way back is as long as the net, so that all of them are its square."""
    text = start() + "".join(layer(f"c{i}", "Crop", [f"b{i - 1}" if i else "x", "x"], [f"b{i}"]) for i in range(400))
    auto_crop(parse_prototxt(text[: text.index('layer { name: "c50"')]))
    with pytest.raises(LimitError, match=r"layer 'c3\d\d' .*: to derive its crops takes \d+ steps"):
        auto_crop(parse_prototxt(text))


def test_a_scale_beyond_all_measure() -> None:
    """Strides multiply: 20,000 deconvolutions would make fractions of a million digits."""
    kind, more = "Deconvolution", "convolution_param { num_output: 4 kernel_size: 1 stride: 1000000000 }"
    text = chain(30, kind, more) + layer("c", "Crop", ["x", "b29"], ["top"])
    with pytest.raises(ValueError, match="a scale beyond all measure"):
        auto_crop(parse_prototxt(text))


def test_long_names_are_not_compared() -> None:
    """How like two names are takes the square of their length: two of 40,000 letters took 5 s, of a megabyte hours."""
    r = random.Random(0)
    made = [chr(r.randrange(0x4E00, 0x4E00 + 300)) for _ in range(200_000)]
    name, other = "".join(made), "".join(r.sample(made, len(made)))
    began = time.process_time()
    with pytest.raises(NetError, match="no layer before it makes its bottom"):
        validate(parse_prototxt(start().replace('"x"', f'"{name}"') + layer("r", "ReLU", [other], ["y"])))
    assert time.process_time() - began < 10


def test_sizes_are_guessed_within_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size is tried in every layer of the net: of a net of thousands of layers fewer sizes are."""
    tried = []
    monkeypatch.setattr("converters.passes.input_size._sizes", lambda spec, wanted: tried.append(1))
    text = chain(1000, "ReLU") + layer("fc", "InnerProduct", ["b999"], ["y"], "inner_product_param { num_output: 2 }")
    fit_size(parse_prototxt(text), ["x"], {"fc": [np.empty((2, 7), np.float32)]})
    assert len(tried) < 300
