"""Prediction on NumPy arrays: what `predict` does without PyTorch is what it does with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fcn_port
from converters.errors import NetError
from converters.export import write_caffe
from fcn_port.any_net import attach, takes_arrays
from fcn_port.cli import quick_net, run
from fcn_port.fastpath import kernels, numpy_net
from fcn_port.fastpath.numpy_net import NumpyNet
from fcn_port.fastpath.program import self_check
from fcn_port.predict import values
from fcn_port.predict.dense_crf import DenseCrf
from fcn_port.predict.meaning import OutputMeaning
from fcn_port.predict.reading import ReadOutput, upsampled
from parity_tests.datasets import noise
from parity_tests.detection.nets import ssd
from parity_tests.predict.output_nets import BODIES, files_of, net_of
from parity_tests.test_architecture import ROOT

needs_compiler = pytest.mark.skipif(self_check.why_not_any() is not None, reason="no C compiler")
ALONE = "import sys; sys.modules['torch'] = None\nfrom fcn_port.cli import run; sys.exit(run(sys.argv[1:]))"
SAMPLE = "weights/sample/shapes.png"


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each net that `predict` loads True where it takes arrays."""
    found: list[bool] = []

    def seen(*arguments: object, **named: object) -> object:
        net = made(*arguments, **named)  # type: ignore[arg-type]
        found.append(net is not None)
        return net

    made = quick_net.quick_net
    monkeypatch.setattr("fcn_port.cli.given_net.quick_net", seen)
    return found


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_compiler
def test_the_sample_without_torch(tmp_path: Path) -> None:
    """In a process that cannot import it: the files that PyTorch's engine gives, scores but for their rounding."""
    argv = ["predict", "sample", SAMPLE, "--scores", "--json", "-o", str(tmp_path / "a")]
    command = [sys.executable, "-c", ALONE, *argv]
    environment = {**os.environ, "FCN_PORT_WEIGHTS": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["engine"] == "native"
    net = str(ROOT / "weights/sample/shapes-fcn8s.caffemodel")
    assert run(["predict", net, str(ROOT / SAMPLE), "--engine", "torch", "--scores", "-o", str(tmp_path / "b")]) == 0
    found, expected = files_below(tmp_path / "a"), files_below(tmp_path / "b")
    assert found.keys() == expected.keys()
    for name in found:
        if not name.endswith(".npz"):
            assert found[name] == expected[name], name
    ours, theirs = (np.load(tmp_path / each / "shapes.scores.npz")["scores"] for each in "ab")
    assert np.abs(ours - theirs).max() <= 5e-6 * np.abs(theirs).max()
    assert np.abs(ours[:, ::-1] - theirs).max() > 1e-2 * np.abs(theirs).max()


@needs_compiler
@pytest.mark.parametrize("kind", sorted(BODIES.keys() - {"five axes", "larger"}))
def test_every_kind_of_output(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], taken: list[bool]) -> None:
    """The same files, byte by byte, and the same words; where a layer has no kernel, PyTorch does it all."""
    images = [tmp_path / f"{seed}.png" for seed in range(2)]
    for seed, path in enumerate(images):
        Image.fromarray(noise(seed, (8, 8, 3))).save(path)
    argv = ["predict", *files_of(kind, tmp_path), *map(str, images)]
    told = []
    for engine in ("auto", "native"):
        out = tmp_path / engine
        status = run([*argv, "-o", str(out), "--engine", engine])
        said = capsys.readouterr()
        notes = [line for line in said.err.splitlines() if "upsampled" in line]  # and not how far it came by then
        told.append((status, said.out.replace(str(out), "OUT"), notes, files_below(out)))
    assert told[0] == told[1] and told[0][0] == 0 and told[0][3]
    assert bool(told[0][2]) == (kind in ("coarse", "pooled"))
    assert taken == [kind not in ("inner-argmax", "threshold"), False]


@needs_compiler
@pytest.mark.parametrize(
    "options",
    [
        "--engine torch", "--padded", "--precision bf16", "--crf", "--blobs score", "--device cpu:0",
    ],
)  # fmt: skip
def test_options_that_need_torch(options: str, tmp_path: Path, taken: list[bool]) -> None:
    Image.fromarray(noise(0, (8, 8, 3))).save(tmp_path / "0.png")
    argv = ["predict", *files_of("scores", tmp_path), str(tmp_path / "0.png"), "-o", str(tmp_path)]
    assert run([*argv, *options.split()]) == 0
    assert not any(taken)
    assert run([*argv, "--flip", "--scales", "0.5,1"]) == 0
    assert taken[-1]


@pytest.mark.parametrize("can", [True, False], ids=["as the processor can", "without bfloat16"])
@pytest.mark.parametrize("kind", ["scores", "fcn8s"])
def test_a_net_that_bf16_does_not_change_is_told(
    kind: str, can: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can:
        monkeypatch.setattr(kernels, "multiplies_bfloat16", lambda device: False)
    can = kernels.multiplies_bfloat16(torch.device("cpu"))
    Image.fromarray(noise(0, (8, 8, 3))).save(tmp_path / "0.png")
    net = [str(ROOT / "weights/sample/shapes-fcn8s.caffemodel")] if kind == "fcn8s" else files_of(kind, tmp_path)
    assert run(["predict", *net, str(tmp_path / "0.png"), "-o", str(tmp_path), "--precision", "bf16"]) == 0
    said = capsys.readouterr().err
    assert ("this runs in float32" in said) is (kind == "scores")
    assert ("cannot multiply bfloat16" in said) is (kind == "fcn8s" and not can)


@needs_compiler
def test_many_images_by_a_net_with_a_wide_padding(
    tmp_path: Path, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fast` saves more of it than PyTorch's import takes, where that is installed."""
    net = str(ROOT / "parity_tests/golden/formats/fcn8s-mini.caffemodel")
    for number in range(quick_net.FEW + 1):
        Image.fromarray(noise(number, (9, 8, 3))).save(tmp_path / f"{number}.png")
    images = sorted(map(str, tmp_path.glob("*.png")))
    for count in (quick_net.FEW, quick_net.FEW + 1):
        assert run(["predict", net, *images[:count], "--mean", "0", "-o", str(tmp_path / "out")]) == 0
    assert taken == [True, False]
    with monkeypatch.context() as without_torch:
        without_torch.setattr(quick_net, "find_spec", lambda name: None)
        assert run(["predict", net, *images, "--mean", "0", "-o", str(tmp_path / "out")]) == 0
    assert taken[-1]
    files = files_of("pooled", tmp_path)
    assert run(["predict", *files, *images, "-o", str(tmp_path / "out")]) == 0
    assert taken[-1]


@needs_compiler
def test_low_memory(tmp_path: Path, taken: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """What packs little, but for a net with a wide padding, of which `fast` has smaller blobs."""
    made, packs_little = numpy_net.numpy_net, []

    def noted(*args: Any, low_memory: bool, **options: Any) -> NumpyNet:
        packs_little.append(low_memory)
        return made(*args, low_memory=low_memory, **options)

    monkeypatch.setattr(numpy_net, "numpy_net", noted)
    Image.fromarray(noise(0, (8, 8, 3))).save(tmp_path / "0.png")
    image, files = str(tmp_path / "0.png"), files_of("scores", tmp_path)
    for name, options in (("little", ["--low-memory"]), ("usual", [])):
        assert run(["predict", *files, image, "-o", str(tmp_path / name), *options]) == 0
    assert (taken, packs_little) == ([True, True], [True, False])
    little, usual = (files_below(tmp_path / name) for name in ("little", "usual"))
    assert little["0.labels.png"] == usual["0.labels.png"]
    wide = str(ROOT / "parity_tests/golden/formats/fcn8s-mini.caffemodel")
    assert run(["predict", wide, image, "--mean", "0", "--low-memory", "-o", str(tmp_path / "out")]) == 0
    assert not taken[-1]


@needs_compiler
def test_objects_are_found_by_torch(tmp_path: Path, taken: list[bool]) -> None:
    net = ssd()
    write_caffe(net.spec, net.state_dict(), tmp_path / "ssd.caffemodel", prototxt=tmp_path / "ssd.prototxt")
    Image.fromarray(noise(0, (8, 8, 3))).save(tmp_path / "0.png")
    files = [str(tmp_path / "ssd.caffemodel"), "--prototxt", str(tmp_path / "ssd.prototxt"), "--mean", "0"]
    assert run(["predict", *files, str(tmp_path / "0.png"), "-o", str(tmp_path)]) == 0
    assert taken == [False] and (tmp_path / "0.detections.json").exists()


FIND = """
import numpy as np, fcn_port
net = fcn_port.numpy_net(sys.argv[1], prototxt=sys.argv[2], keep=False)
try:
    print(fcn_port.{name}(net, np.zeros((8, 8, 3), np.uint8)))
except (ModuleNotFoundError, ValueError) as error:
    print(error)
"""


@needs_compiler
@pytest.mark.parametrize("name", ["see", "detect"])
def test_finding_objects_says_that_it_is_for_nets_of_torch(name: str, tmp_path: Path) -> None:
    """And not that nothing is known of the layers, or a module that could not be imported."""
    net = ssd()
    files = str(tmp_path / "ssd.caffemodel"), str(tmp_path / "ssd.prototxt")
    write_caffe(net.spec, net.state_dict(), files[0], prototxt=files[1])
    said = {
        "import sys; sys.modules['torch'] = None": "finding objects needs PyTorch: pip install 'fcn-port[torch]'\n",
        "import sys": "expected a net of PyTorch, as fcn_port.load gives it of the same file; found a NumpyNet\n",
    }
    for before, expected in said.items():
        command = [sys.executable, "-c", before + FIND.format(name=name), *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.stdout == expected, done.stderr


@needs_compiler
def test_the_library_takes_either_net(tmp_path: Path) -> None:
    """To the bit, of a net whose padding is computed by both; what finds no pixels or objects says so."""
    image = noise(4, (8, 8, 3))
    for kind in ("scores", "coarse", "map", "classes"):
        weights, _, prototxt, *_ = files_of(kind, tmp_path)
        card = net_of(kind).card  # type: ignore[attr-defined]
        quick, usual = fcn_port.numpy_net(weights, prototxt=prototxt), fcn_port.load(weights, prototxt=prototxt)
        assert takes_arrays(quick) and not takes_arrays(usual)
        for net in (quick, usual):
            attach(net, card)
        (found,), (expected,) = (fcn_port.see(net, image).values() for net in (quick, fcn_port.fast(usual)))
        assert repr(found) == repr(expected) and type(found) is type(expected)
        for name in ("labels", "scores", "values"):
            if hasattr(expected, name):
                assert np.array_equal(getattr(found, name), getattr(expected, name)), name
        assert np.array_equal(fcn_port.prepare(quick, image), fcn_port.prepare(usual, image).numpy())
    with pytest.raises(NetError, match="for the image as a whole"):
        fcn_port.segment(quick, image)


def test_the_card_comes_with_the_file(tmp_path: Path) -> None:
    net = ROOT / "weights/sample/shapes-fcn8s.caffemodel"
    made = tmp_path / "sample.safetensors"
    assert run(["convert", "sample", "-o", str(made)]) == 0
    for path in (net, made):
        assert fcn_port.numpy_net(path, keep=False).card == fcn_port.load(path).card


@needs_compiler
def test_a_crf_says_that_it_needs_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights, _, prototxt, *_ = files_of("scores", tmp_path)
    net = fcn_port.numpy_net(weights, prototxt=prototxt, keep=False)
    attach(net, net_of("scores").card)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match="a dense CRF needs PyTorch: pip install"):
        fcn_port.segment(net, noise(4, (8, 8, 3)), crf=DenseCrf())


ARRAYS = np.random.default_rng(0).standard_normal((2, 4, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("nearest", [False, True])
def test_arrays_are_upsampled_as_tensors_are(nearest: bool) -> None:
    found = upsampled(ARRAYS, (13, 9), nearest=nearest)
    expected = upsampled(torch.from_numpy(ARRAYS), (13, 9), nearest=nearest)
    assert np.array_equal(found, expected.numpy())


@pytest.mark.parametrize("kind", ["scores", "probabilities", "independent", "labels", "map"])
def test_labels_of_arrays_are_those_of_tensors(kind: str) -> None:
    """Of equal ones the first, and what is no number before all others."""
    scores = ARRAYS[0, :1] if kind == "map" else ARRAYS[0].copy()
    scores = np.abs(scores.round()) if kind == "labels" else scores
    if kind == "scores":
        scores[[1, 3], 2] = 9
        scores[[2, 3], 3] = np.nan
    meaning = OutputMeaning(kind, "", len(scores))  # type: ignore[arg-type]
    found, expected = (ReadOutput(meaning, each).labels(threshold=0.25) for each in (scores, torch.from_numpy(scores)))
    assert found.dtype == np.int64 and np.array_equal(found, expected.numpy())
    assert kind != "scores" or ((found[2] == 1).all() and (found[3] == 2).all())


def test_other_operations_on_arrays() -> None:
    x = torch.from_numpy(ARRAYS[0])
    assert np.abs(values.softmax(ARRAYS[0]) - values.softmax(x).numpy()).max() < 1e-6
    assert np.array_equal(values.mirrored(ARRAYS[0]), values.mirrored(x).numpy())
