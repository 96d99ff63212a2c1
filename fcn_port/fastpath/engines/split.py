"""The early and the late layers of a net as two models that take images of any size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from converters.execution import misfit
from converters.layers import crop
from converters.net import Interval

from ...errors import EngineError
from ...nets.fcn import FCN
from ...nets.net import Wrapper
from ..background import Background
from ..graph import StepGraph, weights_of
from ..lossless import Lossless
from ..lru_cache import Lock, LRUCache
from ..plan import Plan
from ..watch import WeightsWatch

Arrays = dict[str, Tensor]
Model = Callable[[Mapping[str, Tensor]], Arrays]
"""Runs on (n, c, h, w) float32 tensors on the CPU, by name."""
Models = tuple[Model, Model]
"""The early and the late layers."""

Weights = Mapping[str, list[Tensor]]
"""Learnable blobs by step."""

TOLERANCE = 2e-5
"""Of the largest score: an engine that differs from PyTorch by more is refused."""


class SplitEngine(Wrapper):
    """A net run by an engine: the call and the numbers of the net, CPU and float32 only, without gradients.

    The first input of each size, up to a multiple of the strides, is checked against PyTorch; EngineError where a score
    is off by more than 2e-5 of the largest. Other numbers of pixels run in the same models: nothing is compiled again
    until the net's weights or layers are others.
    """

    def __init__(self, net: FCN, *, name: str, build: Callable[[SplitEngine], Models]) -> None:
        super().__init__()
        self.lossless = Lossless(net)
        self.name = name
        self._build, self._making = build, Lock()
        self._make()

    def _make(self) -> None:
        """Build the models of the weights as they are now, and of the layers that `lossless` has read."""
        watch = WeightsWatch(self.net)
        self._refuse_others(self.net.state_dict().values())
        self.period = self._period()
        self.last_crops = last_crops(self.reference_plan(), self.lossless.graph)
        self._checked: LRUCache[bool] = LRUCache(4096)
        try:
            self._early, self._late = self._build(self)
        except (EngineError, OSError, MemoryError):
            raise
        except Exception as error:  # of whatever kind an engine raises about a layer that it does not have
            said = " ".join(str(error).split())[-300:]
            raise EngineError(f"{self.name} does not take this net; use --engine torch ({said})") from error
        self._watch = watch  # where a model cannot be built, the next pass tries again

    def extra_repr(self) -> str:
        """The settings that rounding depends on."""
        return f"engine={self.name}"

    @property
    def net(self) -> FCN:  # type: ignore[override]
        """The net that the engine stands for."""
        assert isinstance(self.lossless.net, FCN)
        return self.lossless.net

    @property
    def engine(self) -> str:
        return self.name

    def explain(self, size: tuple[int, int]) -> str:
        return f"{self.name}: {self.lossless.explain(size)}"

    def reference_plan(self) -> Plan:
        """The plan whose margins hold for all multiples of the strides."""
        return self.lossless.plan((8 * self.period, 8 * self.period), margins_computed=True)

    def constants(self) -> Background:
        """The background of the reference plan, on the CPU."""
        return self.lossless.state().backgrounds.of(self.reference_plan(), torch.zeros(0))

    def weights(self) -> Weights:
        """The learnable blobs of each step."""
        state = self.net.state_dict()
        return {step.top: weights_of(state, step) for step in self.lossless.graph.steps}

    def _period(self) -> int:
        plan = self.lossless.plan((64, 64))
        if not plan.early:
            raise EngineError(f"{self.name}: nothing of this net can be skipped; run it as it is")
        return math.lcm(*(plan.blobs[step.top].rows.stride for step in plan.early))

    def forward(self, /, *args: Tensor, **inputs: Tensor) -> Any:
        self._refuse_others((*args, *inputs.values()))
        wrong = misfit(self.inputs, self.net.parameters(), args, inputs)
        if wrong is not None:  # which engines would say in words of their own
            raise wrong
        inputs = {**dict(zip(self.lossless.graph.inputs, args, strict=False)), **inputs}
        if not self._watch.is_same():
            with self._making:
                if not self._watch.is_same():
                    self.lossless.state()  # reads the layers again
                    self._make()
        if len({(len(x), *x.shape[2:]) for x in inputs.values()}) > 1:  # the net says whether they go together
            return self.lossless(**inputs)
        first = next(iter(inputs.values()))
        key = (first.shape[0], *(self._rounded(side) for side in first.shape[-2:]))
        with torch.no_grad():
            found = self._run(inputs)
            self._checked.get(key, lambda: self._check(inputs, found))
        return found if len(found) > 1 else next(iter(found.values()))

    def _refuse_others(self, tensors: Iterable[Any]) -> None:
        for x in tensors:
            if isinstance(x, Tensor) and (x.device.type != "cpu" or x.dtype != torch.float32):
                raise EngineError(f"{self.name} takes float32 on the CPU, not {x.dtype} on {x.device}")

    def _run(self, inputs: Mapping[str, Tensor]) -> Arrays:
        blobs = dict(inputs)
        h, w = next(iter(inputs.values())).shape[-2:]
        size = (h, w)
        plan = self.lossless.plan(size)
        kernels = self.lossless.state().kernels
        for step in plan.front:
            blobs[step.top] = kernels[step.top](*(blobs[name] for name in step.bottoms))
        bottoms = {name for step in plan.early for name in step.bottoms if plan.blobs[name].zero}
        parts = self._early({name: self._enlarged(blobs[name]) for name in bottoms})
        tops = self._late(self._assembled(plan, parts))
        return {
            name: tops[blob][..., offset : offset + size[0], offset : offset + size[1]].contiguous()
            for name, (blob, offset) in self.last_crops.items()
        }

    def _rounded(self, side: int) -> int:
        return -(-side // self.period) * self.period

    def _enlarged(self, x: Tensor) -> Tensor:
        """An image with zeros to its right and below, up to a multiple of the strides."""
        h, w = x.shape[-2:]
        return nn.functional.pad(x, (0, self._rounded(w) - w, 0, self._rounded(h) - h)).contiguous()

    def _assembled(self, plan: Plan, parts: Arrays) -> Arrays:
        """The cut blobs whole: what the image changes laid over the response to an empty one."""
        like = next(iter(parts.values()))
        background = self.lossless.state().backgrounds.of(plan, like)
        result = {}
        for name, part in parts.items():
            blob = plan.blobs[name]
            whole = background.cut[name].expand(len(part), -1, -1, -1).clone(memory_format=torch.contiguous_format)
            origin = Interval(0, 0)
            seen = part[:, :, : blob.seen.rows.size, : blob.seen.cols.size]
            whole[:, :, blob.seen.rows.within(origin), blob.seen.cols.within(origin)] = seen
            result[name] = whole
        return result

    def _check(self, inputs: Mapping[str, Tensor], found: Arrays) -> bool:
        expected = self.lossless(**inputs)
        for name, scores in expected.items() if isinstance(expected, dict) else zip(found, [expected], strict=True):
            mine = found[name]
            if torch.equal(mine, scores) or bool((mine.isnan() & scores.isnan()).all()):
                continue  # also where all are 0, as before training, or none is a number
            error = float((mine - scores).abs().max() / scores.abs().max())
            if not error <= TOLERANCE:
                size = "x".join(map(str, scores.shape[-2:]))
                raise EngineError(
                    f"{self.name}: {name} at {size} differs from PyTorch by {error:.1e} of its largest score; "
                    "use --engine torch, and please report it"
                )
        return True


def last_crops(plan: Plan, graph: StepGraph) -> dict[str, tuple[str, int]]:
    """The blobs that a net's outputs are cut from: {output: (the late layers' blob, crop offset)}.

    The last crops are left to the caller of the models: they need the image's size, and cost nothing.
    """
    images = {*graph.inputs, *(step.top for step in plan.front)}
    crops = [(step, step.params) for step in plan.late if step.bottoms[-1] in images]
    return {
        step.top: (step.bottoms[0], params.offset_along(2)) for step, params in crops if isinstance(params, crop.Crop)
    }
