"""Images through a net with one input: the tensor that it takes, the pass, and in words why one does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, overload

import numpy as np

from converters.errors import CaffeFormatError, NetError
from converters.given import refuse_other_than
from converters.safety import refused_memory
from weights.records import InputRecipe, Preprocessing

from ..any_net import AnyNet, takes_arrays
from .images import to_array
from .values import Values

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..fastpath.numpy_net import NumpyNet


def preprocessing_of(net: AnyNet, given: Preprocessing | None) -> Preprocessing | None:
    """The way to make a net's inputs, as given, else as the net says; None where neither does."""
    expected = 'a Preprocessing, such as weights.release("voc-fcn8s").preprocessing'
    refuse_other_than((Preprocessing, type(None)), given, expected)
    return given or getattr(net, "preprocessing", None)


def known_preprocessing(net: AnyNet, given: Preprocessing | None) -> Preprocessing:
    """That of `preprocessing_of`; ValueError where there is none."""
    found = preprocessing_of(net, given)
    if found is None:
        raise ValueError(
            "this net does not say how its input is made; pass preprocessing=, such as that of a release: "
            'weights.release("voc-fcn8s").preprocessing'
        )
    return found


def recipe_of(net: AnyNet, preprocessing: Preprocessing | None) -> InputRecipe:
    """The way to make the net's input, as given or as the net says; ValueError where neither does or it has several."""
    recipe = known_preprocessing(net, preprocessing)
    if len(recipe.inputs) != 1:
        names = ", ".join(each.name for each in recipe.inputs)
        raise ValueError(f"this net has {len(recipe.inputs)} inputs ({names}); segment takes nets with one image")
    return recipe.inputs[0]


def kind_of(net: AnyNet) -> str:
    """The kind of image that a net's only input is made of, "color" where it does not say."""
    known: Preprocessing | None = getattr(net, "preprocessing", None)
    return "color" if known is None else known.inputs[0].image


@contextmanager
def taking(size: tuple[int, int]) -> Iterator[None]:
    """Errors of a net over an image of a size (h, w) become a NetError that says so; those about memory pass."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if refused_memory(error) is not None or (
            isinstance(error, CaffeFormatError) and not isinstance(error, NetError)
        ):
            raise
        said = str(error).splitlines()[0] if str(error) else type(error).__name__  # PyTorch's have many lines
        raise NetError(f"this net does not take an image of {size[0]}x{size[1]} pixels: {said}") from error


@overload
def run_net(net: NumpyNet, pixels: Sequence[np.ndarray], recipe: InputRecipe) -> dict[str, np.ndarray]: ...
@overload
def run_net(net: nn.Module, pixels: Sequence[np.ndarray], recipe: InputRecipe) -> dict[str, Tensor]: ...
def run_net(net: AnyNet, pixels: Sequence[np.ndarray], recipe: InputRecipe) -> dict[str, Values]:
    """The outputs for images (h, w, 3) of one size, by name, "" for the only one; NetError where they do not fit."""
    x = np.concatenate([to_array(each, recipe) for each in pixels])
    with taking((int(x.shape[2]), int(x.shape[3]))):
        output = net(x) if takes_arrays(net) else _run_module(net, x)
    found = output if isinstance(output, dict) else {"": output}
    if not found:
        raise NetError("this net has no output")
    return found


def _run_module(net: nn.Module, x: np.ndarray) -> Values:
    import torch

    with torch.inference_mode():
        return net(tensors_for(net, {"": x})[""])


def tensors_for(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Inputs as tensors of the net's type, on its device."""
    import torch

    like = next(net.parameters(), torch.empty(0))
    return {name: torch.from_numpy(each).to(like.device, like.dtype) for name, each in arrays.items()}


def refuse_training(net: AnyNet) -> None:
    """ValueError for a module in train mode, in which dropout is random."""
    if takes_arrays(net):
        return
    from torch import nn

    from converters.execution import CaffeNet

    random = (CaffeNet, nn.Dropout, nn.Dropout2d)  # modules whose own mode changes what they compute; wrappers' do not
    if any(part.training and isinstance(part, random) for part in net.modules()):
        raise ValueError("the net is in train mode, in which dropout is random: call net.eval() first")
