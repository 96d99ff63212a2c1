"""--input, --phase, --stage and --level on the verbs that take nets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from converters import CaffeNet, NetError, from_state_dict, parse_prototxt, to_deploy, write_caffemodel
from converters.passes import choosing, prepare
from fcn_port.cli import run
from fcn_port.cli.program import cli
from fcn_port.cli.surgery import states_to_begin_with
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


PICTURE = ["picture.png", "--mean", "1,2,3"]


def test_a_device_without_numbers(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The labels could not be read off it: a traceback."""
    Image.new("RGB", (50, 40)).save(tmp_path / PICTURE[0])
    given = [_weights(IMAGES, tmp_path), str(tmp_path / PICTURE[0]), "--mean", "1,2,3", "--device", "meta"]
    assert run(["predict", *given]) == 2
    assert "'meta' holds shapes and no numbers" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("command", "size", "told"),
    [(["predict", *PICTURE], 64, True), (["predict", *PICTURE], 0, False), (["trace"], 64, False),
     (["serve", "--mean", "1,2,3", "--port", "0", "--check"], 64, True)],
)  # fmt: skip
def test_a_shape_that_changes_nothing_is_told(
    command: list[str], size: int, told: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of a net that labels images of any size, each at its own."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40)).save("picture.png")
    verb, *rest = command
    given = ["--input", f"data=1x3x{size}x{size}"] if size else []
    assert run([verb, _weights(IMAGES, tmp_path), *rest, *given]) == 0
    assert capfd.readouterr().err.count("--input changes nothing") == told


def test_an_input_that_the_net_does_not_have(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.prototxt").write_text(NET)
    assert run(["trace", str(tmp_path / "net.prototxt"), "--input", "picture=1x3x30x40"]) == 2
    assert "no input 'picture'" in capfd.readouterr().err
    for wrong in ("data", "data=", "data=1x0", "data=axb", "=1x3"):
        assert run(["trace", str(tmp_path / "net.prototxt"), "--input", wrong]) == 2
        assert "data=1x3x300x300" in capfd.readouterr().err
    assert run(["trace", str(tmp_path / "net.prototxt"), "--level", "99999999999999999999"]) == 2
    assert "32 bits" in capfd.readouterr().err


VECTORS = """
input: "data" input_shape { dim: 1 dim: 10 }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }
"""
IMAGES = """
input: "data" input_shape { dim: 1 dim: 3 dim: 40 dim: 40 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 2 kernel_size: 3 } }
"""
FROM_FILES = (["inspect"], ["trace"], ["view", "-o", "x"], ["report", "-o", "x"], ["convert", "-o", "x.pth"],
              ["export", "--to", "onnx", "-o", "x"], ["publish", "x"])  # fmt: skip


def _weights(text: str, folder: Path) -> str:
    spec = parse_prototxt(text)
    write_caffemodel(from_state_dict(CaffeNet(spec).state_dict(), spec), folder / "net.caffemodel")
    return str(folder / "net.caffemodel")


@pytest.mark.parametrize(
    ("text", "given", "says"),
    [
        (VECTORS, "data=1x11", "layer 'fc' has weights 3x10; with the input data 1x11 they would be 3x11"),
        (VECTORS, "data=11", "with the input data 11: axis 1 of a blob with 1 axes"),
        (IMAGES, "data=1x4x40x40", "has weights 2x3x3x3; with the input data 1x4x40x40 they would be 2x4x3x3"),
        (IMAGES, "data=1x3x40", "with the input data 1x3x40 they would be 2x3x3"),
        (IMAGES, "data=1x3x2x2", "with the input data 1x3x2x2: top 'conv' would be"),
        (IMAGES, "picture=1x3x40x40", "no input 'picture'"),
    ],
)
@pytest.mark.parametrize("command", FROM_FILES, ids=" ".join)
def test_a_chosen_shape_that_is_not_for_the_net_is_wrong_use(
    command: list[str], text: str, given: str, says: str, tmp_path: Path,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """And the file, of which nothing is wrong, is not said to be a bad one."""
    monkeypatch.chdir(tmp_path)
    verb, *options = command
    assert run([verb, _weights(text, tmp_path), *options, "--input", given]) == 2
    err = capfd.readouterr().err
    assert says in err and "data" in err.splitlines()[-1], "what the net takes stands there"
    assert [path.name for path in tmp_path.iterdir()] == ["net.caffemodel"]


def test_a_fault_of_the_file_is_not_put_down_to_the_choice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, other = _weights(IMAGES, tmp_path), tmp_path / "other.prototxt"
    other.write_text(IMAGES.replace("num_output: 2", "num_output: 5"))
    assert run(["convert", path, "--prototxt", str(other), "--input", "data=1x3x50x50"]) == 3
    assert "found (2, 3, 3, 3)" in capfd.readouterr().err


@pytest.mark.parametrize("command", [*FROM_FILES[:4], FROM_FILES[5], ["export", "--to", "torch-export"]], ids=" ".join)
def test_a_size_is_for_images(
    command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a net of vectors it would change nothing."""
    monkeypatch.chdir(tmp_path)
    verb, *options = command
    assert run([verb, _weights(VECTORS, tmp_path), *options, "--size", "30x40"]) == 2
    err = capfd.readouterr().err
    assert "no input of the net is an image" in err and "data 1x10" in err and "--input" in err
    assert [path.name for path in tmp_path.iterdir()] == ["net.caffemodel"]


@pytest.mark.parametrize("command", [*FROM_FILES[:4], FROM_FILES[5]], ids=" ".join)
def test_two_sizes_of_the_image_are_one_too_many(
    command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--input was passed over."""
    monkeypatch.chdir(tmp_path)
    verb, *options = command
    given = [verb, _weights(IMAGES, tmp_path), *options, "--size", "30x40", "--input"]
    assert run([*given, "data=1x3x20x20"]) == 2
    assert "--size 30x40 and --input data=1x3x20x20: one of them" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["net.caffemodel"]
    assert run([*given, "data=2x3x30x40"]) == 0


def test_a_shape_is_not_of_the_net_that_training_begins_with(tmp_path: Path) -> None:
    """`train --solver FILE --init OTHER --input image=...` ended: OTHER has no input 'image'."""
    init = Path(_weights(VECTORS, tmp_path))
    with choosing(input_shapes={"image": (1, 3, 40, 40)}):
        (state,) = states_to_begin_with([init])
    assert state["fc.weight"].shape == (3, 10)


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
