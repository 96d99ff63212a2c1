"""Running the early layers of a net: each blob only where the image is seen, band by band, constants around it.

A blob that ends a stage (a pooling) or that several layers read is kept whole; what lies between two such blobs is made
in bands of rows that fit in the processor's cache, and is gone when the band is done.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from converters.net import Interval

from .background import Background
from .geometry import Rect
from .graph import Step
from .kernels import HalvingPool, Kernel
from .plan import Plan
from .transient import bands_of, computed_of, is_transient, transient_makers


class EarlyRun:
    """One pass over the early layers. `cut` gives the blobs that the late layers read."""

    def __init__(
        self,
        plan: Plan,
        kernels: Mapping[str, Kernel],
        background: Background,
        *,
        layout: torch.memory_format,
        band_bytes: int | None,
    ) -> None:
        self._plan, self._kernels, self._background = plan, kernels, background
        self._layout, self._band_bytes = layout, band_bytes
        self._makers = {step.top: step for step in plan.early}
        self._kept: dict[str, Tensor] = {}

    def cut(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The blobs at the cut, whole, for these inputs (n, c, h, w), what the plan's front makes of them included."""
        plan = self._plan
        for name in {bottom for step in plan.early for bottom in step.bottoms} & inputs.keys():
            self._kept[name] = self._surround(inputs[name], plan.blobs[name].seen, plan.blobs[name].needed)
        result = {}
        for i, step in enumerate(plan.early):
            if not is_transient(plan, step):
                self._kept[step.top] = self._make_whole(step)
            if step.top in plan.cut:
                result[step.top] = self._assemble(step.top)
            self._forget(plan.early[i + 1 :])
        return result

    def _forget(self, still_to_run: tuple[Step, ...]) -> None:
        """Free what no later step reads: its own bottoms, and through transient blobs theirs."""
        wanted = {bottom for step in still_to_run for bottom in step.bottoms}
        queue = [name for name in wanted if name not in self._kept and name in self._makers]
        while queue:
            for bottom in self._makers[queue.pop()].bottoms:
                wanted.add(bottom)
                if bottom not in self._kept and bottom in self._makers:
                    queue.append(bottom)
        for name in [name for name in self._kept if name not in wanted]:
            del self._kept[name]

    def _make_whole(self, step: Step) -> Tensor:
        """The needed part of a blob, made band by band."""
        blob = self._plan.blobs[step.top]
        bands = self._bands(step)
        if len(bands) == 1 and blob.computed == blob.needed:
            return self._compute(step, blob.computed.rows)
        out: Tensor | None = None
        for band in bands:
            y = self._compute(step, band) if out is None else None
            if out is None:
                assert y is not None
                out = self._empty(blob.needed, like=y)
                _fill_around(out, blob.computed, blob.needed, self._background.constants[step.top])
            target = out[:, :, band.within(blob.needed.rows), blob.computed.cols.within(blob.needed.cols)]
            if y is not None:
                target.copy_(y)
            else:
                self._compute(step, band, out=target)
        assert out is not None
        return out

    def _compute(self, step: Step, rows: Interval, out: Tensor | None = None) -> Tensor:
        """The computed columns of these rows of a step's output."""
        blob = self._plan.blobs[step.top]
        reads = Rect(rows, blob.computed.cols)
        if step.slidings is not None:
            reads = Rect(step.slidings[0].reads(rows), step.slidings[1].reads(blob.computed.cols))
        kernel = self._kernels[step.top]
        x = self._get(step.bottoms[0], reads)
        if out is not None and isinstance(kernel, HalvingPool) and not x.is_cuda:
            return kernel.into(x, out)
        y = kernel(x, padding=(0, 0))
        return y if out is None else out.copy_(y)

    def _get(self, name: str, part: Rect) -> Tensor:
        """A part of what is needed of a blob."""
        blob = self._plan.blobs[name]
        cols = part.cols.within(blob.needed.cols)
        if name in self._kept:
            return self._kept[name][:, :, part.rows.within(blob.needed.rows), cols]
        computed = computed_of(blob, part.rows)
        if not computed.size:
            constants, images = self._background.constants[name], len(next(iter(self._kept.values())))
            return constants.expand(images, -1, part.rows.size, part.cols.size)
        y = self._compute(self._makers[name], computed)
        if blob.computed.cols == blob.needed.cols and computed == part.rows:
            return y[:, :, :, cols]
        band = Rect(part.rows, blob.needed.cols)
        return self._surround(y, Rect(computed, blob.computed.cols), band, self._background.constants[name])[..., cols]

    def _bands(self, step: Step) -> list[Interval]:
        rows = self._plan.blobs[step.top].computed.rows
        heaviest = max((size for _, size in transient_makers(self._plan, step, self._kept)), default=0)
        return bands_of(rows, 0 if self._band_bytes is None else heaviest, self._band_bytes or 0)

    def _empty(self, part: Rect, *, like: Tensor) -> Tensor:
        shape = (*like.shape[:2], part.rows.size, part.cols.size)
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=self._layout)

    def _surround(self, x: Tensor, has: Rect, wanted: Rect, constants: Tensor | None = None) -> Tensor:
        """`x`, which is the part `has` of a blob, enlarged to `wanted` with its channels' constants (or zeros)."""
        out = self._empty(wanted, like=x)
        _fill_around(out, has, wanted, constants)
        out[:, :, has.rows.within(wanted.rows), has.cols.within(wanted.cols)] = x
        return out

    def _assemble(self, name: str) -> Tensor:
        """The whole blob: the response to an empty image with the computed part laid over it."""
        blob = self._plan.blobs[name]
        part = self._kept[name][:, :, blob.seen.rows.within(blob.needed.rows), blob.seen.cols.within(blob.needed.cols)]
        whole = self._background.cut[name].expand(len(part), -1, -1, -1).clone(memory_format=self._layout)
        origin = Interval(0, 0)
        whole[:, :, blob.seen.rows.within(origin), blob.seen.cols.within(origin)] = part
        return whole


def _fill_around(out: Tensor, inner: Rect, outer: Rect, constants: Tensor | None) -> None:
    """Write the constants into the margins of `out`, which is `outer`, around `inner`."""
    rows, cols = inner.rows.within(outer.rows), inner.cols.within(outer.cols)
    value: Tensor | float = 0.0 if constants is None else constants
    out[:, :, : rows.start] = value
    out[:, :, rows.stop :] = value
    out[:, :, rows, : cols.start] = value
    out[:, :, rows, cols.stop :] = value
