"""The C convolutions are convolutions, round little, and are done without where they cannot be had."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fcn_port
from converters.passes import choosing
from fcn_port.errors import EngineError
from fcn_port.fastpath import engines
from fcn_port.fastpath.kernels import Kernel, make_kernel
from fcn_port.fastpath.lossless import Lossless
from fcn_port.fastpath.native import NativeConvolution, build, why_not
from fcn_port.fastpath.native.division import SHARED_BYTES
from fcn_port.fastpath.program import self_check
from fcn_port.fastpath.winograd import WinogradConvolution
from fcn_port.nets import FCN, FCN8s, Widths
from parity_tests.fastpath.flows import convolution_step
from parity_tests.fastpath.test_kernels import SHORTER
from parity_tests.fastpath.test_winograd import layer
from parity_tests.fastpath.test_zeros import HOW, SOURCES, way_of_the_last
from parity_tests.narrow import image, same
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@pytest.fixture
def looked_at_anew() -> Iterator[None]:
    """As in a process that has no kernels yet."""
    for function in (build.library, why_not, self_check.why_not_any):
        function.cache_clear()
    yield
    for function in (build.library, why_not, self_check.why_not_any):
        function.cache_clear()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at_anew: None) -> Path:
    """As on a machine where nothing was compiled yet."""
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "native")
    return tmp_path / "native"


@pytest.fixture(scope="module")
def compiled() -> Path:
    """What was compiled here; a fixture of a module is made before `empty_cache`."""
    return Path(build.library()._name)


@pytest.fixture
def compiled_already(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be compiled is copied, which saves nine seconds where the compiler is not what a test is about."""
    monkeypatch.setattr(build, "_compile", lambda command, folder: Path(shutil.copy(compiled, folder)))


def error(found: torch.Tensor, module: nn.Conv2d, x: torch.Tensor, padding: int = 0) -> float:
    """Beside the sum in double precision."""
    bias = None if module.bias is None else module.bias.double()
    expected = F.conv2d(x.double(), module.weight.double(), bias, padding=padding).relu()
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def test_it_is_here() -> None:
    """This machine has a compiler, so the other tests are about what it made."""
    assert why_not() is None


@pytest.mark.parametrize("side", [3, 7])
@pytest.mark.parametrize(("h", "w", "pad"), [(9, 9, 0), (13, 22, 0), (8, 31, 1), (7, 7, 3), (61, 45, 0)])
@pytest.mark.parametrize("bias", [True, False])
def test_any_size_padding_and_batch(side: int, h: int, w: int, pad: int, bias: bool) -> None:
    module = layer(64, 96, side, bias=bias)
    x = torch.randn(2, 64, h, w)
    native = NativeConvolution(module, relu=True)
    found = native(x, padding=(pad, pad))
    assert error(found, module, x, pad) <= tolerance("winograd-layer")
    with_margin = torch.randn(2, 64, h + 5, w + 9).contiguous(memory_format=torch.channels_last)
    part = with_margin[:, :, 2 : 2 + h, 4 : 4 + w]
    part.copy_(x)
    assert torch.equal(native(part, padding=(pad, pad)), found)


@pytest.mark.parametrize(("channels", "features", "side"), [(256, 256, 3), (512, 544, 3), (160, 4096, 7)])
def test_blocks_groups_and_threads(channels: int, features: int, side: int) -> None:
    """Layers with large kernels take another way; neither it nor threads change a bit."""
    module = layer(channels, features, side)
    x = torch.randn(1, channels, 50, 27)
    native = NativeConvolution(module, relu=True)
    (packed,) = native._packed
    assert packed.kernels is not None and (packed.kernels.nbytes > SHARED_BYTES) is (features > 256)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(native(x))
    finally:
        torch.set_num_threads(threads)
    assert error(found[0], module, x) <= tolerance("winograd-layer")
    assert all(torch.equal(each, found[0]) for each in found[1:])


@settings(max_examples=12)
@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), batch=st.integers(1, 2))
def test_a_net_at_any_size(size: tuple[int, int], batch: int) -> None:
    """Layers of 64 channels are the narrowest that go this way."""
    net, native = wide_net()
    assert any(isinstance(kernel, NativeConvolution) for kernel in native.state().kernels.values())
    assert same(native(**image(net, size, batch=batch)), net(**image(net, size, batch=batch)))


@cache
def wide_net() -> tuple[FCN, Lossless]:
    torch.manual_seed(0)
    net = FCN8s(num_classes=5, widths=Widths(8, 16, 64, 64, 64, 64, 64)).eval()
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.5)
    net.requires_grad_(False)
    return net, fcn_port.fast(net)


def test_a_value_that_is_not_a_number_stays() -> None:
    x = torch.zeros(1, 64, 20, 20)
    x[0, 3, 10, 10] = float("nan")
    found = NativeConvolution(layer(64, 64, 3), relu=True)(x)
    assert found[0, :, 8:11, 8:11].isnan().all() and not found[..., :4].isnan().any()


def test_where_it_is_used() -> None:
    def kernel(module: nn.Conv2d) -> Kernel:
        return make_kernel(*convolution_step("conv", module), choice="native")

    for module, form in (
        (layer(64, 64, 3), "winograd_3"), (layer(72, 128, 3), "winograd_3"), (layer(3, 64, 3), "product"),
        (layer(64, 64, 1), "product"), (layer(1024, 1024, 1), "strassen_1"),
    ):  # fmt: skip
        found = kernel(module)
        assert isinstance(found, NativeConvolution) and found.form == form
    assert isinstance(kernel(layer(256, 256, 3).double()), WinogradConvolution)


def test_the_comparison_sees_other_points(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    """A compiler that got one number wrong would be found out, and done without.

    Without optimization it is compiled in a third of the time, and no point is another.
    """
    monkeypatch.setenv("FCN_PORT_CFLAGS", "-O0")
    right = build._tables()
    monkeypatch.setattr(build, "_tables", lambda: right.replace("0x1.8000000000000p+0", "0x1.8010000000000p+0"))
    assert build._tables() != right
    assert "differs from sums in double precision" in str(why_not())


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"FCN_PORT_NATIVE": "0"}, "FCN_PORT_NATIVE=0"),
        ({"CC": "no-such-compiler"}, "no-such-compiler"),
        ({"CC": "false"}, "false"),
        ({"CC": 'cc "-O1'}, "CC is 'cc \"-O1', which a shell cannot read: no closing quotation"),
        ({"FCN_PORT_CFLAGS": "\\"}, "FCN_PORT_CFLAGS is '\\\\', which a shell cannot read: no escaped character"),
        ({"CC": f"{sys.executable} -c 'import sys; sys.exit(sys.argv[1] != \"--version\")'"}, "exit status 1"),
    ],
)
def test_without_a_compiler(
    variables: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert reason in str(why_not())
    with pytest.raises(EngineError, match="--engine torch"):
        engines.make("native", fcn_port.build("voc-fcn8s"))
    step, blobs = convolution_step("conv4_1", layer(64, 128, 3))
    assert isinstance(make_kernel(step, blobs, choice="native"), WinogradConvolution)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FCN_PORT_NATIVE", "junk", "FCN_PORT_NATIVE is 'junk', which is neither 0 nor 1, and taken for 1"),
        ("FCN_PORT_CFLAGS", "--junk", "not compiled: .* with FCN_PORT_CFLAGS=--junk: .*junk"),
        ("FCN_PORT_CFLAGS", "'", "FCN_PORT_CFLAGS is .*, which a shell cannot read"),
    ],
)
def test_a_variable_that_says_nothing_is_told(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    """It was passed over: nets ran as if it had not been set, or by PyTorch, without a word."""
    monkeypatch.setenv(variable, value)
    if variable == "FCN_PORT_NATIVE":
        monkeypatch.setenv("CC", "false")  # which is quicker
    with pytest.warns(UserWarning, match=said):
        why_not()


@pytest.mark.usefixtures("looked_at_anew")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="no processor with several kinds")
def test_processors_with_shorter_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compiled for them is checked by `why_not`, and once more on a layer with odd sizes.

    The shortest registers have their test in test_native_alone.py. Products for few outputs leave no zeros out there,
    as two rows of sums wait for each other; rows of few numbers go two by two although none is 0, as a product of six
    takes long to end (program/pace.py).
    """
    monkeypatch.setenv("FCN_PORT_CFLAGS", SHORTER)
    assert why_not() is None and build.library().panel() < 32
    module = layer(64, 96, 3)
    x = torch.randn(2, 64, 31, 45)
    assert error(NativeConvolution(module, relu=True)(x), module, x) <= tolerance("winograd-layer")
    assert self_check.why_not_any() is None  # every other kernel
    behind, _ = SOURCES["a ReLU"]
    assert HOW not in way_of_the_last(behind, 16) and HOW in way_of_the_last(behind, 96)
    few = """layer { name: "r" type: "Convolution" bottom: "y" top: "r" convolution_param {
        num_output: 16 kernel_size: 1 } }"""
    assert HOW in way_of_the_last(few, 96)


@pytest.mark.usefixtures("compiled_already")
def test_it_is_compiled_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not() is None
    (kept,) = empty_cache.glob("*.so")
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("compiled again"))
    for function in (build.library, why_not, self_check.why_not_any):
        function.cache_clear()
    assert why_not() is None
    other = empty_cache.parent / "other.c"
    other.write_text(build._SOURCES[-1].read_text() + "\n")
    monkeypatch.setattr(build, "_SOURCES", (*build._SOURCES[:-1], other))
    assert not kept.name.startswith(build._name(["cc"]))


@pytest.mark.usefixtures("compiled_already")
def test_a_cache_that_cannot_be_written(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "file" / "native")
    assert why_not() is None


def test_the_trial_is_not_of_inputs_that_somebody_chose() -> None:
    """The first `predict --input data=...` on a machine ended: the net for trial has no input 'data'."""
    with choosing(input_shapes={"data": (1, 3, 8, 8), "x": (1, 3, 8, 8)}):
        assert self_check._trial() is None
