"""The input size that the weights tell, where a net's definition does not: of images, and of vectors and sequences.

A classifier's first InnerProduct counts the places of its map, so its weight fits only images of one size, or of a few
that pooling rounds to the same map. LeNet as BVLC publishes it says nowhere that its images are 28x28.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from math import isqrt, prod

import numpy as np

from ..errors import MismatchError, NetError
from ..formats.model import is_left_out
from ..net.layer import Shape
from ..net.shapes import MOST_AXES, infer_blobs, shapes_text
from ..net.spec import NetSpec
from .inputs import with_input_shapes
from .work_out import attempt, images_of, sequences, work_out

LARGEST = 1024
"""The longest side that is looked at."""
MOST_CHANNELS = 16
"""The most channels of an input that are tried."""
MOST_ALONE = 4
"""Inputs whose channels are tried by themselves."""
MOST_READERS = 16
"""Layers that may read vectors of whose weights one is tried."""
MOST_LAYERS = 1 << 18
"""Layers that are looked at for it: up to 256 of them at every side, for sides up to 262 of a net of a thousand."""


def fit_size(
    spec: NetSpec, assumed: Sequence[str], blobs: Mapping[str, Sequence[np.ndarray]]
) -> tuple[NetSpec, str | None]:
    """The net with its `assumed` inputs, (n, c, h, w), at the square size that its weights fit, and a note; else as is.

    Of several sizes the largest is taken, as poolings lose nothing there. A net that has no InnerProduct, or whose
    weights fit already or at no square size, comes back as it is. `blobs` are the weights by layer.
    """
    inputs = spec.inputs
    shapes = {name: inputs[name] for name in assumed}
    wanted = _inner_products(spec, blobs)
    if not wanted or not all(len(shape) == 4 for shape in shapes.values()) or _sizes(spec, wanted) == wanted:
        return spec, None

    def at(side: int) -> NetSpec:
        return _at(spec, shapes, (side, side))

    sides: list[int] = []
    for side in range(1, min(LARGEST, MOST_LAYERS // _work(spec)) + 1):
        # One after the other: it costs a millisecond or two, and nets end below 300.
        sizes = _sizes(at(side), wanted)
        if sizes == wanted:
            sides.append(side)
        elif sides or (sizes is not None and sum(sizes.values()) > sum(wanted.values())):
            break  # weights grow with the side
    if not sides:
        return _fit_oblong(spec, shapes, wanted)
    least, largest = sides[0], sides[-1]
    also = "" if least == largest else f", or any from {least}x{least}"
    found = at(largest)
    each = f" ({_shown(found, assumed)})" if len(assumed) > 1 else ""
    note = f"the net does not give the size of its input; its weights fit images of {largest}x{largest}{also}{each}"
    return found, note


def _fit_oblong(spec: NetSpec, shapes: Mapping[str, Shape], wanted: Mapping[str, int]) -> tuple[NetSpec, str | None]:
    """The net at the size nearest to a square, but none, that its weights fit: height times width of the map tell."""
    first = next(iter(wanted))
    sides: dict[int, int] = {}  # the places along a side of the map that the first InnerProduct reads -> the image's
    goal = 0
    for side in range(1, min(LARGEST, MOST_LAYERS // _work(spec)) + 1):
        trial = attempt(spec, {name: (*shape[:2], side, side) for name, shape in shapes.items()})
        row = next((row for row in trial.rows if row.layer.name == first), None)
        image = trial.image_before(row) if row is not None else ()
        if row is None or len(image) != 4 or prod(row.blobs[0]) % (image[2] * image[3]):
            continue
        goal = wanted[first] * image[2] * image[3] // prod(row.blobs[0])
        sides[image[2]] = side
        if image[2] > goal:
            break
    for along in range(isqrt(goal), 0, -1):
        if goal % along == 0 and along in sides and goal // along in sides:
            size = sides[along], sides[goal // along]
            found = _at(spec, shapes, size)
            if _sizes(found, wanted) == wanted:
                note = (
                    f"the net does not give the size of its input; its weights fit images of {size[0]}x{size[1]}, and "
                    "others with as many places: give the size with --input where it was another"
                )
                return found, note
    return spec, None


def _at(spec: NetSpec, shapes: Mapping[str, Shape], size: tuple[int, int]) -> NetSpec:
    return with_input_shapes(spec, {name: (*shape[:2], *size) for name, shape in shapes.items()})


def fit_inputs(
    spec: NetSpec, assumed: Sequence[str], blobs: Mapping[str, Sequence[np.ndarray]]
) -> tuple[NetSpec, str | None]:
    """The net with its `assumed` inputs in channels and at the size that its weights fit, and a note; else as is."""
    if not blobs:
        return spec, None
    spec = _fit_channels(spec, assumed, blobs)
    found, note = fit_size(spec, assumed, blobs)
    return (found, note) if note is not None else _fit_vectors(spec, assumed, blobs)


def _fit_channels(spec: NetSpec, assumed: Sequence[str], blobs: Mapping[str, Sequence[np.ndarray]]) -> NetSpec:
    """The net with as many channels in its assumed inputs as most of its weights have.

    Of several that are put together only the sum is told: one, the last one first, gets the rest, else all are alike.
    """
    shapes = {name: shape for name, shape in spec.inputs.items() if name in assumed and len(shape) > 1}
    sized = {layer.name for layer in spec.layers if layer.type != "InnerProduct" and blobs.get(layer.name)}
    best, most = spec, _alike(spec, blobs, sized)
    groups = [[name] for name in [*shapes][: -MOST_ALONE - 1 : -1]] if len(shapes) > 1 else []
    for group in (*groups, [*shapes]):
        for channels in range(1, MOST_CHANNELS + 1) if shapes and most < _count(blobs, sized) else ():
            candidate = with_input_shapes(spec, {n: (shapes[n][0], channels, *shapes[n][2:]) for n in group})
            found = _alike(candidate, blobs, sized)
            if found > most:
                best, most = candidate, found
    return best


def _fit_vectors(
    spec: NetSpec, assumed: Sequence[str], blobs: Mapping[str, Sequence[np.ndarray]]
) -> tuple[NetSpec, str | None]:
    """The net with the `assumed` inputs that no kernel reads as vectors which its weights fit, and a note; else as is.

    Features (1, n) of an InnerProduct, with as many axes before n as it leaves; sequences (1, 1, n) of an LSTM or RNN.
    """
    sized = {layer.name for layer in spec.layers if blobs.get(layer.name)}
    pictured = images_of(spec)
    names = [name for name in spec.inputs if name in assumed and name not in pictured]
    if not names or _alike(spec, blobs, sized) == _count(blobs, sized):
        return spec, None
    candidates, found = [*dict.fromkeys(_vectors(spec, blobs))], dict[str, Shape]()
    best = spec
    for _ in range(2):  # what else the net reads may fit only once the first vectors do
        best = _worked_out(best, assumed, found)
        most = _alike(best, blobs, sized)
        for name, shape in ((name, shape) for name in names for shape in candidates):
            candidate = _with_vector(best, name, shape, assumed)
            alike = _alike(candidate, blobs, sized)
            if alike > most:
                best, most, found[name] = candidate, alike, shape
    if not found:
        return spec, None
    best, _ = fit_size(_worked_out(best, assumed, found), [name for name in assumed if name in pictured], blobs)
    return best, f"the net does not give the size of its inputs; its weights fit {_shown(best, assumed)}"


def _with_vector(spec: NetSpec, name: str, shape: Shape, assumed: Sequence[str]) -> NetSpec:
    """The net with an input in this shape, and where it is a sequence with what says where it goes on beside."""
    candidate = with_input_shapes(spec, {name: shape})
    trial = attempt(candidate, {})
    others = {other: found for other, found in candidate.inputs.items() if other in assumed and other != name}
    for shapes in () if trial.fits else sequences(trial, others, (), ()):
        return with_input_shapes(candidate, shapes)
    return candidate


def _worked_out(spec: NetSpec, assumed: Sequence[str], known: Collection[str]) -> NetSpec:
    shapes = {name: shape for name, shape in spec.inputs.items() if name in assumed}
    return with_input_shapes(spec, work_out(spec, shapes, sized=[*known]))


def _shown(spec: NetSpec, names: Sequence[str]) -> str:
    return shapes_text({name: shape for name, shape in spec.inputs.items() if name in names})


def _vectors(spec: NetSpec, blobs: Mapping[str, Sequence[np.ndarray]]) -> Iterator[Shape]:
    """The shapes of vectors that the net's first InnerProducts and recurrent layers read, as their weights tell."""
    weighted = (layer for layer in spec.layers if blobs.get(layer.name))
    readers = (layer for layer in weighted if layer.type in ("InnerProduct", "LSTM", "RNN"))
    for layer in islice(readers, MOST_READERS):
        weights = [blob for blob in blobs[layer.name] if blob.ndim > 1]
        if layer.type != "InnerProduct":
            yield from ((1, blob.shape[-1]) for blob in weights)
            yield from ((1, 1, blob.shape[-1]) for blob in weights)
        elif weights:
            param = layer.message.inner_product_param
            if param.axis < MOST_AXES:
                yield (*[1] * max(param.axis, 1), weights[0].size // max(param.num_output, 1))


def _alike(spec: NetSpec, blobs: Mapping[str, Sequence[np.ndarray]], sized: Collection[str]) -> int:
    """The count of blobs of the `sized` layers that are as large as those in the file."""
    rows = [row for row in attempt(spec, {}).rows if row.layer.name in sized and row.blobs]
    pairs = (pair for row in rows for pair in zip(row.blobs, blobs[row.layer.name], strict=False))
    return sum(1 for shape, blob in pairs if prod(shape) == blob.size)


def _count(blobs: Mapping[str, Sequence[np.ndarray]], sized: Collection[str]) -> int:
    return sum(len(blobs[name]) for name in sized)


def _work(spec: NetSpec) -> int:
    """The layers of a net, those with many bottoms and tops counted several times."""
    return sum(1 + (len(layer.bottoms) + len(layer.tops)) // 8 for layer in spec.layers)


def check_size(spec: NetSpec, blobs: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Raise MismatchError where the weights of an InnerProduct are not those of the net at the input size that it says.

    One that was assumed is no fault of the file, and is not checked.
    """
    problem = None if spec.assumed else misfit(spec, blobs)
    if problem is not None:
        hint = "give a prototxt of the net whose input has the size that it was trained for"
        raise MismatchError(problem, path=spec.path, hint=hint)


def misfit(spec: NetSpec, blobs: Mapping[str, Sequence[np.ndarray]]) -> str | None:
    """The InnerProduct whose weights are not those of the net at its input size, in words; None where all fit."""
    wanted = _inner_products(spec, blobs)
    for name, size in (_sizes(spec, wanted) or {}).items():
        if size and size != wanted[name]:
            said = f"with the input {shapes_text(spec.inputs)}"
            return f"layer '{name}' has {wanted[name]:,} weights; {said} it would have {size:,}"
    return None


def _inner_products(spec: NetSpec, blobs: Mapping[str, Sequence[np.ndarray]]) -> dict[str, int]:
    """The number of weights of each InnerProduct, in the file; not of one that has them of another layer."""
    layers = (layer.name for layer in spec.layers if layer.type == "InnerProduct")
    return {name: blobs[name][0].size for name in layers if blobs.get(name) and not is_left_out(blobs[name][0])}


def _sizes(spec: NetSpec, layers: Mapping[str, int]) -> dict[str, int] | None:
    """The number of weights of each of the layers; None where the net cannot be of this size."""
    try:
        found = infer_blobs(spec)
    except NetError:
        return None
    return {name: int(np.prod(found[name][0], dtype=object)) if name in found else 0 for name in layers}
