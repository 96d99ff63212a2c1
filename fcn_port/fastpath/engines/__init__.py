"""Other programs that run a net's lossless graph, and how to choose one.

    fast = fcn_port.fastpath.engines.make("openvino", net)

`native` is `fcn_port.fast`, the fastest; it needs a C compiler once. `torch` is the same in plain PyTorch, and `direct`
that without Winograd's filtering. The others convolve directly, too: they are for those who have them in use, and to
compare with.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import cast, get_args, overload

from torch import nn

from ...errors import EngineError
from ...nets.fcn import FCN
from ...nets.net import Net
from ..kernels import Choice
from ..known_engines import ENGINES, EXTRAS
from ..lossless import fast
from ..native import why_not
from .split import SplitEngine

__all__ = ["ENGINES", "EngineError", "installed", "make"]


def installed(name: str) -> bool:
    """True where everything that the engine needs is there."""
    return all(find_spec(module) is not None for module in ENGINES[name])


@overload
def make(name: str, net: Net) -> Net: ...
@overload
def make(name: str, net: nn.Module) -> nn.Module: ...
def make(name: str, net: nn.Module) -> nn.Module:
    """A module with the call and the numbers of `net`, run by the engine called `name`.

    Raises ValueError for an unknown name, EngineError where the engine is not installed or cannot run this net.
    """
    if name not in ENGINES:
        raise ValueError(f"there is no engine '{name}'; known: {', '.join(ENGINES)}")
    if name == "native" and (reason := why_not()) is not None:
        raise EngineError(f"native code cannot be had here: {reason}; --engine torch needs none")
    if name in get_args(Choice):
        return fast(net, convolutions=cast(Choice, name))
    if not isinstance(net, FCN):
        raise EngineError(f"{name} runs the nets written out by hand, and this is a {type(net).__name__}")
    if not installed(name):
        raise EngineError(f"{name} is not installed: pip install 'fcn-port[{EXTRAS[name]}]'")
    return SplitEngine(net, name=name, build=import_module(f".{name}", __name__).build)
