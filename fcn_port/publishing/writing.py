"""`publish`: a folder as a model hub has it, made of a release or a file, whole or not there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from converters.cancelling import ProgressCallback, ProgressSteps
from converters.conversion import TOOL, convert
from converters.errors import CaffeFormatError
from converters.escaping import json_text, terminal
from converters.export import (
    ExportError,
    index_inputs,
    inputs_at,
    random_inputs,
    read_metadata,
    takes_any_size,
)
from converters.formats import sniff
from converters.given import path_of
from converters.net import NetSpec, Shape, drawing_layer, infer_shapes
from converters.safety import fresh_folder, make_folder, sha256_of, write_whole
from weights.card import Card
from weights.catalogue import bundled, famous, init_nets, releases
from weights.catalogue import release as find_release
from weights.records import Licence, Release

from ..detection import finds_objects
from ..exporting import export
from ..inspection import blobs as run_blobs
from ..loading import is_release, load
from ..nets import Net
from ..porting import definition_of, fetch_release
from ..predict.meaning import names_images, outputs_of
from ..recording import GOLDEN_TOLERANCE
from ..verification import Check, verify
from .folder import check_pair, checked_folder
from .model_card import ModelCard, repository_of, to_markdown
from .records import CARD, CONFIG, FORMAT, GOLDEN, ONNX, WEIGHTS, PublishedFile, PublishedNet, PublishedSource

_SIZE = (64, 64)
"""The size (h, w) of the recorded input, where the net takes it: small, as it is computed at each loading."""


@dataclass(frozen=True)
class PublishReport:
    """A published folder: its record, what was checked, and True if it was there already."""

    folder: str
    net: PublishedNet
    checks: tuple[Check, ...]
    already_there: bool = False


@dataclass(frozen=True)
class _Given:
    """The file of weights that is published, the release it is of, and the net and card that come with it."""

    path: Path
    release: Release | None
    prototxt: Path | None
    card: Card | None
    name: str

    @property
    def is_caffe(self) -> bool:
        return sniff.sniff_file(self.path) not in (sniff.SAFETENSORS, sniff.ZIP, sniff.PICKLE)


def publish(
    what: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    prototxt: str | os.PathLike[str] | None = None,
    card: Card | None = None,
    licence: str | None = None,
    repository: str = "OWNER/NAME",
    onnx: bool = True,
    progress: ProgressCallback | None = None,
) -> PublishReport:
    """Write a release or a file as a folder that a model hub and `fcn_port.load` take.

    It holds model.safetensors, config.json, onnx/model.onnx (unless `onnx` is False), golden.npz, an input with its
    outputs, and README.md, the model card. A Caffe file's weights are verified against it first, and ONNX against the
    net; nothing is written where a check fails. `prototxt` is the net of a file that holds none, `card` replaces what
    is known of inputs and classes, `licence` names the terms of weights that are no release's, `repository` is where
    the card says that the net is.

    `progress(done, total)` counts steps (weights, checks, ONNX, the recorded pass, the folder read again), is asked
    within them too, and may end the call (`stop_when`); nothing is then in the folder.

    FileExistsError where the folder holds something else than this net published before. Raises ExportError,
    WeightsError and CaffeFormatError.
    """
    target = path_of(folder, "the folder to write")
    path_of(what, "the name of a release, or the path of a file")
    given = _given(what, prototxt, card)
    card_of_weights = _card_of(given, licence)
    there = partial(_there_already, target, given, card_of_weights, repository, onnx=onnx)
    done = there()
    if done is not None:
        return PublishReport(os.fspath(target), done, (), already_there=True)
    step = ProgressSteps(progress, 5)
    make_folder(target.absolute().parent)
    with fresh_folder(target.absolute()) as part, _naming(part, given.path, target):
        _write_weights(given, part / WEIGHTS, card_of_weights, step)
        step()
        checks = _verified(given, part / WEIGHTS, step)
        step()
        net = load(part / WEIGHTS)
        error = _write_onnx(part, step) if onnx else None
        step()
        outputs = _write_golden(net, part / GOLDEN)
        step()
        found = _described(given, net, part, outputs)
        write_whole(part / CONFIG, (json_text(found.to_json(), indent=2) + "\n").encode())
        check_pair(net, checked_folder(part), part)
        about = ModelCard(found, checks, given.release, _licence(given), error, _task(net), repository)
        write_whole(part / CARD, to_markdown(about).encode())
        step()
        try:
            if target.is_dir():
                target.rmdir()
            part.rename(target.absolute())
        except OSError:
            done = there()  # it came meanwhile
            if done is None:
                raise
            return PublishReport(os.fspath(target), done, (), already_there=True)
    return PublishReport(os.fspath(target), found, tuple(checks))


@contextmanager
def _naming(part: Path, given: Path, target: Path) -> Iterator[None]:
    """Errors inside the block name the file that was given and the folder it is for, and nothing of the unfinished."""

    def told(text: str, old: Path, new: Path) -> str:
        for each in (os.fspath, terminal):
            text = text.replace(each(os.fspath(old)), each(os.fspath(new)))
        return text

    def read(text: str) -> str:
        return told(told(text, part / WEIGHTS, given), part, target)

    try:
        yield
    except CaffeFormatError as error:
        error.path, error.problem = None if error.path is None else read(error.path), read(error.problem)
        raise
    except ExportError as error:
        raise type(error)(read(str(error.args[0]))) from error
    except OSError as error:
        if isinstance(error.filename, str):
            error.filename = told(error.filename, part, target)
        raise


_SOMETHING_ELSE = "something else is there; choose another folder, or move it away"
_SAID_OTHERWISE = (
    "the same weights are there with another --prototxt, --like, --licence or --repository; choose another folder, or "
    "move it away"
)


def _given(what: str | os.PathLike[str], prototxt: str | os.PathLike[str] | None, card: Card | None) -> _Given:
    net = None if prototxt is None else Path(prototxt)
    if is_release(what):
        release = find_release(os.fspath(what))
        return _Given(fetch_release(release.name).path, release, net or definition_of(release), card, release.name)
    path = Path(what)
    every = (releases(), init_nets(), bundled(), famous())
    known = {each.file: each for catalogue in every for each in catalogue.values()}
    file, digest = path.name, None
    if sniff.sniff_file(path) == sniff.SAFETENSORS:
        metadata = read_metadata(path)
        file, digest = metadata.get("source", ""), metadata.get("source_sha256", "")
    return _Given(path, _release_of(known.get(file), digest or sha256_of(path)), net, card, path.stem)


def _release_of(release: Release | None, digest: str) -> Release | None:
    """The release whose file has this SHA-256, where one was published."""
    checksum = release.checksum if release is not None else None
    known = checksum is not None and checksum.algorithm == "sha256" and checksum.digest == digest
    return release if known else None


def _there_already(
    target: Path, given: _Given, card: Card | None, repository: str, *, onnx: bool
) -> PublishedNet | None:
    """The record of the same net in `target`; None where nothing is there, FileExistsError where it is another one."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        found = PublishedNet.read(target)
        there = Card.from_metadata(read_metadata(target / WEIGHTS))
        said = (target / CARD).read_text(encoding="utf-8", errors="replace")
    except (CaffeFormatError, OSError):
        found = None
    same = found is not None and found.made_by == TOOL and (ONNX in found.files) == onnx
    if found is None or not same or found.source is None or found.source.sha256 != sha256_of(given.path):
        raise FileExistsError(17, _SOMETHING_ELSE, os.fspath(target))
    if (
        found.prototxt_sha256 != _digest(given)
        or card not in (None, there)
        or repository_of(said) not in (None, repository)
    ):
        raise FileExistsError(17, _SAID_OTHERWISE, os.fspath(target))
    return found


def _digest(given: _Given) -> str | None:
    """The SHA-256 of the definition that was given beside the weights."""
    return None if given.prototxt is None else sha256_of(given.prototxt)


def _card_of(given: _Given, licence: str | None) -> Card | None:
    """The card that a Caffe file's weights get; None for others, which bring theirs (ExportError for a new one)."""
    if not given.is_caffe:
        if given.card is not None or licence is not None:
            problem = "its card cannot be changed here\n  convert it again: fcn-port convert --like"
            raise ExportError(f"{given.path}: {problem}")
        return None
    own = Card.of(given.release) if given.release is not None else Card.beside(given.path)
    if licence is not None and own.release is not None and not (own.licence or licence).startswith(licence):
        problem = f"the weights of the release {own.release} are under {own.licence}"
        raise ExportError(f"{given.path}: {problem}\n  a licence can be said of weights that are no release's")
    card = own
    if given.card is not None:  # whose release nobody named, but for a file that is known to be one
        card = replace(given.card, release=given.card.release or own.release, licence=given.card.licence or own.licence)
    return card if licence is None else replace(card, licence=licence)


def _write_weights(given: _Given, out: Path, card: Card | None, step: ProgressSteps) -> None:
    if card is not None:
        convert(given.path, out, prototxt=given.prototxt, metadata=card.to_metadata(), progress=step.ask)
    elif sniff.sniff_file(given.path) == sniff.SAFETENSORS and given.prototxt is None:
        read_metadata(given.path)
        shutil.copyfile(given.path, out)
    else:
        export(given.path, to="safetensors", out=out, prototxt=given.prototxt, progress=step.ask)


def _verified(given: _Given, weights: Path, step: ProgressSteps) -> list[Check]:
    """The checks against the Caffe file; ExportError where one fails."""
    if not given.is_caffe:
        return []
    checks = list(verify(weights, given.path, prototxt=given.prototxt, progress=step.ask))
    for check in checks:
        if check.ok is False:
            raise ExportError(f"{given.path}: not published, as {check.what} does not hold: {check.details}")
    return checks


def _write_onnx(part: Path, step: ProgressSteps) -> float:
    """The ONNX file, run beside the net; its largest difference."""
    from ..onnx_export import export_onnx  # here, as a net without ONNX is published without onnx

    try:
        make_folder((part / ONNX).parent)
        return export_onnx(part / WEIGHTS, part / ONNX, progress=step.ask).error
    except ExportError as error:
        of_export = " (--outputs is an option of export)" if "--outputs" in str(error) else ""
        raise ExportError(f"{error}{of_export}\n  --no-onnx publishes the net without") from error


def _write_golden(net: Net, path: Path) -> Mapping[str, Shape]:
    """A recorded pass; the shapes of its outputs."""
    spec = net.spec
    if (drawing := drawing_layer(spec)) is not None:
        raise ExportError(
            f"not published: {drawing.place} draws numbers at test, and nobody's net gives a recorded pass again\n"
            "  take sample_weights_test out of the definition, and give that with --prototxt"
        )
    shapes = _inputs(net, spec)
    inputs = random_inputs(shapes, seed=0, indices=index_inputs(spec, shapes))
    found = run_blobs(net, **inputs)
    kept = {name: found[name].numpy() for name in (*net.inputs, *net.outputs)}
    if not all(np.isfinite(each).all() for each in kept.values()):
        raise ExportError("the net gives numbers that are infinite or none; not published")
    with path.open("xb") as file:
        np.savez_compressed(file, **kept)  # type: ignore[arg-type]
    return {name: tuple(found[name].shape) for name in net.outputs}


def _inputs(net: Net, spec: NetSpec) -> Mapping[str, Shape]:
    return inputs_at(spec, _SIZE) if takes_any_size(spec) else dict(net.inputs)


def _described(given: _Given, net: Net, part: Path, outputs: Mapping[str, Shape]) -> PublishedNet:
    metadata = read_metadata(part / WEIGHTS)
    origin = metadata.get("source"), metadata.get("source_sha256")
    urls = given.release.urls if given.release is not None else ()
    source = PublishedSource(origin[0], origin[1], urls) if origin[0] and origin[1] else None
    spec, card = net.spec, net.card
    shapes = infer_shapes(spec)
    return PublishedNet(
        format=FORMAT,
        name=card.release or given.name,
        net=card.net,
        inputs=dict(spec.inputs),
        outputs={name: shapes.get(name, outputs[name]) for name in outputs},
        any_size=takes_any_size(spec),
        parameters=sum(each.numel() for each in net.parameters()),
        files={name: _file(part / name) for name in _files(part)},
        tolerance=GOLDEN_TOLERANCE,
        made_by=TOOL,
        source=source,
        preprocessing=card.preprocessing,
        classes=dict(card.classes),
        palette=card.palette,
        licence=card.licence,
        prototxt_sha256=_digest(given),
    )


def _files(part: Path) -> Sequence[str]:
    return sorted(path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file())


def _file(path: Path) -> PublishedFile:
    return PublishedFile(path.stat().st_size, sha256_of(path))


def _licence(given: _Given) -> Licence | None:
    return given.release.licence if given.release is not None else None


def _task(net: Net) -> str | None:
    """The hub's name for what a net does."""
    if finds_objects(net):
        return "object-detection"
    with torch.no_grad():
        shapes = infer_shapes(net.spec)
    outputs = outputs_of(net)
    if names_images(net):
        return "image-classification"
    if {each.kind for each in outputs.expected.values()} <= {"map"}:
        return None
    image = next((shape for shape in net.inputs.values() if len(shape) == 4), None)
    labels = [shapes[name] for name in net.outputs if len(shapes.get(name, ())) == 4]
    return "image-segmentation" if image is not None and any(each[2:] == image[2:] for each in labels) else None
