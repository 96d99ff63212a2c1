"""The pipeline from a net as it was read to one that can be run; everything that runs a net begins with it.

Needs a net as it was read. Ensures what `to_deploy` and `merge_splits` ensure, and with `crops` what `auto_crop` does;
`NetSpec.prepared` says so, so that nothing is worked out again for a net that comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import dropwhile

from ..errors import ChoiceError, NetError
from ..formats.model import with_lent
from ..net.layer import Shape
from ..net.shapes import iter_layer_shapes, shapes_text
from ..net.spec import NetSpec, refuse_no_spec
from ..wording import shape_text
from .auto_crop import auto_crop
from .batch_statistics import on_batch_statistics, with_stored_statistics
from .choice import NetChoice, chosen
from .deploy import to_deploy
from .filter_phase import Phase
from .fork_readings import with_fork_readings
from .inputs import Weights, with_input_shapes
from .merge_splits import merge_splits
from .own_names import with_own_names


def prepare(
    spec: NetSpec,
    *,
    blobs: Weights | None = None,
    input_shapes: Mapping[str, Shape] | None = None,
    phase: Phase | None = None,
    level: int | None = None,
    stages: Sequence[str] | None = None,
    crops: bool = False,
) -> NetSpec:
    """The net as it is run: of one phase, with Inputs, without losses and copies; a prepared one comes back as it is.

    `blobs` (weights by layer) tell channels and sizes that the net does not give; for the other arguments see
    `to_deploy`, whose defaults `choosing` changes. `crops` derives the offsets of crops that give none, for nets of
    Caffe's old `future` branch. Raises NetError where a pass does, ChoiceError where `blobs` are for the net's own
    inputs and not for ones of `input_shapes`.
    """
    refuse_no_spec(spec)
    if not spec.prepared:
        choice, blobs = chosen(), with_lent(blobs or {}, spec)
        shapes = choice.input_shapes if input_shapes is None else input_shapes
        deploy = partial(
            to_deploy,
            spec,
            blobs=blobs,
            phase=phase or choice.phase,
            level=choice.level if level is None else level,
            stages=choice.stages if stages is None else stages,
        )
        spec = deploy(input_shapes=shapes)
        if shapes:
            _check_choice(spec, shapes, blobs, own=deploy)
        found = with_fork_readings(with_own_names(merge_splits(_with_statistics(spec, choice))))
    else:
        found = with_input_shapes(spec, input_shapes) if input_shapes else spec
    if crops or any(layer.type == "AutoCrop" for layer in found.layers):
        found = auto_crop(found, every=crops)
    if found.prepared:
        return found
    found = replace(found)
    object.__setattr__(found, "prepared", True)
    return found


def _check_choice(spec: NetSpec, shapes: Mapping[str, Shape], blobs: Weights, own: Callable[[], NetSpec]) -> None:
    """ChoiceError where the net, or a layer's weights, take its `own` inputs, and not ones of the chosen `shapes`."""
    said = f"with the input {shapes_text(shapes)}"
    wrong, refused = _misfits(spec, blobs)
    if not wrong and refused is None:
        return
    without = own()
    wrong_without, refused_without = _misfits(without, blobs)
    if refused_without is not None:
        return  # no fault of the choice, and told where the net is run
    inputs = shapes_text(without.inputs)
    if refused is not None:
        problem, hint = f"{said}: {refused.problem}", f"without --input the net takes {inputs}"
        raise ChoiceError(problem, path=spec.path, where=refused.where, hint=hint) from refused
    for name in wrong.keys() - wrong_without.keys():
        found, wanted = wrong[name]
        problem = f"layer '{name}' has weights {shape_text(found)}; {said} they would be {shape_text(wanted)}"
        raise ChoiceError(problem, path=spec.path, hint=f"they are for {inputs}")


def _misfits(spec: NetSpec, blobs: Weights) -> tuple[dict[str, tuple[Shape, Shape]], NetError | None]:
    """The layers with a blob of another shape than the net's, found and wanted, as far as the net goes; what stops it.

    The 1s before the sizes of Caffe's old files are none.
    """
    found: dict[str, tuple[Shape, Shape]] = {}
    try:
        for row in iter_layer_shapes(spec):
            for blob, shape in zip(blobs.get(row.layer.name, ()), row.blobs, strict=False):
                if _sizes(blob.shape) != _sizes(shape):
                    found.setdefault(row.layer.name, (blob.shape, shape))
    except NetError as error:
        return found, error
    return found, None


def _sizes(shape: Shape) -> Shape:
    return tuple(dropwhile(lambda size: size == 1, shape))


def _with_statistics(spec: NetSpec, choice: NetChoice) -> NetSpec:
    """The net with the statistics that were chosen for its BatchNorm layers; a note where nobody chose."""
    if choice.global_stats:
        return with_stored_statistics(spec)
    warning = on_batch_statistics(spec) if choice.global_stats is None else None
    if warning is None:
        return spec
    if choice.warn is not None:
        choice.warn(warning)
    return replace(spec, notes=(*spec.notes, warning))
