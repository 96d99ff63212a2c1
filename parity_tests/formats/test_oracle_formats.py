"""Live: the small nets in Caffe's formats, through real Caffe, are what the committed goldens say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity_tests import goldens
from parity_tests.oracle.client import CaffeAborted, Oracle, OracleError
from parity_tests.oracle.record import FORMATS, furthest, record_format
from parity_tests.oracle.server import Server
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.oracle

NETS = list(FORMATS)
WITH_H5 = [net for net, how in FORMATS.items() if not how.legacy]


def prototxt(net: str) -> str:
    return goldens.formats(f"{net}.prototxt").read_text()


@pytest.mark.parametrize(
    ("net", "ending"),
    [*((net, "caffemodel") for net in NETS), *((net, "caffemodel.h5") for net in WITH_H5)],
)
def test_forward_from_a_file_gives_the_golden(oracle: Oracle, net: str, ending: str) -> None:
    done = oracle.forward(
        prototxt(net), weights=goldens.formats(f"{net}.{ending}"), input_scale=FORMATS[net].input_scale
    )
    difference, where = furthest(done.blobs, goldens.format_blobs(net))
    assert difference <= tolerance("format-blobs"), where


@pytest.mark.parametrize("net", NETS)
def test_recording_again_gives_the_committed_files(oracle: Oracle, net: str, tmp_path: Path) -> None:
    recordings = list(record_format(oracle, net, FORMATS[net], out=tmp_path))
    assert len(recordings) == 3
    for recording in recordings:
        assert recording.ok, recording


def test_given_inputs_reach_the_net_in_their_own_shape(oracle: Oracle) -> None:
    given = np.arange(2 * 3 * 40 * 56, dtype=np.float32).reshape(2, 3, 40, 56)
    done = oracle.forward(prototxt("fcn8s-mini"), filling="random", inputs={"data": given})
    np.testing.assert_array_equal(done.blobs["data"], given)
    assert done.outputs == ("score",)
    assert done.blobs["score"].shape == (2, 7, 40, 56)


def test_another_fill_is_seen(oracle: Oracle) -> None:
    """Bilinear instead of random deconvolutions: beyond the tolerance from the first of them on, and not before."""
    golden = goldens.format_blobs("fcn8s-mini")
    done = oracle.forward(prototxt("fcn8s-mini"), filling="bilinear")
    assert goldens.compare(done.blobs["score_fr"], golden["score_fr"]) <= tolerance("format-blobs")
    assert goldens.compare(done.blobs["upscore2"], golden["upscore2"]) > 1e-2


def test_load_gives_blobs_in_the_shapes_that_the_net_needs(oracle: Oracle) -> None:
    blobs = oracle.load(prototxt("v1-mini"), goldens.formats("v1-mini.caffemodel"))
    assert {layer: [blob.shape for blob in of] for layer, of in blobs.items()} == {
        "conv1": [(8, 3, 3, 3), (8,)],
        "conv2": [(8, 4, 3, 3), (8,)],
        "fc6": [(16, 2560), (16,)],
    }


def test_shapes_at_several_sizes(oracle: Oracle) -> None:
    answer = oracle.shapes(prototxt("fcn8s-mini"), [(100, 100), (75, 122)])
    assert answer["blobs"]["100x100"] == {
        name: list(blob.shape) for name, blob in goldens.format_blobs("fcn8s-mini").items()
    }
    assert answer["blobs"]["75x122"]["score"] == [1, 7, 75, 122]
    assert [crop["offset"] for crop in answer["crops"].values()] == [[5], [9], [31]]


def test_a_fatal_check_becomes_an_exception_with_caffes_message(oracle: Oracle) -> None:
    with pytest.raises(CaffeAborted, match="Unknown layer type: Foo"):
        oracle.forward('layer { name: "a" type: "Foo" top: "a" }')
    with pytest.raises(CaffeAborted, match=r"Failed to parse[\s\S]*1:13.*no field named .nome"):
        oracle.forward('layer { nome: "a" type: "Input" }')
    with pytest.raises(CaffeAborted, match="layer 'score_fr'; shape mismatch"):
        oracle.load(prototxt("fcn8s-mini").replace("num_output: 7", "num_output: 8"), _mini_weights())


def _mini_weights() -> bytes:
    return goldens.formats("fcn8s-mini.caffemodel").read_bytes()


def test_a_question_is_bounded_and_leaves_nothing_behind(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Path] = []
    ask = Server.ask

    def spy(server: Server, job: Path, timeout: float) -> Any:
        jobs.append(job)
        assert job.is_dir()
        return ask(server, job, timeout)

    monkeypatch.setattr(Server, "ask", spy)
    with pytest.raises(OracleError, match=r"no answer within 0 s"):
        Oracle(oracle.folder, timeout=0).version()
    assert len(jobs) == 1 and not jobs[0].exists()
    assert oracle.version() == "1.0.0"  # by another process


ASKING = """
import sys
from pathlib import Path
from parity_tests.oracle import client
oracle = client.Oracle(Path(sys.argv[1]))
oracle.version()
server = client._server(oracle.folder, tuple(client._environment().items()))
assert server._own.is_dir() and server._process.poll() is None
print(server._process.pid, server._own)
"""


def test_what_answers_ends_with_the_process_that_asked(oracle: Oracle) -> None:
    command = [sys.executable, "-c", ASKING, str(oracle.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    pid, folder = done.stdout.split()
    assert not Path("/proc", pid).exists() and not Path(folder).exists()


def test_the_oracle_is_caffe_1_0(oracle: Oracle) -> None:
    assert oracle.version() == "1.0.0"
    assert b"LayerParameter" in oracle.descriptor()
