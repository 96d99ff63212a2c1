"""A written ONNX model in the programs of its target, beside the net that it was made of.

The judge is the net in PyTorch; without PyTorch it is ONNX Runtime with the model as the standard has it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from converters.escaping import shell_word, terminal
from converters.export import (
    Checked,
    Claim,
    ExportError,
    Limit,
    OnnxNet,
    OnnxOptions,
    ProgramError,
    TargetError,
    TargetProgram,
    TargetRefusal,
    build_onnx,
    check_target,
    difference,
    drawn,
    programs_of,
    run_model,
)
from converters.net import NetSpec, Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
Arrays = Mapping[str, np.ndarray]
"""Arrays by the name of their blob."""

SPREAD = 50.0
"""The standard deviation of noise that stands for an image without its mean."""

TRIALS = 3
"""Sizes at which a model is run in each program, on noise and on zeros; of several images, where it takes them, too."""


@dataclass(frozen=True)
class TargetJudge:
    """A way to have the right numbers: outputs of inputs, all blobs, and how far rounding may move outputs."""

    outputs: Callable[[Arrays], Arrays]
    blobs: Callable[[Arrays], Arrays]
    allowed: Callable[[Arrays], Mapping[str, float]]


def check_in_target(
    model: Path,
    net: OnnxNet,
    judge: TargetJudge,
    *,
    target: str,
    programs: Sequence[TargetProgram] | None = None,
    rebuild: Callable[[], OnnxNet],
    shapes: Sequence[Mapping[str, Shape]],
    indices: Mapping[str, Limit],
    tolerance: float,
    spread: float = SPREAD,
) -> tuple[Checked, ...]:
    """Run a written model in every program of `target`, or in `programs`; raises TargetError where one is wrong.

    `rebuild` makes the graph anew, to find the first blob that differs. `shapes` are those of the inputs, each tried
    with seeded noise of a `spread` and with zeros.
    """
    trials = [arrays for number, each in enumerate(shapes) for arrays in trial(each, number, indices, spread=spread)]
    expected = [judge.outputs(given) for given in trials]
    outputs = dict(zip(expected[0], (end.name for end in net.outputs), strict=True))

    def in_model(values: Mapping[str, T], names: Mapping[str, str]) -> Mapping[str, T]:
        return {names[name]: value for name, value in values.items()}

    ends = dict(zip(net.spec.inputs, (end.name for end in net.inputs), strict=True))
    back = {value: blob for blob, value in ends.items()}

    def first(program: TargetProgram, given: Arrays) -> str | None:
        return _first_difference(rebuild(), program, {back[name]: array for name, array in given.items()}, judge)

    claim = Claim(
        inputs=[in_model(given, ends) for given in trials],
        expected=[in_model(right, outputs) for right in expected],
        tolerance=tolerance,
        ties=frozenset(range(1, len(trials), 2)),  # the trials of zeros
        allowed=lambda number: in_model(judge.allowed(trials[number]), outputs),
    )
    try:
        return check_target(model, claim, target=target, programs=programs, first_difference=first)
    except TargetRefusal as refusal:
        hint = (_without_constants(net) or _fixing(net)) if target.startswith("opencv") else None
        raise TargetError(f"{refusal}\n  {hint}" if hint else f"{refusal}") from None


def _without_constants(net: OnnxNet) -> str | None:
    """The option that leaves out the outputs that no image changes, as of a Shape, which OpenCV's classic engine lacks.

    None where there are none of them, or no others.
    """
    changing = {end.name for end in net.inputs}
    for node in net.graph.nodes:
        if node.op_type != "Shape" and not changing.isdisjoint(node.input):
            changing.update(node.output)
    blobs = {value: blob for blob, value in net.values.items()}
    others = [blobs[end.name] for end in net.outputs if end.name in changing]
    constants = [terminal(blobs[end.name]) for end in net.outputs if end.name not in changing]
    if not others or not constants:
        return None
    options = " ".join(f"--outputs {shell_word(name)}" for name in others)
    return f"OpenCV gives no output that is the same for every image, {', '.join(constants)}; the others: {options}"


def _fixing(net: OnnxNet) -> str | None:
    """The options that fix what is free, at which OpenCV's classic engine reads more; None where nothing is."""
    kinds = {free.name.rpartition("_")[2] for free in net.sizes.free}
    given = [option for option, of in (("--size HxW", {"height", "width"}), ("--batch N", {"batch"})) if kinds & of]
    return f"OpenCV's classic engine reads more layers where sizes are fixed: {' '.join(given)}" if given else None


def trial(
    shapes: Mapping[str, Shape], seed: int, indices: Mapping[str, Limit], *, spread: float = SPREAD
) -> tuple[Arrays, Arrays]:
    """Seeded noise of this spread, whole numbers where an input holds indices or regions; and zeros."""
    random = np.random.default_rng(seed)
    noise = {
        name: (drawn(indices[name], shape, random) if name in indices else random.standard_normal(shape) * spread)
        for name, shape in shapes.items()
    }
    return (
        {name: array.astype(np.float32) for name, array in noise.items()},
        {name: np.zeros(shape, np.float32) for name, shape in shapes.items()},
    )


def _first_difference(net: OnnxNet, program: TargetProgram, given: Arrays, judge: TargetJudge) -> str | None:
    """The first blob, in the order of the net, that a program computes otherwise; None where it cannot be told."""
    right = judge.blobs(given)
    blobs = [blob for blob in net.values if blob in right and blob not in net.spec.inputs]
    whole = replace(net, outputs=net.ends(blobs))
    ends = dict(zip(net.spec.inputs, (end.name for end in net.inputs), strict=True))
    with TemporaryDirectory(prefix="fcn-port-target-") as folder:
        path = Path(folder) / "blobs.onnx"
        with path.open("wb") as file:
            whole.write(file)
        inputs = {ends[name]: array for name, array in given.items()}
        try:
            answer = run_model(path, program, [inputs], outputs=[net.values[blob] for blob in blobs])
        except ProgramError:
            return None
    found = answer.trials[0]
    if isinstance(found, str):
        return None
    wrong = (blob for blob in blobs if not difference(found[net.values[blob]], right[blob]) <= 1e-4)
    return next(wrong, None)


# Judges


def judge_of_module(module: nn.Module, outputs: Sequence[str]) -> TargetJudge:
    """The net in PyTorch as it is, a hand-written one or a CaffeNet."""
    import torch

    from converters.export import allowances, run_module

    from .inspection import blobs

    def tensors(given: Arrays) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.array(array)) for name, array in given.items()}

    def arrays(found: Mapping[str, Tensor]) -> Arrays:
        return {name: tensor.detach().numpy() for name, tensor in found.items()}

    def allowed(given: Arrays) -> Mapping[str, float]:
        inputs = tensors(given)
        return allowances(module, inputs, run_module(module, inputs, outputs))

    def every(given: Arrays) -> Arrays:
        inputs = tensors(given)
        return arrays(blobs(module, next(iter(inputs.values()))) if len(inputs) == 1 else blobs(module, **inputs))

    return TargetJudge(lambda given: arrays(run_module(module, tensors(given), outputs)), every, allowed)


def judge_without_torch(spec: NetSpec, weights: Arrays, options: OnnxOptions, folder: Path) -> TargetJudge:
    """ONNX Runtime with the net as the standard has it; models for it are written into `folder`."""
    plain = replace(options, target=None, fold=False)
    net = build_onnx(spec, weights, plain)
    (program,) = programs_of("onnxruntime")
    if program.python is None:
        raise ExportError("neither torch nor onnxruntime is installed, so that nothing can be compared\n  --no-check")

    def run(name: str, blobs: Sequence[str], given: Arrays) -> Arrays:
        path = folder / name
        if not path.exists():
            with path.open("wb") as file:
                replace(net, outputs=net.ends(blobs)).write(file)
        ends = dict(zip(net.spec.inputs, (end.name for end in net.inputs), strict=True))
        values = [net.values[blob] for blob in blobs]
        answer = run_model(path, program, [{ends[key]: array for key, array in given.items()}], outputs=values)
        found = answer.trials[0]
        if isinstance(found, str):
            raise ExportError(f"ONNX Runtime does not run the net: {found}")
        return {blob: found[net.values[blob]] for blob in blobs}

    every: list[str] = [blob for blob in net.values if blob not in net.spec.inputs]
    outputs = [*(options.outputs or net.spec.outputs)]
    return TargetJudge(
        lambda given: run("judge.onnx", outputs, given),
        lambda given: run("judge-blobs.onnx", every, given),
        lambda given: dict.fromkeys(outputs, 0.0),
    )


def append_metadata(file: Any, found: Mapping[str, str]) -> None:
    """Add metadata to a model that is written already: parts of a message that follow one another are one."""
    from onnx import ModelProto, helper

    tail = ModelProto()
    helper.set_model_props(tail, dict(found))
    file.seek(0, os.SEEK_END)
    file.write(tail.SerializeToString())
    file.flush()
