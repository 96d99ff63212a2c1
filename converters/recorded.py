"""Graphs that PyTorch records of what runs, in which there is only what its own functions do."""

from __future__ import annotations

import sys


def is_recorded() -> bool:
    """True where PyTorch compiles, exports or traces what runs, or `make_fx` writes it down."""
    import torch

    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return True
    proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")  # an import takes as long as all of this does
    return proxies is not None and proxies.get_proxy_mode() is not None
