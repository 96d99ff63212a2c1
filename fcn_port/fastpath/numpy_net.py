"""NumpyNet: a Caffe net on NumPy arrays by our own kernels; PyTorch is not imported, nor need it be installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from converters.errors import CaffeFormatError, MismatchError, NetError
from converters.escaping import terminal
from converters.execution import cover, key_of, to_arrays
from converters.export import map_tensors, read_metadata
from converters.formats import parse_prototxt, read_caffemodel, read_prototxt, sniff
from converters.given import names_of, path_of, whole_number
from converters.net import NetSpec, Shape, borrowed_blobs, check_weights_fit, images_at, infer_blobs, validate
from converters.passes import cut, prepare
from converters.safety import enough_memory, file_version
from converters.weights_meant import refuse_definition

from ..carded import Carded
from ..errors import EngineError
from .flow import merge
from .flow import read as read_flow
from .native.memory import Floats
from .program import why_not_any
from .program.choice import NoKernel
from .program.decisions import NOT_PLANNED, decisions
from .program.kept_weights import kept_weights
from .program.runner import Runner

if TYPE_CHECKING:
    from weights.card import Card

Arrays = Mapping[str, NDArray[Any]]


class NumpyNet(Carded):
    """A Caffe net that takes and gives NumPy arrays, run by a plan in native code as `fast` runs a CaffeNet.

    `net(x)` gives the output, or {name: output} where there are several; inputs are float32 (n, c, h, w) of any n, h
    and w as a rule, by position in the order of `inputs`, or by name. The numbers are those of `fast`. A layer for
    which there is no native kernel is computed by PyTorch, which is imported then; `explain` says which these are.
    Threads may share it. `threads` are those of a pass. `segment` and `classify` take it as they take a module.
    """

    takes_arrays = True
    engine = "native"

    def __init__(
        self, spec: NetSpec, state: Arrays, *, outputs: Sequence[str] | None = None, threads: int | None = None,
        low_memory: bool = False, file: Path | None = None, keep: bool = False,
    ) -> None:  # fmt: skip
        """`spec` is prepared (`converters.passes.prepare`), `state` its learnable blobs by state dict key.

        `outputs`, `threads`, `low_memory` and `keep` as `numpy_net` has them; the `file` is that which all is from.
        Raises MismatchError for blobs that are not the net's, EngineError where there is no native code.
        """
        reason = why_not_any()
        if reason is not None:
            raise EngineError(f"there is no native code here, and a net on NumPy arrays needs it: {reason}")
        self.outputs = spec.outputs if outputs is None else names_of(outputs)
        self.spec = spec if outputs is None else cut(spec, self.outputs)
        self.inputs: Mapping[str, Shape] = dict(self.spec.inputs)
        self.threads = _threads() if threads is None else whole_number(threads, "threads")
        self._blobs = infer_blobs(self.spec)
        _check_blobs(self.spec, self._blobs, state)
        flow = merge(read_flow(self.spec, self.outputs))
        self._file = file
        kept = None if file is None or not keep else kept_weights(file, flow)
        self._runner = Runner(flow, state, sparing=low_memory, kept=kept, own=self.inputs)

    @cached_property
    def card(self) -> Card:  # type: ignore[override]  # read when it is asked for; it may be set
        """The card that `load` would give the net."""
        from weights.card import Card

        return Card() if self._file is None else _card_of(self._file)

    def __call__(self, /, *args: NDArray[Any], **named: NDArray[Any]) -> Floats | dict[str, Floats]:
        inputs = self._feed(args, named)
        try:
            with enough_memory(f"a pass over {', '.join(str(x.shape) for x in inputs.values())}"):
                found = self._runner.run(inputs, self.threads)
        except NOT_PLANNED:  # what is wrong with a size is said layer by layer, which takes longer than to plan for it
            check_weights_fit(self.spec, {name: x.shape for name, x in inputs.items()}, own=self._blobs)
            raise
        return next(iter(found.values())) if len(found) == 1 else found

    def explain(self, size: tuple[int, int]) -> str:
        """The way in which each layer is computed for images of `size` (h, w), a line for each.

        NetError for a size that the net does not take.
        """
        shapes = images_at(self.inputs, size)
        check_weights_fit(self.spec, shapes, own=self._blobs)
        return "\n".join(self._runner.program(shapes, self.threads).explain())

    def needs_torch(self) -> str | None:
        """The first layer that PyTorch computes for inputs of the net's own shapes, and why; None where none is."""
        found = decisions(self._runner.flow, self.inputs)
        return next((f"{step.name}: {each.why}" for step, each in found if isinstance(each, NoKernel)), None)

    def _feed(self, args: Sequence[NDArray[Any]], named: Arrays) -> dict[str, Floats]:
        """The inputs by name, as the net wants them; NetError where they do not fit it."""
        given = {**dict(zip(self.inputs, args, strict=False)), **named}
        if given.keys() != self.inputs.keys() or len(args) + len(named) != len(given):
            wanted = terminal(", ".join(self.inputs))
            found = terminal(", ".join([*("one without a name" for _ in args), *named])) or "none"
            raise NetError(f"expected the inputs {wanted}; found {found}")
        inputs = {name: _numbers(name, given[name]) for name in self.inputs}
        for name, expected in self.inputs.items():
            shape = inputs[name].shape
            if len(shape) != len(expected) or shape[1:2] != expected[1:2] or 0 in shape:
                raise NetError(f"input '{terminal(name)}': expected an array like {expected}, found {shape}")
        return inputs


def numpy_net(
    weights: str | os.PathLike[str],
    *,
    prototxt: str | os.PathLike[str] | None = None,
    outputs: Sequence[str] | None = None,
    threads: int | None = None,
    low_memory: bool = False,
    keep: bool = True,
) -> NumpyNet:
    """The net of a .caffemodel, .caffemodel.h5 or .safetensors on NumPy arrays, without PyTorch.

    `prototxt` is the net of a file that holds none, or another one to fit the weights to; `outputs` names the blobs to
    compute, by default those that no layer consumes; `threads` those of a pass, by default $OMP_NUM_THREADS, or as
    many as processors that this process may use. `low_memory`: ways that have weights little more than once in memory,
    for a tenth more time (docs/performance.md); the others have them up to four times. Weights stay in the mapped
    file until a pass packs them: put another file in its place (a rename, as `export` does), and write nothing into it.
    With `keep` the packed ones stay in the user's cache folder (4 GB at most), from which the next process maps them.
    The net has the card that `load` gives. Raises
    CaffeFormatError for what is wrong with a file, EngineError where there is no native code, FileNotFoundError.
    """
    path = path_of(weights)
    before = file_version(path)
    given = None if prototxt is None else read_prototxt(prototxt)
    if sniff.sniff_file(path) == sniff.SAFETENSORS:
        text = read_metadata(path).get("prototxt", "")
        spec = given or (parse_prototxt(text, path=f"{path}, its prototxt") if text else None)
        deploy = None if spec is None else prepare(spec)
        state = map_tensors(path)
    else:
        refuse_definition(path)
        model = read_caffemodel(path)
        spec = given or model.spec
        deploy = None if spec is None else prepare(spec, blobs=model.blobs)
        state = to_arrays(model, cover(model, spec=spec, prepared=deploy))
    if deploy is None:
        raise MismatchError("the file holds weights and no net", path=path, hint="give its net: prototxt=...")
    validate(deploy)
    keep = keep and file_version(path) == before  # else what was read is kept as that of another file
    try:
        return NumpyNet(deploy, state, outputs=outputs, threads=threads, low_memory=low_memory, file=path, keep=keep)
    except MismatchError as error:
        raise error.in_file(path) from None


def _numbers(name: str, given: object) -> Floats:
    """An input in single precision; TypeError for what holds no real numbers, or some that are hidden or dropped."""
    try:
        array = np.asarray(given)
    except (RuntimeError, TypeError, ValueError) as error:  # rows of other lengths, and tensors that give no array
        found = f"{type(given).__name__}, of which NumPy makes none: {error}"
    else:
        found = f"{type(given).__name__} of {array.dtype}"
        if array.dtype.kind in "biuf" and not _is_masked(given):
            return array.astype(np.float32, copy=False)
    raise TypeError(f"input '{terminal(name)}': expected an array of real numbers, found {terminal(found)}")


def _is_masked(given: object) -> bool:
    """True where numbers of an array are hidden; numpy.ma, which takes 5 ms to import, is there where one was made."""
    return "numpy.ma" in sys.modules and bool(np.ma.is_masked(given))


def _card_of(path: Path) -> Card:
    """The card that comes with a file; CaffeFormatError where it is damaged."""
    from weights.card import Card

    try:
        if sniff.sniff_file(path) == sniff.SAFETENSORS:
            return Card.from_metadata(read_metadata(path))
        return Card.beside(path)
    except ValueError as error:
        raise CaffeFormatError(f"its card is damaged: {error}", path=path) from error


def _check_blobs(spec: NetSpec, blobs: Mapping[str, tuple[Shape, ...]], state: Arrays) -> None:
    """MismatchError where a blob of the net is missing or has another shape; one that is shared may be missing."""
    borrowed = borrowed_blobs(spec)
    for layer, shapes in blobs.items():
        for position, shape in enumerate(shapes):
            key = key_of(*borrowed.get((layer, position), (layer, position)))
            found = state[key].size if key in state else None
            if found != np.prod(shape, dtype=int):
                problem = "there is none" if found is None else f"found {state[key].shape}"
                raise MismatchError(f"blob '{terminal(key)}': the net needs shape {shape}; {problem}")


def _threads() -> int:
    """As many as PyTorch has where it is there already, else $OMP_NUM_THREADS or the processors of this process."""
    torch = sys.modules.get("torch")
    if torch is not None:
        count: int = torch.get_num_threads()
        return count
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if asked.isascii() and asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
