"""A net with its weights, from whatever file there is: the one call that most people need."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, overload

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from converters.diff import diff_nets
from converters.errors import CaffeFormatError, MismatchError
from converters.execution import state_misfit, to_state_dict
from converters.export import read_metadata
from converters.formats import parse_prototxt, read_caffemodel, read_prototxt, sniff
from converters.given import found_in_words, path_of
from converters.net import NetSpec
from converters.passes import prepare
from converters.safety import utf8_path
from converters.weights_meant import refuse_definition
from weights.card import Card
from weights.download import Callback

from .any_net import attach as attach
from .errors import DeviceError
from .nets import Net, SiftFlow, SiftFlowName, definition, recognise
from .nets.fcn8s_atonce import SKIP_SCALES
from .nets.net import CaffeNetWithCard
from .pth import read_pth
from .publishing.folder import check_pair, checked_folder
from .publishing.hub import fetch_from_hub, is_on_hub
from .publishing.records import WEIGHTS


@dataclass(frozen=True)
class _Contents:
    """The contents of a file: tensors by key, the net if it says so, and the card if it has one."""

    state: Mapping[str, Tensor]
    spec: NetSpec | None
    card: Card


@overload
def load(
    name_or_path: SiftFlowName,
    device: str | torch.device | None = ...,
    *,
    prototxt: str | os.PathLike[str] | None = ...,
    progress: Callback | None = ...,
) -> SiftFlow: ...
@overload
def load(
    name_or_path: str | os.PathLike[str],
    device: str | torch.device | None = ...,
    *,
    prototxt: str | os.PathLike[str] | None = ...,
    progress: Callback | None = ...,
) -> Net: ...
def load(
    name_or_path: str | os.PathLike[str],
    device: str | torch.device | None = None,
    *,
    prototxt: str | os.PathLike[str] | None = None,
    progress: Callback | None = None,
) -> Net:
    """The net of a release or a file, with its weights, in eval mode on `device` (by default the CPU).

    A release name is fetched, verified and converted as needed. "hf:owner/name" and "hf:owner/name@revision" are
    published nets on a model hub; they, and a folder that `fcn-port publish` wrote, are loaded once their digests hold
    and the net has given its recorded pass again. A path may be a .caffemodel, .caffemodel.h5,
    .safetensors or PyTorch state dict (.pth), told apart by content. A net that this project has written out by hand is
    recognised by its layers, with any number of classes and any widths; every other one becomes a CaffeNet. `prototxt`
    is the net of a file that holds none, or another one to fit the weights to. `progress` is told of a release's
    download (weights.Progress), and may end it (`stop_when`); the next call goes on from there.

    The result carries `preprocessing` (weights.Preprocessing or None), `classes` (names by output blob) and `palette`
    ((256, 3) uint8 RGB or None). Raises FileNotFoundError, weights.WeightsError and converters.CaffeFormatError,
    and DeviceError (a ValueError and a RuntimeError) for a device that is not here.
    """
    path = path_of(name_or_path, "the name of a release, or the path of a file or a published folder")
    device = None if device is None else _tried(device)
    if is_on_hub(name_or_path):
        path = fetch_from_hub(name_or_path)
    elif is_release(name_or_path):
        from .porting import converted

        path = converted(os.fspath(name_or_path), fetch_progress=progress)
    if path.is_dir():
        return _load_published(path).to(device)
    return _load_file(path, prototxt).to(device)


def _tried(device: object) -> torch.device:
    """A device that is here; DeviceError, before anything is read, for what is none."""
    try:
        found = torch.device(device)  # type: ignore[call-overload]
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        problem = f"expected a device that is here, such as 'cpu', 'cuda:1' or 'mps'; found {found_in_words(device)}"
        raise DeviceError(f"{problem}: {reason}") from error
    return cast("torch.device", found)


def _load_file(path: Path, prototxt: str | os.PathLike[str] | None = None) -> Net:
    source = read_weights(path, prototxt=prototxt)
    net = made_from(source, path)
    net.card = source.card
    return net.eval()


def _load_published(folder: Path) -> Net:
    """The net of a published folder, whose digests hold and which gives its recorded pass again."""
    published = checked_folder(folder)
    net = _load_file(folder / WEIGHTS)
    check_pair(net, published, folder)
    return net


def is_release(name_or_path: str | os.PathLike[str]) -> bool:
    """True if this is meant as the name of a release: no such file exists, and it has neither a folder nor a suffix."""
    path = Path(name_or_path)
    return isinstance(name_or_path, str) and not path.exists() and not path.suffix and path.name == name_or_path


def read_weights(path: Path, *, prototxt: str | os.PathLike[str] | None = None) -> _Contents:
    """The tensors in a file of any kind, with the net and the card that come with them; `prototxt` is another net."""
    kind = sniff.sniff_file(path)
    given = None if prototxt is None else read_prototxt(prototxt)
    if kind == sniff.SAFETENSORS:
        source = _read_safetensors(path)
        return source if given is None else replace(source, spec=prepare(given))
    if kind in (sniff.ZIP, sniff.PICKLE):
        state = _with_skip_scales(_checked(read_pth(path, kind), path), path)
        return _Contents(state, None if given is None else prepare(given), Card())
    refuse_definition(path)
    model = read_caffemodel(path)
    spec = given or model.spec
    deploy = None if spec is None else prepare(spec, blobs=model.blobs)
    try:
        card = Card.beside(path)
    except ValueError as error:
        raise CaffeFormatError(f"damaged: {error}", path=path.with_suffix(".json")) from error
    return _Contents(to_state_dict(model, spec=given, prepared=deploy), deploy, card)


def _read_safetensors(path: Path) -> _Contents:
    metadata = read_metadata(path)
    try:
        with utf8_path(path) as there, safe_open(there, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        card = Card.from_metadata(metadata)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise CaffeFormatError(f"damaged: {error}", path=path, hint="convert it again") from error
    text = metadata.get("prototxt")
    spec = None if text is None else parse_prototxt(text, path=f"{path}, its prototxt")
    return _Contents(_checked(state, path), spec, card)


def _with_skip_scales(state: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """The state dict of torchfcn's FCN-8s at-once with the scales of its skips, which torchfcn has in its code.

    Without them it is one of FCN-8s; only the name under which it was published, fcn8s-atonce_from_caffe.pth, tells.
    """
    scores = {f"scale_{skip}.weight": f"score_{skip}.weight" for skip in SKIP_SCALES}
    if "atonce" not in path.name or scores.keys() & state.keys() or not state.keys() >= set(scores.values()):
        return state
    scales = {
        f"scale_{skip}.weight": torch.full(state[f"score_{skip}.weight"].shape[1:2], value)
        for skip, value in SKIP_SCALES.items()
    }
    return {**state, **scales}


def made_from(source: _Contents, path: Path) -> Net:
    """The net that fits the tensors, holding them; made without memory of its own, so that a misfit costs none."""
    state = _as_floats(source.state)
    net = recognise({key: tuple(value.shape) for key, value in state.items()})
    if net is not None and (source.spec is None or _is_same(net, source.spec)):
        net.load_state_dict(state, assign=True)
        return net
    if source.spec is None:
        raise MismatchError(
            "these weights fit none of the hand-written nets, and the file holds no net definition",
            path=path,
            hint="give their net: --prototxt NET.prototxt, in Python load(FILE, prototxt=NET)",
        )
    with torch.device("meta"):
        caffe_net = CaffeNetWithCard(source.spec)
    try:
        caffe_net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        hint = "the net is not that of these weights, or not its input size: give its deploy prototxt"
        problem = state_misfit(caffe_net, state) or " ".join(str(error).split())
        raise MismatchError(f"{problem[:1000]}{'...' * (len(problem) > 1000)}", path=path, hint=hint) from error
    for blob in caffe_net.parameters():
        if blob.data_ptr() % _ALIGNMENT:  # from a mapped file; sums would be made in another order than of own memory
            blob.data = blob.data.clone()
    return caffe_net


_ALIGNMENT = 64
"""Bytes; PyTorch's own memory begins at a multiple."""
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_TYPES = frozenset((*_FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64))
_MOST_AXES = 32
"""Of a blob in Caffe (blob.hpp, kMaxBlobAxes)."""


def _checked(state: Mapping[str, Tensor], path: Path) -> Mapping[str, Tensor]:
    """The tensors, which must be of types and shapes that a blob of Caffe's can have; CaffeFormatError if not."""
    for key, value in state.items():
        if value.dtype not in _TYPES or value.ndim > _MOST_AXES:
            found = f"{str(value.dtype).removeprefix('torch.')} with {value.ndim} axes"
            problem = f"{key[:80]!a} is {found}; expected real numbers with at most {_MOST_AXES}"
            raise CaffeFormatError(problem, path=path)
    return state


def _as_floats(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as float32, each made once however often the file names it."""
    made: dict[int, Tensor] = {}
    for value in state.values():
        if id(value) not in made:
            made[id(value)] = value.float()
    return {key: made[id(value)] for key, value in state.items()}


def _is_same(net: Net, spec: NetSpec) -> bool:
    """True where the hand-written net computes what the definition says (Dropout, which deploy nets lack, aside)."""
    return not diff_nets(definition(net, name=spec.name), spec, meaning_only=True)
