"""The confusion matrix: of each class's pixels, how many are predicted as what."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .html import Html, section, text

_CELL, _LABEL, _TOP = 22, 120, 100
"""Pixels: a cell's side, the names on the left, the names on top."""


def confusion(counts: np.ndarray, classes: Sequence[str], *, title: str = "") -> Html:
    """The section with the matrix of a histogram (labels x predictions): each row adds up to 100 percent."""
    counts = counts.astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    worst = _confusions(shares, counts, classes)
    lead = "Rows are labels, columns predictions; the stronger, the more of the row's pixels. The diagonal is right."
    name = f"What is taken for what: {title}" if title else "What is taken for what"
    return section(f"confusion{'-' + title if title else ''}", name, lead, worst + _matrix(shares, total, classes))


def _confusions(shares: np.ndarray, counts: np.ndarray, classes: Sequence[str]) -> Html:
    """The five largest mistakes in words."""
    off = counts.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:5]
    found = [divmod(int(index), len(classes)) for index in order if off.flat[index] > 0]
    words = "; ".join(f"{classes[i]} as {classes[j]} ({shares[i, j]:.1%} of {classes[i]})" for i, j in found)
    return f"<p>Most mistaken pixels: {text(words)}.</p>" if words else ""


def _matrix(shares: np.ndarray, total: np.ndarray, classes: Sequence[str]) -> Html:
    n = len(classes)
    width, height = _LABEL + n * _CELL + _TOP // 2, _TOP + n * _CELL + 4
    parts = [f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="matrix">']
    for i, name in enumerate(classes):
        y, x = _TOP + i * _CELL, _LABEL + i * _CELL
        parts.append(f'<text x="{_LABEL - 6}" y="{y + 15}" text-anchor="end">{text(_short(name))}</text>')
        parts.append(f'<text transform="translate({x + 15} {_TOP - 6}) rotate(-60)">{text(_short(name))}</text>')
        parts.append(
            f'<rect x="{_LABEL}" y="{y}" width="{n * _CELL}" height="{_CELL}" fill="var(--track)" '
            f'stroke="var(--paper)"/>'
        )
        for j in np.flatnonzero(shares[i] >= 0.0005):
            colour = "var(--good)" if i == j else "var(--bad)"
            share = float(shares[i, j])
            parts.append(
                f'<rect x="{_LABEL + int(j) * _CELL}" y="{y}" width="{_CELL - 1}" height="{_CELL - 1}" '
                f'fill="{colour}" fill-opacity="{min(1.0, 0.12 + 0.88 * share**0.7):.3f}">'
                f"<title>{text(name)} as {text(classes[int(j)])}: {share:.1%}</title></rect>"
            )
        if not total[i, 0]:
            parts.append(f'<text x="{_LABEL + 6}" y="{y + 15}" fill="var(--quiet)">no labelled pixels</text>')
    return f'<div class="scroll">{"".join(parts)}</svg></div>'


def _short(name: str) -> str:
    return name if len(name) <= 18 else name[:17] + "…"
