"""A net as a graph: edges come from who wrote a blob last, overlays say what other parts of the project say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from converters import parse_prototxt
from converters.net import iter_layer_shapes
from converters.passes import prepare
from fcn_port.cli import run
from fcn_port.loading import load
from fcn_port.view import costs, milliseconds, parity, to_graph
from parity_tests.goldens import SAMPLE_GOLDEN
from parity_tests.verbs import SAMPLE

PROTOTXT = SAMPLE.replace(".caffemodel", ".prototxt")

HOSTILE = "<img src=x onerror=alert(1)>\u202e\n/../b"
NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } }
layer { name: "block/a/conv" type: "Convolution" bottom: "data" top: "x"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "block/a/relu" type: "ReLU" bottom: "x" top: "x" }
layer { name: "same" type: "ReLU" bottom: "x" top: "y" }
layer { name: "same" type: "Eltwise" bottom: "x" bottom: "y" top: "sum" }
layer { name: "%s" type: "InnerProduct" bottom: "sum" top: "out" inner_product_param { num_output: 2 } }
"""


@pytest.fixture(scope="module")
def spec() -> Any:
    return prepare(parse_prototxt(NET % HOSTILE.replace("\n", "\\n")))


def test_edges_come_from_who_wrote_a_blob_last(spec: Any) -> None:
    graph = to_graph(spec, spec.inputs, name="net")
    edges = {node["id"]: [edge["sourceNodeId"] for edge in node["incomingEdges"]] for node in graph["nodes"]}
    assert edges == {"0": [], "1": ["0"], "2": ["1"], "3": ["2"], "4": ["2", "3"], "5": ["4"], "output 5 0": ["5"]}
    assert len({node["id"] for node in graph["nodes"]}) == len(graph["nodes"]), "two layers are called same"


def test_nodes_say_shapes_settings_and_groups(spec: Any) -> None:
    conv = to_graph(spec, spec.inputs, name="net")["nodes"][1]
    assert (conv["namespace"], conv["label"]) == ("block/a", "conv")
    attrs = {each["key"]: each["value"] for each in conv["attrs"]}
    assert attrs["top"] == "x 1x4x6x6" and attrs["blob 0"] == "4x3x3x3" and attrs["parameters"] == "112"
    assert "num_output: 4" in attrs["convolution_param"] and attrs["multiply-adds"] == f"{4 * 36 * 27:,}"
    assert conv["outputsMetadata"][0]["attrs"][1] == {"key": "shape", "value": "1x4x6x6"}


def test_names_are_seen_and_do_nothing(spec: Any) -> None:
    text = json.dumps(to_graph(spec, spec.inputs, name=HOSTILE), ensure_ascii=False)
    assert "\u202e" not in text and "\\u202e" in text
    node = to_graph(spec, spec.inputs, name="net")["nodes"][5]
    assert node["namespace"].count("/") <= 4


def test_shares_are_those_of_the_shapes(spec: Any) -> None:
    work, tops, weights = costs(spec, spec.inputs)
    for each in (work, tops, weights):
        assert sum(each.values.values()) == pytest.approx(100)
    found = list(iter_layer_shapes(spec, spec.inputs))
    macs = [each.macs for each in found]
    assert work.values == {i: pytest.approx(100 * n / sum(macs)) for i, n in enumerate(macs) if n}
    assert 2 not in tops.values, "a layer in place has no top of its own"
    assert tops.values[0] / tops.values[1] == pytest.approx((3 * 64) / (4 * 36))


def test_a_blob_s_distance_is_at_the_layer_that_wrote_it_last(spec: Any) -> None:
    overlay = parity(spec, {"x": 1e-7, "out": float("inf"), "no such blob": 1.0})
    assert overlay.values[2] == 1e-7 and overlay.values.keys() == {2, 5}
    results = json.loads(json.dumps(overlay.to_json(), allow_nan=False))["results"]
    assert results["5"]["value"] > 1e6


def test_every_step_of_the_plan_has_a_time() -> None:
    net = load(SAMPLE)
    spec = prepare(net.spec)
    inputs = {"data": (1, 3, 32, 32)}
    found = milliseconds(net, spec, inputs, repeats=1)
    names = {spec.layers[index].name for index in found.values}
    assert {"conv1_1", "fc6", "upscore8"} <= names and "relu1_1" not in names
    assert all(value > 0 for value in found.values.values())


def test_files_for_model_explorer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a" / "net.json"
    assert run(["view", SAMPLE, "--golden", str(SAMPLE_GOLDEN), "--size", "100x60", "-o", str(out)]) == 0
    (graph,) = json.loads(out.read_text())
    assert graph["nodes"][0]["outputsMetadata"][0]["attrs"][1]["value"] == "1x3x100x60"
    found = {path.name for path in out.parent.iterdir()}
    assert found == {"net.json"} | {
        f"net.{name}.json" for name in ("multiply-adds", "blob-memory", "weight-memory", "parity")
    }
    errors = json.loads((out.parent / "net.parity.json").read_text())[graph["id"]]["results"]
    assert len(errors) > 20 and max(each["value"] for each in errors.values()) < 5e-6


def test_netron_shows_the_net_at_the_size_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from fcn_port.cli import view
    from fcn_port.view import viewers

    shown: list[str] = []
    monkeypatch.setattr(view, "require", lambda *_, **__: None)
    monkeypatch.setattr(viewers, "open_netron", lambda path, **_: shown.append(path.read_text()))
    assert run(["view", SAMPLE, "--viewer", "netron", "--size", "100x60", "--port", "1"]) == 0
    assert prepare(parse_prototxt(shown[0])).inputs == {"data": (1, 3, 100, 60)}


@pytest.mark.parametrize("given, status, said", [
    (["no-such"], 2, "no release called"),
    (["missing.prototxt"], 2, "no such file"),
    ([SAMPLE, "--viewer", "netron", "-o", "net.json"], 2, "--out writes a file for Model Explorer"),
    ([SAMPLE, "--viewer", "netron", "--time"], 2, "--time needs --viewer model-explorer"),
    ([SAMPLE, "--time", "--size", "9999999x9999999", "-o", "x.json"], 1, "the inputs alone take 1.2 PB; this"),
    ([PROTOTXT, "--time"], 2, "--time runs the net, and"),
    ([PROTOTXT, "--golden", SAMPLE, "-o", "x.json"], 2, "is its definition without weights"),
    ([SAMPLE, "--size", "0x3", "-o", "x.json"], 2, "is not a size"),
    ([SAMPLE, "--golden", SAMPLE, "-o", "x.json"], 3, "not an .npz"),
])  # fmt: skip
def test_wrong_use_is_told(
    given: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from fcn_port.cli import view

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(view, "require", lambda *_, **__: None)
    assert run(["view", *given]) == status
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_is_missing_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from converters.export import checking

    monkeypatch.setattr(checking, "find_spec", lambda name: None)
    assert run(["view", SAMPLE, "--viewer", "model-explorer"]) == 1
    assert "pip install 'fcn-port[view]'" in capsys.readouterr().err


def test_model_explorer_opens_caffe_s_files_by_itself(tmp_path: Path) -> None:
    explorer = pytest.importorskip("model_explorer", reason="the extra `view`")
    from fcn_port.view.main import CaffeAdapter

    assert issubclass(CaffeAdapter, explorer.Adapter) and "prototxt" in CaffeAdapter.metadata.fileExts
    path = tmp_path / "net.prototxt"
    path.write_text(NET % "fc")
    (graph,) = CaffeAdapter().convert(str(path), {})["graphs"]
    assert [node.label for node in graph.nodes] == ["data", "conv", "relu", "same", "same", "fc", "output out"]
    assert graph.nodes[4].incomingEdges[1].sourceNodeId == "3"
