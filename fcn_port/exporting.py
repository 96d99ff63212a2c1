"""Every way out of PyTorch: a net in another format, checked against the module before the file gets its name.

fcn_port.exporting.export("voc-fcn8s", to="onnx")               # what `fcn-port export` does
fcn_port.exporting.export_net(my_net, to="caffe", out="mine.caffemodel")
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import torch
from torch import Tensor, nn

from converters.cancelling import ProgressCallback, ProgressSteps
from converters.conversion import TOOL
from converters.errors import MismatchError, choice
from converters.escaping import json_text
from converters.execution import CaffeNet, load_state_dict
from converters.export import (
    EXAMPLE_SIZE,
    LEAST_SIZE,
    Agreement,
    DestinationError,
    ExportError,
    Limit,
    Run,
    check,
    class_name,
    index_inputs_of_all,
    inputs_at,
    least_side,
    python_source,
    random_inputs,
    run_caffe,
    run_module,
    run_torch_export,
    sizes_from,
    trials,
    write_caffe,
    write_safetensors,
    write_torch_export,
)
from converters.formats import format_prototxt, read_prototxt, sniff
from converters.given import path_of
from converters.net import NetSpec, Shape, check_weights_fit
from converters.safety import whole_file
from converters.weights_meant import refuse_definition

from .carded import refuse_no_module
from .export_files import ExportReport, check_format, destination, stem
from .loading import is_release, load
from .nets import as_net, definition
from .nets.net import unwrapped
from .porting import converted

if TYPE_CHECKING:
    from converters.export import OnnxOptions

MOST_RANDOM_BYTES = 2 << 30
"""The most weights that are drawn to try the source of a prototxt without any; VGG-16 has 553 MB."""


def export(
    weights: str | os.PathLike[str],
    *,
    to: str,
    out: str | os.PathLike[str] | None = None,
    prototxt: str | os.PathLike[str] | None = None,
    size: tuple[int, int] | None = None,
    onnx: OnnxOptions | None = None,
    external_data: bool = False,
    progress: ProgressCallback | None = None,
) -> ExportReport:
    """Export a release or a file to one of the formats in `SUFFIXES`; a prototxt alone does for "python".

    `out` is by default named after `weights`, in the working folder, and then no file of that name may be there.
    `prototxt` is the net of a file that holds none. `size` fixes height and width of "onnx" and "torch-export"; `onnx`
    and `external_data` are for "onnx" alone (`onnx_export.export_onnx`). `progress(done, total)` counts steps, the
    writing and each trial, and may end the export (`stop_when`); files of these names are then as they were. Raises
    ExportError, and what `load` raises.
    """
    target = destination(weights, to=to, out=out, prototxt=prototxt)
    if to == "onnx":
        from converters.export import OnnxOptions

        from .onnx_export import export_onnx  # here, as the other formats do without onnx

        options = replace(onnx or OnnxOptions(), size=size or (onnx.size if onnx else None))
        path = converted(os.fspath(weights)) if is_release(weights) else Path(weights)
        return export_onnx(
            path, target, prototxt=prototxt, options=options, external_data=external_data, progress=progress
        )
    net = _net_of(weights, prototxt, to=to)
    name = as_net(net).release or stem(Path(weights))
    return export_net(net, to=to, out=target, name=name, size=size, progress=progress)


def export_net(
    net: nn.Module,
    *,
    to: str,
    out: str | os.PathLike[str],
    name: str = "",
    size: tuple[int, int] | None = None,
    progress: ProgressCallback | None = None,
) -> ExportReport:
    """Export a hand-written net or a CaffeNet, such as one after fine-tuning; `name` is what its definition is called.

    The net is in float32 and on the CPU; of a `fast` net or an engine it is the net that it stands for.
    "caffe" also writes the definition, beside the weights, as .prototxt; the weights are HDF5 where `out` ends in
    .h5. Files appear whole or not at all, once what is in them has computed what the net does. `progress` as in
    `export`. Raises ExportError, also where the .prototxt of another net is beside, and ValueError for what is no net.
    """
    check_format(to)
    refuse_no_module(net)
    out = path_of(out)
    net = unwrapped(net)
    _refuse_as_it_is(net)
    if to == "onnx":
        from converters.export import OnnxOptions

        from .onnx_export import source_of, write_onnx

        options = OnnxOptions(size=size)
        return write_onnx(source_of(net, name=name), out, options=options, beside=lambda: net, progress=progress)
    job = _Job.of(net, name, size)
    paths = [out]
    if to == "caffe":
        paths.append(_prototxt_beside(paths[0], job.spec))
    step = ProgressSteps(progress, 1 + len(job.trials))
    with ExitStack() as stack:
        parts = [stack.enter_context(whole_file(path)) for path in paths]
        run = _WRITERS[to](job, parts, paths[0])
        step()
        agreement = check(net, run, job.trials, outputs=job.outputs, indices=job.indices, step=step)
    return _report(job, to, paths, agreement)


def _refuse_as_it_is(net: nn.Module) -> None:
    """ExportError for a net that would not compute what its file does: formats are of float32, trials on the CPU."""
    if net.training:
        raise ExportError("the net is in training mode; call eval() first")
    for name, blob in net.state_dict().items():
        if blob.dtype != torch.float32:
            raise ExportError(f"the net is not in float32: {name} is {blob.dtype}; call float() first")
        if blob.device.type != "cpu":
            raise ExportError(f"the net is not on the CPU: {name} is on {blob.device}; call cpu() first")


def _prototxt_beside(weights: Path, spec: NetSpec) -> Path:
    """The file for the definition; nobody named that file, so another one of that name is not replaced."""
    path = weights.with_name(f"{stem(weights)}.prototxt")
    if path.exists() and path.read_bytes() != format_prototxt(spec).encode():
        raise DestinationError(
            f"{path}: the net's definition would replace this file\n  choose another name with --out"
        )
    if path == weights:
        raise DestinationError(f"{path}: weights and definition would be one file\n  choose another name with --out")
    return path


# What goes in


def _net_of(weights: str | os.PathLike[str], prototxt: str | os.PathLike[str] | None, *, to: str) -> nn.Module:
    """The net with its weights; of a prototxt alone, with weights drawn with a seed, so that source can be checked."""
    path = Path(weights)
    if not path.is_file() or sniff.sniff_file(path) != sniff.TEXT:
        return load(weights, prototxt=prototxt)
    if to != "python":
        refuse_definition(path)
    spec = read_prototxt(path)
    with torch.device("meta"):
        wanted = sum(blob.nbytes for blob in CaffeNet(spec).parameters())
    if wanted > MOST_RANDOM_BYTES:
        problem = f"weights for a trial would take {wanted:,} bytes; the limit is {MOST_RANDOM_BYTES:,}"
        raise MismatchError(f"{problem} (fcn_port.exporting.MOST_RANDOM_BYTES)", path=path, hint="give the weights")
    return with_random_weights(CaffeNet(spec))


def with_random_weights(net: nn.Module) -> nn.Module:
    """The net with weights drawn with a seed: kernels as He et al. would, vectors and statistics around 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for blob in net.parameters():
            if blob.ndim > 1 and blob.requires_grad:  # the running variance of some forks has four axes
                blob.copy_(torch.randn(blob.shape, generator=generator) * (2 / blob[0].numel()) ** 0.5)
            else:
                blob.copy_(torch.rand(blob.shape, generator=generator) + 0.5)
    return net


@dataclass(frozen=True)
class _Job:
    """A net on its way out: its definition, the names of its outputs, and the inputs to trace and to compare with."""

    net: nn.Module
    spec: NetSpec
    outputs: tuple[str, ...]
    example: Mapping[str, Tensor]
    trials: tuple[Mapping[str, Shape], ...]
    indices: Mapping[str, Limit]
    least: int | None

    @classmethod
    def of(cls, net: nn.Module, name: str, size: tuple[int, int] | None) -> _Job:
        spec = definition(net, name=name)
        if not spec.outputs:
            raise ExportError("the net has no output; nothing written")
        least = None if size is not None else least_side(spec)
        with nullcontext() if size is None else choice():
            shapes = trials(spec, size=size)
            if size is not None:
                check_weights_fit(spec, shapes[0])
        example = shapes[0] if least is None else inputs_at(spec, *sizes_from(least, EXAMPLE_SIZE))
        indices = index_inputs_of_all(spec, shapes)
        inputs = random_inputs(example, seed=0, indices=indices)
        outputs = tuple(run_module(net, inputs, spec.outputs))
        return cls(net, spec, outputs, inputs, shapes, indices, least)

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of files that have a place for it: who made them, how images are prepared, what classes mean."""
        return {"tool": TOOL, **as_net(self.net).card.to_metadata()}


def _report(job: _Job, to: str, paths: Sequence[Path], agreement: Agreement) -> ExportReport:
    return ExportReport(
        format=to,
        net=job.spec.name,
        files=tuple(map(str, paths)),
        error=agreement.error,
        inputs=agreement.shapes,
        any_size=job.least is not None,
        least_size=job.least,
    )


# What comes out: each writes its parts and gives what runs them


def _write_python(job: _Job, parts: Sequence[BinaryIO], path: Path) -> Run:
    text = python_source(job.spec)
    parts[0].write(text.encode())
    module = ModuleType("exported")
    exec(compile(text, str(path), "exec"), module.__dict__)
    net: nn.Module = getattr(module, class_name(job.spec))()
    load_state_dict(net, job.net.state_dict())
    return lambda inputs: run_module(net, inputs, job.outputs)


def _write_caffe(job: _Job, parts: Sequence[BinaryIO], path: Path) -> Run:
    write_caffe(job.spec, job.net.state_dict(), parts[0], prototxt=parts[1], hdf5=path.suffix == ".h5")
    return run_caffe(parts[0].name, parts[1].name)


def _write_hdf5(job: _Job, parts: Sequence[BinaryIO], path: Path) -> Run:
    write_caffe(job.spec, job.net.state_dict(), parts[0], hdf5=True)
    return run_caffe(parts[0].name, job.spec)


def _write_safetensors(job: _Job, parts: Sequence[BinaryIO], path: Path) -> Run:
    arrays = {key: value.detach().cpu().numpy() for key, value in job.net.state_dict().items()}
    metadata = {"format": "pt", "prototxt": format_prototxt(job.spec), **job.metadata}
    write_safetensors(parts[0], arrays, metadata)
    parts[0].flush()
    net = load(parts[0].name)
    return lambda inputs: run_module(net, inputs, job.outputs)


def _write_torch_export(job: _Job, parts: Sequence[BinaryIO], path: Path) -> Run:
    metadata = {"fcn_port.json": json_text(job.metadata)}
    write_torch_export(
        _traceable(job),
        parts[0].name,
        example=job.example,
        any_size=job.least is not None,
        least=job.least or LEAST_SIZE,
        metadata=metadata,
    )
    return run_torch_export(parts[0].name, outputs=job.outputs)


def _traceable(job: _Job) -> CaffeNet:
    """The net as CaffeNet, which pools and crops without deciding anything by the size; the nets by hand do not."""
    if isinstance(job.net, CaffeNet):
        return job.net
    net = CaffeNet(job.spec)
    net.load_state_dict(job.net.state_dict(), assign=True)
    return net


_WRITERS: Mapping[str, Callable[[_Job, Sequence[BinaryIO], Path], Run]] = {
    "python": _write_python,
    "caffe": _write_caffe,
    "hdf5": _write_hdf5,
    "safetensors": _write_safetensors,
    "torch-export": _write_torch_export,
}
