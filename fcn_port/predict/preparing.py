"""A photograph as the tensor that a net takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import overload

import torch
from torch import Tensor, nn

from weights.records import Preprocessing

from .images import ImageLike, read_image, to_input


@overload
def prepare(net: nn.Module, image: ImageLike, *, preprocessing: Preprocessing | None = ...) -> Tensor: ...
@overload
def prepare(
    net: nn.Module, image: Mapping[str, ImageLike], *, preprocessing: Preprocessing | None = ...
) -> dict[str, Tensor]: ...
def prepare(
    net: nn.Module, image: ImageLike | Mapping[str, ImageLike], *, preprocessing: Preprocessing | None = None
) -> Tensor | dict[str, Tensor]:
    """The input (1, c, h, w) that a net's preprocessing makes of an image, so that `net(x)` and `blobs(net, x)` run it.

    `image` is a path, a Pillow image or an (h, w, 3) uint8 RGB array, for a net with several inputs {input: image},
    which gives {input: tensor}. Of the net's type and on its device. Raises ImageError for an image that cannot be
    read or is none, ValueError for a net that does not say how its inputs are made or has others than were given.
    """
    recipe = preprocessing or getattr(net, "preprocessing", None)
    if recipe is None:
        raise ValueError(
            "this net does not say how its input is made; pass preprocessing=, such as that of a release: "
            'weights.release("voc-fcn8s").preprocessing'
        )
    inputs = {each.name: each for each in recipe.inputs}
    given = image if isinstance(image, Mapping) else dict.fromkeys(inputs, image)
    if set(given) != set(inputs) or (len(inputs) > 1 and not isinstance(image, Mapping)):
        raise ValueError(f"this net has the inputs {', '.join(inputs)}: give {{input: image}} with each of them")
    parameter = next(net.parameters(), torch.empty(0))
    made = {
        name: to_input(read_image(given[name], kind=each.kind), each).to(parameter.device, parameter.dtype)
        for name, each in inputs.items()
    }
    return made if isinstance(image, Mapping) else next(iter(made.values()))
