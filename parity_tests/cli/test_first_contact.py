"""What somebody meets who has never used the program: help by task, near misses, the demo, files of other programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import converters
import fcn_port
from fcn_port.cli import demo, run
from fcn_port.cli.program import TASKS, VERBS
from fcn_port.data import shapes
from fcn_port.data.shapes import draw_shapes
from fcn_port.loading import load
from parity_tests.test_architecture import ROOT

SAMPLE = str(ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel")
PROTOTXT = str(ROOT / "weights" / "sample" / "shapes-fcn8s.prototxt")


@pytest.fixture(autouse=True)
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("FCN_PORT_OFFLINE", "1")


def test_help_shows_the_verbs_by_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    said = "".join(capsys.readouterr())
    places = [said.index(f"{task}:\n") for task in TASKS]
    assert places == sorted(places) and "demo" in said[places[0] : places[1]]
    assert all(f"\n  {verb} " in said for verb in VERBS)


@pytest.mark.parametrize("verb", ["predict", "edges"])
def test_image_and_net_the_other_way_round(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was "/home/me/sample: no such file or directory", of a release."""
    if verb == "edges":
        pytest.importorskip("skimage", reason="the extra `edges`")
    (tmp_path / "street.jpg").write_bytes(b"")
    assert run([verb, str(tmp_path / "street.jpg"), "sample"]) == 2
    assert "street.jpg is a picture, and no net: WEIGHTS comes first, then the images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"), [("predikt", "predict"), ("fcnscore", "fcn-score"), ("Inspect", "inspect")]
)
def test_a_mistyped_verb_gets_the_nearest(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([typed, "x"]) == 2
    assert f"Did you mean '{meant}'?" in capsys.readouterr().err
    assert run(["qqqqqq"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "form",
    [
        "plain",
        "state_dict",
        "model",
        "model_state_dict",
        "module.",
        "state_dict, module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
    ],
)
def test_state_dicts_as_training_programs_keep_them(form: str, tmp_path: Path) -> None:
    state = load(SAMPLE).state_dict()
    name, _, prefix = ("plain", "", form) if form.endswith(".") and "," not in form else form.partition(", ")
    state = {f"{prefix}{key}": value for key, value in state.items()}
    torch.save(state if name == "plain" else {name: state, "epoch": 3}, tmp_path / "x.pth")
    net = load(tmp_path / "x.pth")
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in load(SAMPLE).state_dict().items())


def test_a_checkpoint_with_numbers_of_numpys_says_how_to_take_the_weights_out(tmp_path: Path) -> None:
    """As torchfcn's trainer writes it (trainer.py: best_mean_iu)."""
    state = load(SAMPLE).state_dict()
    torch.save({"model_state_dict": state, "best_mean_iu": np.float64(0.5)}, tmp_path / "model_best.pth.tar")
    with pytest.raises(converters.CaffeFormatError, match="values of numpy's beside the tensors") as caught:
        load(tmp_path / "model_best.pth.tar")
    assert "weights_only=False)[KEY]" in str(caught.value) and "model_state_dict or state_dict" in str(caught.value)


def test_convert_writes_what_the_ending_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", SAMPLE, "-o", str(tmp_path / "x.pth")]) == 0
    assert run(["convert", SAMPLE, "-o", str(tmp_path / "x.safetensors")]) == 0
    state = torch.load(tmp_path / "x.pth", weights_only=True)
    expected = load_file(tmp_path / "x.safetensors")
    assert state.keys() == expected.keys() and all(torch.equal(state[key], value) for key, value in expected.items())
    capsys.readouterr()
    for name, said in (("x.onnx", "fcn-port export"), ("x.npz", "convert writes .safetensors, .pth or .pt")):
        assert run(["convert", SAMPLE, "-o", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err and not (tmp_path / name).exists()


def test_diff_takes_names_and_converted_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    converted = str(tmp_path / "x.safetensors")
    assert run(["convert", SAMPLE, "-o", converted]) == 0
    assert run(["diff", converted, SAMPLE, "--meaning"]) == 0
    assert "nets and blobs compared" in capsys.readouterr().err
    assert run(["diff", "sample", converted, "--meaning"]) == 0
    assert run(["diff", "voc-fcn8s", PROTOTXT, "--meaning"]) == 1  # nothing is fetched for it
    assert "num_output" in capsys.readouterr().out
    net = load(SAMPLE)
    with torch.no_grad():
        net.get_parameter("score_fr.bias")[2] += 1
    save_file(net.state_dict(), tmp_path / "y.safetensors")
    assert run(["diff", converted, str(tmp_path / "y.safetensors")]) == 1
    assert "score_fr" in capsys.readouterr().out
    torch.save({"state_dict": {f"module.{key}": x for key, x in net.state_dict().items()}}, tmp_path / "y.pth")
    assert run(["diff", str(tmp_path / "y.safetensors"), str(tmp_path / "y.pth")]) == 0
    assert run(["diff", SAMPLE, str(tmp_path / "y.pth")]) == 1
    assert "score_fr" in capsys.readouterr().out
    torch.save({"bn.num_batches_tracked": torch.tensor(1)}, tmp_path / "z.pth")
    assert run(["diff", SAMPLE, str(tmp_path / "z.pth")]) == 3
    assert f"{tmp_path / 'z.pth'}: key" in capsys.readouterr().err


def test_the_demo_does_the_whole_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "-o", str(tmp_path / "demo")]) == 0
    out, err = capsys.readouterr()
    assert "reproduced: mean IU 95.57" in out and str(tmp_path / "demo" / "report.html") in out
    assert len(list((tmp_path / "demo").glob("*.labels.png"))) == 7 and "0 of 0" not in err
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "95.57" in page and page.count("<img") >= 8


@pytest.mark.parametrize(("count", "status"), [(60, 0), (59, 2)], ids=["interrupted", "of another one"])
def test_a_demo_goes_on_where_it_was_interrupted(
    count: int, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It took its own pictures for somebody else's where not all of them were there."""
    drawn, taken = [], []

    def draw(*arguments: object, **settings: object) -> object:
        drawn.append(arguments)
        if len(drawn) > 2:
            raise KeyboardInterrupt
        return draw_shapes(*arguments, **settings)  # type: ignore[arg-type]

    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupted.setattr(shapes, "draw_shapes", draw)
        shapes.make_shapes(tmp_path / "demo" / "held-out", count=count, seed=2, size=(240, 320), val=1)
    monkeypatch.setattr(demo, "_step", lambda said, arguments: taken.append(arguments[0]) or 0)
    assert run(["demo", "-o", str(tmp_path / "demo")]) == status
    assert bool(taken) == (status == 0) and ("not of a demo" in capsys.readouterr().err) == (status == 2)


FIXED = """
input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
"""


@pytest.mark.parametrize(
    "line",
    ["trace NET 100x100", "inspect NET --size 100", "view NET --size 9x8 -o g.json", "report NET --size 9 -o r.html"],
)
def test_a_size_at_which_the_net_does_not_run_is_told(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An InnerProduct counts its inputs: weights of 8x8 are for no other size."""
    monkeypatch.chdir(tmp_path)
    spec = converters.parse_prototxt(FIXED)
    net = converters.CaffeNet(spec)
    converters.write_caffemodel(converters.from_state_dict(net.state_dict(), spec), "net.caffemodel")
    Path("net.prototxt").write_text(FIXED)
    for name in ("net.caffemodel", "net.prototxt"):
        assert run(line.replace("NET", name).split()) == 2
        said = capsys.readouterr().err
        assert "layer 'ip' has weights 2x192" in said and "data 1x3x8x8" in said
    assert run(["trace", "net.caffemodel", "8x8"]) == 0
    assert not list(tmp_path.glob("[gr].*"))
    with pytest.raises(converters.NetError):
        fcn_port.trace(net, (9, 8))
    Path("open.prototxt").write_text(FIXED.replace("input_shape { dim: 1 dim: 3 dim: 8 dim: 8 }", ""))
    assert run(["trace", "open.prototxt", "9x8"]) == 0, "a net that says no size may have any"


def test_the_inputs_that_are_told_are_those_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """With --size the last line had the net's own size below the work of another."""
    assert run(["inspect", SAMPLE, "--size", "60x70"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "input data: 1x3x60x70" and any("1x3x60x70" in line for line in lines[:3])
    assert run(["inspect", SAMPLE]) == 0
    assert "input data: 1x3x500x500" in capsys.readouterr().out
