"""`fast` of InnerProducts along other axes than the second, as over the words of a sequence: each row by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import CaffeNet
from converters.formats import parse_prototxt
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.program import FastNet, find_bands
from parity_tests.fastpath.random_nets import filled
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

NET = """
input: "data" input_shape {{ dim: [{shape}] }}
{before}
layer {{ name: "it" type: "InnerProduct" bottom: "{bottom}" top: "it" inner_product_param {{ num_output: 37 {how} }} }}
{behind}
"""
TURNED = 'layer { name: "t" type: "Permute" bottom: "data" top: "t" permute_param { order: [0, 2, 3, 1] } }'
KINDS = {
    "of words": ("5, 3, 40", "axis: 2", ""),
    "of words, the last axis": ("5, 3, 40", "axis: -1 bias_term: false", ""),
    "of words, transposed": ("5, 3, 40", "axis: 2 transpose: true", ""),
    "of whole sequences": ("5, 3, 40", "axis: 1", ""),
    "of everything": ("2, 3, 8", "axis: 0", ""),
    "of vectors": ("6, 40", "axis: -1", ""),
    "of places whose channels come last": ("2, 24, 3, 5", "axis: 3", TURNED),
    "of rows whose channels come last": ("2, 24, 3, 5", "axis: 2", TURNED),
}
BEHIND = {
    "ReLU": 'layer { name: "next" type: "ReLU" bottom: "it" top: "it" }',
    "PReLU": 'layer { name: "next" type: "PReLU" bottom: "it" top: "it" }',
    "Scale": 'layer { name: "next" type: "Scale" bottom: "it" top: "it" scale_param { bias_term: true } }',
    "Scale, the last axis": 'layer { name: "next" type: "Scale" bottom: "it" top: "it" scale_param { axis: -1 } }',
    "BatchNorm": 'layer { name: "next" type: "BatchNorm" bottom: "it" top: "it" }',
}


def check(text: str) -> list[str]:
    """At most twice as far from double precision as the net and a little more; the names of layers by PyTorch."""
    net, exact = (filled(CaffeNet(parse_prototxt(text))).eval() for _ in range(2))
    x = torch.randn(*net.inputs["data"], generator=torch.Generator().manual_seed(3))
    plain, expected = net(x), exact.double()(x.double())
    plan = FastNet(net).program({"data": tuple(x.shape)})
    (found,) = plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32)).values()
    error, literal = (float((each - expected).abs().max()) for each in (torch.from_numpy(found), plain))
    assert error <= 2 * literal + tolerance("fast-net") * float(expected.abs().max())
    return [each.operation.name for each in plan.planned if each.is_slow]


@pytest.mark.parametrize("kind", KINDS)
def test_rows(kind: str) -> None:
    shape, how, before = KINDS[kind]
    assert not check(NET.format(shape=shape, how=how, before=before, bottom="t" if before else "data", behind=""))


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("kind", ["of words", "of whole sequences", "of vectors"])
def test_what_follows_has_its_own_axis(kind: str, behind: str) -> None:
    """Slopes and factors of the second axis are those of the words, and no part of the product's weights."""
    shape, how, _ = KINDS[kind]
    slow = check(NET.format(shape=shape, how=how, before="", bottom="data", behind=BEHIND[behind]))
    assert slow == (["it"] if kind == "of words" and behind in ("PReLU", "Scale", "BatchNorm") else [])


def test_rows_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blobs whose channels come last, which are images of one channel as well: some places of an image at a time."""
    monkeypatch.setattr(find_bands, "LARGE", 1)
    monkeypatch.setattr(find_bands, "BAND", 1)
    monkeypatch.setattr(find_bands, "LEAST", 1)
    behind = """layer { name: "relu" type: "ReLU" bottom: "it" top: "relu" }
        layer { name: "next" type: "InnerProduct" bottom: "relu" top: "next"
            inner_product_param { num_output: 9 axis: 3 } }"""
    text = NET.format(shape="2, 24, 1, 64", how="axis: 3", before=TURNED, bottom="t", behind=behind)
    assert not check(text)
