"""A maximum pooling's kernel (see ../kernels.py) by the C code."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from converters.layers import pooling

from ..program.choice import KernelChoice
from ..program.places import BlobPlace
from ..program.task import NativeTask
from ..program.weights import Packed
from .steps import NONE

Pair = tuple[int, int]


class NativePool:
    """Maximum of each window, rounded up or down as the layer does."""

    def __init__(self, params: pooling.Pooling, plain: Callable[..., Tensor]) -> None:
        """`plain` computes the same by PyTorch."""
        self._params, self._plain = params, plain

    def __call__(self, *bottoms: Tensor, padding: Pair | None = None) -> Tensor:
        return self._plain(*bottoms, padding=padding)

    def tasks(self, x: BlobPlace, y: BlobPlace, *, pad: Pair | None = None, threads: int) -> list[NativeTask]:
        """The step that writes y, from windows of which the first begins `pad` rows and columns before x."""
        pad = self._params.pad if pad is None else pad
        kernel = KernelChoice("pool_max", self._params.kernel, self._params.stride, pad)
        return [NativeTask("pool_max", x, y, None, Packed(), kernel.settings(NONE))]
