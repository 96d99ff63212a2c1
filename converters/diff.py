"""The differences of two nets, or of two sets of blobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, is_dataclass

import numpy as np

from .formats.model import Blobs
from .net.layer import LayerSpec
from .net.spec import NetSpec
from .passes.prepare import prepare


@dataclass(frozen=True)
class Difference:
    """One thing in which `first` and `second` differ, and where."""

    where: str
    what: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}: {self.first} | {self.second}"


def diff_nets(first: NetSpec, second: NetSpec, *, meaning_only: bool = False) -> tuple[Difference, ...]:
    """The differences of two nets, layer by layer under the same names; empty where there are none.

    With `meaning_only` both are made deployable first, and what does not change the numbers of a forward pass at test
    time is left out: Dropout, the Split copies that Caffe adds, the shapes of inputs, learning rates, fillers, the
    order of layers.
    """
    if meaning_only:
        first, second = (prepare(spec) for spec in (first, second))
    a, b = (_by_name(spec, meaning_only) for spec in (first, second))
    found: list[Difference] = []
    for name in a.keys() | b.keys() if meaning_only else (*a, *(n for n in b if n not in a)):
        if name not in a or name not in b:
            found.append(Difference(f"layer '{name}'", "is there", *("yes" if name in x else "no" for x in (a, b))))
        else:
            found += _diff_layers(a[name], b[name], meaning_only)
    if not meaning_only and not found and list(a) != list(b):
        found.append(Difference("net", "order of layers", ", ".join(a), ", ".join(b)))
    for what in ("inputs", "outputs"):
        left, right = (", ".join(sorted(getattr(spec, what))) for spec in (first, second))
        if left != right:
            found.append(Difference("net", what, left, right))
    return tuple(sorted(found, key=str) if meaning_only else found)


def _by_name(spec: NetSpec, meaning_only: bool) -> dict[str, LayerSpec]:
    return {layer.name: layer for layer in spec.layers if not (meaning_only and _computes_nothing(layer))}


def _computes_nothing(layer: LayerSpec) -> bool:
    """True for a layer that changes no number at test time and gives none another name."""
    if layer.type == "Input":
        return True
    return layer.params is not None and layer.params.idle and set(layer.tops) <= set(layer.bottoms)


def _diff_layers(a: LayerSpec, b: LayerSpec, meaning_only: bool) -> Iterator[Difference]:
    where = f"layer '{a.name}'"
    for what in ("type", "bottoms", "tops"):
        left, right = getattr(a, what), getattr(b, what)
        if left != right:
            yield Difference(where, what, *(x if isinstance(x, str) else ", ".join(x) for x in (left, right)))
    if a.type == b.type and is_dataclass(a.params) and is_dataclass(b.params):
        if type(a.params) is not type(b.params):  # such as a Python layer's, or those of forks that share a name
            yield Difference(where, "computed as", type(a.params).__name__, type(b.params).__name__)
        left, right = asdict(a.params), asdict(b.params)
        for key in left | right:
            first, second = (params.get(key, "not given") for params in (left, right))
            if first != second:
                yield Difference(where, key, str(first), str(second))
        if meaning_only:
            return
    yield from _diff_messages(where, a, b)


def _diff_messages(where: str, a: LayerSpec, b: LayerSpec) -> Iterator[Difference]:
    """Differences in how the file puts it: settings that `params` does not hold, such as fillers and learning rates."""
    left, right = a.message, b.message
    for field in left.DESCRIPTOR.fields:
        if field.name in ("name", "type", "bottom", "top"):
            continue
        first, second = (str(getattr(m, field.name)) if _is_set(m, field) else "not given" for m in (left, right))
        if first != second:
            yield Difference(where, field.name, *(" ".join(text.split()) for text in (first, second)))
    if [(f.name, f.value) for f in a.extra] != [(f.name, f.value) for f in b.extra]:
        yield Difference(where, "fields of forks", *(", ".join(f.name for f in x.extra) or "none" for x in (a, b)))


def _is_set(message: object, field: object) -> bool:
    return any(f.name == field.name for f, _ in message.ListFields())  # type: ignore[attr-defined]


def diff_blobs(first: Blobs, second: Blobs) -> tuple[Difference, ...]:
    """The differences of two sets of blobs: missing ones, shapes, and values that are not equal to the last bit."""
    found: list[Difference] = []
    for name in (*first, *(n for n in second if n not in first)):
        a, b = first.get(name, ()), second.get(name, ())
        if len(a) != len(b):
            found.append(Difference(f"layer '{name}'", "blobs", str(len(a)), str(len(b))))
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            found += diff_arrays(f"layer '{name}' blob {i}", x, y)
    return tuple(found)


def diff_arrays(where: str, a: np.ndarray, b: np.ndarray) -> Iterator[Difference]:
    """The difference of two arrays, if any: in shape, or in values (NaN equals NaN here)."""
    if a.shape != b.shape:
        yield Difference(where, "shape", str(a.shape), str(b.shape))
    elif not np.array_equal(a, b, equal_nan=a.dtype.kind == "f" and b.dtype.kind == "f"):
        same = (a == b) | ((a != a) & (b != b))
        with np.errstate(invalid="ignore"):  # infinity less infinity
            off = np.abs(a.astype(np.float64) - b.astype(np.float64))
        off = np.where(same, 0, np.where(np.isnan(off), np.inf, off))  # a number beside none: nothing is further
        worst = np.unravel_index(int(np.argmax(off)), off.shape)
        what = f"{np.count_nonzero(~same)} of {a.size} values, most at {tuple(map(int, worst))}"
        yield Difference(where, what, *(f"{x[worst]:.9g}" for x in (a, b)))
