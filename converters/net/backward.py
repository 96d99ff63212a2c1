"""The words of a net on the way back: where gradients go, by propagate_down and force_backward, and forks' fields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ..errors import NetError
from ..schema import NetParameter
from .layer import LayerSpec, find_layer
from .reading import watch_reads
from .spec import NetSpec
from .unread import refuse_unread

DEAF: Mapping[str, Callable[[LayerSpec], bool]] = {
    **dict.fromkeys(("BatchNorm", "Flatten", "Im2col", "LSTM", "MVN", "RNN", "Reshape", "Softmax"), lambda layer: True),
    "Concat": lambda layer: len(layer.bottoms) == 1,
    "LRN": lambda layer: layer.message.lrn_param.norm_region == 0,  # ACROSS_CHANNELS
    "Slice": lambda layer: len(layer.tops) == 1,
}
"""The layers whose way back does not ask for their first bottom's propagate_down (Backward_cpu of each).

Some share the gradient of their bottom as they share its numbers (Reshape of each), as the net inside LSTM does.
"""


def stopped_bottoms(spec: NetSpec, layer: LayerSpec) -> frozenset[int]:
    """The places of a layer's bottoms that get no gradient from it: those whose propagate_down is false.

    With force_backward of the net they get it all the same. Source: net.cpp, AppendBottom and Init.
    """
    down = layer.message.propagate_down
    if all(down) or forces_backward(spec):
        return frozenset()
    return frozenset(place for place, said in enumerate(down) if not said)


def without_unheard_stops(spec: NetSpec) -> NetSpec:
    """The net to train, losses included, without each `propagate_down: false` that Caffe does not obey.

    It is the net that obeys for a layer that is `DEAF`: what makes the blob is skipped. Where the blob has another
    reader that gives it a gradient, nothing is skipped, and the Split between them adds both (net.cpp, Init, and
    split_layer.cpp, Backward_cpu); nor where the layer that makes it has another top that nobody stops.
    """
    unheard = _unheard_stops(spec)
    return spec.replace_layers(
        tuple(_without_stop(layer) if index in unheard else layer for index, layer in enumerate(spec.layers))
    )


def _without_stop(layer: LayerSpec) -> LayerSpec:
    message = layer.to_message()
    message.ClearField("propagate_down")
    return LayerSpec.from_message(message, extra=layer.extra, line=layer.line)


def refuse_stray_gradients(spec: NetSpec) -> None:
    """Raise NetError for a layer that is to tell its bottom nothing, and in Caffe leaves something in its gradient.

    What it leaves is a step of its work, which Caffe adds to the gradients of the blob's other readers: a HingeLoss
    works there on the way forward (hinge_loss_layer.cpp, Forward_cpu), a Scale on the way back (scale_layer.cpp,
    Backward_cpu).
    """
    _refuse_lent_parameters(spec)
    for layer, way in zip(spec.layers, _ways_back(spec), strict=True):
        stopped = 0 in stopped_bottoms(spec, layer)
        idle = layer.type == "HingeLoss" and (stopped or not _is_loss(layer)) and not forces_backward(spec)
        if not (way.bottoms and (idle or (stopped and way.works and _keeps_product(layer, way.bottoms)))):
            continue
        if way.bottoms[0].learned and way.bottoms[0].is_followed:
            raise NetError(
                f"it is to tell '{layer.bottoms[0]}' nothing, but Caffe uses the gradient there as working memory and "
                "adds what is left there to the gradients of others, which is not done here",
                path=spec.path,
                where=layer.place,
                hint="take the layer out" if idle else "take out its propagate_down",
            )


def _refuse_lent_parameters(spec: NetSpec) -> None:
    """Refuse a Parameter that shares its blob with a later layer, whose gradient is there before and written over."""
    later: set[str] = set()
    for layer in reversed(spec.layers):
        names = {param.name for param in layer.message.param if param.name}
        if layer.type == "Parameter" and later & names:
            raise lent_blob(layer.place, path=spec.path)
        later |= names


def lent_blob(place: str, *, path: str | None = None) -> NetError:
    """The error for a layer that shares its blob with others, over whose gradient Caffe writes its own."""
    problem = "its blob is shared, and Caffe writes its gradient over that of the others, which is not done here"
    return NetError(problem, path=path, where=place, hint="give it a blob of its own")


def _keeps_product(layer: LayerSpec, bottoms: list[_Made]) -> bool:
    """True for a Scale whose operand learns, but not one for each number of the bottom."""
    if layer.type != "Scale" or layer.tops[:1] == layer.bottoms[:1]:
        return False
    if len(bottoms) > 1:
        return bottoms[1].learned and all(layer.message.propagate_down[1:])
    own = layer.message.scale_param
    return (own.axis, own.num_axes) != (0, -1) and all(param.lr_mult for param in layer.message.param[:1])


@dataclass(eq=False)
class _Made:
    """A blob as one layer makes it: whether somebody reads it, a loss hangs on it, and a gradient comes back to it."""

    read: bool = False
    judged: bool = False
    told: bool = False
    beside: list[_Made] = field(default_factory=list)
    """All tops of the layer."""
    is_parameter: bool = False
    """True for a Parameter's top, whose gradient is the parameter's own (parameter_layer.hpp)."""
    learned: bool = False
    """True for what depends on weights."""

    @property
    def is_followed(self) -> bool:
        """True where the layer that makes it works on the way back, or need not go there."""
        judged = any(each.judged for each in self.beside)
        return self.is_parameter or (judged and any(each.told or not each.read for each in self.beside))


@dataclass(frozen=True)
class _OnTheWayBack:
    """A layer on the way back: its blobs, and whether it works there."""

    bottoms: list[_Made]
    tops: list[_Made]
    works: bool


def _made(spec: NetSpec) -> list[tuple[list[_Made], list[_Made]]]:
    """The bottoms and the tops of each layer; one that works in place makes its blob anew."""
    made: dict[str, _Made] = {}
    found = []
    for layer in spec.layers:
        bottoms = [made.setdefault(bottom, _Made()) for bottom in layer.bottoms]
        learned = layer.may_learn or any(bottom.learned for bottom in bottoms)
        tops = [_Made(is_parameter=layer.type == "Parameter", learned=learned) for _ in layer.tops]
        for top in tops:
            top.beside = tops
        made.update(zip(layer.tops, tops, strict=True))
        found.append((bottoms, tops))
    return found


def _ways_back(spec: NetSpec) -> list[_OnTheWayBack]:
    """The layers on the way back, as net.cpp's Init goes through them."""
    found = []
    for layer, (bottoms, tops) in reversed(list(zip(spec.layers, _made(spec), strict=True))):
        judged = _is_loss(layer) or any(top.judged for top in tops)
        skipped = bool(tops) and all(top.read and not top.told for top in tops)
        stopped = stopped_bottoms(spec, layer)
        for place, bottom in enumerate(bottoms):
            bottom.read = True
            bottom.judged |= judged
            bottom.told |= judged and not skipped and place not in stopped
        found.append(_OnTheWayBack(bottoms, tops, works=judged and not skipped))
    return found[::-1]


def _unheard_stops(spec: NetSpec) -> set[int]:
    """The layers whose propagate_down says something that is not done."""
    return {
        index
        for index, (layer, way) in enumerate(zip(spec.layers, _ways_back(spec), strict=True))
        if way.works and way.bottoms and layer.type in DEAF and DEAF[layer.type](layer)
        if 0 in stopped_bottoms(spec, layer) and way.bottoms[0].is_followed
    }


def _is_loss(layer: LayerSpec) -> bool:
    weights = layer.message.loss_weight
    return any(weights) or (not weights and "Loss" in layer.type)


def forces_backward(spec: NetSpec) -> bool:
    """True where every layer computes all its gradients (force_backward)."""
    return bool(NetParameter.FromString(spec.definition).force_backward)


def check_training(layer: LayerSpec, *, reads: Collection[str] = ()) -> None:
    """Raise NetError for a field of a fork that changes what a net learns and that is not read here (unread.py).

    `reads` are the paths of those that whoever trains the layer reads, beside what the class of its type does.
    """
    layer_class = find_layer(layer.type)
    with watch_reads() as own:
        if layer_class is not None:
            layer_class.parse(layer)
    refuse_unread(layer.fork_fields(), {*own, *reads}, where=layer.place, kind=layer.type, training=True)
