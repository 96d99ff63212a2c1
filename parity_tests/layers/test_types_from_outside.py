"""A type that somebody registers: where it says enough it works everywhere; where not, it is refused by its name.

`Spoken` says everything of itself that others ask; `Silent` computes the same, with a shape rule and forward only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from converters import CaffeNet, NetError, from_state_dict, parse_prototxt, read_caffemodel, to_state_dict
from converters.diff import diff_nets
from converters.export import ExportError, python_source, write_caffe
from converters.export.indices import index_inputs
from converters.export.python import Form, Site
from converters.export.tracing import traced
from converters.net import Layer, LayerSpec, NetSpec, Reach, Shape, Window, derive_crops, iter_layer_shapes
from converters.net.layer import all_layers, register_layer
from converters.passes import prepare
from fcn_port.predict.tiles import tiling_along
from fcn_port.training.fillers import fillers_of
from fcn_port.training.initial import begin


class Silent(Layer):
    """The mean over 3x3 pixels, times a learned factor."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    @classmethod
    def parse(cls, spec: LayerSpec) -> Layer:
        return cls(spec.message.scale_param.filler.value)

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return (bottoms[0],)

    def blob_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((1,),)

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return (torch.nn.functional.avg_pool2d(bottoms[0], 3, 1, 1) * blobs[0],)


@dataclass(frozen=True)
class Spoken(Layer):
    factor: float

    parse = classmethod(Silent.parse.__func__)  # type: ignore[attr-defined]
    top_shapes = Silent.top_shapes
    blob_shapes = Silent.blob_shapes
    forward = Silent.forward

    def reach(self, *, axis: int, bottom: int = 0, top: int = 0) -> Reach | None:
        return Window(3, pad=1)

    def channels(self, bottoms: Sequence[int]) -> tuple[int, ...] | None:
        return (bottoms[0],)

    def filler_fields(self) -> tuple[str, ...]:
        return ("scale_param.filler",)

    def macs(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return 9

    def to_python(self, site: Site) -> Form:
        return Form((f"F.avg_pool2d({site.x}, 3, 1, 1) * {site.blobs[0]}",))


class Mute(Layer):
    """Nothing at all."""


@dataclass(frozen=True)
class Places(Layer):
    """A row of a table of eight for each number."""

    def top_shapes(self, bottoms: Sequence[Shape]) -> tuple[Shape, ...]:
        return ((*bottoms[0], 1),)

    def index_limits(self, bottoms: Sequence[Shape]) -> dict[int, int]:
        return {0: 8}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converters.net.layer._types", dict(all_layers()))
    for layer_class in (Silent, Spoken, Mute, Places):
        register_layer(layer_class.__name__)(layer_class)


TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 5 dim: 12 dim: 12 } } }
layer { name: "own" type: "TYPE" bottom: "data" top: "own" scale_param { filler { type: "constant" value: 3 } } }
layer { name: "conv" type: "Convolution" bottom: "own" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "crop" type: "Crop" bottom: "data" bottom: "conv" top: "cut" crop_param { axis: 2 offset: 1 } }
"""
DATA = 'layer { name: "data" type: "Data" top: "data" }\n'


def net(kind: str, *, data: bool = False, crops: bool = True) -> NetSpec:
    text = TEXT.replace("TYPE", kind)
    text = DATA + text[text.index('layer { name: "own"') :] if data else text
    return parse_prototxt(text if crops else text[: text.index('layer { name: "crop"')])


def use(user: str, kind: str, folder: Path) -> object:
    """What a user of layers makes of a net with a layer of this type."""
    spec = net(kind)
    if user == "coord_map":
        return derive_crops(spec)[0].derived
    if user == "auto crop":
        message = spec.layer("crop").to_message()
        message.crop_param.ClearField("offset")
        bare = spec.replace_layers((*spec.layers[:-1], LayerSpec.from_message(message)))
        return list(prepare(bare, crops=True).layer("crop").message.crop_param.offset)
    if user == "tiles":
        tiling = tiling_along(net(kind, crops=False), 0)
        return tiling.before, tiling.after
    if user == "to_deploy":
        deploy = prepare(net(kind, data=True, crops=False), blobs={"conv": (torch.zeros(2, 5, 3, 3).numpy(),)})
        if deploy.inputs["data"][1] != 5:
            raise NetError(deploy.notes[0])
        return deploy.inputs["data"][1]
    if user == "fillers":
        trained = CaffeNet(spec)
        begin(trained, trained.spec, seed=1)
        return trained.state_dict()["own.weight"].tolist()
    if user == "python":
        return "avg_pool2d" in python_source(spec)
    raise AssertionError(user)


USERS = {
    "coord_map": (1, 1),
    "auto crop": [1],
    "tiles": (1, 3),
    "to_deploy": 5,
    "fillers": [3.0],
    "python": True,
}


@pytest.mark.parametrize("user", USERS)
def test_a_type_that_says_everything_works(user: str, tmp_path: Path) -> None:
    assert use(user, "Spoken", tmp_path) == USERS[user]


def test_channels_that_a_type_does_not_say_follow_from_its_shapes(tmp_path: Path) -> None:
    assert use("to_deploy", "Silent", tmp_path) == 5


@pytest.mark.parametrize("user", [user for user in USERS if user != "to_deploy"])
def test_a_type_that_says_nothing_is_refused_by_its_name(user: str, tmp_path: Path) -> None:
    with pytest.raises((NetError, ValueError), match=r"\bSilent\b"):
        use(user, "Silent", tmp_path)


@pytest.mark.parametrize("kind", ["Silent", "Spoken"])
def test_what_needs_a_shape_rule_and_forward_only(kind: str, tmp_path: Path) -> None:
    spec = net(kind)
    caffe_net = CaffeNet(spec)
    x = torch.randn(1, 5, 12, 12)
    with torch.no_grad():
        caffe_net.own.weight.fill_(2)
        expected = torch.nn.functional.avg_pool2d(x, 3, 1, 1) * 2
        assert torch.equal(caffe_net.blobs(x)["own"], expected)
    assert {row.layer.name: row.macs for row in iter_layer_shapes(spec)}["own"] == (9 if kind == "Spoken" else 0)
    write_caffe(spec, caffe_net.state_dict(), tmp_path / "net.caffemodel")
    model = read_caffemodel(tmp_path / "net.caffemodel")
    again = CaffeNet(model.spec)
    again.load_state_dict(to_state_dict(from_state_dict(to_state_dict(model), spec)))
    assert torch.equal(again.state_dict()["own.weight"], torch.tensor([2.0]))
    for meaning_only in (True, False):
        assert not diff_nets(spec, model.spec, meaning_only=meaning_only)
        message = spec.layers[1].to_message()
        message.scale_param.filler.value = 4
        other = spec.replace_layers((spec.layers[0], LayerSpec.from_message(message), *spec.layers[2:]))
        assert "own" in str(diff_nets(spec, other, meaning_only=meaning_only)[0])


class Odd(Silent):
    """Refuses to be traced: what it does hangs on numbers."""

    def forward(
        self, bottoms: Sequence[Tensor], blobs: Sequence[Tensor], *, training: bool = False
    ) -> tuple[Tensor, ...]:
        return super().forward(bottoms, blobs) if bool(bottoms[0].sum() > 0) else (bottoms[0],)


def test_torch_export_names_the_layer_that_it_cannot_trace() -> None:
    register_layer("Odd")(Odd)
    plain = (
        'layer { name: "a" type: "ReLU" bottom: "data" top: "a" } layer { name: "b" type: "TanH" bottom: "a" top: "b" }'
    )
    text = TEXT.replace("TYPE", "Odd").replace('bottom: "data" top: "own"', 'bottom: "b" top: "own"')
    spec = parse_prototxt(text.replace('layer { name: "own"', f'{plain} layer {{ name: "own"'))
    with pytest.raises(ExportError, match=r"layer 'own' \(Odd, line 3\): torch\.export cannot trace"):
        traced(CaffeNet(spec), {"data": torch.zeros(1, 5, 12, 12)}, any_size=False)


def test_what_an_index_counts_is_asked_of_the_layer() -> None:
    text = TEXT[: TEXT.index('layer { name: "own"')] + 'layer { name: "at" type: "Places" bottom: "data" top: "at" }'
    spec = parse_prototxt(text)
    assert index_inputs(spec, spec.inputs) == {"data": 8}


def test_a_type_without_a_shape_rule_is_refused_by_its_name() -> None:
    with pytest.raises(NetError, match=r"layer 'own' \(Mute.*\n.*top_shapes"):
        CaffeNet(net("Mute"))


def test_every_type_that_multiplies_by_what_it_learned_counts_it() -> None:
    from parity_tests.layers.test_what_layers_say import examples

    for example in examples().values():
        if example.params.learns and example.spec.type not in ("Bias", "Embed", "Parameter"):
            bottoms = [tuple(bottom.shape) for bottom in example.bottoms]
            assert example.params.macs(bottoms, example.params.top_shapes(bottoms)) > 0, example.spec.place


def test_every_filler_that_a_layer_names_is_one() -> None:
    from converters.schema import LayerParameter
    from parity_tests.layers.test_what_layers_say import examples

    for example in examples().values():
        fields = example.params.filler_fields()
        assert fields is not None, example.spec.place
        for path in fields:
            settings, _, field = path.partition(".")
            if settings in LayerParameter.DESCRIPTOR.fields_by_name:  # else a fork's message
                assert getattr(getattr(LayerParameter(), settings), field).DESCRIPTOR.name == "FillerParameter"
        assert fillers_of(example.spec).keys() <= {*range(len(fields))}


def filled_by_a_fork(filler: str) -> LayerSpec:
    text = f"denseblock_param {{ numTransition: 1 initChannel: 3 growthRate: 2 Filter_Filler {{ {filler} }} }}"
    return parse_prototxt(f'{DATA}layer {{ name: "b" type: "DenseBlock" bottom: "data" top: "b" {text} }}').layer("b")


def test_the_filler_of_a_forks_message_is_read() -> None:
    filler = fillers_of(filled_by_a_fork('type: "msra" variance_norm: AVERAGE std: 2 sparse: 3'))[0]
    assert (filler.type, filler.variance_norm, filler.std, filler.sparse) == ("msra", 2, 2.0, 3)


@pytest.mark.parametrize("filler", ["colour: 3", "type: 3", 'std: "wide"', "variance_norm: SIDEWAYS", "sparse: 1.5"])
def test_what_is_wrong_in_a_forks_filler_is_named(filler: str) -> None:
    with pytest.raises(NetError, match=rf"layer 'b'.*a filler's {filler.partition(':')[0]} is"):
        fillers_of(filled_by_a_fork(filler))


def test_the_filler_of_a_bias_that_is_the_only_blob() -> None:
    """With two bottoms Scale's first blob is its bias (scale_layer.cpp), which position 1 was taken for once."""
    spec = parse_prototxt(
        TEXT[: TEXT.index('layer { name: "own"')]
        + """
        layer { name: "twice" type: "Scale" bottom: "data" bottom: "data" top: "twice"
          scale_param { axis: 0 bias_term: true bias_filler { type: "constant" value: 3 } } }
        """
    )
    trained = CaffeNet(spec)
    begin(trained, trained.spec, seed=1)
    assert (trained.state_dict()["twice.weight"] == 3).all()
