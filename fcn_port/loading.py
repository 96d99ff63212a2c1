"""A net with its weights, from whatever file there is: the one call that most people need."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from converters import sniff
from converters.caffe_net import CaffeNet
from converters.caffemodel import read_caffemodel
from converters.diff import diff_nets
from converters.errors import CaffeFormatError, MismatchError
from converters.export.safetensors import read_metadata
from converters.net import NetSpec
from converters.passes import to_deploy
from converters.prototxt import parse_prototxt, read_prototxt
from converters.state_dict import to_state_dict
from weights.card import Card

from .inspection import input_shapes
from .nets import recognise
from .nets.record import to_spec
from .palettes import palette


@dataclass(frozen=True)
class _Source:
    """What a file holds: tensors by key, the net if it says so, and the card if it has one."""

    state: Mapping[str, Tensor]
    spec: NetSpec | None
    card: Card


def load(
    name_or_path: str | os.PathLike[str],
    device: str | torch.device | None = None,
    *,
    prototxt: str | os.PathLike[str] | None = None,
) -> nn.Module:
    """The net of a release or a file, with its weights, in eval mode on `device` (by default the CPU).

    A release name is fetched, verified and converted as needed. A path may be a .caffemodel, .caffemodel.h5,
    .safetensors or PyTorch state dict (.pth), told apart by content. A net that this project has written out by hand is
    recognised by its layers, with any number of classes and any widths; every other one becomes a CaffeNet. `prototxt`
    is the net of a file that holds none, or another one to fit the weights to.

    The result carries `preprocessing` (weights.Preprocessing or None), `classes` (names by output blob) and `palette`
    ((256, 3) uint8 RGB or None). Raises FileNotFoundError, weights.WeightsError and converters.CaffeFormatError.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and not path.exists() and not path.suffix and path.name == name_or_path:
        from .porting import converted

        path = converted(name_or_path)
    source = read_weights(path, prototxt=prototxt)
    net = _make(source, path)
    net.to(device)
    attach(net, source.card)
    return net.eval()


def attach(net: nn.Module, card: Card) -> None:
    """Give a net a card, and what it says: `release`, `preprocessing`, `classes` and `palette`."""
    net.card = card  # type: ignore[assignment]
    net.release = card.release  # type: ignore[assignment]
    net.preprocessing = card.preprocessing  # type: ignore[assignment]
    net.classes = card.classes  # type: ignore[assignment]
    net.palette = palette(card.palette)  # type: ignore[assignment]


def read_weights(path: Path, *, prototxt: str | os.PathLike[str] | None = None) -> _Source:
    """The tensors in a file of any kind, with the net and the card that come with them; `prototxt` is another net."""
    kind = sniff.sniff_file(path)
    given = None if prototxt is None else read_prototxt(prototxt)
    if kind == sniff.SAFETENSORS:
        source = _read_safetensors(path)
        return source if given is None else replace(source, spec=to_deploy(given))
    if kind in (sniff.ZIP, sniff.PICKLE):
        state = _with_skip_scales(_read_pth(path, kind), path)
        return _Source(state, None if given is None else to_deploy(given), Card())
    model = read_caffemodel(path)
    spec = given or model.spec
    deploy = None if spec is None else to_deploy(spec, blobs=model.blobs)
    try:
        card = Card.beside(path)
    except ValueError as error:
        raise CaffeFormatError(f"damaged: {error}", path=path.with_suffix(".json")) from error
    return _Source(to_state_dict(model, spec=given), deploy, card)


def _read_safetensors(path: Path) -> _Source:
    metadata = read_metadata(path)
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        card = Card.from_metadata(metadata)
    except (SafetensorError, ValueError) as error:
        raise CaffeFormatError(f"damaged: {error}", path=path, hint="convert it again") from error
    text = metadata.get("prototxt")
    return _Source(state, None if text is None else parse_prototxt(text, path=f"{path}, its prototxt"), card)


def _read_pth(path: Path, kind: str) -> Mapping[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise CaffeFormatError(f"this {kind} is not a PyTorch state dict: {reason}", path=path) from error
    if isinstance(state, dict) and isinstance(state.get("model_state_dict"), dict):  # torchfcn's checkpoints
        state = state["model_state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CaffeFormatError(
            "there is no state dict in it", path=path, hint="save one with torch.save(net.state_dict(), path)"
        )
    return state


def _with_skip_scales(state: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """The state dict of torchfcn's FCN-8s at-once with the scales of its skips, which torchfcn has in its code.

    Without them it is one of FCN-8s; only the name under which it was published, fcn8s-atonce_from_caffe.pth, tells.
    """
    scores = {"scale_pool4.weight": "score_pool4.weight", "scale_pool3.weight": "score_pool3.weight"}
    if "atonce" not in path.name or scores.keys() & state.keys() or not state.keys() >= set(scores.values()):
        return state
    constants = {"scale_pool4.weight": 0.01, "scale_pool3.weight": 0.0001}
    scales = {key: torch.full(state[scores[key]].shape[1:2], value) for key, value in constants.items()}
    return {**state, **scales}


def _make(source: _Source, path: Path) -> nn.Module:
    """The net that fits the tensors, holding them."""
    state = {key: value.float() for key, value in source.state.items()}
    net = recognise({key: tuple(value.shape) for key, value in state.items()})
    if net is not None and (source.spec is None or _is_same(net, source.spec)):
        net.load_state_dict(state, assign=True)
        return net
    if source.spec is None:
        raise MismatchError(
            "these weights fit none of the hand-written nets, and the file holds no net definition",
            path=path,
            hint="convert them with their prototxt: fcn-port convert FILE --prototxt NET.prototxt",
        )
    caffe_net = CaffeNet(source.spec)
    try:
        caffe_net.load_state_dict(state)
    except RuntimeError as error:
        hint = "the net is not that of these weights, or not its input size: give its deploy prototxt"
        raise MismatchError(str(error), path=path, hint=hint) from error
    return caffe_net


def _is_same(net: nn.Module, spec: NetSpec) -> bool:
    """Whether the hand-written net computes what the definition says (Dropout, which deploy nets lack, aside)."""
    return not diff_nets(to_spec(net, input_shapes(net, (500, 500)), name=spec.name), spec, meaning_only=True)
