"""Graphs that PyTorch records of what runs, in which there is only what its own functions do."""

from __future__ import annotations


def is_recorded() -> bool:
    """True where PyTorch compiles, exports or traces what runs, or `make_fx` writes it down."""
    import torch
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    return bool(torch.compiler.is_compiling() or torch.jit.is_tracing() or get_proxy_mode() is not None)
