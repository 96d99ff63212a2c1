"""Steps of the C code for layers over volumes: for each plane of a window's depth, some planes of the result."""

from __future__ import annotations

from collections.abc import Mapping

from converters.layers import convolution

from ..flow import FlowStep
from ..native.steps import NONE
from .activation_steps import activation_of
from .choice import KernelChoice
from .convolution_steps import by_phases, of_group
from .places import BlobPlace
from .task import NativeTask
from .volumes import Depth, depth_phases, every_plane, of_plane, plane_steps
from .weights import Packed, PackedWeights


def of_volume(
    operation: FlowStep, kernel: KernelChoice, depth: Depth, places: Mapping[str, BlobPlace], weights: PackedWeights,
    threads: int,
) -> list[NativeTask]:  # fmt: skip
    """The steps of a layer over volumes: for each plane of a window's depth, some planes of the result."""
    x, y = places[operation.bottoms[0]], places[operation.tops[0]]
    params = operation.main.params
    if isinstance(params, convolution.Deconvolution):
        return _deconvolution(operation, params, kernel, depth, x, y, weights, threads)
    added = None if operation.addend is None else places[operation.addend]
    activation, slope = activation_of(operation)
    tasks = []
    for step in plane_steps(depth, x, y, added):
        now, parameters = (activation, slope) if step.is_last else (NONE, ())
        if kernel.name == "pool_max":
            settings = kernel.settings(now)
            tasks.append(NativeTask("pool_max", step.x, step.y, step.z, Packed(), settings, parameters=parameters))
            continue
        packed_now = weights.of_groups(operation, kernel, step.x.size[1], threads=threads, at=(step.at, 0))
        for group, packed in enumerate(packed_now):
            used = packed if step.is_last else Packed(packed.kernels)
            made = of_group(
                kernel, step.x, step.y, step.z, used, threads, group=group, activation=now, slope=parameters
            )
            tasks.append(made)
    return tasks


def _deconvolution(
    operation: FlowStep, params: convolution.Deconvolution, kernel: KernelChoice, depth: Depth, x: BlobPlace,
    y: BlobPlace, weights: PackedWeights, threads: int,
) -> list[NativeTask]:  # fmt: skip
    """The steps of a deconvolution: each plane of its kernel, and each phase of that, by itself."""
    activation, slope = activation_of(operation)
    tasks = []
    for phase in depth_phases(depth, x.shape[2], y.shape[2]):
        for step in plane_steps(phase.depth, x, every_plane(y, depth[1], phase.at), None):
            now, parameters = (activation, slope) if step.is_last else (NONE, ())
            made = by_phases(
                operation, of_plane(params), kernel, step.x, step.y, weights, threads, activation=now,
                slope=parameters, z=step.z, plane=phase.planes[step.at],
            )  # fmt: skip
            tasks += made if step.is_last else [each._replace(weights=Packed(each.weights.kernels)) for each in made]
    return tasks
