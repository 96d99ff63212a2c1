"""Every piece of packed weights is found again as it was kept, whatever its layer and kernel; none is packed twice."""

from __future__ import annotations

import numpy as np
import pytest

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.flow import merge, read
from fcn_port.fastpath.program import self_check
from fcn_port.fastpath.program.kept_weights import Piece, Pieces
from fcn_port.fastpath.program.runner import Runner
from fcn_port.fastpath.program.weights import PackedWeights
from parity_tests.fastpath.random_nets import filled, random_net

pytestmark = pytest.mark.skipif(self_check.why_not_any() is not None, reason="no C compiler")

INPUT = 'input: "x" input_shape { dim: [1, 64, 12, 12] } '
LAYER = 'layer {{ name: "{0}" type: "{1}" bottom: "x" top: "{0}" {2}_param {{ {3} }} }} '
DECONVOLUTIONS = (
    "num_output: 5 kernel_size: 4 stride: 2", "num_output: 40 kernel_size: 3 stride: 3 pad: 1 bias_term: false",
    "num_output: 64 kernel_size: 4 stride: 2 group: 64", "num_output: 66 kernel_size: 2 stride: 2 group: 2",
    "num_output: 8 kernel_size: 1 stride: 2 group: 8",
)  # fmt: skip
CONVOLUTIONS = (
    "num_output: 66 kernel_size: 3 pad: 1 group: 2", "num_output: 64 kernel_size: 1 group: 32",
    "num_output: 64 kernel_size: 3 group: 64", "num_output: 36 kernel_size: 5 pad: 2 bias_term: false",
    "num_output: 33 kernel_size: 7 pad: 3", "num_output: 130 kernel_size: 1", "num_output: 20 kernel_h: 3 kernel_w: 1",
)  # fmt: skip
BEHIND = (
    "",
    'layer {{ name: "n{0}" type: "BatchNorm" bottom: "{0}" top: "{0}" }} ',
    'layer {{ name: "r{0}" type: "PReLU" bottom: "{0}" top: "{0}" }} ',
)
TRIED = (None, *self_check.TRIED)


class Kept:
    """Pieces in memory, as KeptWeights has them on disk."""

    def __init__(self) -> None:
        self.pieces: dict[str, Piece] = {}

    def get(self, name: str) -> Piece | None:
        return self.pieces.get(name)

    def add(self, pieces: Pieces) -> None:
        assert not pieces.keys() & self.pieces.keys()
        self.pieces.update(pieces)


def layers_of_all_kinds() -> CaffeNet:
    kinds = [("Deconvolution", each) for each in DECONVOLUTIONS] + [("Convolution", each) for each in CONVOLUTIONS]
    text = ""
    for number, (kind, settings) in enumerate(kinds):
        for way, behind in enumerate(BEHIND):
            name = f"l{number}_{way}"
            text += LAYER.format(name, kind, "convolution", settings) + behind.format(name)
    text += LAYER.format("i", "InnerProduct", "inner_product", "num_output: 40") + BEHIND[2].format("i")
    return filled(CaffeNet(parse_prototxt(INPUT + text)))


@pytest.mark.parametrize("prefer", TRIED)
@pytest.mark.parametrize("net", ["all kinds", 1, 6])
def test_none_is_packed_twice(net: str | int, prefer: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = random_net(net) if isinstance(net, int) else layers_of_all_kinds()
    flow, kept = merge(read(made.spec, made.outputs)), Kept()
    state = {key: value.numpy() for key, value in made.state_dict().items()}
    random = np.random.default_rng(0)
    inputs = {name: random.standard_normal(shape).astype(np.float32) for name, shape in made.inputs.items()}
    first, second = (Runner(flow, state, prefer=prefer, kept=kept) for _ in range(2))  # type: ignore[arg-type]
    expected = first.run(inputs, 1)
    assert kept.pieces
    monkeypatch.setattr(PackedWeights, "_pack", lambda *about: pytest.fail(f"{about[1].name} is packed again"))
    assert all(np.array_equal(value, expected[name]) for name, value in second.run(inputs, 1).items())
