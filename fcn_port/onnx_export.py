"""A file of weights, or a net, as ONNX: written straight from the definition and the mapped file, without torch.

Only the check, which runs the net beside what was written, imports torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from converters.cancelling import ProgressCallback, ProgressSteps
from converters.conversion import TOOL
from converters.errors import CaffeFormatError, MismatchError
from converters.execution import cover, to_arrays
from converters.export import (
    MOST_INSIDE,
    SIZES,
    TOLERANCE,
    Checked,
    DestinationError,
    ExportError,
    OnnxNet,
    OnnxOptions,
    build_onnx,
    index_inputs_of_all,
    least_side,
    map_tensors,
    read_metadata,
    require,
    size_with_room,
    summary,
    takes,
)
from converters.formats import format_prototxt, parse_prototxt, read_caffemodel, read_prototxt, sniff
from converters.given import path_of
from converters.net import NetSpec, Shape, borrowed_blobs
from converters.passes import check_size, prepare
from converters.safety import file_version, fresh_folder, is_utf8, make_folder, sha256_beside, whole_file
from converters.weights_meant import refuse_definition
from weights.card import Card

from .export_files import ExportReport, data_beside
from .onnx_half import lost, rounded
from .onnx_targets import TRIALS, append_metadata, check_in_target, judge_of_module, judge_without_torch

if TYPE_CHECKING:
    from torch import nn

FOLDED_TOLERANCE = 1e-4
"""Of the output's largest magnitude, where `fold` rounds the weights of a net anew."""
FOLDED_HALF_TOLERANCE = 2e-2
"""The same where folded weights are stored with 16 bits: without `fold` the judge has those weights itself."""
IMAGES = 3
"""In the trial of several: OpenCV's classic engine is right with two where it is wrong with more (docs/log.md)."""
_MARGIN = 1 << 24
"""Bytes of a model beside its weights: nodes, names, the definition in its metadata."""


@dataclass(frozen=True)
class OnnxSource:
    """A net with its weights on the way to ONNX: the prepared definition, blobs by state dict key, and what is known.

    `file` is the one whose SHA-256 goes into the metadata; `origin` is metadata of where the weights came from.
    """

    spec: NetSpec
    arrays: Mapping[str, np.ndarray]
    card: Card
    file: Path | None = None
    origin: Mapping[str, str] = field(default_factory=dict)


def export_onnx(
    weights: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    prototxt: str | os.PathLike[str] | None = None,
    options: OnnxOptions | None = None,
    external_data: bool = False,
    check: bool = True,
    progress: ProgressCallback | None = None,
) -> ExportReport:
    """Write a file of weights as ONNX; it appears whole or not at all, once it has computed what the net does.

    `prototxt` is the net of a file that holds none. Weights go into OUT.data beside with `external_data`, and where
    they are more than a model can hold (2 GB). Without `check` nothing is run, and torch is not needed, except for a
    PyTorch state dict. `progress(done, total)` counts steps, the writing and each trial, and may end the export
    (`stop_when`); a file of the name `out` is then as it was. Raises ExportError, and what reading the file raises.
    """
    path, target = path_of(weights), path_of(out)
    wanted = options or OnnxOptions()
    if check and wanted.target is None:
        require("torch", "onnxruntime", hint="or do without the check: --no-check")
    source = _read(path, prototxt)

    def load() -> nn.Module | None:
        if find_spec("torch") is None:
            return None
        from .loading import load

        return load(path, prototxt=prototxt)

    beside = load if check else None
    return write_onnx(source, target, options=wanted, external_data=external_data, beside=beside, progress=progress)


def _read(path: Path, prototxt: str | os.PathLike[str] | None) -> OnnxSource:
    kind = sniff.sniff_file(path)
    given = None if prototxt is None else read_prototxt(prototxt)
    if kind == sniff.SAFETENSORS:
        metadata = read_metadata(path)
        text = metadata.get("prototxt")
        if given is not None or text is not None:
            spec = given or parse_prototxt(text or "", path=f"{path}, its prototxt")
            return _of_tensors(path, prepare(spec), metadata)
    if kind in (sniff.SAFETENSORS, sniff.ZIP, sniff.PICKLE):
        return _of_module(path, prototxt)
    refuse_definition(path)
    return _of_caffemodel(path, given)


def _of_caffemodel(path: Path, given: NetSpec | None) -> OnnxSource:
    model = read_caffemodel(path)
    spec = given or model.spec
    if spec is None:
        raise MismatchError("this file holds weights and no net", path=path, hint="give its net with --prototxt")
    deploy = prepare(spec, blobs=model.blobs)
    arrays = to_arrays(model, cover(model, spec=spec, prepared=deploy))
    check_size(deploy, model.blobs)
    try:
        card = Card.beside(path)
    except ValueError as error:
        raise CaffeFormatError(f"damaged: {error}", path=path.with_suffix(".json")) from error
    return OnnxSource(deploy, arrays, card, file=path)


def _of_tensors(path: Path, spec: NetSpec, metadata: Mapping[str, str]) -> OnnxSource:
    """A converted file: it says of itself which Caffe file it was made of."""
    try:
        card = Card.from_metadata(dict(metadata))
    except ValueError as error:
        raise CaffeFormatError(f"damaged: {error}", path=path, hint="convert it again") from error
    origin = {key: metadata[key] for key in ("source", "source_sha256") if key in metadata}
    return OnnxSource(spec, map_tensors(path), card, file=None if len(origin) == 2 else path, origin=origin)


def _of_module(path: Path, prototxt: str | os.PathLike[str] | None) -> OnnxSource:
    """A PyTorch state dict, whose net is told by its keys."""
    from .loading import load

    return replace(source_of(load(path, prototxt=prototxt)), file=path)


def source_of(net: nn.Module, *, name: str = "") -> OnnxSource:
    """A hand-written net or a CaffeNet with its weights as they are now; `name` is what its definition is called."""
    from converters.execution import to_array

    from .nets import as_net, definition

    arrays = {key: to_array(tensor) for key, tensor in net.state_dict().items()}
    return OnnxSource(definition(net, name=name), arrays, as_net(net).card)


# Written and checked


def write_onnx(
    source: OnnxSource,
    out: Path,
    *,
    options: OnnxOptions | None = None,
    external_data: bool = False,
    beside: Callable[[], nn.Module | None] | None = None,
    progress: ProgressCallback | None = None,
) -> ExportReport:
    """Write a net as ONNX, whole or not at all; `beside` gives the net that what was written must agree with.

    It may give None, without torch, where the options name a target: ONNX Runtime is the judge then. `progress` as in
    `export_onnx`.
    """
    wanted = options or OnnxOptions()
    net = build_onnx(source.spec, source.arrays, wanted)
    if not net.outputs:
        raise ExportError("the net has no output; nothing written")
    large = sum(each.nbytes for each in net.graph.initializers.values()) > MOST_INSIDE - _MARGIN
    names = [out.name, data_beside(out).name] if external_data or large else [out.name]
    trials = () if beside is None else tuple(trials_of(net))
    step = ProgressSteps(progress, 1 + (len(trials) if wanted.target is None else 1))
    with _files(out, names) as files:
        _write(source, net, files)
        step()
        error = float("nan")
        shapes: tuple[Mapping[str, Shape], ...] = ()
        programs: tuple[Checked, ...] = ()
        if beside is not None:
            original = part_of(source, wanted, beside())
            module = rounded(original) if wanted.fp16 and not wanted.fold and original is not None else original
            if wanted.target is not None:
                programs, shapes = _checked_in_target(source, net, wanted, trials, Path(files[0].name), module)
                step()
                error = max((each.error for each in programs if each.error is not None), default=float("nan"))
                append_metadata(files[0], {"checked": summary(programs)})
            elif module is not None:
                error, shapes = _checked(net, wanted, trials, Path(files[0].name), module, step)
            if original is not None and original is not module and shapes:
                outputs, indices = wanted.outputs or net.spec.outputs, index_inputs_of_all(net.spec, shapes)
                error = lost(original, module or original, shapes, outputs=outputs, indices=indices)
    any_size = any(free.name.endswith("height") for free in net.sizes.free)
    return ExportReport(
        format="onnx",
        net=source.card.release or source.spec.name,
        files=tuple(str(out.with_name(name)) for name in names),
        error=error,
        inputs=shapes,
        any_size=any_size,
        least_size=least_side(net.spec) if any_size else None,
        programs=tuple(each.title for each in programs),
    )


@contextmanager
def _files(out: Path, names: Sequence[str]) -> Iterator[Sequence[BinaryIO]]:
    """New files that appear under these names when the block ends well, and not at all when it does not.

    The model finds its weights by name, so both are made in a folder of their own.
    """
    if len(names) == 1:
        with whole_file(out, durable=False) as file:
            yield [file]
        return
    data = out.with_name(names[1])
    if not is_utf8(data.name):
        problem = f"{out}: a model names the file of its weights in UTF-8, and this name is not"
        raise DestinationError(f"{problem}\n  choose another name with --out")
    if (data.exists() or data.is_symlink()) and not out.exists():
        raise DestinationError(f"{data}: the weights would replace this file\n  choose another name with --out")
    make_folder(out.parent)
    with fresh_folder(out) as folder:
        files = [(folder / name).open("x+b") for name in names]
        try:
            yield files
        finally:
            for file in files:
                file.close()
        for name in reversed(names):
            (folder / name).replace(out.with_name(name))


def _write(source: OnnxSource, net: OnnxNet, files: Sequence[BinaryIO]) -> None:
    """Copy the weights while another thread makes the checksum of the file that they are in."""
    about = {"tool": TOOL, **source.card.to_metadata(), "prototxt": format_prototxt(net.spec), **source.origin}
    before = None if source.file is None else file_version(source.file)
    with nullcontext() if source.file is None else sha256_beside(source.file) as checksum:

        def metadata() -> Mapping[str, str]:
            found = dict(about)
            if checksum is not None and source.file is not None:
                found |= {"source": source.file.name, "source_sha256": checksum()}
            return {key: value.encode(errors="replace").decode() for key, value in found.items()}

        net.write(files[0], metadata=metadata, beside=(files[1], Path(files[1].name).name) if files[1:] else None)
    if source.file is not None and file_version(source.file) != before:
        raise CaffeFormatError("the file changed while it was being exported", path=source.file, hint="export it again")
    for file in files:
        file.flush()


def part_of(source: OnnxSource, options: OnnxOptions, module: nn.Module | None) -> nn.Module | None:
    """The part of the net that computes the outputs which were asked for."""
    if options.outputs is None or module is None:
        return module
    from converters.execution import CaffeNet, key_of

    part, state = CaffeNet(source.spec, outputs=options.outputs), module.state_dict()
    owners = {key_of(*blob): key_of(*owner) for blob, owner in borrowed_blobs(source.spec).items()}
    values = {
        key: state[key] if key in state else state[owners[key]].reshape(own.shape)  # its owner was left out
        for key, own in part.state_dict().items()
    }
    part.load_state_dict(values, assign=True)
    return part


def _tolerance(options: OnnxOptions) -> float:
    if not options.fold:
        return TOLERANCE
    return FOLDED_HALF_TOLERANCE if options.fp16 else FOLDED_TOLERANCE


def _checked_in_target(
    source: OnnxSource,
    net: OnnxNet,
    options: OnnxOptions,
    trials: Sequence[Mapping[str, Shape]],
    path: Path,
    module: nn.Module | None,
) -> tuple[tuple[Checked, ...], tuple[Mapping[str, Shape], ...]]:
    """The result in each program of the target, and the shapes of the inputs, if it was run in any."""
    assert options.target is not None
    several = trials[-1:] if len(trials) > TRIALS else ()  # the last has several images where their number is free
    shapes = (*trials[:TRIALS], *several)
    with TemporaryDirectory(prefix="fcn-port-judge-") as folder:
        if module is not None:
            judge = judge_of_module(module, options.outputs or source.spec.outputs)
        else:
            judge = judge_without_torch(source.spec, source.arrays, options, Path(folder))
        programs = check_in_target(
            path,
            net,
            judge,
            target=options.target,
            rebuild=lambda: build_onnx(source.spec, source.arrays, options),
            shapes=shapes,
            indices=index_inputs_of_all(net.spec, shapes),
            tolerance=_tolerance(options),
        )
    return programs, shapes if any(each.error is not None for each in programs) else ()


def _checked(
    net: OnnxNet,
    options: OnnxOptions,
    shapes: Sequence[Mapping[str, Shape]],
    path: Path,
    module: nn.Module,
    step: Callable[[], None],
) -> tuple[float, tuple[Mapping[str, Shape], ...]]:
    """The largest difference from the module, and the shapes of the inputs at which both were run."""
    from converters.export import check, run_onnx

    outputs = options.outputs or net.spec.outputs
    run = run_onnx(path, inputs=list(net.spec.inputs), outputs=outputs)
    tolerance = _tolerance(options)
    indices = index_inputs_of_all(net.spec, shapes)
    agreement = check(module, run, shapes, outputs=outputs, indices=indices, tolerance=tolerance, step=step)
    return agreement.error, agreement.shapes


def trials_of(net: OnnxNet) -> Iterator[Mapping[str, Shape]]:
    """The shapes of inputs at which a model is tried: of any size, the usual ones that the net takes, else its own.

    The last has more than one item where the batch is free.
    """

    def at(size: tuple[int, int]) -> dict[str, Shape]:
        return _inputs(net, height=size[0], width=size[1])

    found: list[Mapping[str, Shape]] = []
    for size in SIZES:
        shapes = at(size_with_room(net.spec, size, at))
        if shapes not in found and takes(net.spec, shapes):
            found.append(shapes)
    found = found or [_inputs(net)]
    yield from found

    def several(size: tuple[int, int]) -> dict[str, Shape]:
        return _inputs(net, batch=IMAGES, height=size[0], width=size[1])

    small = several(size_with_room(net.spec, SIZES[0], several))
    more = small if takes(net.spec, small) else _inputs(net, batch=IMAGES, shapes=found[0])
    if more not in found and takes(net.spec, more):
        yield more


def _inputs(net: OnnxNet, *, shapes: Mapping[str, Shape] | None = None, **sizes: int) -> dict[str, Shape]:
    """The shapes of the inputs, with those of free sizes that are given, by kind; else the net's own."""
    found = dict(shapes or net.own_shapes)
    for free in net.sizes.free:
        for kind, size in sizes.items():
            if free.name == kind or free.name.endswith(f"_{kind}"):
                for blob, axis in free.places:
                    found[blob] = (*found[blob][:axis], size, *found[blob][axis + 1 :])
    return found
