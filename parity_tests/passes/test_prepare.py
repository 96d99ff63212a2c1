"""prepare: a net is made ready once for everything that a load does, and its messages are parsed once."""

from __future__ import annotations

import pickle
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import converters
import fcn_port
from converters.diff import diff_nets
from converters.net import LayerSpec, NetSpec
from converters.net import layer as layer_module
from converters.passes import auto_crop, merge_splits, prepare, to_deploy
from converters.schema import LayerParameter
from parity_tests.goldens import GOLDEN

FCN8S = GOLDEN / "formats" / "fcn8s-mini.prototxt"
LAYER = 'layer {{ name: "{0}" type: "{1}" bottom: "{2}" top: "{3}" {4} }}'
CONV = "convolution_param { num_output: 3 kernel_size: 3 pad: 1 }"
TRAIN = [
    'layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } }',
    'layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST } }',
    LAYER.format("conv0", "Convolution", "data", "conv0", CONV),
    *(LAYER.format(f"conv{i}", "Convolution", f"conv{i - 1}", f"conv{i}", CONV) for i in range(1, 20)),
    'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv19" bottom: "label" top: "loss" }',
]


@pytest.fixture()
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a net has been made deployable ("deploy"), and a layer's message parsed ("parse")."""
    found: Counter[str] = Counter()

    class Parsing:
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return LayerParameter(*args, **kwargs)

        def FromString(self, raw: bytes) -> Any:
            found["parse"] += 1
            return LayerParameter.FromString(raw)

    def deploy(*args: Any, **kwargs: Any) -> NetSpec:
        found["deploy"] += 1
        return to_deploy(*args, **kwargs)

    monkeypatch.setattr(layer_module, "LayerParameter", Parsing())
    for module in modules_with(to_deploy):
        monkeypatch.setattr(module, "to_deploy", deploy)
    return found


def modules_with(function: Any) -> Iterator[Any]:
    for name, module in list(sys.modules.items()):
        if name.startswith(("converters", "fcn_port")) and getattr(module, "to_deploy", None) is function:
            yield module


@pytest.fixture()
def weights(tmp_path: Path) -> Path:
    spec = converters.parse_prototxt("\n".join(TRAIN))
    with torch.random.fork_rng():
        model = converters.from_state_dict(converters.CaffeNet(spec).state_dict(), spec)
    converters.write_caffemodel(model, tmp_path / "net.caffemodel")
    return tmp_path / "net.caffemodel"


@pytest.mark.parametrize("way", ["CaffeNet", "load", "convert", "load what was converted", "diff"])
def test_a_net_is_made_ready_once(way: str, weights: Path, tmp_path: Path, counts: Counter[str]) -> None:
    out, model = tmp_path / "net.safetensors", converters.read_caffemodel(weights)
    if way == "load what was converted":
        converters.convert(weights, out)
    counts.clear()
    if way == "CaffeNet":
        net = converters.CaffeNet(model.spec)
        net.load_state_dict(converters.to_state_dict(model, prepared=net.spec))
    elif way == "load":
        fcn_port.load(weights)
    elif way == "convert":
        converters.convert(weights, out)
    elif way == "load what was converted":
        fcn_port.load(out)
    else:
        assert not diff_nets(prepare(model.spec), converters.CaffeNet(model.spec).spec, meaning_only=True)
        counts["deploy"] -= 1  # two nets
    assert counts["deploy"] == 1
    assert counts["parse"] <= 3 * len(TRAIN)  # the layer as read, without its rules, and an Input with its shapes


def test_prepared_is_said_of_this_very_net_only() -> None:
    spec = converters.parse_prototxt("\n".join(TRAIN))
    ready = prepare(spec)
    assert ready.prepared and not spec.prepared
    assert prepare(ready) is ready
    assert ready == merge_splits(to_deploy(spec))
    assert not replace(ready, layers=ready.layers[:1]).prepared
    assert not ready.replace_layers(spec.layers).prepared
    assert prepare(ready.replace_layers(spec.layers)) == ready


def test_what_a_prepared_net_is_still_asked_for() -> None:
    spec = converters.parse_prototxt("\n".join(TRAIN))
    ready = prepare(spec)
    assert prepare(ready, input_shapes={"data": (2, 3, 9, 9)}).inputs == {"data": (2, 3, 9, 9)}
    old = converters.read_prototxt(FCN8S)
    bare = old.replace_layers(tuple(_without_offset(layer) for layer in old.layers))
    assert prepare(bare, crops=True) == prepare(prepare(bare), crops=True) == auto_crop(prepare(bare)) != prepare(bare)


def _without_offset(layer: LayerSpec) -> LayerSpec:
    message = layer.to_message()
    message.crop_param.ClearField("offset")
    return LayerSpec.from_message(message) if layer.type == "Crop" else layer


def test_nobody_changes_the_message_that_all_read(tmp_path: Path) -> None:
    """`LayerSpec.message` is parsed once, so what changes it would change the layer for everybody."""
    for path in [*sorted((GOLDEN / "layers").glob("*.prototxt")), FCN8S]:
        spec = converters.read_prototxt(path)
        net = converters.CaffeNet(spec)
        converters.write_caffemodel(converters.from_state_dict(net.state_dict(), spec), tmp_path / "net.caffemodel")
        for layer in (*spec.layers, *net.spec.layers):
            again = replace(layer).message
            assert layer.message is layer.message and layer.message == again, layer.place
            assert layer.to_message() == again and layer.to_message() is not layer.to_message()
            assert pickle.loads(pickle.dumps(layer)) == layer
