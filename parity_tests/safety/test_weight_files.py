"""Weights from a stranger: damage ends in our errors, and memory follows the size of the file."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import fcn_port
from converters import CaffeFormatError, MismatchError, convert
from converters.export.safetensors import header_bytes
from converters.formats import prototxt
from fcn_port import pth
from fcn_port.loading import read_weights
from fcn_port.nets import FCN8s, FCN32s, FCN32sColorDepth, Widths
from fcn_port.recording import golden_errors
from fcn_port.surgery import initialise
from fcn_port.verification import verify
from parity_tests.goldens import formats
from parity_tests.limited import linux_only, run_limited

NET = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: %d kernel_size: %d } }"""


def saved(state: object, *, legacy: bool = False) -> bytes:
    out = io.BytesIO()
    torch.save(state, out, _use_new_zipfile_serialization=not legacy)
    return out.getvalue()


def zipped(pickled: bytes, *, compression: int = zipfile.ZIP_STORED, **records: bytes) -> bytes:
    """A .pth with this pickle, and `data/0` and so on."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/version", b"3\n")
        for name, data in records.items():
            archive.writestr(f"x/data/{name.removeprefix('_')}", data)
    return out.getvalue()


def tensor(count: int, size: str, stride: str, *, storage: str = "FloatStorage", key: str = "0") -> str:
    """The pickle of a tensor in text: `size` and `stride` are "(", numbers and "t"."""
    return (
        f"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\n{storage}\nX\1\0\0\0{key}X\3\0\0\0cpu"
        f"{number(count)}tQK\0{size}{stride}\x89ccollections\nOrderedDict\n)RtR"
    )


def number(value: int) -> str:
    return "J" + struct.pack("<i", value).decode("latin1")


def state_of(value: str) -> bytes:
    """The pickle of {"a.weight": value}."""
    return f"\x80\2}}X\x08\0\0\0a.weight{value}s.".encode("latin1")


def safetensors(header: dict[str, object], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data


def entry(shape: list[int], size: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}


BILLION = 1_000_000_000
TENSORS: dict[str, tuple[Callable[[], bytes], str]] = {
    "an expanded tensor": (lambda: saved({"a.weight": torch.zeros(1).expand(BILLION)}), "values in a storage of 1"),
    "an expanded tensor, legacy": (
        lambda: saved({"a.weight": torch.zeros(1).expand(BILLION)}, legacy=True),
        "values in a storage of 1",
    ),
    "a size beyond its storage": (
        lambda: zipped(state_of(tensor(4, f"({number(BILLION)}t", "(K\1t")), _0=b"\0" * 16),
        "values in a storage of 4",
    ),
    "a storage beyond the file": (
        lambda: zipped(state_of(tensor(BILLION, f"({number(BILLION)}t", "(K\1t")), _0=b"\0" * 16),
        "the file has",
    ),
    "one storage, a thousand tensors": (
        lambda: saved({f"{i}.weight": OVERLAPPING[i : i + 1_000_000] for i in range(1000)}),
        "pth.ALLOWANCE",
    ),
    "a zip bomb": (
        lambda: zipped(
            state_of(tensor(1 << 28, f"({number(1 << 28)}t", "(K\1t")),
            compression=zipfile.ZIP_DEFLATED,
            _0=bytes(1 << 28),
        ),
        "unpacks to",
    ),
    "a bytearray": (lambda: zipped(state_of(f"c__builtin__\nbytearray\n({number(BILLION)}tR")), "bytearray"),
    "a tensor by its class": (lambda: zipped(state_of(f"ctorch\nFloatTensor\n({number(BILLION)}tR")), "FloatTensor"),
    "a dict copied and copied": (
        lambda: zipped(
            b"\x80\2}q\0(" + b"".join(b"J%bK\0" % struct.pack("<i", i) for i in range(20_000)) + b"u(ccollections\n"
            b"OrderedDict\nq\1" + b"h\1h\0\x85R" * 20_000 + b"t."
        ),
        "a call of collections OrderedDict",
    ),
    "attributes copied and copied": (
        lambda: zipped(
            b"\x80\2}q\0(" + b"".join(b"J%bK\0" % struct.pack("<i", i) for i in range(20_000)) + b"u(ccollections\n"
            b"OrderedDict\nq\1" + b"h\1)Rh\0b" * 20_000 + b"t."
        ),
        "sets attributes",
    ),
    "a length that lies": (lambda: b"\x80\4\x8d" + struct.pack("<Q", 5 << 30) + b"x" * 40, "not a PyTorch state dict"),
    "weights much smaller than the net": (
        lambda: safetensors(
            {"a.weight": entry([1, 3, 1, 1], 12), "__metadata__": {"prototxt": NET % (10_000_000, 8)}}, bytes(12)
        ),
        "a.weight",
    ),
    "a definition without end": (
        lambda: safetensors(
            {"a.weight": entry([1], 4), "__metadata__": {"prototxt": "#" + "x" * (prototxt.MAX_BYTES + 1)}}, bytes(4)
        ),
        "more than 4 MiB of text, the limit",
    ),
}
OVERLAPPING = torch.zeros(1_001_000)

LOAD = """
from pathlib import Path
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        fcn_port.load(path)
    except CaffeFormatError as error:
        assert "memory" not in error.problem, error
        print(error.problem.replace(chr(10), " "))
    else:
        raise SystemExit(f"{path} was read")
"""


@linux_only
def test_memory_follows_the_size_of_the_file(tmp_path: Path) -> None:
    """All of them in one process that may take 300 MB more."""
    for number_, (make, _) in enumerate(TENSORS.values()):
        (tmp_path / f"{number_:02}").write_bytes(make())
    imports = "import fcn_port, fcn_port.loading\nfrom converters import CaffeFormatError"
    found = run_limited(LOAD, str(tmp_path), imports=imports, more=300 << 20).splitlines()
    for name, line in zip(TENSORS, found, strict=True):
        assert TENSORS[name][1] in line, (name, line)


class Own(torch.Tensor):
    """A class that no other program has."""


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)


ODD: dict[str, tuple[object, str]] = {
    "quantized": ({"a.weight": 0}, "QInt8"),
    "sparse": ({"a.weight": torch.eye(3).to_sparse()}, "sparse"),
    "nested": ({"a.weight": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])}, "nested"),
    "without values": ({"a.weight": torch.zeros(3, device="meta")}, "without values"),
    "complex": ({"a.weight": torch.zeros(3, dtype=torch.complex64)}, "ComplexFloat"),
    "float8": ({"a.weight": torch.zeros(3).to(torch.float8_e4m3fn)}, "type that Caffe does not know"),
    "no tensors": ({"a.weight": 1.5, "b": [torch.zeros(2)]}, "float"),
    "keys that are no text": ({1: torch.zeros(2), None: torch.zeros(2)}, "no state dict"),
    "a tensor alone": (torch.zeros(2), "no state dict"),
    "a list": ([torch.zeros(2)], "no state dict"),
    "nothing": (None, "no state dict"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_what_is_no_state_dict_of_dense_tensors_is_named(name: str, legacy: bool, tmp_path: Path) -> None:
    state, problem = ODD[name]
    if name == "quantized":
        state = {"a.weight": quantized()}
    path = tmp_path / "net.pth"
    path.write_bytes(saved(state, legacy=legacy))
    with pytest.raises(CaffeFormatError, match=problem) as error:
        fcn_port.load(path)
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_saves_of_nets_is_read(legacy: bool, tmp_path: Path) -> None:
    """Views, tied weights, parameters, half precision, `_metadata` and checkpoints."""
    weight = torch.arange(12.0).reshape(3, 4)
    state = OrderedDict(
        {"a": weight.t(), "b": weight[1:], "c": torch.nn.Parameter(weight), "d": weight, "e": weight.half()}
    )
    state._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]
    for content in (state, {"epoch": 3, "rate": [0.1, None, True], "model_state_dict": state}):
        path = tmp_path / "net.pth"
        path.write_bytes(saved(content, legacy=legacy))
        found = pth.read_pth(path, "Python pickle" if legacy else "zip archive")
        assert all(torch.equal(found[key], value) and not found[key].requires_grad for key, value in state.items())


def test_damaged_files_of_pytorch_end_in_our_errors(tmp_path: Path) -> None:
    """Before the pickle was judged, one in seven ended in an error of torch's own."""
    r = random.Random(7)
    wholes = [
        saved({"a.weight": torch.zeros(4, 3), "a.bias": torch.ones(4)}, legacy=legacy) for legacy in (True, False)
    ]
    with zipfile.ZipFile(io.BytesIO(wholes[1])) as archive:
        pickled = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    for _ in range(600):
        damaged = bytearray(r.choice([pickled, pickled, *wholes]))
        inside = len(damaged) == len(pickled)
        for _ in range(r.choice([1, 1, 2, 4])):
            here = r.randrange(len(damaged))
            match r.randrange(4):
                case 0:
                    damaged[here] = r.choice(b"(.0NRabdehqstuGJKMQUX]}\x80\x81\x85\x86\x87\x88\x8a")
                case 1:
                    damaged[here] ^= 1 << r.randrange(8)
                case 2:
                    del damaged[here : here + r.choice([1, 2, 9])]
                case _:
                    damaged[here:here] = damaged[here : here + r.choice([1, 5, 20])]
        path = tmp_path / "net.pth"
        path.write_bytes(zipped(bytes(damaged), _0=bytes(48), _1=bytes(16)) if inside else bytes(damaged))
        with pytest.raises(CaffeFormatError, match=r"net\.pth"):
            fcn_port.load(path)


@pytest.mark.parametrize("what", ["folder", "pipe", "device", "empty", "none"])
def test_what_is_no_file_is_an_error_of_ours(what: str, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path = Path("/dev/zero")
        case "empty":
            path.touch()
    with pytest.raises(FileNotFoundError if what == "none" else CaffeFormatError, match=path.name):
        fcn_port.load(path)


def test_pickles_with_a_stranger_s_program_still_do_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    for protocol in range(2, 6):
        (tmp_path / "net.pth").write_bytes(zipped(pickle.dumps({"a": Evil()}, protocol=protocol)))
        with pytest.raises(CaffeFormatError):
            fcn_port.load(tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("dtype", "shape", "data"), [("C64", [1], 8), ("F8_E4M3", [4], 4), ("F4", [4], 2), ("F32", [1] * 40, 4)]
)
def test_tensors_that_no_blob_of_caffe_is_like(dtype: str, shape: list[int], data: int, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors({"a.weight": entry(shape, data, dtype)}, bytes(data)))
    with pytest.raises(CaffeFormatError, match="expected real numbers"):
        fcn_port.load(path)


# What is made of the weights


NARROW = Widths(2, 2, 2, 2, 2, 2, 2)
BADLY_SHAPED = {
    "a weight without axes": {"conv1_1.weight": torch.zeros(())},
    "a weight with another number of axes": {"conv1_1.weight": torch.zeros(2, 3)},
    "no filters to widen": {"conv1_1.weight": torch.zeros(2, 0, 3, 3)},
    "a bias of another length": {"conv1_1.bias": torch.zeros(7)},
    "whole numbers": {"conv1_1.weight": torch.ones(2, 3, 3, 3, dtype=torch.int64)},
    "a score without axes": {"score_fr.weight": torch.zeros(()), "score_fr.bias": torch.zeros(())},
    "a score's bias without axes": {"score_fr.bias": torch.zeros(())},
}


@pytest.mark.parametrize("name", BADLY_SHAPED)
@pytest.mark.parametrize("net_class", [FCN8s, FCN32sColorDepth])
def test_surgery_with_weights_of_any_shape(name: str, net_class: type, tmp_path: Path) -> None:
    state = {**FCN32s(2, widths=NARROW).state_dict(), **BADLY_SHAPED[name]}
    (tmp_path / "x.pth").write_bytes(saved(state))
    source = read_weights(tmp_path / "x.pth").state
    for expand in (True, False):
        with contextlib.suppress(MismatchError):
            initialise(net_class(3, widths=NARROW), source, expand_scores=expand)
    with contextlib.suppress(CaffeFormatError):
        fcn_port.load(tmp_path / "x.pth")


@pytest.mark.parametrize("shape", [(), (0,), (1 << 40, 0), (2, 2), (0, 3, 3, 3), (1 << 40, 0, 3, 3)])
def test_weights_of_odd_shapes_under_the_names_of_a_net(shape: tuple[int, ...], tmp_path: Path) -> None:
    whole = FCN32s(2, widths=NARROW).state_dict()
    for key in ("conv1_1.weight", "fc7.weight", "score_fr.weight", "upscore.weight"):
        (tmp_path / "x.pth").write_bytes(saved({**whole, key: torch.zeros(shape)}))
        with pytest.raises(CaffeFormatError, match=r"x\.pth"):
            fcn_port.load(tmp_path / "x.pth")


def test_verify_compares_what_has_other_types_or_no_finite_values(tmp_path: Path) -> None:
    source = formats("v1-mini.caffemodel")
    convert(source, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        state, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    for change in (
        torch.Tensor.bfloat16,
        torch.Tensor.bool,
        lambda x: torch.full_like(x, torch.nan),
        torch.Tensor.half,
    ):
        save_file({key: change(value) for key, value in state.items()}, tmp_path / "y.safetensors", metadata)
        assert not next(verify(tmp_path / "y.safetensors", source)).ok


GOLDENS: dict[str, Callable[[Path], object]] = {
    "a bomb": lambda path: np.savez_compressed(path, data=np.zeros(1 << 26, np.float32)),
    "texts": lambda path: np.savez(path, data=np.array(["a"])),
    "another input": lambda path: np.savez(path, data=np.zeros((1, 2, 3), np.float32)),
    "not of this net": lambda path: np.savez(path, x=np.zeros(3, np.float32)),
    "an object": lambda path: np.savez(path, data=np.array([None]), allow_pickle=True),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "no archive": lambda path: path.write_bytes(b"PK\5\6"),
}


@pytest.mark.parametrize("name", GOLDENS)
def test_recordings_that_cannot_be_are_refused(name: str, tmp_path: Path) -> None:
    GOLDENS[name](tmp_path / "x.npz")
    with pytest.raises(CaffeFormatError, match=r"x\.npz"):
        golden_errors(FCN32s(2, widths=NARROW), tmp_path / "x.npz")


@linux_only
def test_a_definition_alone_takes_no_memory_that_it_may_not_have(tmp_path: Path) -> None:
    (tmp_path / "x.prototxt").write_text(NET % (10_000_000, 8))
    code = """
try:
    export(sys.argv[1], to="python", out=sys.argv[1] + ".py")
except MismatchError as error:
    print("MOST_RANDOM_BYTES" in str(error))
"""
    imports = "from fcn_port.exporting import export\nfrom converters import MismatchError"
    found = run_limited(code, str(tmp_path / "x.prototxt"), imports=imports, more=300 << 20)
    assert found == "True\n" and not (tmp_path / "x.prototxt.py").exists()


def test_a_name_that_is_no_unicode_is_refused_before_a_file_is_written() -> None:
    for tensors, metadata in (({"\ud800": np.zeros(1, np.float32)}, {}), ({}, {"a": "\udcff"}), ({}, {"\ud800": "a"})):
        with pytest.raises(CaffeFormatError, match="not Unicode"):
            header_bytes(tensors, metadata)
