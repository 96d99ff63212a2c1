"""Replaying a net for sizes that come again: one launch for the whole net instead of one for each kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .kept import Kept
from .lossless import Lossless, identity


@dataclass(frozen=True)
class _Recording:
    """A recorded pass, with the memory that it reads its inputs from and leaves its output in.

    `held` is what else it reads by address, and what must therefore live as long as it does.
    """

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    output: Any
    held: object


class Replayed(nn.Module):
    """A net on CUDA whose passes are recorded at the second input of a shape and replayed from then on.

    The call, the output and the numbers are the net's, without gradients. At most `shapes` recordings are kept; each
    holds its activations. Changed weights are noticed.
    """

    def __init__(self, net: nn.Module, *, shapes: int = 8) -> None:
        super().__init__()
        self.net = net
        self._seen: Kept[bool] = Kept(1024)
        self._recordings: Kept[_Recording] = Kept(shapes)

    def forward(self, *args: Tensor, **inputs: Tensor) -> Any:
        channels: dict[str, int] = self.net.inputs  # type: ignore[assignment]
        inputs = {**dict(zip(channels, args, strict=False)), **inputs}
        key = (identity(self.net), *((name, tuple(x.shape), x.dtype, x.device) for name, x in sorted(inputs.items())))
        if not all(x.is_cuda for x in inputs.values()) or not self._is_repeated(key):
            return self.net(**inputs)
        recording = self._recordings.get(key, lambda: self._record(inputs))
        for name, x in inputs.items():
            recording.inputs[name].copy_(x)
        recording.graph.replay()
        return _clone(recording.output)

    def _is_repeated(self, key: object) -> bool:
        before = len(self._seen)
        self._seen.get(key, lambda: True)
        return len(self._seen) == before

    def _record(self, inputs: dict[str, Tensor]) -> _Recording:
        """Run the net on the side, so that it prepares all that is kept between passes, and then record it."""
        own = {name: x.clone() for name, x in inputs.items()}
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.no_grad():
            for _ in range(2):
                self.net(**own)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph), torch.no_grad():
            output = self.net(**own)
        held = self.net.held(own) if isinstance(self.net, Lossless) else list(self.net.state_dict().values())
        return _Recording(graph, own, output, held)


def _clone(output: Any) -> Any:
    if isinstance(output, dict):
        return {name: scores.clone() for name, scores in output.items()}
    return output.clone()
