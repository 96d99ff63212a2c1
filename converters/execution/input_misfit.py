"""Inputs that are of another kind than a net takes, said in words once PyTorch has refused them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..escaping import terminal
from ..net.layer import Shape


def misfit(
    expected: Mapping[str, Shape], weights: Iterable[Tensor], given: Sequence[object], named: Mapping[str, object]
) -> TypeError | None:
    """The fault of the inputs of a pass that failed, as an error; None where they are of the kind that the net takes.

    `expected` are the shapes of the inputs by name, of which the second axis and the number of axes count. A pass that
    PyTorch does run is nobody's mistake, whatever its inputs are: so this is asked only behind an error of PyTorch's.
    """
    inputs = {**dict(zip(expected, given, strict=False)), **named}
    if inputs.keys() != expected.keys() or len(inputs) != len(given) + len(named):
        return wrong_inputs(tuple(expected), given, named)
    weight = next((each for each in weights if each.is_floating_point()), None)
    for name, x in inputs.items():
        if not isinstance(x, Tensor):
            return no_tensor(name, x)
        wrong = _of_another_layout(x) or _of_another_shape(x, expected[name]) or _of_another_type(x, weight)
        if wrong:
            return InputError(f"input '{terminal(name)}': {wrong}")
    return None


def wrong_inputs(names: Sequence[str], given: Sequence[object], named: Iterable[str]) -> InputError:
    """The error about inputs that are not the net's: what it expects, and what it was given."""
    found = ", ".join([*("without a name" for _ in given), *named])
    return InputError(f"expected the inputs {terminal(', '.join(names)) or 'none'}; found {terminal(found) or 'none'}")


def no_tensor(name: str, x: object) -> TypeError:
    """The error about an input that is no tensor."""
    how = "torch.as_tensor(x) makes one of an array"
    return TypeError(f"input '{terminal(name)}': expected a tensor, found {type(x).__name__}; {how}")


def refuse_no_numbers(weights: Iterable[Tensor], inputs: Iterable[object]) -> None:
    """InputError for inputs with numbers where the weights have none, being on PyTorch's meta device.

    Its convolutions then give memory as they found it, and say nothing.
    """
    first = next(iter(weights), None)
    if first is not None and first.is_meta and any(isinstance(x, Tensor) and not x.is_meta for x in inputs):
        how = "load_state_dict(state, assign=True) puts those of a state dict in their place"
        raise InputError(f"the net's weights are on the meta device, where nothing has numbers; {how}")


def free_shape(shape: Shape) -> str:
    """The shape with letters for the sizes that are free: (n, 3, h, w)."""
    letters = {4: ("h", "w"), 3: ("w",)}.get(len(shape), tuple(f"d{i}" for i in range(2, len(shape))))
    return "(" + ", ".join(["n", *map(str, shape[1:2]), *letters]) + ")"


def _of_another_layout(x: Tensor) -> str | None:
    if x.layout is torch.strided and not x.is_nested and not x.is_quantized:
        return None
    kind = "a nested" if x.is_nested else "a quantized" if x.is_quantized else f"a {x.layout}"
    how = "x.to_padded_tensor(0.)" if x.is_nested else "x.dequantize()" if x.is_quantized else "x.to_dense()"
    return f"expected a dense tensor, found {kind} one; {how} makes one"


def _of_another_shape(x: Tensor, expected: Shape) -> str | None:
    if x.ndim == len(expected) and x.shape[1:2] == expected[1:2] and x.numel():
        return None
    return f"expected {free_shape(expected)}, found {tuple(x.shape)}"


def _of_another_type(x: Tensor, weight: Tensor | None) -> str | None:
    """The fault of the numbers of an input, for a net of such weights; those of one without any are float32."""
    dtype, device = (torch.float32, x.device) if weight is None else (weight.dtype, weight.device)
    if (x.dtype, x.device) == (dtype, device):
        return None
    wanted, found = (f"{str(a).removeprefix('torch.')} on {b}" for a, b in ((dtype, device), (x.dtype, x.device)))
    made = f"x.to('{device}', {dtype})" if x.device != device else f"x.to({dtype})"
    whose = "" if weight is None else ", as the net's weights are"
    return f"expected {wanted}{whose}, found {found}; {made} makes it so"
