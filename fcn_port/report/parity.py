"""Parity as a chart: how far each blob is from Caffe's, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log10

from .html import Html, bar_row, name_text, section

_LOWEST, _HIGHEST = 1e-9, 1e-3
"""The chart's ends; a blob equal to the last bit has no bar."""


def parity(errors: Mapping[str, float], *, tolerance: float, golden: str) -> Html:
    """The section with a bar for each blob: its largest error as a fraction of its largest value.

    `golden` names the recording. An error of infinity is a blob of another shape.
    """
    worst = max(errors, key=lambda name: errors[name])
    ok = errors[worst] <= tolerance
    lead = (
        f"The largest difference of each blob to {golden}, a recorded pass of Caffe on the same input, as a fraction "
        "of the blob's largest value. float32 has 6e-8 between neighbouring numbers; the rest is the order of sums."
    )
    verdict = (
        f'<p class="{"ok" if ok else "no"}">{len(errors)} blobs, the worst {name_text(worst)}: {errors[worst]:.1e}; '
        f"{tolerance:.0e} is allowed{'' if ok else ': NOT the same numbers'}.</p>"
    )
    mark = [(_place(tolerance), f"allowed: {tolerance:.0e}")]
    rows = "".join(
        bar_row(name, _number(error), _place(error), marks=mark, kind="good" if error <= tolerance else "bad")
        for name, error in errors.items()
    )
    keys = (
        f'<p class="keys"><i class="key" style="background:var(--good)"></i>error, from {_LOWEST:.0e} on the left to '
        f'{_HIGHEST:.0e}, each step ten times<i class="key" style="background:var(--mark);width:3px"></i>allowed</p>'
    )
    return section("parity", "The same numbers as Caffe", lead, verdict + keys + rows)


def _place(error: float) -> float:
    """Percent of the chart's width."""
    if error <= _LOWEST:
        return 0.0
    return 100 * min(1.0, log10(error / _LOWEST) / log10(_HIGHEST / _LOWEST)) if error < inf else 100.0


def _number(error: float) -> str:
    return "equal" if error == 0 else "other shape" if error == inf else f"{error:.1e}"
