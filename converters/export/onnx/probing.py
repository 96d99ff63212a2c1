"""The sizes of a net that are free: what of each blob's shape varies with the inputs is told by trying some."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ...errors import NetError
from ...net.layer import LayerSpec, Shape
from ...net.onnx_form import FreeShape
from ...net.shapes import LayerShapes, images_at_asked, iter_layer_shapes, known_params
from ...net.spec import NetSpec

_KINDS: Mapping[int, Mapping[int, str]] = {4: {0: "batch", 2: "height", 3: "width"}}
"""Names of the axes of an input that may be free, by its number of axes; of others, axis 0 may be."""
_ENOUGH = 2
"""Sizes that must do beside the net's own for one to be free."""

MOST_ALONE = 16
"""Axes of one kind and size that are tried each by itself; a net of more inputs would take minutes."""

_OPEN = 11
"""The size, in a trial, of what depends on numbers; as the first pass has another one, it counts as free."""

Dims = tuple["int | str | None", ...]
"""A shape whose free sizes have the names of the inputs' sizes that they are, or None."""

Place = tuple[str, int]
"""An axis of an input."""


@dataclass(frozen=True)
class Free:
    """A free size: its name in the model, and the axes of inputs that have it."""

    name: str
    places: tuple[Place, ...]


@dataclass(frozen=True)
class LayerSizes:
    """One layer with the shapes of its bottoms and tops, None where a size is free, and of its learnable blobs."""

    layer: LayerSpec
    bottoms: tuple[FreeShape, ...]
    tops: tuple[FreeShape, ...]
    blobs: tuple[Shape, ...]


@dataclass(frozen=True)
class NetSizes:
    """Every layer with its sizes, in order; `dims` names the free sizes of blobs that are an input's size too.

    `inputs` are the shapes of the inputs as the net has them, with what was fixed. `fed` is to them what `dims` is to
    the last states of blobs: a layer that overwrites an input may give it other axes.
    """

    inputs: Mapping[str, Shape]
    layers: tuple[LayerSizes, ...]
    free: tuple[Free, ...]
    dims: Mapping[str, Dims]
    fed: Mapping[str, Dims]


def net_sizes(spec: NetSpec, *, size: Sequence[int] | None = None, batch: int | None = None) -> NetSizes:
    """The sizes of a prepared net; `size` (h, w) fixes those of the inputs' images.

    `batch` fixes the first size of the first input and of all that have the same one there; regions are not images.
    Raises NetError where the net cannot have them.
    """
    own = next((shape[0] for shape in spec.inputs.values() if shape), None)
    own_size = spec.inputs if size is None else images_at_asked(spec.inputs, size)
    base = {
        name: (batch, *shape[1:]) if batch is not None and shape[:1] == (own,) else shape
        for name, shape in own_size.items()
    }
    first = list(iter_layer_shapes(spec, base))
    candidates = list(_candidates(base, size=size is None, batch=batch is None))
    free, trials = _free(spec, base, candidates, first)
    if not trials and any(known_params(row.layer).open_sizes() for row in first):
        alone = _probe(spec, base, first)
        trials = [alone] if alone else []
    rows = [first, *(trial.rows for trial in trials)]
    inputs = [base, *(trial.inputs for trial in trials)]
    layers = tuple(_merged(each) for each in zip(*rows, strict=True))
    return NetSizes(base, layers, free, *_named(layers, rows, inputs, free))


def _candidates(inputs: Mapping[str, Shape], *, size: bool, batch: bool) -> Iterator[Free]:
    """Axes that may be free; those of one kind and one size go together."""
    groups: dict[tuple[str, int], list[Place]] = {}
    for name, shape in inputs.items():
        for axis, kind in _KINDS.get(len(shape), {0: "batch"} if shape else {}).items():
            if batch if kind == "batch" else size:
                groups.setdefault((kind, shape[axis]), []).append((name, axis))
    for (kind, _), places in groups.items():
        yield Free(kind, tuple(places))


@dataclass(frozen=True)
class Probe:
    """A pass over the net with inputs of other shapes."""

    inputs: Mapping[str, Shape]
    rows: list[LayerShapes]


def _free(
    spec: NetSpec, base: Mapping[str, Shape], candidates: Sequence[Free], first: list[LayerShapes]
) -> tuple[tuple[Free, ...], list[Probe]]:
    alone = [each for candidate in candidates for each in _try(spec, base, candidate, first)]
    chosen = _together(spec, base, alone, first)
    free: list[Free] = []
    for each, _ in chosen.kept:
        taken = {one.name for one in free}
        name = each.name if each.name not in taken else f"{each.places[0][0]}_{each.name}"
        free.append(replace(each, name=name))
    trials = [trial for _, found in chosen.kept for trial in found]
    return tuple(free), trials if chosen.trial is None else [*trials, chosen.trial]


@dataclass(frozen=True)
class _AtOnce:
    """The parts that are free at once, with the passes in which each was alone, and the pass with all of them."""

    kept: list[tuple[Free, list[Probe]]]
    trial: Probe | None


def _together(
    spec: NetSpec, base: Mapping[str, Shape], alone: list[tuple[Free, list[Probe]]], first: list[LayerShapes]
) -> _AtOnce:
    """Those that do together: one that does not with those before it, at any size that it had alone, is left out.

    Height and width may each be odd where a Reshape halves their product, and cannot both be.
    """
    if len(alone) < 2:
        return _AtOnce(alone, None)
    sizes = [_sizes_in(each, found[-1]) for each, found in alone]
    whole = _probe(spec, _with(base, {place: size for some in sizes for place, size in some.items()}), first)
    if whole is not None:
        return _AtOnce(alone, whole)
    kept: list[tuple[Free, list[Probe]]] = []
    now: dict[Place, int] = {}
    trial: Probe | None = None
    for each, found in alone:
        for probe in reversed(found):
            more = {**now, **_sizes_in(each, probe)}
            found_together = _probe(spec, _with(base, more), first) if kept else probe
            if found_together is not None:
                kept.append((each, found))
                now, trial = more, found_together
                break
    return _AtOnce(kept, trial)


def _sizes_in(one: Free, probe: Probe) -> dict[Place, int]:
    return {(blob, axis): probe.inputs[blob][axis] for blob, axis in one.places}


def _try(
    spec: NetSpec, base: Mapping[str, Shape], candidate: Free, first: list[LayerShapes]
) -> list[tuple[Free, list[Probe]]]:
    """The parts of a candidate that are free: each axis by itself where that does, those left together if that does."""
    alone: list[tuple[Free, list[Probe]]] = []
    if 1 < len(candidate.places) <= MOST_ALONE:
        for place in candidate.places:
            one = Free(candidate.name, (place,))
            found = _probes(spec, base, one, first)
            if found:
                alone.append((one, found))
    left = tuple(place for place in candidate.places if not any(place in one.places for one, _ in alone))
    found = _probes(spec, base, replace(candidate, places=left), first) if left else []
    return [*alone, (replace(candidate, places=left), found)] if found else alone


def _probes(spec: NetSpec, base: Mapping[str, Shape], one: Free, first: list[LayerShapes]) -> list[Probe]:
    """Passes with other sizes along these axes; none where the net takes too few of them."""
    blob, axis = one.places[0]
    own = base[blob][axis]
    others = (own + 1, own + 2) if one.name == "batch" else (own + 32, 2 * own + 97, own + 256, 2 * own, 3 * own)
    found: list[Probe] = []
    for other in others:
        trial = _probe(spec, _with(base, dict.fromkeys(one.places, other)), first)
        if trial is not None:
            found.append(trial)
        if len(found) == _ENOUGH:
            return found
    return []


def _probe(spec: NetSpec, inputs: Mapping[str, Shape], first: list[LayerShapes]) -> Probe | None:
    """A pass with inputs of these shapes; None where the net, with the weights it has, does not take them."""
    rows = []
    try:
        for mine, known in zip(iter_layer_shapes(spec, inputs, open_size=_OPEN), first, strict=True):
            if mine.blobs != known.blobs or list(map(len, mine.tops)) != list(map(len, known.tops)):
                return None
            rows.append(mine)
    except NetError:
        return None
    return Probe(inputs, rows)


def _with(base: Mapping[str, Shape], changed: Mapping[Place, int]) -> dict[str, Shape]:
    return {
        name: tuple(changed.get((name, axis), size) for axis, size in enumerate(shape)) for name, shape in base.items()
    }


def _merged(rows: Sequence[LayerShapes]) -> LayerSizes:
    bottoms, tops = ([getattr(row, what) for row in rows] for what in ("bottoms", "tops"))
    return LayerSizes(
        rows[0].layer,
        tuple(_common(each) for each in zip(*bottoms, strict=True)),
        tuple(_common(each) for each in zip(*tops, strict=True)),
        rows[0].blobs,
    )


def _common(shapes: Sequence[Shape]) -> FreeShape:
    return tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True))


def _named(
    layers: Sequence[LayerSizes],
    rows: Sequence[Sequence[LayerShapes]],
    inputs: Sequence[Mapping[str, Shape]],
    free: Sequence[Free],
) -> tuple[dict[str, Dims], dict[str, Dims]]:
    """The last shape of each blob, and that of each input, with the names of the inputs' free sizes that they have."""
    series = {tuple(given[one.places[0][0]][one.places[0][1]] for given in inputs): one.name for one in free}

    def named(shapes: Iterable[Shape]) -> Dims:
        return tuple(seen[0] if len(set(seen)) == 1 else series.get(tuple(seen)) for seen in zip(*shapes, strict=True))

    found = {
        blob: named(pass_[index].tops[top] for pass_ in rows)
        for index, row in enumerate(layers)
        for top, blob in enumerate(row.layer.tops)
    }
    return found, {name: named(given[name] for given in inputs) for name in inputs[0]}
