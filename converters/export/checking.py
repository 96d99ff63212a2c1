"""Checks that an exported net computes what its module does: the same inputs through both."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import NetError
from ..escaping import terminal_lines
from ..extras import which_are_missing
from ..net.layer import Shape
from ..net.shapes import images_at, images_at_asked, images_of, infer_shapes
from ..net.spec import NetSpec
from .detections import are_detections, detections_allowed, detections_differ
from .empty_windows import LARGEST as EMPTY
from .empty_windows import with_something
from .fitting import takes
from .indices import Limit, drawn

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")
Run = Callable[[Mapping[str, "Tensor"]], Mapping[str, "Tensor"]]
"""Outputs by name of inputs by name."""

SIZES = ((64, 64), (75, 122), (100, 100), (131, 97), (32, 47))
"""Input sizes (h, w) at which nets of any size are compared: odd ones, since rounding is where ports go wrong."""

EXAMPLE_SIZE = (80, 112)
"""The input size (h, w) at which nets of any size are exported; none of `SIZES`."""

LEAST_SIZE = 32
"""The least height and width of images that exports are made for."""

MOST_SIZE = 512
"""The largest least height and width of a net that is looked for."""

TRIAL_BYTES = 8 << 20
"""Of all blobs of a net at a size that it is compared at, unless those at its own size are more: VGG-16 at 131x97."""

WEAKER = (0.1, 0.01, 0.001)
"""Factors of the inputs where a Sigmoid of the usual ones is so near 0 that nothing can be seen in it."""

TOLERANCE = 1e-5
"""Of the output's largest magnitude: another program sums in another order (5e-7 is usual)."""

NOISE = 10
"""Times the module's distance from its exact numbers, which is allowed where a softmax or argmax magnifies rounding."""


class ExportError(RuntimeError):
    """A net could not be exported, or what came out computes something else; nothing has been written."""

    def __str__(self) -> str:
        return terminal_lines(super().__str__())


class DestinationError(ExportError):
    """The file to write is one that is read, or another one that is there and nobody named."""


@dataclass(frozen=True)
class Agreement:
    """The largest distance of an exported net from its module, of the output's largest magnitude, and the inputs."""

    error: float
    shapes: tuple[Mapping[str, Shape], ...]


def require(*packages: str, hint: str = "") -> None:
    """Raise ExportError, naming the command that helps, where a package of an extra is not installed."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        more = f"\n  {hint}" if hint else ""
        raise ExportError(f"this {which_are_missing(*missing)}{more}")


def inputs_at(spec: NetSpec, size: tuple[int, int]) -> dict[str, Shape]:
    """The shapes of the net's inputs, images at `size`, one of each."""
    return images_at(spec.inputs, size, batch=1)


def takes_any_size(spec: NetSpec) -> bool:
    """True where one set of weights serves images of every size from 32 up: no layer counts its places."""
    return bool(images_of(spec.inputs)) and all(takes(spec, inputs_at(spec, size)) for size in (*SIZES, EXAMPLE_SIZE))


def least_side(spec: NetSpec) -> int | None:
    """The least height and width, from 32 up, from which on one set of weights serves images of every size.

    None where a layer counts its places, where only some sizes fit, and where no input is an image; nets that need more
    than 512 are not looked at.
    """
    if not images_of(spec.inputs):
        return None
    least = LEAST_SIZE if _fits_square(spec, LEAST_SIZE) else None
    if least is None and _fits_square(spec, MOST_SIZE):
        least = LEAST_SIZE + 1 + bisect_left(range(LEAST_SIZE + 1, MOST_SIZE), True, key=partial(_fits_square, spec))
    if least is None or not all(takes(spec, inputs_at(spec, each)) for each in sizes_from(least, *SIZES, EXAMPLE_SIZE)):
        return None
    return least


def sizes_from(least: int, *sizes: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Sizes that are made for nets of images from 32 up, for those of images from `least` up."""
    return tuple((h + least - LEAST_SIZE, w + least - LEAST_SIZE) for h, w in sizes)


def trials(spec: NetSpec, *, size: tuple[int, int] | None = None) -> tuple[Mapping[str, Shape], ...]:
    """The input shapes at which exports of the net are compared: one `size`, up to five, or the only one it takes."""
    if size is not None:
        return (images_at_asked(spec.inputs, size, batch=1),)
    least = least_side(spec)
    if least is not None:
        at = partial(inputs_at, spec)
        sizes = [size_with_room(spec, each, at, least=least) for each in sizes_from(least, *SIZES)]
        return tuple(at(each) for each in dict.fromkeys(sizes))
    return (dict(spec.inputs),)


def size_with_room(
    spec: NetSpec, size: tuple[int, int], shapes_at: Callable[[tuple[int, int]], Mapping[str, Shape]],
    *, least: int = LEAST_SIZE,
) -> tuple[int, int]:  # fmt: skip
    """The size (h, w), or one nearer to `least` where blobs of many channels are far larger than the net's own.

    They may have `TRIAL_BYTES`, or as many as at the net's own size, so that a trial costs what the net does.
    """
    room = max(TRIAL_BYTES, _bytes_of(spec, spec.inputs))
    while max(size) > least and _bytes_of(spec, shapes_at(size)) > room:
        size = tuple(most - (most - least + 1) // 2 if most > least else most for most in size)  # type: ignore[assignment]
    return size


def _bytes_of(spec: NetSpec, shapes: Mapping[str, Shape]) -> int:
    """The bytes of all blobs for inputs of these shapes; 0 where the net does not take them."""
    try:
        return 4 * sum(prod(shape) for shape in infer_shapes(spec, shapes).values())
    except NetError:
        return 0


def _fits_square(spec: NetSpec, side: int) -> bool:
    return takes(spec, inputs_at(spec, (side, side)))


def check(
    net: nn.Module,
    run: Run,
    shapes: Sequence[Mapping[str, Shape]],
    *,
    outputs: Sequence[str],
    indices: Mapping[str, Limit] | None = None,
    tolerance: float = TOLERANCE,
    step: Callable[[], None] = lambda: None,
) -> Agreement:
    """Compare `run` with the module on seeded inputs of each of the shapes, and on zeros of the first.

    Where all of an output is nearer to 0 than other programs compute it, as that of a Sigmoid far from where it turns,
    weaker inputs are tried as well. `step` is called after each of the shapes.
    `indices` as in `random_inputs`; `tolerance` is of an output's largest magnitude. Raises ExportError where they
    differ, and where an output is NaN or infinite everywhere, since then nothing has been compared.
    """
    worst = 0.0
    compared: set[str] = set()
    for number, each in enumerate(shapes):
        inputs = random_inputs(each, seed=number, indices=indices)
        found = _compare(net, run, inputs, outputs, tolerance)
        compared |= found.compared
        for weaker in WEAKER:
            if not found.saturated:
                break
            less = {name: x if name in (indices or {}) else x * weaker for name, x in inputs.items()}
            found = _compare(net, run, less, outputs, tolerance)
        worst = max(worst, found.error)
        step()
    empty = [name for name in outputs if name not in compared]
    if empty:
        raise ExportError(
            f"the net's own output {empty[0]} is NaN or infinite everywhere, so that nothing can be compared; nothing "
            "written\n  look at its weights"
        )
    _check_zeros(net, run, shapes[0], outputs)
    return Agreement(worst, tuple(shapes))


def _check_zeros(net: nn.Module, run: Run, shapes: Mapping[str, Shape], outputs: Sequence[str]) -> None:
    """Refuse NaN and infinity where the module has none, as behind a division by 0 that only an epsilon averts.

    Values are not compared: what a layer makes of a flat map divided by its own spread is rounding.
    """
    import torch

    inputs = {name: torch.zeros(shape) for name, shape in shapes.items()}
    expected, found = run_module(net, inputs, outputs), _drawing_alike(run, inputs)
    for name, blob in expected.items():
        if found[name].shape != blob.shape:  # as many detections as are there, and none of them is compared
            continue
        lost = blob.isfinite() & ~found[name].isfinite()
        if lost.any() and (lost & run_exactly(net, inputs, outputs)[name].isfinite()).any():
            raise ExportError(
                f"what came out is wrong: {name} is NaN or infinite for an input of zeros; the module's is not; "
                "nothing written"
            )


@dataclass(frozen=True)
class _Compared:
    """One trial: the largest difference, the outputs of which something is finite, and whether rounding hid some."""

    error: float
    compared: frozenset[str]
    saturated: bool


def _compare(
    net: nn.Module, run: Run, inputs: Mapping[str, Tensor], outputs: Sequence[str], tolerance: float
) -> _Compared:
    """The comparison of the module and `run` on these inputs; ExportError where they differ."""
    expected, found = run_module(net, inputs, outputs), _drawing_alike(run, inputs)
    if list(found) != list(expected):
        raise ExportError(f"the outputs are {', '.join(found)}; those of the module {', '.join(expected)}")
    errors = {name: _difference(found[name], blob) for name, blob in expected.items()}
    wrong = {name for name, error in errors.items() if error > tolerance}
    nothing = {name for name, blob in expected.items() if blob.numel() and not blob.any()}
    coarse = coarseness(net, inputs, expected) if wrong | nothing else {}
    if wrong:
        noise = own_rounding(net, inputs, expected)
        allowed = {name: allowed_by(max(noise[name], coarse[name]), expected[name]) for name in wrong}
        if beyond := [name for name in expected if name in wrong and errors[name] > allowed[name]]:
            name = max(beyond, key=lambda name: errors[name] - allowed[name])
            sizes = ", ".join(f"{n} {tuple(x.shape)}" for n, x in inputs.items())
            raise ExportError(
                f"what came out is wrong: {name} differs by {errors[name]:.1e} of its largest value for inputs {sizes} "
                f"({tolerance:.0e} allowed); nothing written"
            )
        wrong = {name for name in wrong if errors[name] > allowed_by(noise[name], expected[name])}
    compared = frozenset(name for name, blob in expected.items() if blob.isfinite().any() or not blob.numel())
    return _Compared(max(errors.values()), compared, any(coarse[name] > 0 for name in wrong | nothing))


def allowed_by(noise: float, expected: Tensor) -> float:
    """The difference of an output that is allowed where rounding moves the module's own by `noise`."""
    return detections_allowed(noise, times=NOISE) if are_detections(expected.numpy()) else NOISE * noise


def allowances(net: nn.Module, inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """The difference of each output that the module's rounding, and that of other programs, may make."""
    own, coarse = own_rounding(net, inputs, expected), coarseness(net, inputs, expected)
    return {name: allowed_by(max(own[name], coarse[name]), blob) for name, blob in expected.items()}


def own_rounding(net: nn.Module, inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """The error that the module's own rounding, seen against float64, makes of each output."""
    exact = run_exactly(net, inputs, list(expected))
    return {name: _difference(blob, exact[name]) for name, blob in expected.items()}


def coarseness(net: nn.Module, inputs: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, float]:
    """The move of each output where functions such as Sigmoid are computed as coarsely as other programs do."""
    from .coarse import Coarsely

    with Coarsely():
        moved = run_module(net, inputs, list(expected))
    return {name: _difference(moved[name], blob) for name, blob in expected.items()}


def run_exactly(net: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> dict[str, Tensor]:
    """The outputs of the module in float64."""
    from ..execution.replicas import replica

    private = replica(net, lambda tensor: tensor.double())

    def doubled(*args: Tensor) -> Tensor | dict[str, Tensor]:
        found: Tensor | dict[str, Tensor] = private(*(x.double() for x in args))
        return found

    return run_module(doubled, inputs, outputs)


def random_inputs(
    shapes: Mapping[str, Shape], *, seed: int, indices: Mapping[str, Limit] | None = None
) -> dict[str, Tensor]:
    """Inputs with the spread of an image; those in `indices` hold the whole numbers that are valid there."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    limits, whole = indices or {}, np.random.default_rng(seed)
    return {
        name: torch.from_numpy(drawn(limits[name], shape, whole))
        if name in limits
        else torch.randn(shape, generator=generator) * 50
        for name, shape in shapes.items()
    }


def run_module(
    net: Callable[..., Tensor | dict[str, Tensor]], inputs: Mapping[str, Tensor], outputs: Sequence[str]
) -> dict[str, Tensor]:
    """The outputs of a module by name; `outputs` names the one of a module that gives no names."""
    import torch

    with torch.no_grad():
        found = _drawing_alike(lambda given: net(*given.values()), inputs)
    return found if isinstance(found, dict) else {outputs[0]: found}


def _drawing_alike(run: Callable[[Mapping[str, Tensor]], T], inputs: Mapping[str, Tensor]) -> T:
    """A pass in which a net that draws at test draws the same numbers as in every other one."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return run(inputs)


def _difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, of the largest finite magnitude; infinite where shapes differ, or one alone is NaN."""
    arrays = found.numpy(), expected.numpy()
    if all(map(are_detections, arrays)):
        return detections_differ(*arrays)
    if found.shape != expected.shape:
        return float("inf")
    plain = _difference_of_plain(*arrays)
    if plain is not None:
        return plain
    pair = with_something(*(array.astype(np.float64) for array in arrays))
    if pair is None:
        return float("inf")
    ours, theirs = pair
    largest = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)) or 1.0
    with np.errstate(invalid="ignore"):
        difference = np.where((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)), 0.0, np.abs(ours - theirs))
    return float(np.nan_to_num(difference, nan=np.inf).max(initial=0.0)) / largest


def _difference_of_plain(found: np.ndarray, expected: np.ndarray) -> float | None:
    """The same of blobs whose values are all finite, in passes that copy little; None of others."""
    peaks = [float(np.abs(array).max(initial=0.0)) for array in (found, expected)]
    if not all(peak < EMPTY for peak in peaks):  # nor is NaN
        return None
    with np.errstate(over="ignore"):
        apart = np.subtract(found, expected, dtype=np.result_type(found, expected, np.float32))
    return float(max(apart.max(initial=0.0), -apart.min(initial=0.0))) / (peaks[1] or 1.0)
