"""Net surgery: the weights of one net made into those of another (CVPR 2015, sections 3.1 and 4.1).

The paper starts every FCN from a classification net, and every finer net from a coarser one. Layers of the same name
are copied; fully connected layers become convolutions, for which only the shape of the weight changes; scores begin at
zero, upsampling as bilinear interpolation. Source: the release's surgery.py, and the solve.py of each net.

State dicts go in and come out. `initialise` does to a hand-written net what the paper does to it; the others are its
parts, and can be applied one after the other to what the one before gave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from converters.errors import MismatchError
from converters.given import refuse_other_than
from converters.layers import bilinear_weight
from converters.net import Shape

from .nets import FCN, FCN32sColorHHA
from .nets.parts import BilinearUpsample, ChannelScale

Fate = Literal["copied", "coerced", "expanded", "widened", "interpolated", "zeroed", "constant", "untouched", "dropped"]
StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Change:
    """The fate of one parameter.

    `key` is its name in the net, None for what was dropped; `source` the name in the source that it came from, if any.
    `why` says why a parameter was dropped.
    """

    fate: Fate
    key: str | None
    shape: Shape | None
    source: str | None = None
    source_shape: Shape | None = None
    why: str = ""


@dataclass(frozen=True, eq=False)
class Surgery:
    """A net's state dict after surgery, and what became of every parameter: the net's in order, then what was dropped.

    `untouched` are those that hold what the net held before.
    """

    state: dict[str, Tensor]
    changes: tuple[Change, ...]

    def of(self, *fates: Fate) -> tuple[Change, ...]:
        """The changes of these kinds."""
        return tuple(change for change in self.changes if change.fate in fates)

    def summary(self) -> str:
        """The number of parameters for each fate: "30 copied, 2 coerced, 2 zeroed"."""
        return ", ".join(f"{count} {fate}" for fate, count in Counter(change.fate for change in self.changes).items())

    def to_json(self) -> dict[str, Any]:
        """The changes as plain JSON types."""
        return {"summary": self.summary(), "changes": [asdict(change) for change in self.changes]}


NetOrState = nn.Module | StateDict | Surgery


def transplant(net: NetOrState, source: StateDict, *, suffix: str = "") -> Surgery:
    """The net with the parameters of `source` whose layer, plus `suffix`, has the same name in the net.

    A parameter of the same shape is copied. A fully connected layer (O, I) and a convolution (O, i, h, w) with
    I = i h w hold the same numbers in the same order, as do shapes that differ by leading ones (files of 2014): these
    are coerced. What the net does not have, or has in another shape, is dropped; what the source does not have stays
    untouched. Values are used as they are, in the net's type; memory is shared with the source.
    """
    _refuse_no_state(source)
    surgery = _begin(net)
    for name, value in source.items():
        layer, _, blob = name.rpartition(".")
        key, shape = f"{layer}{suffix}.{blob}", tuple(value.shape)
        old = surgery.state.get(key)
        if old is None:
            surgery = _drop(surgery, name, shape, f"the net has no {key}")
        elif not _same_numbers(shape, tuple(old.shape)):
            surgery = _drop(surgery, name, shape, f"{key} is {tuple(old.shape)}")
        else:
            fate: Fate = "copied" if shape == tuple(old.shape) else "coerced"
            surgery = _put(surgery, key, value.reshape(old.shape), fate, name, shape)
    return surgery


def expand_score(net: NetOrState, source: StateDict, *, layer: str, source_layer: str | None = None) -> Surgery:
    """More classes: the scores of the source are the first ones of the net's `layer`, whose others stay as they are.

    `source_layer` is its name in the source, if another. Raises MismatchError where the source has more classes than
    the net or scores other features, and where there is no such layer.
    """
    _refuse_no_state(source)
    surgery = _begin(net)
    for blob in ("weight", "bias"):
        key, name = f"{layer}.{blob}", f"{source_layer or layer}.{blob}"
        if key not in surgery.state or name not in source:
            whose = f"the net has no {key}" if key not in surgery.state else f"the source has no {name}"
            raise MismatchError(whose, hint="name a layer that scores classes, such as score_fr")
        old, new = source[name], surgery.state[key].clone()
        if old.ndim != new.ndim or old.shape[1:] != new.shape[1:] or len(old) > len(new):
            raise MismatchError(f"{name} {tuple(old.shape)} cannot be expanded to {key} {tuple(new.shape)}")
        new[: len(old)] = old
        surgery = _put(surgery, key, new, "expanded", name, tuple(old.shape))
    return surgery


def expand_all_scores(net: NetOrState, source: StateDict, *, suffix: str = "") -> tuple[Surgery, dict[str, Tensor]]:
    """The net with every score layer expanded of which `source` has fewer classes, and what else the source has."""
    surgery, rest = _begin(net), dict(source)
    for layer in _expandable(surgery.state, rest, suffix):
        surgery = expand_score(surgery, rest, layer=layer + suffix, source_layer=layer)
        rest = _without(rest, layer)
    return surgery, rest


def widen_input(net: NetOrState, source: StateDict, *, layer: str, source_layer: str) -> Surgery:
    """More input channels: the further ones of the net's `layer` see through the average of the source's filters.

    So the release begins conv1_1_bgrd, which sees depth as a fourth channel. Raises MismatchError where the source has
    no such filters, or none with fewer channels.
    """
    surgery = _begin(net)
    weight, bias, name = f"{layer}.weight", f"{layer}.bias", f"{source_layer}.bias"
    old, values = source.get(f"{source_layer}.weight"), source.get(name)
    if old is None or values is None:
        raise MismatchError(f"the source has no weight and bias of {source_layer}")
    goal = surgery.state[weight]
    fits = old.ndim == goal.ndim and old[:, :1].shape == goal[:, :1].shape and 0 < old.shape[1] <= goal.shape[1]
    if not fits or values.numel() != surgery.state[bias].numel():
        raise MismatchError(f"{source_layer}.weight {tuple(old.shape)} cannot be widened to {tuple(goal.shape)}")
    further = old.float().mean(dim=1, keepdim=True).expand(-1, goal.shape[1] - old.shape[1], -1, -1)
    new = torch.cat([old.float(), further], dim=1)
    surgery = _put(surgery, weight, new, "widened", f"{source_layer}.weight", tuple(old.shape))
    return _put(surgery, bias, values.reshape(surgery.state[bias].shape), "copied", name, tuple(values.shape))


def interpolate(net: NetOrState, *layers: str) -> Surgery:
    """Bilinear interpolation as the weight of deconvolutions, each class by itself."""
    surgery = _begin(net)
    for key in (f"{layer}.weight" for layer in layers):
        weight = torch.from_numpy(bilinear_weight(tuple(surgery.state[key].shape)))
        surgery = _put(surgery, key, weight, "interpolated")
    return surgery


def zero(net: NetOrState, *keys: str) -> Surgery:
    """Zeros as the values of parameters, as Caffe fills a score layer that names no filler."""
    surgery = _begin(net)
    for key in keys:
        surgery = _put(surgery, key, torch.zeros_like(surgery.state[key]), "zeroed")
    return surgery


def initialise(net: FCN, *sources: StateDict, expand_scores: bool = False) -> Surgery:
    """A hand-written net as the paper begins to train it, from the state dict of a classification net or another FCN.

    Layers are transplanted. Of those that the source does not have, upsampling interpolates, skip scales are at their
    constants and scores are zero; with `expand_scores`, scores of fewer classes in the source are the first ones of
    the net. Early fusion widens conv1_1 for depth. Late fusion takes one source for both streams, or one for each in
    the order of its inputs. What is still untouched afterwards is for the caller to judge.

    Raises MismatchError where nothing of a source fits, ValueError for another number of sources.
    """
    surgery = _begin(net)
    for suffix, source in _by_stream(net, sources):
        _refuse_no_state(source)
        rest = dict(source)
        if "conv1_1_bgrd.weight" in surgery.state and "conv1_1.weight" in rest:
            surgery = widen_input(surgery, rest, layer="conv1_1_bgrd", source_layer="conv1_1")
            rest = _without(rest, "conv1_1")
        if expand_scores:
            surgery, rest = expand_all_scores(surgery, rest, suffix=suffix)
        before = len(surgery.of("copied", "coerced"))
        surgery = transplant(surgery, rest, suffix=suffix)
        if len(surgery.of("copied", "coerced")) == before:
            raise _nothing_fits(surgery, source, suffix)
    return _fill(surgery, net)


def _nothing_fits(surgery: Surgery, source: StateDict, suffix: str) -> MismatchError:
    """The error where no parameter could be taken: the shapes are others where names are the same, else the names."""
    for name, value in source.items():
        layer, _, blob = name.rpartition(".")
        ours = surgery.state.get(f"{layer}{suffix}.{blob}")
        if ours is not None:
            return MismatchError(
                f"nothing in it fits the net: {layer}{suffix}.{blob} is {tuple(ours.shape)} there and "
                f"{tuple(value.shape)} here, and so it is with every name that is in both",
                hint="names are the same and shapes are not: take a source of the net's own widths and kernels",
            )
    theirs = ", ".join(list(source)[:3])
    return MismatchError(
        f"nothing in it fits the net, which has {', '.join(list(surgery.state)[:3])} ...; found {theirs} ...",
        hint="layers are matched by name, as Caffe does; rename them first",
    )


def _fill(surgery: Surgery, net: FCN) -> Surgery:
    """Fill what no weights are copied into, as the release's nets have it."""
    untouched = {change.key for change in surgery.of("untouched")}
    for name, module in net.named_children():
        keys = [key for key in (f"{name}.weight", f"{name}.bias") if key in untouched]
        if keys and isinstance(module, BilinearUpsample):
            surgery = interpolate(surgery, name)
        elif keys and isinstance(module, ChannelScale):
            constant = torch.full_like(surgery.state[keys[0]], module.value)
            surgery = _put(surgery, keys[0], constant, "constant")
        elif name.startswith("score"):
            surgery = zero(surgery, *keys)
    return surgery


def _by_stream(net: FCN, sources: tuple[StateDict, ...]) -> list[tuple[str, StateDict]]:
    """Each source with the suffix of the layers that it is for."""
    suffixes = list(net.inputs) if isinstance(net, FCN32sColorHHA) else [""]
    if len(sources) == 1:
        ready = any(key.rpartition(".")[0].endswith(suffixes[0]) for key in sources[0])
        return [("", sources[0])] if ready else [(suffix, sources[0]) for suffix in suffixes]
    if len(sources) != len(suffixes):
        wanted = "one source" if suffixes == [""] else f"one source, or one for each of {' and '.join(suffixes)}"
        raise ValueError(f"expected {wanted}; found {len(sources)}")
    return list(zip(suffixes, sources, strict=True))


def _expandable(target: StateDict, source: StateDict, suffix: str) -> list[str]:
    """Score layers with fewer classes in the source."""
    layers = [key.removesuffix(".weight") for key in source if key.startswith("score") and key.endswith(".weight")]
    return [
        layer
        for layer in layers
        if (new := target.get(f"{layer}{suffix}.weight")) is not None
        and source[f"{layer}.weight"].ndim == new.ndim
        and source[f"{layer}.weight"].shape[1:] == new.shape[1:]
        and len(source[f"{layer}.weight"]) < len(new)
    ]


def _refuse_no_state(source: object) -> None:
    refuse_other_than(Mapping, source, "a state dict, as net.state_dict() gives it")


def _begin(net: NetOrState) -> Surgery:
    if isinstance(net, Surgery):
        return net
    state = net.state_dict() if isinstance(net, nn.Module) else net
    return Surgery(dict(state), tuple(Change("untouched", key, tuple(value.shape)) for key, value in state.items()))


def _put(
    surgery: Surgery, key: str, value: Tensor, fate: Fate, source: str | None = None, source_shape: Shape | None = None
) -> Surgery:
    old = surgery.state[key]
    changed = Change(fate, key, tuple(old.shape), source, source_shape)
    changes = tuple(changed if change.key == key else change for change in surgery.changes)
    return Surgery({**surgery.state, key: value.to(old.dtype)}, changes)


def _drop(surgery: Surgery, name: str, shape: Shape, why: str) -> Surgery:
    return replace(surgery, changes=(*surgery.changes, Change("dropped", None, None, name, shape, why)))


def _without(state: StateDict, layer: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key.rpartition(".")[0] != layer}


def _same_numbers(a: Shape, b: Shape) -> bool:
    """True where weights of these shapes are one layer, as a convolution or fully connected."""
    return prod(a) == prod(b) and not _outputs(a).isdisjoint(_outputs(b))


def _outputs(shape: Shape) -> set[int]:
    """The outputs of a layer whose weight has this shape: its first axis, or the first behind ones (files of 2014)."""
    return {*shape[:1], next((size for size in shape if size > 1), 1)}
