"""Nets with hostile names through every export: no code of theirs runs, and what comes out computes the same."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch

from converters import CaffeNet, read_caffemodel
from converters.escaping import file_name
from converters.export.checking import ExportError, run_module
from converters.export.python import class_name, python_source
from converters.net.spec import NetSpec
from converters.schema import NetParameter
from fcn_port.export_files import SUFFIXES
from fcn_port.exporting import export, export_net, with_random_weights
from fcn_port.loading import attach
from parity_tests.hostile import NAMES, UTF8_NAMES, code_names
from parity_tests.small_files import small_v2
from weights.card import Card


def side_by_side(names: Sequence[str], *, given: str = "data", called: str = "net") -> NetParameter:
    """A net with a convolution of 1x1 for each name, which is the name of the layer and of its top."""
    net = NetParameter(name=called)
    net.layer.add(name="in", type="Input", top=[given]).input_param.shape.add(dim=[1, 1, 4, 4])
    for name in names:
        layer = net.layer.add(name=name, type="Convolution", bottom=[given], top=[name])
        layer.convolution_param.num_output = 1
        layer.convolution_param.kernel_size.append(1)
    return net


def spec_of(net: NetParameter, folder: Path) -> NetSpec:
    """The net as it comes out of a file of a stranger."""
    path = folder / "stranger.caffemodel"
    path.write_bytes(net.SerializeToString())
    spec = read_caffemodel(path).spec
    assert spec is not None
    return spec


def held_by(format_: str, names: Sequence[str]) -> list[str]:
    """Those of the names that the format can hold; the others are refused."""
    if format_ == "hdf5":  # a slash and a dot are places, and an HDF5 name ends at a NUL
        return [name for name in names if not set(name) & set("/\0") and name not in ("", ".", "..")]
    if format_ == "torch-export":  # slow for each layer
        return list(dict.fromkeys(["", "nul\0nul", *random.Random(0).sample(list(names), 10)]))
    return list(names)


# Code does not run


@pytest.mark.parametrize("to", SUFFIXES)
def test_no_name_runs_in_an_export(to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of them ran in torch.export, the second kind in the text that others have made of names."""
    monkeypatch.chdir(tmp_path)
    mark = Path("mark")
    without_dots = f"""__class__") and exec("open('{mark}', 'w')") or getattr(self, "__class__"""
    names = [name for name in (without_dots, *code_names(mark)) if to != "hdf5" or "/" not in name]
    net = with_random_weights(CaffeNet(spec_of(side_by_side(names, called=without_dots), tmp_path)))
    report = export_net(net, to=to, out=f"out{SUFFIXES[to]}", size=(4, 4))
    assert report.error < 1e-5 and not mark.exists()
    assert set(net.state_dict()) == {f"{name}.{blob}" for name in names for blob in ("weight", "bias")}


def test_the_name_of_the_issue_does_not_run_in_the_program(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    name = f"""__class__") and exec("open(chr(47).join({str(mark).split("/")}), 'w')") or getattr(self, "__class__"""
    net = small_v2()
    for layer in net.layer:
        layer.name = name if layer.name == "conv" else layer.name
    (tmp_path / "evil.caffemodel").write_bytes(net.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-m", "fcn_port", "export", "evil.caffemodel", "--to", "torch-export"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert not mark.exists()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "evil.pt2").is_file()


# The same net comes out


@pytest.mark.parametrize("to", SUFFIXES)
def test_every_name_goes_through_every_export(to: str, tmp_path: Path) -> None:
    names = held_by(to, UTF8_NAMES)
    net = with_random_weights(CaffeNet(spec_of(side_by_side(names), tmp_path)))
    assert export_net(net, to=to, out=tmp_path / f"out{SUFFIXES[to]}", size=(4, 4)).error < 1e-5


@pytest.mark.parametrize("name", ["", "nul\0nul", "a/b"])
def test_onnx_has_inputs_of_any_name(name: str, tmp_path: Path) -> None:
    net = with_random_weights(CaffeNet(spec_of(side_by_side(["a", "blob_"], given=name), tmp_path)))
    assert export_net(net, to="onnx", out=tmp_path / "out.onnx", size=(4, 4)).error < 1e-5


def test_attributes_are_identifiers_and_keys_are_caffes(tmp_path: Path) -> None:
    names = [*NAMES[: len(NAMES)], "card", "release", "preprocessing", "classes", "palette", "conv"]
    names = [name for name in names if name in UTF8_NAMES or name not in NAMES]
    net = with_random_weights(CaffeNet(spec_of(side_by_side(names), tmp_path)))
    attach(net, Card())  # sets attributes, which no layer may have taken
    attributes = [name for name, _ in net.named_children()]
    assert all(name.isascii() and name.isidentifier() and not name.startswith("_") for name in attributes)
    assert len(set(attributes)) == len(names) and "conv" in attributes
    twin = CaffeNet(net.spec)
    twin.load_state_dict(net.state_dict(), strict=True)
    assert list(twin.state_dict()) == [f"{name}.{blob}" for name in names for blob in ("weight", "bias")]
    assert all(map(torch.equal, twin.state_dict().values(), net.state_dict().values()))


def test_a_name_made_like_an_attribute_does_not_swap_weights(tmp_path: Path) -> None:
    """Renaming one key after the other lost a blob whose key is the attribute of an earlier layer."""
    plain = CaffeNet(spec_of(side_by_side(["a/b", "a_b"]), tmp_path))
    ours = next(name for name, _ in plain.named_children() if name != "a_b")
    net = with_random_weights(CaffeNet(spec_of(side_by_side(["a/b", "a_b", ours]), tmp_path)))
    twin = CaffeNet(net.spec)
    twin.load_state_dict(net.state_dict(), strict=True)
    assert all(torch.equal(twin.state_dict()[key], value) for key, value in net.state_dict().items())
    source = module_of(python_source(net.spec))
    twin = getattr(source, class_name(net.spec))()
    twin.load_state_dict(net.state_dict(), strict=True)
    assert all(torch.equal(twin.state_dict()[key], value) for key, value in net.state_dict().items())


def test_a_key_with_an_attributes_name_is_unexpected(tmp_path: Path) -> None:
    net = CaffeNet(spec_of(side_by_side(["a/b"]), tmp_path))
    state = {key.replace("/", "_"): value for key, value in net.state_dict().items()}
    with pytest.raises(RuntimeError, match=r'Missing key.*"a/b.weight"(?s:.)*Unexpected key.*"a_b.weight"'):
        net.load_state_dict(state)


# Python source


def module_of(text: str) -> ModuleType:
    module = ModuleType("exported")
    text.encode()
    exec(compile(text, "exported.py", "exec"), module.__dict__)
    return module


LETTERS = "ab_/.\\'\"{}\n\r\t\0 #()[]:;=%$1x" + "é卷ｅש\u202e\u2028\x1b\x85\u0301😀N"


def odd_net(seed: int, *, most: int = 5) -> NetParameter:
    """A net of odd names, drawn with a seed; some blobs are replaced in place, and some numbers are infinite."""
    draw = random.Random(seed)

    def name() -> str:
        if draw.random() < 0.3:
            return draw.choice(UTF8_NAMES)[:60]
        return "".join(draw.choices(LETTERS, k=draw.randint(0, 40)))

    net = NetParameter(name=name())
    blobs = [name()]
    net.layer.add(name=name(), type="Input", top=blobs[:]).input_param.shape.add(dim=[1, 2, 4, 4])
    for layer in dict.fromkeys(name() for _ in range(draw.randint(1, most))):
        kind = draw.choice(("Convolution", "ReLU", "Power", "Threshold", "BatchNorm", "Scale", "ELU", "LRN", "Clip"))
        bottom = draw.choice(blobs)
        top = bottom if kind == "ReLU" and bottom != blobs[0] else name()
        if top in blobs and top != bottom:
            continue
        made = net.layer.add(name=layer, type=kind, bottom=[bottom], top=[top])
        crazy = draw.choice((0.5, float("inf"), float("-inf"), float("nan"), 1e38, 1e-45, -0.0))
        if kind == "Convolution":
            made.convolution_param.num_output = 2
            made.convolution_param.kernel_size.append(1)
        elif kind == "Power":
            made.power_param.scale, made.power_param.shift, made.power_param.power = crazy, crazy, 2
        elif kind == "Threshold":
            made.threshold_param.threshold = crazy
        elif kind == "ELU":
            made.elu_param.alpha = crazy
        elif kind == "BatchNorm":
            made.batch_norm_param.eps = crazy
        elif kind == "LRN":
            made.lrn_param.alpha = crazy
        blobs.append(top)
    return net


def check_source(net: NetParameter, folder: Path) -> bool:
    """Whether the net is one that CaffeNet takes; then its source must be Python that loads its state dict."""
    try:
        caffe_net = CaffeNet(spec_of(net, folder))
    except ValueError:
        return False
    twin = getattr(module_of(python_source(caffe_net.spec)), class_name(caffe_net.spec))()
    twin.load_state_dict(caffe_net.state_dict(), strict=True)
    x = {next(iter(caffe_net.inputs)): torch.ones(1, 2, 4, 4)}
    expected = run_module(caffe_net, x, caffe_net.outputs)
    found = run_module(twin, x, caffe_net.outputs)
    assert list(found) == list(expected)
    for name, blob in expected.items():
        torch.testing.assert_close(found[name], blob, rtol=1e-5, atol=1e-30, equal_nan=True)
    return True


def test_python_source_of_odd_nets(tmp_path: Path) -> None:
    """17 in 100 had a docstring cut within an escape, and others inf or nan as a bare name."""
    assert sum(check_source(odd_net(seed), tmp_path) for seed in range(150)) > 70


def test_python_source_of_colliding_names_takes_linear_time(tmp_path: Path) -> None:
    """1,500 names that look alike: with underscores appended until one was free, it took minutes."""
    names = ["a" + "".join("/."[i >> bit & 1] for bit in range(11)) for i in range(1_500)]
    net = side_by_side([])
    for name in names:
        net.layer.add(name=name, type="ReLU", bottom=["data"], top=[name])
    began = time.process_time()
    text = python_source(spec_of(net, tmp_path))
    assert time.process_time() - began < 25  # about 2 s
    assert len(text) < 2_000_000


# Formats and files


def test_an_unknown_format_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "net.caffemodel").write_bytes(small_v2().SerializeToString())
    net = CaffeNet(spec_of(side_by_side(["a"]), tmp_path))
    for run in (
        lambda: export_net(net, to="tflite", out=tmp_path / "out"),
        lambda: export(tmp_path / "net.caffemodel", to="tflite"),
    ):
        with pytest.raises(ExportError, match="there is no format 'tflite'; there are caffe, python"):
            run()


@pytest.mark.parametrize("release", ["../../up", "/tmp/names", "a/b/usercustomize", "..", "x\0y", "voc-fcn8s"])
def test_an_export_is_named_by_the_user_and_not_by_the_file(
    release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import load_file, save_file

    work = tmp_path / "here" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    (work / "mine.caffemodel").write_bytes(small_v2().SerializeToString())
    export("mine.caffemodel", to="safetensors", out="stranger.safetensors")
    from converters.export.safetensors import read_metadata

    metadata = {**read_metadata("stranger.safetensors"), "release": release}
    save_file(load_file("stranger.safetensors"), "stranger.safetensors", metadata)
    before = set(tmp_path.rglob("*"))
    assert export("stranger.safetensors", to="python").files == ("stranger.py",)
    assert set(tmp_path.rglob("*")) - before == {work / "stranger.py"}


def test_the_name_of_an_export_is_a_safe_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path("-x \x1b[31m.caffemodel")
    source.write_bytes(small_v2().SerializeToString())
    (file,) = export(source, to="python").files
    assert file == file_name("-x \x1b[31m") + ".py" and file.isprintable() and not file.startswith("-")


# Other compilers of a CaffeNet


@pytest.mark.parametrize("how", ["compile", "jit", "functional_call", "fx"])
def test_no_name_runs_in_a_compiler(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [*code_names(Path("mark"))[:8], "a/b", "class"]
    net = with_random_weights(CaffeNet(spec_of(side_by_side(names), tmp_path)))
    x = torch.ones(1, 1, 4, 4)
    with torch.no_grad():
        expected = net(x)
        if how == "compile":
            found = torch.compile(net, fullgraph=True, backend="aot_eager")(x)
        elif how == "jit":
            found = torch.jit.trace(net, (x,), strict=False)(x)
        elif how == "functional_call":
            found = torch.func.functional_call(net, dict(net.named_parameters()), (x,))
        else:
            found = torch.fx.symbolic_trace(torch.export.export(net, (x,)).module())(x)
    assert list(found) == list(expected) == names
    assert all(torch.equal(found[name], expected[name]) for name in names)
    assert not Path("mark").exists()
