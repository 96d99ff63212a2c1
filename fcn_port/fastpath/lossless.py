"""A net without the work that its padding makes: the same call, the same numbers.

The released nets pad an image by 100 pixels on every side, and cannot do without: biases turn the zeros into
activations that reach the scores. But far from the image these activations are the same everywhere, and near the outer
edge they are the same for every image. So they are computed once, and each image costs only what it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, get_args, overload

import torch
from torch import Tensor, nn

from converters.errors import NetError
from converters.execution import CaffeNet
from converters.given import refuse_other_choice
from converters.net import checked_size
from converters.recorded import is_recorded

from ..carded import refuse_no_net
from ..nets.fcn import FCN
from ..nets.net import Net, Wrapper
from ..nets.record import NotCaffes, refuse_what_is_added
from .background import Background, Backgrounds
from .early import EarlyRun
from .graph import Step, StepGraph, read_graph, weights_of
from .kernels import Choice, Kernel, Precision, make_kernel
from .late import run_late
from .lru_cache import Lock, LRUCache
from .native import is_native
from .passes import NativePasses
from .plan import Plan, make_plan
from .program import FastNet, why_not_any
from .tf32 import tf32
from .watch import NoAddressError, WeightsWatch, is_transformed, lies_in_memory

WORTH_IT = 0.97
"""Share of the literal net's multiply-adds from which on it runs instead."""
MUCH = 0.15
"""Share of the multiply-adds that a CaffeNet's first padding must make, to be skipped; less is not worth its bands."""
PLANS = 256
"""Sizes whose plans are kept."""
BAND_BYTES = 16 << 20
"""The most bytes of a processor's cache that a band of rows may fill."""


@overload
def fast(net: Net, *, convolutions: Choice = ..., precision: Precision = ..., low_memory: bool = ...) -> Net: ...
@overload
def fast(
    net: nn.Module, *, convolutions: Choice = ..., precision: Precision = ..., low_memory: bool = ...
) -> nn.Module: ...
def fast(
    net: nn.Module, *, convolutions: Choice = "native", precision: Precision = "fp32", low_memory: bool = False
) -> nn.Module:
    """A module with the call and the numbers of `net` that skips the padding's work; for inference only.

    `net` is a hand-written net in eval mode, on any device; on a CPU its weights are kept a second time, packed, and
    packed again whenever they change, or other layers are put in. A write that PyTorch does not count, as through
    `weight.data`, NumPy or torch.distributed, is not seen unless it is an optimizer's step:
    `torch.autograd.graph.increment_version(weight)` counts it.
    Where somebody hooks into the net's forward pass, or its layers', the net itself runs as long as the hook is there.
    Scores differ from the net's own by rounding (5e-6 of the largest). On CUDA, TF32 is off unless `tf32` of the result
    is set. `explain(size)` of the result says what is saved. Where nothing can be, the net itself is returned. Threads
    may share it (docs/threads.md). ValueError for what is no net, and for other
    settings than these.

    Of a CaffeNet on a CPU, in float32, comes a module that runs it by a plan in native code: layers merged, blobs in
    one arena, the same numbers; `explain(size)` says how each layer is computed. Infinity and NaN may make NaN of more
    than in the net: of places near them, and of other groups that are computed at the same time. Without native code,
    with "torch", `precision` or `low_memory`, it is returned as it is.

    `convolutions`: how wide ones are computed on a CPU. "native" and "torch" do with a fraction of the multiplications
    (Winograd), for 0.75 GB of transformed weights where "direct" ones take 0.54 (VGG-16); a layer rounds a little more,
    scores of real widths do not (2e-6 seen). "native" needs a C compiler, once, and is "torch" where there is none.
    `precision`: "bf16" rounds blobs and weights to 8 bits and scores to about 1e-2, and labels change with them; for
    processors and GPUs that are faster so (docs/performance.md). `low_memory`: no second copy of the weights, and
    narrower bands; takes longer.
    """
    refuse_no_net(net)
    refuse_other_choice(get_args(Choice), convolutions, "way to compute convolutions called")
    refuse_other_choice(get_args(Precision), precision, "precision")
    if not isinstance(net, (CaffeNet, FCN)):  # nor is a Lossless
        return net
    try:
        refuse_what_is_added(net)
    except NotCaffes:
        return net
    try:
        lossless = Lossless(net, convolutions=convolutions, precision=precision, low_memory=low_memory)
    except NetError:  # a layer that is not Caffe's, or has several tops
        lossless = None
    if isinstance(net, FCN):
        return net if lossless is None else lossless
    if lossless is not None and lossless.saved() >= MUCH:
        return lossless
    in_full = precision == "fp32" and not low_memory and convolutions != "torch"
    return FastNet(net, winograd=convolutions == "native") if in_full and why_not_any() is None else net


class Lossless(Wrapper):
    """A net as `fast` returns it: it takes and returns what the net does, without gradients."""

    def __init__(
        self, net: FCN | CaffeNet, *, convolutions: Choice = "native", precision: Precision = "fp32",
        low_memory: bool = False,
    ) -> None:  # fmt: skip
        """NetError for a net whose definition has something that no step can be made of."""
        super().__init__()
        self.net: FCN | CaffeNet = net
        self.graph: StepGraph = _graph_of(net)
        self._make_kernel = partial(
            make_kernel,
            choice=convolutions,
            dtype=torch.bfloat16 if precision == "bf16" else None,
            packed=not low_memory,
        )
        self._band_bytes = BAND_BYTES // 4 if low_memory else BAND_BYTES
        self._in_native = convolutions == "native" and precision == "fp32" and not low_memory
        self.convolutions, self.precision, self.low_memory = convolutions, precision, low_memory
        self.tf32 = False
        self._plans: LRUCache[Plan] = LRUCache(PLANS)
        self._state: WeightsState | None = None
        self._making = Lock()

    def forward(self, /, *args: Tensor, **inputs: Tensor) -> Any:
        named = {**dict(zip(self.graph.inputs, args, strict=False)), **inputs}
        if len(named) < len(args) + len(inputs) or not all(isinstance(x, Tensor) for x in named.values()):
            return self.net(*args, **inputs)  # says what is wrong
        inputs = named
        if not is_recorded() and any(map(is_transformed, inputs.values())):
            return self.net(**inputs)
        graph, plan = self.graph, self._plan_for(inputs)
        on_cuda = any(x.is_cuda for x in inputs.values())
        try:
            state = None if plan is None else self.state()
        except NoAddressError:  # weights of a function transform, whose gradients may be wanted of them
            return self.net(**inputs)
        except NetError:  # the net knows of it
            state = None
        if self.graph is not graph:
            plan = self._plan_for(inputs)
        with torch.no_grad(), tf32(self.tf32) if on_cuda else nullcontext():
            if plan is None or state is None or not all(map(lies_in_memory, inputs.values())):
                return self.net(**inputs)
            if state.watch.has_hooks():
                return self.net(**inputs)
            if state.passes is not None:
                return state.passes.run(plan, inputs)
            background = state.backgrounds.of(plan, next(iter(inputs.values())))
            return run(plan, self.graph.outputs, state.kernels, background, inputs, band_bytes=self._band_bytes)

    def plan(self, size: tuple[int, int], *, margins_computed: bool = False) -> Plan:
        """The parts of the blobs that are computed for inputs of `size` (h, w)."""

        def make() -> Plan:
            return make_plan(self.graph, size, self.graph.shapes_at(size), margins_computed=margins_computed)

        return self._plans.get((size, margins_computed), make)

    def explain(self, size: tuple[int, int]) -> str:
        """One sentence on what is saved for inputs of `size` (h, w); NetError for one that the net does not take."""
        size = checked_size(size)
        plan = self.plan(size)
        share = plan.work / plan.literal_work
        numbers = f"{plan.work / 1e9:.1f} of {plan.literal_work / 1e9:.1f} G multiply-adds ({share:.0%})"
        if share > WORTH_IT:
            return f"the net as it is: {numbers} would be left, which does not pay"
        return f"{numbers} at {size[0]}x{size[1]}"

    def saved(self) -> float:
        """The share of the multiply-adds that is saved at the size which the definition gives."""
        if not self.net.inputs:
            return 0
        try:
            plan = self.plan(next(iter(self.net.inputs.values()))[2:])  # type: ignore[arg-type]
        except (ArithmeticError, LookupError, NotImplementedError, ValueError):  # NetError among them
            return 0
        return 1 - plan.work / plan.literal_work if plan.literal_work else 0

    def state(self) -> WeightsState:
        """Kernels and backgrounds of the weights as they are now, and of the layers, where others were put in.

        NotCaffes where somebody has pruned or parametrized some since the net was made fast, or put in what is not
        Caffe's.
        """
        state = self._state
        if state is not None and state.watch.is_same():
            return state
        with self._making:  # one thread packs, the others wait for it
            state = self._state
            if state is None or not state.watch.is_same():
                self._state = state = None  # frees the packed weights first
                refuse_what_is_added(self.net)
                watch = WeightsWatch(self.net)
                graph = _graph_of(self.net)
                if graph != self.graph:
                    self.graph, self._plans = graph, LRUCache(PLANS)
                self._state = state = WeightsState(
                    self.graph, watch, self.net.state_dict(), self._make_kernel, in_native=self._in_native
                )
            return state

    def reads(self, inputs: Mapping[str, Tensor]) -> object:
        """The values that a pass over these inputs reads beside them: weights and backgrounds."""
        state = self.state()
        plan = self._plan_for(inputs)
        weights = list(self.net.state_dict().values())
        return weights, state, plan and state.backgrounds.of(plan, next(iter(inputs.values())))

    def _plan_for(self, inputs: Mapping[str, Tensor]) -> Plan | None:
        """The plan for these inputs; None where the net should see to them itself, errors included."""
        is_training = self.net.training or any(each.training for each in self.net.children())  # such as dropout alone
        if is_training or inputs.keys() != self.graph.inputs.keys():
            return None
        weight = next(self.net.parameters())
        if weight.is_meta:
            return None
        if self._in_native and weight.device.type == "cpu" and is_recorded():
            return None  # as a FastNet does: what runs over memory of its own is in no graph
        for name, x in inputs.items():
            if (x.dtype, x.device) != (weight.dtype, weight.device) or x.dim() != 4 or x.numel() == 0:
                return None
            if x.shape[1] != self.graph.inputs[name]:
                return None
        sizes = {(x.shape[0], *x.shape[-2:]) for x in inputs.values()}
        if len(sizes) != 1:
            return None
        try:
            plan = self.plan(sizes.pop()[1:])
        except NetError:  # too small for the net
            return None
        return plan if plan.work <= WORTH_IT * plan.literal_work else None

    def __getstate__(self) -> dict[str, Any]:
        """A copy packs its weights itself."""
        return {**vars(self), "_state": None}

    @property
    def engine(self) -> str:
        return "torch" if self.convolutions == "native" and why_not_any() is not None else self.convolutions

    def extra_repr(self) -> str:
        """The settings that rounding depends on; evaluations that were kept are told apart by it."""
        return f"convolutions={self.convolutions}, precision={self.precision}, low_memory={self.low_memory}"


def _graph_of(net: FCN | CaffeNet) -> StepGraph:
    """The steps of a net; NetError where something in it is none."""
    graph = read_graph(net)
    if graph is None:
        raise NotCaffes("a layer of several tops, or an input that is no image")
    return graph


class WeightsState:
    """The values that are computed once for weights."""

    def __init__(
        self, graph: StepGraph, watch: WeightsWatch, weights: Mapping[str, Tensor],
        make: Callable[[Step, Sequence[Tensor]], Kernel], *, in_native: bool,
    ) -> None:  # fmt: skip
        self.watch = watch
        self.kernels: dict[str, Kernel] = {step.top: make(step, weights_of(weights, step)) for step in graph.steps}
        self.backgrounds = Backgrounds(self.kernels)
        in_native = in_native and all(is_native(weight) for weight in weights.values())
        self.passes = NativePasses(graph, self.kernels, self.backgrounds) if in_native else None


def run(
    plan: Plan,
    outputs: tuple[str, ...],
    kernels: Mapping[str, Kernel],
    background: Background,
    inputs: Mapping[str, Tensor],
    *,
    band_bytes: int = BAND_BYTES,
) -> Any:
    """One pass by a plan: front, early and late layers; a tensor, or {name: tensor} for several outputs."""
    blobs = dict(inputs)
    for step in plan.front:
        blobs[step.top] = kernels[step.top](*(blobs[name] for name in step.bottoms))
    on_cpu = next(iter(inputs.values())).device.type == "cpu"
    early = EarlyRun(
        plan,
        kernels,
        background,
        layout=torch.channels_last if on_cpu else torch.contiguous_format,
        band_bytes=band_bytes if on_cpu else None,
    )
    blobs.update(early.cut(blobs))
    del early
    return run_late(plan.late, outputs, kernels, blobs)
