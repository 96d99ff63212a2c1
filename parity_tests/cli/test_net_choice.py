"""--input, --phase, --stage and --level on the verbs that take nets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from converters import CaffeNet, NetError, from_state_dict, parse_prototxt, to_deploy, write_caffemodel
from converters.passes import choosing, prepare
from fcn_port.cli import run
from fcn_port.cli.program import cli
from fcn_port.training import task_of
from parity_tests.goldens import GOLDEN

NET = """
layer { name: "train" type: "Data" top: "data" top: "label" include { stage: "train" } }
layer { name: "deploy" type: "Input" top: "data" include { stage: "deploy" } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "deep" type: "ReLU" bottom: "conv" top: "deep" include { min_level: 2 stage: "deploy" } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" include { stage: "train" } }
"""
VERBS = (
    "convert",
    "diff",
    "edges",
    "evaluate",
    "export",
    "fcn-score",
    "inspect",
    "predict",
    "report",
    "serve",
    "surgery",
)
VERBS += ("surgery", "trace", "verify")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_takes_nets_has_the_options(verb: str) -> None:
    command = cli.commands.get(verb) or cli.get_command(None, verb)  # type: ignore[arg-type]
    assert command is not None
    names = {name for parameter in command.params for name in parameter.opts}
    assert {"--input", "--phase", "--stage", "--level"} <= names


def test_training_takes_the_training_phase_of_the_stages_that_are_chosen() -> None:
    command = cli.get_command(None, "train")  # type: ignore[arg-type]
    assert command is not None
    names = {name for parameter in command.params for name in parameter.opts}
    assert {"--input", "--stage", "--level"} <= names and "--phase" not in names
    data = 'layer { name: "d" type: "Data" top: "data" top: "label" }\n'
    text = data + NET[NET.index('layer { name: "conv"') :].replace('stage: "train"', 'stage: "s" min_level: 3')
    with choosing(stages=("s",), level=3):
        assert [loss.name for loss in task_of(parse_prototxt(text)).losses] == ["loss"]
    with pytest.raises(NetError):
        task_of(parse_prototxt(text))


def _inspected(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert run(["inspect", *arguments, "--json"]) == 0
    rows = json.loads(capfd.readouterr().out)["layers"]
    return {row["layer"]: row["shapes"][0] for row in rows}


def test_what_is_chosen_is_taken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    assert _inspected(capfd, str(path), "--stage", "deploy", "--input", "data=2x3x30x40") == {
        "deploy": [2, 3, 30, 40],
        "conv": [2, 2, 28, 38],
    }
    assert "deep" in _inspected(capfd, str(path), "--stage", "deploy", "--level", "2")
    assert "train" in _inspected(capfd, str(path), "--stage", "train", "--phase", "train")
    assert prepare(parse_prototxt(NET)).layers[0].name == "deploy", "and nothing of it holds afterwards"


def test_trace_takes_the_size_of_a_chosen_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    chosen = ["--stage", "deploy", "--input", "data=1x3x30x40"]
    assert run(["trace", str(tmp_path / "net.prototxt"), *chosen, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["blobs"]["conv"] == [1, 2, 28, 38]


def test_an_input_that_the_net_does_not_have(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    assert run(["trace", str(tmp_path / "net.prototxt"), "--input", "picture=1x3x30x40"]) == 2
    assert "no input 'picture'" in capfd.readouterr().err
    for wrong in ("data", "data=", "data=1x0", "data=axb", "=1x3"):
        assert run(["trace", str(tmp_path / "net.prototxt"), "--input", wrong]) == 2
        assert "data=1x3x300x300" in capfd.readouterr().err


def test_weights_of_a_net_that_is_several_in_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spec = parse_prototxt(NET)
    model = from_state_dict(CaffeNet(to_deploy(spec, stages=["deploy"])).state_dict(), spec)
    write_caffemodel(model, tmp_path / "net.caffemodel")
    out = str(tmp_path / "net.safetensors")
    arguments = ["convert", str(tmp_path / "net.caffemodel"), "-o", out, "--input", "data=1x3x20x21", "--level", "2"]
    assert run([*arguments, "--stage", "deploy"]) == 0
    capfd.readouterr()
    assert _inspected(capfd, out) == {"deploy": [1, 3, 20, 21], "conv": [1, 2, 18, 19], "deep": [1, 2, 18, 19]}


def test_missing_stages_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = NET.replace('include { stage: "deploy" } }', 'include { stage: "deploy" min_level: 7 } }').replace(
        'bottom: "conv" top: "deep"', 'bottom: "nothing" top: "deep"'
    )
    (tmp_path / "net.prototxt").write_text(text.replace('include { stage: "train" } }', 'include { stage: "both" } }'))
    assert run(["inspect", str(tmp_path / "net.prototxt"), "--stage", "none"]) == 3
    error = capfd.readouterr().err
    assert "its bottom 'data' is made by layer 'train'" in error and "stage: both" in error and "--stage" in error


def test_a_warning_is_said_once_and_of_one_layer_as_of_one(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(GOLDEN / "formats" / "layer-zoo-1.caffemodel")]) == 0
    error = capfd.readouterr().err
    assert error.count("use_global_stats") == 1 and "warning: the BatchNorm layer 'bn_batch' says" in error


def test_a_name_that_is_near_none_gets_the_next_step_and_no_list(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "qqqqzzz"]) == 2
    error = capfd.readouterr().err
    assert "`fcn-port releases`" in error and "net.caffemodel" in error and len(error) < 200
