"""Live: the prototxts of our own nets, through real Caffe, give the recorded numbers again."""

from __future__ import annotations

from pathlib import Path

import pytest

from fcn_port.nets import NETS
from parity_tests import goldens
from parity_tests.goldens import GoldenId
from parity_tests.oracle.client import Oracle
from parity_tests.oracle.record import prototxt_of, record_pass

pytestmark = pytest.mark.oracle

RECORDED = [id_ for id_ in goldens.golden_ids() if id_.net.removesuffix("-deploy") in NETS]


@pytest.mark.parametrize("id_", RECORDED, ids=str)
def test_recording_a_pass_again_gives_the_golden(oracle: Oracle, id_: GoldenId, tmp_path: Path) -> None:
    prototxt = prototxt_of(id_.net)
    assert prototxt is not None
    recordings = list(record_pass(oracle, id_, prototxt, out=tmp_path))
    assert [recording.file for recording in recordings] == [f"caffe/{id_}.json", f"caffe/{id_}.npz"]
    assert all(recording.ok for recording in recordings), recordings


@pytest.mark.parametrize("name", NETS)
def test_caffe_gives_the_net_the_recorded_shapes(oracle: Oracle, name: str) -> None:
    expected = goldens.shapes()[name]
    sizes = list(expected.blobs)[:3]
    prototxt = prototxt_of(name)
    assert prototxt is not None
    found = oracle.shapes(prototxt, sizes)
    assert {layer: tuple(map(tuple, blobs)) for layer, blobs in found["params"].items()} == dict(expected.params)
    for size in sizes:
        blobs = found["blobs"][f"{size[0]}x{size[1]}"]
        assert {blob: tuple(shape) for blob, shape in blobs.items()} == dict(expected.blobs[size])
