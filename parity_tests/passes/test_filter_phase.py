"""filter_phase: rules admit layers as in Caffe (net.cpp, FilterNet, StateMeetsRule; asked in test_oracle_text.py)."""

from __future__ import annotations

import pytest

from converters import NetError, parse_prototxt
from converters.passes import filter_phase
from parity_tests.passes.texts import layer, layers, net


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("", True),
        ("include { }", True),
        ("exclude { }", False),
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("exclude { phase: TRAIN }", True),
        ("include { phase: TRAIN } include { phase: TEST }", True),
        ("exclude { phase: TRAIN } exclude { min_level: 1 }", False),
        ("include { min_level: 1 max_level: 1 }", True),
        ("include { min_level: 2 }", False),
        ("include { max_level: 0 }", False),
        ('include { stage: "deploy" }', True),
        ('include { stage: "deploy" stage: "own" }', True),
        ('include { stage: "deploy" stage: "other" }', False),
        ('include { not_stage: "other" }', True),
        ('include { not_stage: "other" not_stage: "own" }', False),
        ('include { phase: TEST stage: "other" } include { phase: TEST level: 9 }', True),
    ],
)
def test_rules_admit_layers_as_in_caffe(rules: str, kept: bool) -> None:
    """In phase TEST at level 1 with the stage "deploy", of a net whose state has the stage "own"."""
    text = 'state { phase: TRAIN level: 5 stage: "own" }' + layer("a", "ReLU", more=rules) + layer("b", "ReLU")
    spec = filter_phase(parse_prototxt(text), phase="TEST", level=1, stages=["deploy"])
    assert layers(spec) == (["a", "b"] if kept else ["b"])


def test_rules_of_both_kinds_are_refused() -> None:
    with pytest.raises(NetError, match=r"layer 'a' \(ReLU, line 1\): both include and exclude rules"):
        filter_phase(net(layer("a", "ReLU", more="include { } exclude { }")))
