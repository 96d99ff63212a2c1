"""Replaying a net for sizes that come again: one launch for the whole net instead of one for each kernel."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fcn_port.fastpath.lru_cache import Lock, LRUCache
from fcn_port.fastpath.watch import WeightsWatch
from fcn_port.nets.net import Wrapper


@dataclass(frozen=True)
class _Recording:
    """A recorded pass, with the memory that it reads its inputs from and leaves its output in.

    `held` is what else it reads by address, and what must therefore live as long as it does. It serves one caller at a
    time: `lock`, and on the device `done`, which is behind the last one's work.
    """

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    output: Any
    held: object
    lock: threading.Lock = field(default_factory=threading.Lock)
    done: torch.cuda.Event = field(default_factory=torch.cuda.Event)

    def replay(self, inputs: dict[str, Tensor]) -> Any:
        """The output for these inputs."""
        with self.lock:
            stream = torch.cuda.current_stream()
            stream.wait_event(self.done)
            for name, x in inputs.items():
                self.inputs[name].copy_(x)
            self.graph.replay()
            output = _clone(self.output)
            self.done.record(stream)
            return output


_recording = threading.Lock()
"""One recording at a time in a process."""


class Replayed(Wrapper):
    """A net on CUDA whose passes are recorded at the second input of a shape and replayed from then on.

    The call, the output and the numbers are the net's, without gradients. At most `shapes` recordings are kept; each
    holds its activations. Changed weights are noticed.
    """

    def __init__(self, net: nn.Module, *, shapes: int = 8) -> None:
        super().__init__()
        self.net = net
        self._watch, self._weights, self._looking = WeightsWatch(net), 0, Lock()
        self._seen: LRUCache[bool] = LRUCache(1024)
        self._recordings: LRUCache[_Recording] = LRUCache(shapes)

    def forward(self, *args: Tensor, **inputs: Tensor) -> Any:
        inputs = {**dict(zip(self.inputs, args, strict=False)), **inputs}
        key = (self._weights_now(), *((name, tuple(x.shape), x.dtype, x.device) for name, x in sorted(inputs.items())))
        if not all(x.is_cuda for x in inputs.values()) or not self._is_repeated(key):
            return self.net(**inputs)
        return self._recordings.get(key, lambda: self._record(inputs)).replay(inputs)

    def _weights_now(self) -> int:
        """A number for the weights as they are, another one whenever somebody has changed them."""
        with self._looking:
            if not self._watch.is_same():
                self._watch, self._weights = WeightsWatch(self.net), self._weights + 1
            return self._weights

    def _is_repeated(self, key: Hashable) -> bool:
        return not self._seen.add(key)

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
        with _recording, torch.cuda.graph(graph, capture_error_mode="thread_local"), torch.no_grad():
            output = self.net(**own)
        return _Recording(graph, own, output, held=self.reads(own))


def _clone(output: Any) -> Any:
    if isinstance(output, dict):
        return {name: scores.clone() for name, scores in output.items()}
    return output.clone()
