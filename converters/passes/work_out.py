"""Input shapes that a net can have, where neither its fields nor its weights say them: tried, not assumed.

The shape that is taken first is replaced by one that fits where the net cannot be of it: branches that meet need
multiples of their strides (ENet, SegNet, YOLO), a classifier's first InnerProduct a small map, videos an axis more,
recurrent nets batches that their Reshapes say, and what is no image is no image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt, prod

from ..errors import NetError, UnknownLayerError
from ..net.layer import LayerSpec, Shape, params_if_valid
from ..net.parameter_sharing import borrowed_blobs
from ..net.shapes import LayerShapes, iter_layer_shapes
from ..net.spec import NetSpec

SIDES = (512, 480, 416, 448, 320, 300, 384, 640, 224, 227, 256, 299, 321, 473, 713, 768, 1024, 128, 112, 64, 32, 28)
"""Sides of square images that are tried, the usual ones of detectors and segmenters first."""
OBLONG = ((360, 480), (480, 640), (240, 320), (512, 1024), (720, 960), (384, 768), (713, 1425))
"""(h, w) that are tried after them: of CamVid, KITTI and Cityscapes, to which SegNet's layers are made."""
CLASSIFIERS = (224, 299, 160, 144, 128, 112, 96, 64, 48, 40, 32, 28)
"""Sides for a classifier, from the largest down."""
LARGEST_MAP = 49
"""Places of the map before a classifier's first InnerProduct: 7x7 in VGG and what came after."""
CLIP = (16, 112, 112)
"""Frames, height and width of C3D's clips."""
NO_IMAGE: tuple[Shape, ...] = ((1, 1), (1,), (1, 1, 1), (1, 1, 1, 1))
"""Shapes that are tried for an input that no convolution reads."""
BATCHES = (2, 10, 16)
STRIDES = (16, 8, 32, 4, 64, 2)
"""By how much smaller a map may be than the image, that of usual heads first."""
FEATURES = 4096
"""Numbers of a vector in a sequence where nothing tells: VGG's fc7, of which videos are described."""
MOST = 40_000
"""Layers that are looked at, all tries together."""


@dataclass(frozen=True)
class Attempt:
    """A net with its inputs in these shapes: the layers that have theirs then, why the next has none, and the rest."""

    shapes: Mapping[str, Shape]
    rows: tuple[LayerShapes, ...]
    error: NetError | None
    stopped: LayerSpec | None
    rest: tuple[LayerSpec, ...] = ()

    @property
    def fits(self) -> bool:
        """True where no shape is in the way, as far as the types of the layers are known."""
        return self.error is None or isinstance(self.error, UnknownLayerError)

    @property
    def weight(self) -> int:
        """The numbers that the largest InnerProduct would learn."""
        inner = (row.blobs for row in self.rows if row.layer.type == "InnerProduct" and row.blobs)
        return max((prod(blobs[0]) for blobs in inner), default=0)

    def image_before(self, row: LayerShapes) -> Shape:
        """The last blob of four axes on the way to a layer, past Flatten, Reshape and what else has no weights."""
        shape, blob = row.bottoms[0], row.layer.bottoms[0]
        for before in reversed(self.rows[: self.rows.index(row)]):
            if len(shape) >= 4 or (blob in before.layer.tops and (before.blobs or not before.bottoms)):
                return shape
            if blob in before.layer.tops:
                shape, blob = before.bottoms[0], before.layer.bottoms[0]
        return shape


def attempt(spec: NetSpec, shapes: Mapping[str, Shape]) -> Attempt:
    """Infer the shapes of the net as far as they go."""
    rows: list[LayerShapes] = []
    try:
        for row in iter_layer_shapes(spec, shapes):
            rows.append(row)
    except NetError as error:
        stopped = spec.layers[len(rows)] if len(rows) < len(spec.layers) else None
        return Attempt(shapes, tuple(rows), error, stopped, spec.layers[len(rows) :])
    for number, problem in _shared_apart(spec, rows):
        return Attempt(shapes, tuple(rows[:number]), problem, rows[number].layer, spec.layers[number:])
    return Attempt(shapes, tuple(rows), None, None)


def _shared_apart(spec: NetSpec, rows: Sequence[LayerShapes]) -> Iterator[tuple[int, NetError]]:
    """The layers whose weights have another size than those they share, as two nets in one must not (net.cpp)."""
    sizes = {(row.layer.name, position): prod(shape) for row in rows for position, shape in enumerate(row.blobs)}
    for (layer, position), owner in borrowed_blobs(spec).items():
        found, expected = sizes.get((layer, position)), sizes.get(owner)
        if found is not None and expected is not None and found != expected:
            number = next(number for number, row in enumerate(rows) if row.layer.name == layer)
            yield number, NetError(f"blob {position} has {found} numbers; in '{owner[0]}', which shares it, {expected}")


def work_out(spec: NetSpec, free: Mapping[str, Shape], *, sized: Sequence[str] = ()) -> Mapping[str, Shape]:
    """Shapes for the inputs in `free`, whose shapes are assumed, with which the net can be built; else as they are.

    Of those in `sized` the height and width are known, and stay.
    """
    first = attempt(spec, free)
    pictured = images_of(spec)
    images = [name for name in free if name in pictured]
    search = _Search(spec, first)
    if first.fits:
        return _smaller_for_classifier(search, [name for name in free if name not in sized]).shapes
    for step in (*_STEPS, *_STEPS):
        search.take(step(search.best, search.best.shapes, images, sized))
        if search.best.fits:
            break
    if search.best.fits:
        return _smaller_for_classifier(search, [name for name in free if name not in sized]).shapes
    return search.best.shapes if len(search.best.rows) > len(first.rows) else free


class _Search:
    """The best trial so far, and how many layers may still be looked at."""

    def __init__(self, spec: NetSpec, first: Attempt) -> None:
        self.spec, self.best = spec, first
        self.left = MOST

    def take(self, candidates: Iterator[Mapping[str, Shape]]) -> None:
        """Try shapes until some fit; remember those that come furthest."""
        for shapes in candidates:
            if self.left <= 0:
                return
            trial = attempt(self.spec, shapes)
            self.left -= 1 + len(trial.rows)
            if trial.fits or (not self.best.fits and len(trial.rows) > len(self.best.rows)):
                self.best = trial
            if trial.fits:
                return


def images_of(spec: NetSpec) -> set[str]:
    """The blobs that a layer with a kernel reads, at most past layers that weigh channels or nothing."""
    found: set[str] = set()
    for layer in reversed(spec.layers):
        has_kernel = layer.type in ("Pooling", "LRN") or any(part in layer.type for part in _KERNELS)
        if not has_kernel and not found.intersection(layer.tops):
            continue
        params = params_if_valid(layer)
        if has_kernel or (params is not None and (not params.learns or layer.type in _OF_CHANNELS)):
            found.update(layer.bottoms)
    return found


_KERNELS = ("onvolution", "onv3d", "onvND")
_OF_CHANNELS = ("BatchNorm", "BN", "Scale", "Bias", "PReLU")
"""Layers whose weights are a few numbers for each channel, so that an image may stand before them."""


Shapes = Mapping[str, Shape]


def _other_sides(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    free = [name for name in images if name not in sized and len(shapes[name]) == 4]
    for size in (*((side, side) for side in SIDES), *OBLONG) if free else ():
        yield {**shapes, **{name: (*shapes[name][:-2], *size) for name in free}}


def _no_images(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    others = [name for name in shapes if name not in images and name not in sized]
    batch = {name: shapes[name][:1] or (1,) for name in others}
    for shape in NO_IMAGE if others else ():
        yield {**shapes, **{name: (*batch[name], *shape[1:]) for name in others}}
    for name in others:
        for shape in NO_IMAGE:
            yield {**shapes, name: (*batch[name], *shape[1:])}


def sequences(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    """A recurrent layer's own bottoms: x (steps, streams, numbers) and where sequences go on (steps, streams)."""
    bottoms = best.stopped.bottoms if best.stopped is not None else ()
    own = [name for name in bottoms if name in shapes and name not in sized]
    if own and bottoms[0] in own:
        yield {**shapes, **dict.fromkeys(own[1:], (1, 1)), own[0]: (1, 1, *shapes[own[0]][1:2])}
    made = {top: shape for row in best.rows for top, shape in zip(row.layer.tops, row.tops, strict=True)}
    if len(bottoms) > 1 and bottoms[1] in own and len(made.get(bottoms[0], ())) > 1:
        yield {**shapes, bottoms[1]: made[bottoms[0]][:2]}


def _as_reshaped(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    """The shape that a Reshape gives an input, for the input, and its first axes for all that is no image."""
    layer = best.stopped
    if layer is not None and layer.type == "Reshape" and layer.bottoms[0] in shapes:
        dims = tuple(dim for dim in layer.message.reshape_param.shape.dim if dim > 0)
        others = [name for name in shapes if name not in images and name not in sized]
        if dims:
            yield {**shapes, layer.bottoms[0]: dims}
            vectors = {name: (*dims[:2], FEATURES) for name in others if name in _read_by_last_axis(best)}
            yield {**shapes, **dict.fromkeys(others, dims[:2]), **vectors, layer.bottoms[0]: dims}


def _read_by_last_axis(best: Attempt) -> set[str]:
    """The blobs that an InnerProduct reads along their last axis: vectors (steps, streams, numbers) of sequences."""
    layers = (*(row.layer for row in best.rows), *best.rest)
    inner = (layer for layer in layers if layer.type == "InnerProduct")
    return {layer.bottoms[0] for layer in inner if layer.message.inner_product_param.axis in (-1, 2) and layer.bottoms}


def _map_sizes(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    """Images whose map, some strides smaller, has the height and width that a Reshape further on gives it.

    Or, where the map is square, as many places as one of the Reshape's axes, the last such axis first.
    """
    layer = best.stopped
    free = [name for name in images if name not in sized and len(shapes[name]) == 4]
    if layer is None or layer.type != "Reshape" or not free:
        return
    dims = [*layer.message.reshape_param.shape.dim]
    squares = [(isqrt(places),) * 2 for places in dims if places > 1 and isqrt(places) ** 2 == places]
    for h, w in (*pairwise(dims), *reversed(squares)):
        for stride in STRIDES if min(h, w) > 1 else ():
            yield {**shapes, **{name: (*shapes[name][:-2], h * stride, w * stride) for name in free}}


def _as_cut(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    """As many channels as a Slice of the input needs; the last part as large as one of the others."""
    layers = (*([] if best.stopped is None else [best.stopped]), *(row.layer for row in best.rows))
    layer = next((each for each in layers if each.type == "Slice" and each.bottoms[0] in shapes), None)
    if layer is None or layer.message.slice_param.axis != 1 or not layer.message.slice_param.slice_point:
        return
    name, points = layer.bottoms[0], [*layer.message.slice_param.slice_point]
    for part in dict.fromkeys(end - begin for begin, end in zip([0, *points], points, strict=False)):
        yield {**shapes, name: (*shapes[name][:1], points[-1] + part, *shapes[name][2:])}


def _as_met(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    """An input, or what is cut from it, in the shape of what it meets: in an Eltwise, a Concat or a MaskPooling."""
    layer = best.stopped
    if layer is None or layer.type not in ("Eltwise", "Concat", "MaskPooling", "GuidedDropout"):
        return
    made = {top: shape for row in best.rows for top, shape in zip(row.layer.tops, row.tops, strict=True)}
    for blob in layer.bottoms:
        name = _input_of(best, blob)
        other = next((made[each] for each in layer.bottoms if _input_of(best, each) not in shapes and each in made), ())
        if name is None or name not in shapes or name in sized or len(other) < 2:
            continue
        if name in images and layer.type != "MaskPooling":
            continue
        channels = 1 if layer.type == "MaskPooling" else shapes[name][1] if name != blob else other[1]
        yield {**shapes, name: (other[0], channels, *other[2:])}


def _input_of(best: Attempt, blob: str) -> str | None:
    """The input that a blob is, or is cut from; None for one that is computed."""
    for row in reversed(best.rows):
        if blob in row.layer.tops:
            if row.layer.type == "Input":
                return blob
            if row.layer.type != "Slice":
                return None
            blob = row.layer.bottoms[0]
    return None


def _one_channel(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    """Grey images, as for nets that sharpen them (VDSR)."""
    yield {**shapes, **{name: (*shapes[name][:1], 1, *shapes[name][2:]) for name in images}}


def _batches(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    stopped = best.stopped
    wanted = [*_batches_of(stopped, best), *BATCHES] if stopped is not None else []
    for batch in wanted:
        yield {name: (shape[0] * batch, *shape[1:]) if shape else shape for name, shape in shapes.items()}
        for name, shape in shapes.items():
            yield {**shapes, name: (shape[0] * batch, *shape[1:])} if shape else shapes


def _clips(best: Attempt, shapes: Shapes, images: Sequence[str], sized: Sequence[str]) -> Iterator[Shapes]:
    clips = {name: (*shapes[name][:2], CLIP[0], *(shapes[name][-2:] if name in sized else CLIP[1:])) for name in images}
    yield {**shapes, **clips}


def _batches_of(layer: LayerSpec, best: Attempt) -> Iterator[int]:
    """The factors by which a layer needs its batch larger: Reshape by its dims, Slice along the batch by its points."""
    made = {top: shape for row in best.rows for top, shape in zip(row.layer.tops, row.tops, strict=True)}
    if layer.type == "Reshape":
        count = prod(made.get(layer.bottoms[0], (0,)))
        wanted = prod(dim for dim in layer.message.reshape_param.shape.dim if dim > 0)
        if count and wanted % count == 0:
            yield wanted // count
    elif layer.type == "Eltwise" and len(layer.bottoms) > 1:
        first, factors = made.get(layer.bottoms[0], ()), made.get(layer.bottoms[-1], ())
        if len(factors) > 1 and first and factors[1] % first[0] == 0:  # a coefficient for each item
            yield factors[1] // first[0]
    elif layer.type == "Slice" and layer.message.slice_param.axis == 0:
        points = [*layer.message.slice_param.slice_point]
        if points:
            yield 2 * points[-1] - (points[-2] if len(points) > 1 else 0)
        yield len(layer.tops)


_STEPS = (
    _other_sides,
    _map_sizes,
    _as_cut,
    _as_met,
    _no_images,
    _one_channel,
    _as_reshaped,
    _batches,
    _clips,
    sequences,
)
"""The ways in which other shapes are tried, one after the other, twice."""


def _smaller_for_classifier(search: _Search, free: Sequence[str]) -> Attempt:
    """The trial that fits; where its first InnerProduct sees a large map, one at the size of a classifier's images."""
    best = search.best
    if not free or not _map_is_large(best):
        return best
    found = best
    for side in _classifier_sides(search.spec):
        shapes = {
            name: (*shape[:-2], side, side) if name in free and len(shape) == 4 else shape
            for name, shape in best.shapes.items()
        }
        trial = attempt(search.spec, shapes)
        if trial.fits and trial.weight < found.weight:
            found = trial
            if not _map_is_large(trial):
                break
    return found


def _classifier_sides(spec: NetSpec) -> Sequence[int]:
    first = next((layer for layer in spec.layers if layer.type == "Convolution"), None)
    is_alexnet = first is not None and list(first.message.convolution_param.kernel_size)[:1] == [11]
    return (227, *CLASSIFIERS) if is_alexnet else CLASSIFIERS


def _map_is_large(trial: Attempt) -> bool:
    """True where the first InnerProduct reads a map of many places."""
    first = next((row for row in trial.rows if row.layer.type == "InnerProduct" and row.blobs), None)
    image = trial.image_before(first) if first is not None else ()
    return len(image) == 4 and image[2] * image[3] > LARGEST_MAP
