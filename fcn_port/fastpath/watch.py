"""WeightsWatch: the weights of a net as they were at one moment, and a quick look whether they still are; its hooks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from .glance import INSIDE, Glance, record_layout
from .stepped import StepNote

_version = attrgetter("_version")
SOME = 64
"""Values of a tensor that are compared where PyTorch counts no writing."""


class NoAddressError(RuntimeError):
    """A tensor whose numbers lie at no address, as inside of PyTorch's function transforms (torch.vmap)."""


def lies_in_memory(x: Tensor) -> bool:
    """True for a tensor whose numbers lie, as they are, at an address of the processor's memory, as steps read them."""
    if type(x).__torch_dispatch__ is not Tensor.__torch_dispatch__:  # such as a FakeTensor
        return False
    try:
        place = x.detach().data_ptr()
    except RuntimeError:
        return False
    has_place = place != 0 or x.device.type == "meta" or not x.numel()  # zeros that PyTorch never wrote have none
    return has_place and x.layout is torch.strided and not x.is_neg()


def is_transformed(x: object) -> bool:
    """True for a tensor of a function transform (torch.func), of which gradients may be wanted without a record."""
    return isinstance(x, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(x)


def has_hooks(net: nn.Module) -> bool:
    """True where somebody has hooked into the forward pass of this module, or of all modules."""
    return bool(
        net._forward_hooks
        or net._forward_pre_hooks
        or torch_module._global_forward_hooks
        or torch_module._global_forward_pre_hooks
    )


class WeightsWatch:
    """The tensors of a net, by module and name, and how often each had been written into.

    After a pass none of this is in a cache, so that a look takes a microsecond for each tensor: no more is touched than
    must be, and no line of Python is run for each. A write through `data`, which PyTorch does not count, is not seen,
    but where it was an optimizer's step. Nor does PyTorch count those into tensors that were made in inference mode: of
    these some values are compared, so that other weights are seen, and a write to a few values need not be.
    """

    def __init__(self, net: nn.Module) -> None:
        """NoAddressError where a tensor of the net has no memory of its own."""
        modules = list(net.modules())
        # PyTorch changes what is in these dictionaries, and never puts others into their place
        self._dicts: list[dict[str, Any]] = [
            part for each in modules for part in (each._modules, each._parameters, each._buffers) if part
        ]
        self._hooks = [hooks for each in modules for hooks in (each._forward_hooks, each._forward_pre_hooks)]
        self._hooks += [torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks]
        self._tensors = [each for each in self._values() if isinstance(each, Tensor)]
        if not all(map(lies_in_memory, self._tensors)):
            raise NoAddressError("a weight does not lie in memory as it is")
        self._note = StepNote(self._tensors)
        self._dicts.append(self._note.seen)
        self._known = self._values()
        self._writable = [each for each in self._tensors if not each.is_inference()]
        self._versions, self._places = self._versions_now(), self._places_now()
        self._is_counted = len(self._writable) == len(self._tensors)
        uncounted = [each for each in self._tensors if each.is_inference() and not each.is_meta]
        devices = {each.device for each in uncounted}
        self._some = [[_some(each) for each in uncounted if each.device == device] for device in devices]
        self._some_known = self._some_now()

    def is_same(self) -> bool:
        """True as long as the net has the same modules and tensors, and nobody has written into these."""
        now = self._values()
        if len(now) != len(self._known) or not all(map(is_, now, self._known)):
            return False
        if self._versions_now() != self._versions or self._places_now() != self._places:
            return False
        return all(map(torch.equal, self._some_now(), self._some_known))

    def has_hooks(self) -> bool:
        """True where somebody has hooked into the forward pass of one of the modules, or of all that there are."""
        return any(self._hooks)

    def glance(self) -> Glance | None:
        """A quicker look than `is_same`, which may take for changed what is the same; None where there is none."""
        layout = record_layout() if self._is_counted else None
        if layout is None or any(each.dim() > INSIDE for each in self._tensors):
            return None
        found = Glance(self._dicts, self._tensors, layout)
        return found if self.is_same() else None  # no other thread has changed them before it was made

    def _values(self) -> Sequence[object]:
        return list(chain.from_iterable(map(dict.values, self._dicts)))

    def _versions_now(self) -> list[int]:
        return list(map(_version, self._writable))

    def _some_now(self) -> list[Tensor]:
        return list(map(torch.cat, self._some))

    def _places_now(self) -> list[object]:
        """Addresses and strides: assignment to `data` counts as no writing."""
        try:
            return [*map(Tensor.data_ptr, self._tensors), *map(Tensor.stride, self._tensors)]
        except RuntimeError as error:
            raise NoAddressError(str(error)) from error


def _some(x: Tensor) -> Tensor:
    """A view of some of a tensor's values, or of what lies between them, spread over all of it."""
    count = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    values = x.detach().as_strided((count,), (1,))
    return values[:: max(1, len(values) // SOME)]
