"""Recording the early layers of a net: each blob only where the image is seen, band by band, constants around it.

A blob that ends a stage (a pooling) or that several layers read is kept whole; what lies between two such blobs is made
in bands of rows that fit in the processor's cache, all in the same few rows of memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from converters.net import Interval

from ..geometry import Rect
from ..graph import Step
from ..kernels import Kernel
from ..native import NativeConvolution
from ..native.tape import Tape
from ..plan import Plan, reads
from ..program.places import BlobPlace
from ..transient import bands_of, computed_of, is_transient, transient_makers
from .layers import Fills, record


@dataclass(frozen=True)
class PlacedPart:
    """The part of a blob that lies at a place."""

    place: BlobPlace
    has: Rect

    def part(self, wanted: Rect) -> BlobPlace:
        """The place of a part of it."""
        rows, cols = wanted.rows.within(self.has.rows), wanted.cols.within(self.has.cols)
        return self.place.narrow(2, rows.start, wanted.rows.size).narrow(3, cols.start, wanted.cols.size)


class EarlyTape:
    """The early layers of a plan on a tape, for inputs and what the plan's front makes of them at these places."""

    def __init__(
        self, tape: Tape, plan: Plan, kernels: Mapping[str, Kernel], fills: Fills, inputs: Mapping[str, BlobPlace], *,
        cut: Mapping[str, BlobPlace], band_bytes: int, threads: int,
    ) -> None:  # fmt: skip
        """`cut`: the places of the blobs at the cut, whole."""
        self._tape, self._plan, self._kernels, self._fills = tape, plan, kernels, fills
        self._cut, self._band_bytes, self._threads = cut, band_bytes, threads
        self._makers = {step.top: step for step in plan.early}
        self._kept = {name: PlacedPart(place, plan.blobs[name].seen) for name, place in inputs.items()}
        self._strips: dict[str, BlobPlace] = {}
        self._heights: dict[str, int] = {}

    def record(self) -> None:
        """Add all steps."""
        for step in self._plan.early:
            if not is_transient(self._plan, step):
                self._keep(step)

    def _keep(self, step: Step) -> None:
        """The needed part of a blob, or the whole of one at the cut, made band by band."""
        blob = self._plan.blobs[step.top]
        images, features = self._images, self._fills.channels(step.top)
        if step.top in self._cut:
            whole = Rect(Interval(0, blob.rows.length), Interval(0, blob.cols.length))
            part = PlacedPart(self._cut[step.top], whole)
        else:
            shape = images, features, blob.needed.rows.size, blob.needed.cols.size
            part = PlacedPart(self._tape.new(shape), blob.needed)
        self._fill_around(step.top, part, blob.computed)
        bands = self._bands(step)
        self._strips, self._heights = {}, self._heights_of(step, bands)
        for band in bands:
            self._compute(step, band, part.part(Rect(band, blob.computed.cols)))
        self._kept[step.top] = part

    @property
    def _images(self) -> int:
        return next(iter(self._kept.values())).place.shape[0]

    def _compute(self, step: Step, rows: Interval, y: BlobPlace) -> None:
        """These rows of a step's output, and its computed columns, to y."""
        wanted = reads(step, Rect(rows, self._plan.blobs[step.top].computed.cols))
        x = self._get(step.bottoms[0], wanted)
        pad = x.has.rows.lo - wanted.rows.lo, x.has.cols.lo - wanted.cols.lo
        record(self._tape, self._kernels[step.top], [x.place], y, pad=pad, threads=self._threads)

    def _get(self, name: str, wanted: Rect) -> PlacedPart:
        """A part of what is needed of a blob; of an input all of it, around which is nothing."""
        blob = self._plan.blobs[name]
        if blob.zero:
            return self._kept[name]
        wanted = Rect(wanted.rows.clip(blob.needed.rows), wanted.cols.clip(blob.needed.cols))  # poolings reach beyond
        if name in self._kept:
            return PlacedPart(self._kept[name].part(wanted), wanted)
        strip = PlacedPart(self._strip(name, wanted.rows), Rect(wanted.rows, blob.needed.cols))
        computed = Rect(computed_of(blob, wanted.rows), blob.computed.cols)
        self._fill_around(name, strip, Rect(computed.rows, blob.needed.cols))
        if computed.rows.size:
            self._compute(self._makers[name], computed.rows, strip.part(computed))
        return PlacedPart(strip.part(wanted), wanted)

    def _strip(self, name: str, rows: Interval) -> BlobPlace:
        """A band's memory for so many rows; constants beside what is computed are written once for all bands."""
        if name not in self._strips:
            blob, height = self._plan.blobs[name], self._heights[name]
            shape = self._images, self._fills.channels(name), height, blob.needed.cols.size
            strip = self._strips[name] = self._tape.new(shape)
            everything = Interval(0, height)
            part = PlacedPart(strip, Rect(everything, blob.needed.cols))
            self._fill_around(name, part, Rect(everything, blob.computed.cols))
        return self._strips[name].narrow(2, 0, rows.size)

    def _heights_of(self, step: Step, bands: Sequence[Interval]) -> dict[str, int]:
        """The rows of each transient bottom that the highest band needs."""
        heights: dict[str, int] = {}
        for rows in bands:
            each, name = step, step.bottoms[0]
            while name not in self._kept:
                blob = self._plan.blobs[name]
                wanted = reads(each, Rect(rows, blob.computed.cols)).rows.clip(blob.needed.rows)
                heights[name] = max(heights.get(name, 0), wanted.size)
                rows, each = computed_of(blob, wanted), self._makers[name]
                if not rows.size:
                    break
                name = each.bottoms[0]
        return heights

    def _fill_around(self, name: str, part: PlacedPart, inner: Rect) -> None:
        """Constants, or the edges of a blob at the cut, around the part that is computed."""
        rows, cols = part.has
        for each in (
            Rect(Interval(rows.lo, inner.rows.lo), cols), Rect(Interval(inner.rows.hi, rows.hi), cols),
            Rect(inner.rows, Interval(cols.lo, inner.cols.lo)), Rect(inner.rows, Interval(inner.cols.hi, cols.hi)),
        ):  # fmt: skip
            if each.area:
                self._fills.write(self._tape, name, each, part.part(each))

    def _bands(self, step: Step) -> list[Interval]:
        """Bands whose transient bottoms fill a share of the cache, no less than a layer's weights, which each reads."""
        makers = list(transient_makers(self._plan, step, self._kept))
        kernels = [self._kernels[each.top] for each, _ in makers]
        weights = [kernel.nbytes for kernel in kernels if isinstance(kernel, NativeConvolution)]
        heaviest = max((size for _, size in makers), default=0)
        return bands_of(self._plan.blobs[step.top].computed.rows, heaviest, max([self._band_bytes, *weights]))
