"""Live: real Caffe reads, upgrades, filters and wires made-up nets as we do."""

from __future__ import annotations

import random
import re

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st

from converters import CaffeFormatError, parse_prototxt, read_prototxt
from converters.formats.prototxt import format_prototxt
from converters.formats.text_format import format_text, parse_text
from converters.net.validate import validate
from converters.passes.filter_phase import filter_phase
from converters.schema import NetParameter
from parity_tests.formats.test_text_format import GOLDEN_TEXTS
from parity_tests.formats.test_upgrade import UPGRADE
from parity_tests.oracle.client import Oracle, OracleError
from parity_tests.text_cases import CASES
from parity_tests.text_strategies import mutations

pytestmark = pytest.mark.oracle


def upgraded(oracle: Oracle, text: str) -> str | None:
    """The net as Caffe writes it, None where it does not read it."""
    try:
        return oracle.upgrade(text)
    except OracleError:
        return None


def test_the_recorded_cases_are_what_caffe_says(oracle: Oracle) -> None:
    """Every one that is taken, in one net; a tenth of those that are refused, each in its own."""
    taken = [(text, means) for text, means in CASES.items() if means is not None]
    net = "".join(f'layer {{ name: "a" type: "T" {text}\n}}' for text, _ in taken)
    means = "".join(f'layer {{ name: "a" type: "T" {means} }}' for _, means in taken)
    found = text_format.Parse(oracle.upgrade(net), NetParameter())
    assert str(found) == str(text_format.Parse(means, NetParameter()))
    refused = [text for text, means in CASES.items() if means is None]
    for text in random.Random(0).sample(refused, len(refused) // 10):
        assert upgraded(oracle, f'layer {{ name: "a" type: "T" {text}\n}}') is None, text


@settings(max_examples=60)
@given(text=mutations(GOLDEN_TEXTS[:3]))
def test_made_up_texts_are_read_and_upgraded_alike(oracle: Oracle, text: str) -> None:
    """To the letter, but for what forks have, nets without layers or shapes, and strings beyond ASCII."""
    theirs = upgraded(oracle, text)
    try:
        spec = parse_prototxt(text)
    except CaffeFormatError as error:
        assert theirs is None or "there is no 'layer'" in str(error)
        return
    if any("not BVLC Caffe's" in note or "no shape" in note or "left out" in note for note in spec.notes):
        return
    assert theirs is not None and _plain(theirs) == _plain(format_prototxt(spec))


def _plain(text: str) -> str:
    """Without empty names, which we do not write, and with octal escapes read."""
    text = re.sub(r"(\\[0-7]{3})+", lambda m: bytes(int(c, 8) for c in m.group()[1:].split("\\")).decode(), text)
    return re.sub(r'^ *(name|type): ""\n', "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", ["v0-every-field", "v1-every-field"])
def test_the_committed_upgrades_are_caffes(oracle: Oracle, name: str) -> None:
    """Without the V0 fields that mean nothing to their type: they do not change the net, but the upgrader fails."""
    path = UPGRADE / f"{name}.prototxt"
    notes = read_prototxt(path).notes
    message = parse_text(path.read_text(), NetParameter).message
    for layer in message.layers:
        for field, _ in layer.layer.ListFields():
            note = f"layer '{layer.layer.name}': type '{layer.layer.type}' has no '{field.name}'; left out, as in Caffe"
            if note in notes:
                layer.layer.ClearField(field.name)
    assert oracle.upgrade(format_text(message)) == (UPGRADE / f"{name}.upgraded.prototxt").read_text()


INPUT = 'layer { name: "in" type: "Input" top: "a" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }\n'


@st.composite
def nets(draw: st.DrawFn) -> str:
    """Small nets whose wiring Caffe takes or refuses, and whose rules it follows in phase TEST."""
    text, blobs = 'state { phase: TRAIN stage: "own" }\n' + INPUT, ["a"]
    for index in range(draw(st.integers(1, 5))):
        kind, count = draw(st.sampled_from([("ReLU", 1), ("Eltwise", 2), ("Silence", 1)]))
        bottoms = [draw(st.sampled_from(blobs[-3:])) for _ in range(count)]
        new = f"b{index}"
        top = draw(st.sampled_from([new, new, new, bottoms[0], blobs[0]])) if kind != "Silence" else ""
        rule = draw(st.sampled_from(["", "", "", *RULES])) if kind == "Silence" or top == new else ""
        wires = "".join(f'bottom: "{blob}" ' for blob in bottoms) + (f'top: "{top}"' if top else "")
        text += f'layer {{ name: "l{index}" type: "{kind}" {wires} {rule} }}\n'
        blobs += [top] if top and top not in blobs else []
    return text


RULES = (
    "include { phase: TEST }",
    "include { phase: TRAIN }",
    "exclude { phase: TEST min_level: 0 }",
    'include { stage: "own" }',
    'include { not_stage: "own" }',
    "include { max_level: -1 } include { min_level: -3 }",
    "include { } exclude { }",
)


@settings(max_examples=40)
@given(text=nets())
def test_made_up_nets_are_filtered_and_wired_alike(oracle: Oracle, text: str) -> None:
    try:
        theirs = oracle.shapes(text, [(3, 4)])["blobs"]["3x4"]
    except OracleError:
        with pytest.raises(CaffeFormatError):
            validate(filter_phase(parse_prototxt(text)))
        return
    spec = filter_phase(parse_prototxt(text))
    validate(spec)
    assert set(theirs) == {top for layer in spec.layers for top in layer.tops}


def test_a_layer_with_a_phase_of_its_own_has_that_one(oracle: Oracle) -> None:
    """net.cpp, Init: in a net that is tested, a BatchNorm of TRAIN takes the batch's own statistics."""
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [2, 3, 4, 5] } } }
    layer { name: "own" type: "BatchNorm" bottom: "x" top: "own" phase: TRAIN }
    layer { name: "batch" type: "BatchNorm" bottom: "x" top: "batch" batch_norm_param { use_global_stats: false } }
    layer { name: "stored" type: "BatchNorm" bottom: "x" top: "stored" }"""
    blobs = oracle.forward(text, filling="zoo").blobs
    assert (blobs["own"] == blobs["batch"]).all() and (blobs["own"] != blobs["stored"]).any()
