"""`Net`: what every net says of itself, whoever wrote it and whatever runs it.

A hand-written FCN, a loaded CaffeNet, a `fast` net, an engine and a replayed one all have a definition, inputs,
outputs, blobs, and one card of what is known of them. Nobody has to ask which class a net is of.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from typing_extensions import Self

from converters.execution import ByAnyName, CaffeNet
from converters.net import NetSpec, Shape, infer_shapes
from weights.card import Card

from ..carded import Carded, refuse_no_module


class Net(Carded, nn.Module):
    """A net that can be run: the call of a PyTorch module, with Caffe's definition and a card.

    It gives a tensor for one output, {name: tensor} for several; several inputs go in by name.
    """

    __jit_unused_properties__: ClassVar = (
        "spec", "inputs", "outputs", "engine", "release", "preprocessing", "classes", "palette",
    )  # fmt: skip

    card: Card = Card()
    """All that is known of the net beside its weights; `load` gives it one."""

    if TYPE_CHECKING:

        @property
        def spec(self) -> NetSpec:
            """The net's definition, as Caffe would write it, with its inputs at the size of `inputs`.

            NotCaffes, naming layer and setting, where Caffe has no such thing.
            """

        @property
        def inputs(self) -> Mapping[str, Shape]:
            """The blobs that go in, in the order of the call, with the shapes that the definition gives them.

            A hand-written net takes images of any size, and names 500x500 as the published definitions do.
            """

        @property
        def outputs(self) -> tuple[str, ...]:
            """The blobs that come out."""

    def definition(self, *, name: str = "") -> NetSpec:
        """The `spec`; `name` is that of a net which does not bring one."""
        return self.spec

    def blobs(self, /, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        """Every blob after a pass over these inputs, as `fcn_port.blobs` gives them."""
        raise NotImplementedError

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """The shape of every blob for inputs of these shapes; nothing is computed."""
        return dict(infer_shapes(self.spec, inputs))

    def explain(self, size: tuple[int, int]) -> str:
        """One sentence on how the net is run for images of `size` (h, w)."""
        return "the net as it is written, padding and all"

    @property
    def engine(self) -> str:
        """The `--engine` that runs the net; "padded" for its layers one by one, as they are written."""
        return "padded"

    def reads(self, inputs: Mapping[str, Tensor]) -> object:
        """The values that a pass reads by address beside these inputs: the weights, and what was made of them."""
        return list(self.state_dict().values())


class CaffeNetWithCard(CaffeNet, Net):
    """A CaffeNet as `load` makes it: the net of `converters`, which knows nothing of releases, with a card."""

    def _get_name(self) -> str:
        return CaffeNet.__name__


class Wrapper(ByAnyName, Net):
    """A net that is run in another way: definition, inputs, outputs, blobs and card are those of the `net` inside.

    A card that is given to the one is the other's too.
    """

    net: nn.Module

    @property
    def training(self) -> bool:
        """The mode of the net inside, which `train` and `eval` set."""
        return self.net.training

    @training.setter
    def training(self, mode: bool) -> None:
        pass

    @property
    def card(self) -> Card:
        """The card of the net inside."""
        return as_net(self.net).card

    @card.setter
    def card(self, card: Card) -> None:
        self.net.card = card  # type: ignore[assignment]

    @property
    def spec(self) -> NetSpec:
        return as_net(self.net).spec

    def definition(self, *, name: str = "") -> NetSpec:
        return as_net(self.net).definition(name=name)

    @property
    def inputs(self) -> Mapping[str, Shape]:
        return as_net(self.net).inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        return as_net(self.net).outputs

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in every module; a state dict with the keys of the net inside, which has them without `net.`, is taken."""
        given = set(state_dict) if isinstance(state_dict, Mapping) else set()
        of_the_net = not given & self.state_dict().keys() and bool(given & self.net.state_dict().keys())
        load = self.net.load_state_dict if of_the_net else super().load_state_dict
        return load(state_dict, strict=strict, assign=assign)

    def train(self, mode: bool = True) -> Self:
        """As in every module; a warning where somebody means to train, as no pass gives gradients."""
        if mode:
            said = "this net gives no gradients: train the net that it was made of, its `.net`, and make another of it"
            warnings.warn(said, stacklevel=2)
        return super().train(mode)

    def blobs(self, /, *inputs: Tensor, **named: Tensor) -> dict[str, Tensor]:
        return as_net(self.net).blobs(*inputs, **named)

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        return as_net(self.net).shapes(inputs)

    def explain(self, size: tuple[int, int]) -> str:
        return as_net(self.net).explain(size)

    @property
    def engine(self) -> str:
        return as_net(self.net).engine

    def reads(self, inputs: Mapping[str, Tensor]) -> object:
        return as_net(self.net).reads(inputs)


def unwrapped(net: nn.Module) -> nn.Module:
    """The net that one stands for which runs it in another way; any other one as it is."""
    while isinstance(net, Wrapper):
        net = net.net
    return net


def as_net(net: nn.Module) -> Net:
    """The module as a Net: itself, or a plain CaffeNet's layers and weights with an empty card.

    ValueError for a module of which no layers are known.
    """
    if isinstance(net, Net):
        return net
    refuse_no_module(net)
    if not isinstance(net, CaffeNet):
        raise ValueError(
            f"{type(net).__name__} is no net whose layers are known; fcn_port.load, fcn_port.build and "
            "converters.CaffeNet make such"
        )
    view = CaffeNetWithCard.__new__(CaffeNetWithCard)
    vars(view).update(vars(net))
    return view


def definition(net: nn.Module, *, name: str = "") -> NetSpec:
    """The definition of a net, as Caffe would write it, ready to deploy; `name` is for one written by hand.

    It is that of the net as it is now, also where somebody changed its layers. Raises NotCaffes, naming layer and
    setting, where Caffe has no such thing, and ValueError for a module of which no layers are known.
    """
    return as_net(net).definition(name=name)
