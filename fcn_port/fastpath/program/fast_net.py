"""FastNet: a CaffeNet run by a program, made for each size of input that comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from converters.execution import CaffeNet
from converters.net import Shape, check_weights_fit, images_at
from converters.recorded import is_recorded

from ...nets.net import Wrapper
from ..flow import Flow, merge, read
from ..glance import Glance
from ..lru_cache import Lock
from ..native.memory import Floats
from ..watch import NoAddressError, WeightsWatch, has_hooks, is_transformed, lies_in_memory
from .program import ArenaPlan
from .repeat import Repeat
from .runner import Runner


class FastNet(Wrapper):
    """A CaffeNet as `fast` returns it: it takes and returns what the net does, without gradients."""

    net: CaffeNet

    def __init__(self, net: CaffeNet, *, winograd: bool = True, prefer: str | None = None) -> None:
        """`winograd`: convolutions may go by ways of fewer multiplications; `prefer` names one of them, for trials."""
        super().__init__()
        self.net = net
        self.winograd, self.prefer = winograd, prefer
        self.flow: Flow = merge(read(net.spec, net.outputs))
        self._state: PackedNet | None = None
        self._repeat: Repeat | None = None
        self._making = Lock()

    def forward(self, /, *args: Tensor, **named: Tensor) -> Tensor | dict[str, Tensor]:
        net = self.net
        found = None
        if not (net.training or is_recorded() or has_hooks(net)):  # of its layers PyTorch calls none
            try:
                found = self._again(args, named)
                if found is None:
                    found = self._anew(args, named)
            except NoAddressError:  # of a function transform, whose gradients may be wanted
                return _plainly(net, args, named)
        if found is None:
            with torch.no_grad():
                return _plainly(net, args, named)
        return next(iter(found.values())) if len(found) == 1 else found

    def _again(self, args: Sequence[Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The outputs where the input is like the last one; None where it is not."""
        repeat = self._repeat
        if repeat is None or len(args) + len(named) != 1:
            return None
        try:
            return repeat(args[0] if args else named[repeat.name])
        except (KeyError, MemoryError, RuntimeError):  # another input, or a tensor without memory of its own
            return None

    def _anew(self, args: Sequence[Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """The outputs; None where the net itself shall say what is wrong, or cannot be planned after all.

        NoAddressError for inputs and weights of a function transform.
        """
        if any(map(is_transformed, (*args, *named.values()))):
            raise NoAddressError("an input of a function transform")
        inputs = {**dict(zip(self.net.inputs, args, strict=False)), **named}
        if len(inputs) != len(args) + len(named) or not _is_planned(self.net, inputs):
            return None
        state = self.state()
        if not state.is_planned or not all(map(lies_in_memory, inputs.values())):
            return None
        try:
            threads = torch.get_num_threads()
            repeat = state.repeat({name: tuple(inputs[name].shape) for name in self.flow.inputs}, threads)
            self._repeat = repeat
            if repeat is not None and repeat.takes(inputs[repeat.name]):
                return repeat.outputs(inputs[repeat.name])
            found = state.runner.run(_arrays({name: inputs[name] for name in self.flow.inputs}), threads)
        except (ArithmeticError, LookupError, MemoryError, NotImplementedError, RuntimeError, ValueError):
            return None
        return {name: torch.from_numpy(value) for name, value in found.items()}

    def explain(self, size: tuple[int, int]) -> str:
        """The way in which each layer is computed for images of `size` (h, w), a line for each.

        NetError for a size that the net does not take.
        """
        state = self.state()
        if not state.is_planned:
            return super().explain(size)
        shapes = images_at(self.net.inputs, size)
        check_weights_fit(self.net.spec, shapes)
        return "\n".join(self.program(shapes).explain())

    def reads(self, inputs: Mapping[str, Tensor]) -> object:
        """The values that a pass reads beside these inputs: weights as they are, and packed."""
        return [list(self.net.state_dict().values()), self.state()]

    def state(self) -> PackedNet:
        """Packed weights and programs of the weights as they are now."""
        state = self._state
        if state is not None and state.is_same():
            return state
        with self._making:
            state = self._state
            if state is None or not state.is_same():
                self._state = self._repeat = state = None  # frees the packed weights first
                self._state = state = PackedNet(WeightsWatch(self.net), self)
            return state

    def program(self, shapes: Mapping[str, Shape]) -> ArenaPlan:
        """The program for inputs of these shapes; for a net whose `state().is_planned`."""
        return self.state().runner.program(shapes, torch.get_num_threads())

    def __getstate__(self) -> dict[str, Any]:
        """A copy packs its weights itself."""
        return {**vars(self), "_state": None, "_repeat": None}

    @property
    def engine(self) -> str:
        return "native" if self.winograd else "direct"

    def extra_repr(self) -> str:
        """The settings that rounding depends on; evaluations that were kept are told apart by it."""
        return f"convolutions={'native' if self.winograd else 'direct'}"


class PackedNet:
    """The values that are made once for weights."""

    def __init__(self, watch: WeightsWatch, quick: FastNet) -> None:
        self.watch = watch
        state = quick.net.state_dict()
        self.is_planned = all(p.dtype == torch.float32 and p.device.type == "cpu" for p in state.values())
        arrays = _arrays(state) if self.is_planned else {}
        self.runner = Runner(quick.flow, arrays, winograd=quick.winograd, prefer=quick.prefer, own=quick.net.inputs)
        self._glance: Glance | None = None

    def repeat(self, shapes: Mapping[str, Shape], threads: int) -> Repeat | None:
        """A pass for one more input of this shape; None where a pass has to be made out every time."""
        if len(shapes) != 1:
            return None
        (shape,) = shapes.values()
        plan = self.runner.program(shapes, threads) if shape[:1] == (1,) else None
        if plan is None or not plan.takes_one_block:
            return None
        if self._glance is None:
            self._glance = self.watch.glance()
        return Repeat(plan, self.runner.arenas, self.runner.memory, shape, threads=threads, is_same=self.is_same)

    def is_same(self) -> bool:
        """True as long as the weights are those that were packed."""
        glance = self._glance
        if glance is not None and glance.is_same():
            return True
        is_same = self.watch.is_same()
        if is_same and glance is not None:  # it has looked at what is there no longer
            self._glance = self.watch.glance()
        return is_same


def _plainly(net: CaffeNet, args: Sequence[Tensor], named: Mapping[str, Tensor]) -> Tensor | dict[str, Tensor]:
    result: Tensor | dict[str, Tensor] = net(*args, **named)
    return result


def _is_planned(net: CaffeNet, inputs: Mapping[str, Tensor]) -> bool:
    """False where the net itself should see to its inputs, errors included."""
    if len(inputs) != len(net.inputs):
        return False
    for name, expected in net.inputs.items():
        x = inputs.get(name)
        if not isinstance(x, Tensor) or x.dtype != torch.float32 or not x.is_cpu or x.layout is not torch.strided:
            return False
        shape = x.shape
        if len(shape) != len(expected) or 0 in shape or (len(shape) > 1 and shape[1] != expected[1]):
            return False
    return True


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, Floats]:
    """Tensors on the processor as arrays over the same memory."""
    return {name: x.detach().numpy() for name, x in tensors.items()}
