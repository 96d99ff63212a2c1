"""Passes take any net, settle, and leave a valid one valid."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from converters import NetError, parse_prototxt, to_deploy
from converters.net.validate import validate
from converters.passes.merge_splits import merge_splits
from parity_tests.passes.texts import layer

KINDS = ("ReLU", "Convolution", "SoftmaxWithLoss", "Data", "Silence", "Split", "Accuracy", "Input", "Concat")
COMPUTING = {"ReLU", "Convolution", "Split", "Concat"}


@st.composite
def wired(draw: st.DrawFn) -> str:
    """A net of up to ten layers, nearly always wired as Caffe wants it; no copy of a Split changes in place."""
    blobs, texts = ["a"], ['input: "a"\n']
    for index in range(draw(st.integers(0, 10))):
        kind = draw(st.sampled_from(KINDS))
        sources = 0 if kind in ("Data", "Input") else draw(st.integers(1, 2))
        bottoms = [draw(st.sampled_from(blobs[-4:])) for _ in range(sources)]
        copy = "copy" if kind == "Split" else ""
        tops = [f"{copy}{index}_{i}" for i in range(0 if kind == "Silence" else draw(st.integers(1, 2)))]
        if kind == "ReLU" and not bottoms[0].startswith("copy") and draw(st.booleans()):
            bottoms = tops = bottoms[:1]
        blobs += tops
        texts.append(layer(f"l{index}" + "_split" * (kind == "Split"), kind, " ".join(bottoms), " ".join(tops)))
    return "".join(texts)


@settings(max_examples=500)
@given(text=wired())
def test_passes_take_any_net_and_settle(text: str) -> None:
    """A second time changes nothing, and what is left of a valid net is valid."""
    spec = parse_prototxt(text)
    merged = merge_splits(spec)
    try:
        deploy = to_deploy(spec)
    except NetError:  # nothing was left
        assert COMPUTING.isdisjoint(layer.type for layer in spec.layers)
        return
    assert to_deploy(deploy) == deploy
    assert merge_splits(merged) == merged
    assert all(deploy.inputs.values())
    assert not [left for left in deploy.layers if left.type in ("Data", "SoftmaxWithLoss", "Accuracy")]
    try:
        validate(spec)
    except NetError:
        return
    validate(deploy)
    validate(merged)
    assert set(merged.outputs) == set(spec.outputs)
