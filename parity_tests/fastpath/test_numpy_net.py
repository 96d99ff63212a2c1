"""A net on NumPy arrays: the numbers of `fast`, without PyTorch, and with what another process packed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fcn_port
from converters.errors import CaffeFormatError, MismatchError, NetError
from converters.formats import CaffeModel, parse_prototxt
from converters.net import infer_blobs
from converters.passes import prepare
from fcn_port.errors import EngineError
from fcn_port.fastpath import numpy_net as numpy_net_module
from fcn_port.fastpath.flow import state_key
from fcn_port.fastpath.native import build
from fcn_port.fastpath.numpy_net import NumpyNet, numpy_net
from fcn_port.fastpath.program import kept_weights, kernels, rounding, self_check, weights
from parity_tests.export.onnx_models import with_drawn_weights
from parity_tests.goldens import compare, format_blobs, formats
from parity_tests.small_files import PROTOTXT, small_blobs, small_v2
from parity_tests.test_architecture import ROOT
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(self_check.why_not_any() is not None, reason="no C compiler")

ALONE = """
import sys; sys.modules["torch"] = None
import numpy as np, fcn_port
net = fcn_port.numpy_net(sys.argv[1], prototxt=sys.argv[2], threads=2)
np.save(sys.argv[3], net(np.load(sys.argv[4])))
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A caffemodel that holds its net, and a cache folder with nothing in it."""
    monkeypatch.setattr(kept_weights, "cache_folder", lambda: tmp_path / "packed")
    monkeypatch.setattr(kept_weights, "SETTLED", -1.0)
    path = tmp_path / "small.caffemodel"
    path.write_bytes(small_v2().SerializeToString())
    return path


X = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("kind", [".caffemodel", ".caffemodel.h5"])
def test_recorded_blobs(kind: str) -> None:
    """Caffe's own numbers, of every file of weights that can hold them."""
    recorded = format_blobs("layer-zoo-0")
    net = numpy_net(formats(f"layer-zoo-0{kind}"), prototxt=formats("layer-zoo-0.prototxt"), keep=False)
    found = net(**{name: recorded[name] for name in net.inputs})
    assert isinstance(found, dict) and list(found) == list(net.outputs)
    for name, value in found.items():
        assert compare(value, recorded[name]) <= tolerance("caffenet-zoo"), name


def test_the_numbers_are_those_of_fast(small: Path) -> None:
    """To the bit, of one image and of several; a .safetensors gives the same."""
    import torch

    made = small.with_name("small.safetensors")
    fcn_port.converters.convert(small, made)
    quick = fcn_port.fast(fcn_port.load(small))
    for x in (X, X[:1]):
        expected = quick(torch.from_numpy(x)).numpy()
        for path in (small, made):
            assert np.array_equal(numpy_net(path)(x), expected)
    assert quick.explain((8, 8)) == numpy_net(small).explain((8, 8))


def test_without_torch(tmp_path: Path) -> None:
    """In a process that cannot import it."""
    recorded = format_blobs("v1-mini")
    given, made = tmp_path / "x.npy", tmp_path / "y.npy"
    model, net = formats("v1-mini.caffemodel"), formats("v1-mini.prototxt")
    (name,) = numpy_net(model, prototxt=net, keep=False).inputs
    np.save(given, recorded[name])
    command = [sys.executable, "-c", ALONE, *map(str, (model, net, made, given))]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    (output,) = numpy_net(model, prototxt=net, keep=False).outputs
    assert compare(np.load(made), recorded[output]) <= tolerance("format-blobs")


def test_a_layer_without_a_kernel_says_what_it_needs(
    small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is computed by PyTorch, where that is installed."""
    text = PROTOTXT.replace('type: "ReLU"', 'type: "BNLL"')
    (tmp_path / "bnll.prototxt").write_text(text)
    net = numpy_net(small, prototxt=tmp_path / "bnll.prototxt")
    assert "relu: by PyTorch: no kernel for layers of type BNLL" in net.explain((8, 8))
    assert np.isfinite(net(X)).all()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match=r"layer 'relu' .*needs PyTorch: pip install"):
        net(X)


def test_some_of_its_blobs(small: Path) -> None:
    net = numpy_net(small, outputs=["fc", "conv"])
    found = net(X)
    assert isinstance(found, dict) and list(found) == ["fc", "conv"]
    assert found["conv"].shape == (2, 4, 6, 6) and found["conv"].min() == 0  # what ReLU made of it
    with pytest.raises(NetError, match="makes no blob 'gone'"):
        numpy_net(small, outputs=["gone"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "expected the inputs data; found none"),
        ({"image": X}, "expected the inputs data; found image"),
        ({"data": X[0]}, r"expected an array like \(1, 3, 8, 8\), found \(3, 8, 8\)"),
        ({"data": X[:, :2]}, r"found \(2, 2, 8, 8\)"),
        ({"data": X[:0]}, r"found \(0, 3, 8, 8\)"),
        ({"data": np.zeros((1, 3, 9, 9))}, "layer 'fc' has weights 2x144, and at this size they would be 2x196"),
    ],
)
def test_inputs_that_do_not_fit(given: dict[str, np.ndarray], said: str, small: Path) -> None:
    with pytest.raises(NetError, match=said):
        numpy_net(small)(**given)


CONV = """layer { name: "c" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 8 kernel_size: 3 } }
"""
TOGETHER = {
    "rows in one": """layer { name: "i" type: "InnerProduct" bottom: "c" top: "i"
        inner_product_param { num_output: 4 } }
        layer { name: "r" type: "Reshape" bottom: "i" top: "r" reshape_param { shape { dim: -1 } } }""",
    "a slice of images": """layer { name: "s" type: "Slice" bottom: "c" top: "s" top: "t"
        slice_param { axis: 0 slice_point: 1 } }""",
    "halves of the images": 'layer { name: "s" type: "Slice" bottom: "c" top: "s" top: "t" slice_param { axis: 0 } }',
    "a product over images": """layer { name: "p" type: "Permute" bottom: "c" top: "p"
        permute_param { order: 1 order: 0 } }
        layer { name: "i" type: "InnerProduct" bottom: "p" top: "i" inner_product_param { num_output: 4 } }""",
    "the same images again": """layer { name: "k" type: "Concat" bottom: "c" bottom: "c" top: "k"
        concat_param { axis: 0 } }""",
}


@pytest.mark.parametrize("kind", TOGETHER)
def test_images_that_a_layer_computes_with_together(kind: str) -> None:
    """Images are computed one by one only where the net takes one, and gives one of each output for it."""
    head = 'input: "data" input_shape { dim: 2 dim: 3 dim: 8 dim: 8 } '
    net = with_drawn_weights(prepare(parse_prototxt(head + CONV + TOGETHER[kind])))
    found = NumpyNet(net.spec, {key: value.numpy() for key, value in net.state_dict().items()}, threads=2)(X)
    with torch.no_grad():
        wanted = net(torch.from_numpy(X))
    pairs = [(found[name], wanted[name]) for name in wanted] if isinstance(wanted, dict) else [(found, wanted)]
    assert all(compare(ours, theirs.numpy()) <= tolerance("fast-net") for ours, theirs in pairs)


def test_weights_that_do_not_fit(small: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.prototxt"
    other.write_text(PROTOTXT.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(CaffeFormatError, match=r"small.caffemodel.*conv"):
        numpy_net(small, prototxt=other)
    made = tmp_path / "small.safetensors"
    fcn_port.converters.convert(small, made)
    with pytest.raises(MismatchError, match=r"small.safetensors.*blob 'conv.weight'.*\(5, 3, 3, 3\)"):
        numpy_net(made, prototxt=other)


@pytest.mark.parametrize("wiring", ['bottom: "nowhere" top: "last"', 'bottom: "data" top: "conv"'])
def test_wiring_that_caffe_refuses(wiring: str, small: Path, tmp_path: Path) -> None:
    """A bottom that nobody makes, and a top that two layers make (net.cpp, AppendTop and AppendBottom)."""
    wrong = tmp_path / "wrong.prototxt"
    wrong.write_text(f'{PROTOTXT}\nlayer {{ name: "more" type: "ReLU" {wiring} }}')
    with pytest.raises(NetError, match=r"no layer before it makes|is made by two layers"):
        numpy_net(small, prototxt=wrong)


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("4,2", 4), ("0", None), ("some", None), ("", None)])
def test_threads_that_nobody_gives(
    asked: str, threads: int | None, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenMP has them where PyTorch, which has a number of its own, is not there."""
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert numpy_net(small).threads == torch.get_num_threads() and numpy_net(small, threads=5).threads == 5
    monkeypatch.delitem(sys.modules, "torch")
    assert numpy_net(small).threads == (threads or len(os.sched_getaffinity(0)))


def test_no_native_code(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_NATIVE", "0")
    for function in (build.library, self_check.why_not_any):
        function.cache_clear()
    try:
        with pytest.raises(EngineError, match="FCN_PORT_NATIVE=0 forbids it"):
            numpy_net(small)
    finally:
        for function in (build.library, self_check.why_not_any):
            function.cache_clear()


def test_what_is_packed_is_kept(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process, here another net of the same file, packs nothing and gives the same bits."""
    first = numpy_net(small)(X)
    (kept,) = (small.parent / "packed").glob("*/*.packed")
    assert kept.parent.stat().st_mode & 0o77 == 0
    monkeypatch.setattr(weights, "pack", lambda *_, **__: pytest.fail("packed again"))
    assert np.array_equal(numpy_net(small)(X), first)


@pytest.mark.parametrize("what", ["weights", "net", "outputs", "keep"])
def test_what_is_kept_is_for_that_very_net(what: str, small: Path, tmp_path: Path) -> None:
    """Other weights of the same size under the same name, or another net: packed anew."""
    net = numpy_net(small)
    net(X)
    if what == "weights":
        times = small.stat()
        small.write_bytes(small_v2(small_blobs(seed=1)).SerializeToString())
        os.utime(small, ns=(times.st_atime_ns, times.st_mtime_ns))  # whoever sets its times back is seen all the same
    other = tmp_path / "other.prototxt"
    other.write_text(PROTOTXT.replace('type: "ReLU" bottom', 'type: "TanH" bottom'))
    found = numpy_net(
        small, prototxt=other if what == "net" else None, outputs=["conv", "fc"] if what == "outputs" else None,
        keep=what != "keep",
    )  # fmt: skip
    alone = shutil.copy(small, tmp_path / "alone.caffemodel")
    expected = numpy_net(alone, prototxt=other if what == "net" else None, keep=False)(X)
    got = found(X)
    assert np.array_equal(got["fc"] if isinstance(got, dict) else got, expected)
    assert len(list((tmp_path / "packed").iterdir())) == (2 if what in ("weights", "net") else 1)


def test_a_file_that_is_replaced_while_it_is_read(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by whoever trains it, while a slow disk still gives the one before: nothing is kept under its successor."""
    read, other = numpy_net_module.read_caffemodel, small.with_name("other")
    other.write_bytes(small_v2(small_blobs(seed=1)).SerializeToString())

    def slowly(path: Path) -> CaffeModel:
        found = read(path)
        other.replace(path)
        return found

    with monkeypatch.context() as reading:
        reading.setattr(numpy_net_module, "read_caffemodel", slowly)
        before = numpy_net(small)(X)
    found = numpy_net(small)(X)
    assert np.array_equal(found, numpy_net(small, keep=False)(X)) and not np.array_equal(found, before)


@pytest.mark.parametrize(
    "damage", ["cut", "garbage", "empty", "shorter", "a bit", "a page", "places", "not private", "no room"]
)
def test_what_cannot_be_read_is_packed_again(damage: str, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = numpy_net(small)(X)
    (kept,) = (small.parent / "packed").glob("*/*.packed")
    if damage not in ("not private", "no room"):
        whole = kept.read_bytes()
        bit = whole[:5000] + bytes([whole[5000] ^ 64]) + whole[5001:]
        page = whole[:4096] + bytes(min(4096, len(whole) - 4096)) + whole[8192:]
        places = whole.replace(b"[0, [", b"[64, [", 1)
        panel = b"[%d]" % build.library().panel()  # numbers of a bias that the C code reads
        shorter = whole.replace(panel, b"[4]".ljust(len(panel)))
        made = {
            "cut": whole[:-64], "garbage": b"\0" * len(whole), "empty": b"", "shorter": shorter,
            "a bit": bit, "a page": page, "places": places,
        }[damage]  # fmt: skip
        assert made != whole
        kept.write_bytes(made)
    elif damage == "not private":
        kept.parent.parent.chmod(0o777)
        monkeypatch.setattr(kept_weights.KeptWeights, "get", lambda *_: pytest.fail("read"))
    else:
        shutil.rmtree(kept.parent.parent)
        monkeypatch.setattr(kept_weights, "whole_file", _full)
    assert np.array_equal(numpy_net(small)(X), first)


@pytest.mark.parametrize(("first", "second"), [(1, 2), (1, 4), (0, 0)])
def test_pages_of_a_disk_that_changed_places_are_seen(first: int, second: int, tmp_path: Path) -> None:
    """Weights that are all there, and at each other's places."""
    rng = np.random.default_rng(0)
    piece = tuple(rng.standard_normal(size).astype(np.float32) for size in (2600, 2600))
    kept_weights.KeptWeights(tmp_path).add({"piece": piece})
    (kept,) = tmp_path.glob("*.packed")
    pages = [kept.read_bytes()[at : at + 4096] for at in range(0, kept.stat().st_size, 4096)]
    pages[first], pages[second] = pages[second], pages[first]
    kept.write_bytes(b"".join(pages))
    found = kept_weights.KeptWeights(tmp_path).get("piece")
    if first != second:
        assert found is None
    else:
        assert found is not None and all(np.array_equal(a, b) for a, b in zip(found, piece, strict=True))


def test_what_cannot_be_read_and_not_be_removed_is_passed_over(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that is mounted read-only, say."""
    first = numpy_net(small)(X)
    (kept,) = (small.parent / "packed").glob("*/*.packed")
    content = kept.read_bytes()[:-64]
    kept.write_bytes(content)
    monkeypatch.setattr(Path, "unlink", _read_only)
    monkeypatch.setattr(kept_weights, "whole_file", _read_only)
    assert np.array_equal(numpy_net(small)(X), first)
    assert kept.read_bytes() == content


def _full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def _read_only(*_: object, **__: object) -> None:
    raise OSError(30, "Read-only file system")


def test_a_file_that_was_written_just_now_may_be_written_again(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its times would not tell then; nothing is kept of it."""
    monkeypatch.setattr(kept_weights, "SETTLED", 1e6)
    numpy_net(small)(X)
    assert not list((small.parent / "packed").glob("*/*"))


def test_as_much_is_kept_as_there_is_room_for(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets that were used longest ago go first, and the one at work stays."""
    others = []
    for number in range(3):
        others.append(small.with_name(f"{number}.caffemodel"))
        shutil.copy(small, others[-1])
        numpy_net(others[-1])(X)
    root = small.parent / "packed"
    folders = sorted(root.iterdir(), key=lambda each: each.stat().st_ctime_ns)
    for age, folder in zip((300, 100, 200), folders, strict=True):
        os.utime(folder, (1e9 - age, 1e9 - age))
    size = sum(path.stat().st_size for path in folders[0].iterdir())
    monkeypatch.setattr(kept_weights, "MOST_BYTES", int(2.5 * size))
    numpy_net(small)(X)
    left = set(root.iterdir())
    assert len(left) == 2 and folders[1] in left and folders[0] not in left


def test_nets_for_trial_are_tried_once_for_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Path(build.library()._name)
    (tmp_path / "native").mkdir(mode=0o700)
    shutil.copy(library, tmp_path / "native")
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "native")
    tried: list[int] = []
    monkeypatch.setattr(self_check, "_trial", lambda: tried.append(1))
    try:
        for _ in range(2):
            for function in (build.library, self_check.why_not_any):
                function.cache_clear()
            assert self_check.why_not_any() is None
        assert tried == [1]
    finally:
        for function in (build.library, self_check.why_not_any):
            function.cache_clear()


WIDE = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 256, 40, 40] } } }
layer { name: "a" type: "Convolution" bottom: "x" top: "a" convolution_param { num_output: 256 kernel_size: 3 pad: 1 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b" convolution_param { num_output: 256 kernel_size: 1 } }
layer { name: "c" type: "Convolution" bottom: "b" top: "c" convolution_param { num_output: 256 kernel_size: 3 pad: 1 } }
layer { name: "d" type: "Convolution" bottom: "c" top: "d" convolution_param { num_output: 256 kernel_size: 3 pad: 1 } }
"""


def test_low_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed weights take little more than the weights, at any size, where they take up to four times as much else."""
    monkeypatch.setattr(rounding, "DEEP", 0)  # of so few layers some have small tiles, of less than twice the weights
    spec = prepare(parse_prototxt(WIDE))
    random = np.random.default_rng(0)
    state = {
        state_key((layer, at)): (random.standard_normal(shape) / 30).astype(np.float32)
        for layer, shapes in infer_blobs(spec).items() for at, shape in enumerate(shapes)
    }  # fmt: skip
    count = sum(blob.nbytes for blob in state.values())
    usual, sparing = (NumpyNet(spec, state, threads=1, low_memory=low) for low in (False, True))
    for side in (24, 40):
        x = random.standard_normal((1, 256, side, side)).astype(np.float32)
        assert np.allclose(usual(x), sparing(x), atol=1e-4)
        assert "kernels as they are" in sparing.explain((side, side))
    kept = [
        sum(slot.value.kernels.nbytes for slot in net._runner.weights._packed._slots.values())
        for net in (usual, sparing)
    ]  # fmt: skip
    assert kept[0] > 3 * count and count <= kept[1] < 1.1 * count
    monkeypatch.setattr(kernels, "SPACIOUS", ())
    assert NumpyNet(spec, state, low_memory=True).explain((40, 40)) == usual.explain((40, 40))
