"""Prototxt files: what a net's text means, and back.

bytes -> text             read_text, which knows what is often found under the name of a prototxt
text -> messages          text_syntax.py, text_format.py
messages -> NetSpec       upgrade.py, net.py, and here
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from typing import Any, BinaryIO

from ..errors import CaffeFormatError, LimitError, PrototxtError
from ..given import refuse_other_than
from ..net.layer import UnknownField
from ..net.spec import NetSpec, net_from_message, refuse_no_spec
from ..safety.files import whole_or_open
from ..safety.limits import VARIABLE, scaled
from ..safety.opening import open_file
from ..schema import NetParameter, SolverParameter
from . import sniff
from .text_format import ParsedText, format_text, parse_text
from .upgrade import UpgradedNet, upgrade_net

MAX_BYTES = 4 << 20
"""The largest prototxt that is read; the largest published ones have a few hundred thousand bytes."""
MAX_NOTES = 50
"""After so many notes on fields of forks the rest are counted."""


def read_prototxt(path: str | os.PathLike[str]) -> NetSpec:
    """The net of a prototxt file: any age, upgraded to V2, not filtered by phase.

    Raises CaffeFormatError, which names the file and the place in it; FileNotFoundError where there is no such file.
    """
    return parse_prototxt(read_text(path), path=path)


def write_prototxt(spec: NetSpec, path: str | os.PathLike[str] | BinaryIO) -> None:
    """Write the net as a prototxt; a file under that name is replaced only once the new one is whole.

    `path` may be a file that is open for writing.
    """
    with whole_or_open(path) as file:
        file.write(format_prototxt(spec).encode())


def parse_prototxt(text: str, *, path: str | os.PathLike[str] | None = None) -> NetSpec:
    """The net of a prototxt's text, or the one that a solver has written inside; `path` is named in errors."""
    refuse_other_than(str, text, "the text of a prototxt; read_prototxt takes a path")
    path = None if path is None else os.fspath(path)
    try:
        _check_length(len(text))
        parsed = parse_text(text, NetParameter)
        within = _field_with_net(parsed)
        if within is not None:
            spec = net_inside(parse_text(text, SolverParameter), within, path=path)
            return replace(spec, notes=(f"the net that a solver has in its {within}", *spec.notes))
        _check_is_net(parsed)
        return _to_spec(parsed, path)
    except CaffeFormatError as error:
        if path is not None:
            error.in_file(path)
        raise


def format_prototxt(spec: NetSpec) -> str:
    """The net as a prototxt in the style of the published ones; parses to an equal NetSpec but for the lines."""
    refuse_no_spec(spec)
    unknown = [
        replace(field, name=f"layer[{index}].{field.name}")
        for index, layer in enumerate(spec.layers)
        for field in layer.extra
    ]
    return format_text(spec.to_message(), unknown=[*spec.extra, *unknown])


# Files


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a prototxt file of any kind (net, solver); raises CaffeFormatError for what is no text.

    Bytes that are not UTF-8 come as lone surrogates: Caffe does not mind them in comments, where people wrote in
    their own languages, nor in paths; elsewhere the parser refuses them with their place.
    """
    with open_file(path) as file:
        data = file.read(scaled(MAX_BYTES) + 1)
    kind = sniff.sniff(data[:4096])
    if kind != sniff.TEXT:
        error = sniff.not_a("a prototxt", kind)
        if kind == sniff.PROTOBUF:
            error.hint = "weights, with their net inside, are a .caffemodel"
        raise error.in_file(path)
    try:
        _check_length(len(data))
    except CaffeFormatError as error:
        raise error.in_file(path) from None
    return data.decode("utf-8", "surrogateescape")


def _check_length(length: int) -> None:
    """Refuse a text over the limit, wherever it comes from: a file, or the metadata of converted weights."""
    limit = scaled(MAX_BYTES)
    if length > limit:
        hint = f"no net has so much; if you trust it, set {VARIABLE}=2 or more, a factor for all limits"
        raise LimitError(f"more than {limit >> 20} MiB of text, the limit", hint=hint)


# Meaning


class SolverError(PrototxtError):
    """A solver's text where a net's was expected; `nets` are the files that it names."""

    def __init__(self, nets: tuple[str, ...]) -> None:
        super().__init__("this is a solver, not a net", hint=f"its net is in {', '.join(nets)}" if nets else None)
        self.nets = nets


def _check_is_net(parsed: ParsedText) -> None:
    if parsed.message.layer or parsed.message.layers or parsed.message.input:
        return
    names = {field.name for field in parsed.unknown}
    if names & set(SolverParameter.DESCRIPTOR.fields_by_name):
        found = [field.value for field in parsed.unknown if field.name in ("net", "train_net", "test_net")]
        raise SolverError(tuple(value for value in found if isinstance(value, str)))
    raise PrototxtError("there is no 'layer' in it, so this is not a net")


def _field_with_net(parsed: ParsedText) -> str | None:
    """The field of a solver's text, read as a net's, that holds the net which it trains."""
    if parsed.message.ByteSize():
        return None
    held = {field.name for field in parsed.unknown if isinstance(field.value, tuple)}
    return next((name for name in ("net_param", "train_net_param") if name in held), None)


def net_inside(parsed: ParsedText, name: str, *, path: str | None = None) -> NetSpec:
    """The net that a text holds in its field `name`, with its forks' fields and its lines in the whole text.

    Of a repeated field `name` ends in the number of the net, from 0 on: `test_net_param[1]`.
    """
    prefix = f"{name}."
    field, _, number = name.rstrip("]").partition("[")
    held = getattr(parsed.message, field)
    unknown = (each for each in parsed.unknown if each.name.startswith(prefix))
    part = ParsedText(
        held[int(number)] if number else held,
        tuple(replace(each, name=each.name.removeprefix(prefix)) for each in unknown),
        {place.removeprefix(prefix): line for place, line in parsed.lines.items() if place.startswith(prefix)},
    )
    _check_is_net(part)
    return _to_spec(part, path)


def _to_spec(parsed: ParsedText, path: str | None) -> NetSpec:
    key = "layers" if parsed.message.layers else "layer"
    extras, extra = _by_layer(parsed.unknown, key)
    upgraded = upgrade_net(parsed.message, extras=extras)
    lines = {
        index: parsed.lines[f"{key}[{source}]"] for index, source in enumerate(upgraded.sources) if source is not None
    }
    notes = (*_unknown_notes(upgraded, extra), *_blob_notes(upgraded.message.layer), *upgraded.notes)
    spec = net_from_message(upgraded.message, path=path, extras=upgraded.extras, lines=lines, notes=notes)
    return replace(spec, extra=extra)


def _by_layer(
    unknown: Iterable[UnknownField], key: str
) -> tuple[dict[int, tuple[UnknownField, ...]], tuple[UnknownField, ...]]:
    """The unknown fields by the index of their layer, their names without the layer's part, and the net's own."""
    layers: dict[int, list[UnknownField]] = {}
    rest = []
    for field in unknown:
        match = re.match(rf"{key}\[(\d+)\]\.", field.name)
        if match:
            layers.setdefault(int(match[1]), []).append(replace(field, name=field.name[match.end() :]))
        else:
            rest.append(field)
    return {index: tuple(fields) for index, fields in layers.items()}, tuple(rest)


def _unknown_notes(upgraded: UpgradedNet, extra: tuple[UnknownField, ...]) -> list[str]:
    """One note for each unknown field name, with its lines and the known name that it resembles."""
    lines: dict[str, list[int]] = {}
    for prefix, fields in [("", extra), *(("layer.", fields) for fields in upgraded.extras.values())]:
        for field in fields:
            lines.setdefault(prefix + re.sub(r"\[\d+\]", "", field.name), []).append(field.line or 0)
    notes = []
    for name, found in islice(lines.items(), MAX_NOTES):
        short = name.removeprefix("layer.")
        parent = _message_of(name)
        leaf = name.rpartition(".")[2]
        if parent is not None and leaf in parent.fields_by_name:
            notes.append(f"{_show_lines(found)}: field '{short:.80}' has a value that BVLC Caffe does not have; kept")
            continue
        similar = None if parent is None else _similar(leaf, parent)
        meant = f" (did you mean '{similar}'?)" if similar else ""
        notes.append(f"{_show_lines(found)}: field '{short:.80}' is not BVLC Caffe's; kept{meant}")
    if len(lines) > MAX_NOTES:
        notes.append(f"{len(lines) - MAX_NOTES} more fields are not BVLC Caffe's; kept")
    return notes


def _message_of(name: str) -> Any | None:
    """The descriptor of the message that a field, "layer.pooling_param.pool", is in; None where the schema has none."""
    descriptor: Any = NetParameter.DESCRIPTOR
    for part in name.split(".")[:-1]:
        field = descriptor.fields_by_name.get(part)
        if field is None or field.message_type is None:
            return None
        descriptor = field.message_type
    return descriptor


def _similar(leaf: str, descriptor: Any) -> str | None:
    """The field of the message whose name a mistyped one resembles, its last word too: pad_l is not pad_h mistyped."""
    ending = "_param" if leaf.endswith("_param") else ""
    stems = [known.removesuffix(ending) for known in descriptor.fields_by_name if known.endswith(ending)]
    similar = get_close_matches(leaf.removesuffix(ending), stems, n=1, cutoff=0.8)
    last, others = leaf.rpartition("_")[2], [name.rpartition("_")[2] for name in similar]
    if not similar or ("_" in leaf and "_" in similar[0] and not get_close_matches(last, others, cutoff=0.5)):
        return None
    found: str = similar[0] + ending
    return found


def _show_lines(lines: list[int]) -> str:
    if len(lines) == 1:
        return f"line {lines[0]}"
    if len(lines) <= 4:
        return f"lines {', '.join(map(str, lines[:-1]))} and {lines[-1]}"
    return f"lines {', '.join(map(str, lines[:3]))} and {len(lines) - 3} more"


_WEIGHTS = "the text has the weights of"


def has_weights(spec: NetSpec) -> bool:
    """True for a net of a text that has weights, too, which are not read."""
    return any(note.startswith(_WEIGHTS) for note in spec.notes)


def _blob_notes(layers: Iterable[Any]) -> list[str]:
    names = [layer.name for layer in layers if layer.blobs]
    return [f"{_WEIGHTS} {len(names)} layers; they are not read, only the net is"] if names else []
