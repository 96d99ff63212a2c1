"""Other programs that run a net's lossless graph, and how to choose one.

    fast = fcn_port.inference.engines.make("openvino", net)

`torch` is `fcn_port.fast`, needs nothing, starts soonest and is the fastest. `direct` is the same without Winograd's
filtering. The others convolve directly, too: they are for those who have them in use, and to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from torch import nn

from ...errors import EngineError
from ...nets.parts import FCN
from ..lossless import fast
from .split import SplitEngine

__all__ = ["ENGINES", "EngineError", "installed", "make"]

ENGINES: Mapping[str, tuple[str, ...]] = {
    "torch": (),
    "direct": (),
    "compile": (),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
}
"""What each engine needs beside PyTorch."""

_EXTRAS = {"onnxruntime": "onnx", "openvino": "openvino"}


def installed(name: str) -> bool:
    """Whether everything that the engine needs is there."""
    return all(find_spec(module) is not None for module in ENGINES[name])


def make(name: str, net: nn.Module) -> nn.Module:
    """A module with the call and the numbers of `net`, run by the engine called `name`.

    Raises ValueError for an unknown name, EngineError where the engine is not installed or cannot run this net.
    """
    if name not in ENGINES:
        raise ValueError(f"there is no engine '{name}'; known: {', '.join(ENGINES)}")
    if name in ("torch", "direct"):
        return fast(net, winograd=name == "torch")
    if not isinstance(net, FCN):
        raise EngineError(f"{name} runs the nets written out by hand, and this is a {type(net).__name__}")
    if not installed(name):
        raise EngineError(f"{name} is not installed: pip install 'fcn-port[{_EXTRAS[name]}]'")
    return SplitEngine(net, name=name, build=import_module(f".{name}", __name__).build)
