"""auto_crop: offsets that crops lack, derived; what has none is in net/test_coord_map.py."""

from __future__ import annotations

from converters.formats.prototxt import parse_prototxt
from converters.net import crops_of
from converters.passes import auto_crop
from parity_tests.goldens import formats


def test_auto_crop_finds_the_offsets_again_and_touches_no_other() -> None:
    text = formats("fcn8s-mini.prototxt").read_text()
    bare = text.replace("offset: 5", "").replace("offset: 31", "")
    spec = parse_prototxt(bare)
    assert crops_of(spec) == {"score_pool4c": (0,), "score_pool3c": (9,), "score": (0,)}
    found = auto_crop(spec)
    assert crops_of(found) == {"score_pool4c": (5,), "score_pool3c": (9,), "score": (31,)}
    assert auto_crop(found) == found
    wrong = parse_prototxt(bare.replace("offset: 9", "offset: 8"))
    assert crops_of(auto_crop(wrong))["score_pool3c"] == (8,)
