"""A photograph as the tensor that a net takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

from weights.records import Preprocessing

from ..any_net import takes_arrays
from ..carded import refuse_no_net
from .images import ImageLike, read_image, to_array
from .running import known_preprocessing, tensors_for

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..fastpath.native.memory import Floats
    from ..fastpath.numpy_net import NumpyNet


@overload
def prepare(net: NumpyNet, image: ImageLike, *, preprocessing: Preprocessing | None = ...) -> Floats: ...
@overload
def prepare(
    net: NumpyNet, image: Mapping[str, ImageLike], *, preprocessing: Preprocessing | None = ...
) -> dict[str, Floats]: ...
@overload
def prepare(net: nn.Module, image: ImageLike, *, preprocessing: Preprocessing | None = ...) -> Tensor: ...
@overload
def prepare(
    net: nn.Module, image: Mapping[str, ImageLike], *, preprocessing: Preprocessing | None = ...
) -> dict[str, Tensor]: ...
def prepare(
    net: nn.Module | NumpyNet, image: ImageLike | Mapping[str, ImageLike], *, preprocessing: Preprocessing | None = None
) -> Any:
    """The input (1, c, h, w) that a net's preprocessing makes of an image, so that `net(x)` and `blobs(net, x)` run it.

    `image` is a path, a Pillow image or an (h, w, 3) uint8 RGB array, for a net with several inputs {input: image},
    which gives {input: tensor}. Of the net's type and on its device; an array for a NumpyNet. Raises FileNotFoundError,
    ImageError for an image that cannot be read or is none, ValueError for a net that does not say how its inputs are
    made or has others than were given.
    """
    refuse_no_net(net)
    inputs = {each.name: each for each in known_preprocessing(net, preprocessing).inputs}
    given = image if isinstance(image, Mapping) else dict.fromkeys(inputs, image)
    if set(given) != set(inputs) or (len(inputs) > 1 and not isinstance(image, Mapping)):
        raise ValueError(f"this net has the inputs {', '.join(inputs)}: give {{input: image}} with each of them")
    arrays = {name: to_array(read_image(given[name], kind=each.image), each) for name, each in inputs.items()}
    made = arrays if takes_arrays(net) else tensors_for(net, arrays)
    return made if isinstance(image, Mapping) else next(iter(made.values()))
