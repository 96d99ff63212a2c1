"""The table of a coverage run, and what stops how many, as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from .processes import Limits, Row
from .stages import COMPARED, OURS

EXAMPLES = 3
"""Names of nets shown beside a cause."""


def table(rows: Sequence[Row], stages: Sequence[str], limits: Limits) -> Iterator[str]:
    """The lines of the limits and the table: of all nets so many came through a stage, of those compared are equal."""
    yield f"{len(rows)} nets; limits: {limits}."
    yield ""
    yield "| stage | nets | of | share |"
    yield "| --- | ---: | ---: | ---: |"
    for stage in stages:
        ends = [outcome.end for row in rows for outcome in row.outcomes if outcome.stage == stage]
        good = ends.count("ok")
        whole = len(rows) if stage in OURS else good + ends.count("stopped")
        name = stage if stage in OURS else f"equal to {'OpenCV' if stage == 'opencv' else 'Caffe'}"
        share = f"{100 * good / whole:.1f} %" if whole else "-"
        yield f"| {name} | {good} | {whole} | {share} |"


def causes(rows: Sequence[Row], *, most: int) -> Iterator[str]:
    """The lines of what stops how many, the most frequent first."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        for outcome in row.outcomes:
            if outcome.end == "stopped":
                found[outcome.stage, outcome.cause].append(row.name)
    yield "| nets | stopped at | cause | such as |"
    yield "| ---: | --- | --- | --- |"
    ordered = sorted(found.items(), key=lambda item: -len(item[1]))
    for (stage, cause), names in ordered[:most]:
        yield f"| {len(names)} | {stage} | {cause[:200].replace('|', '/')} | {', '.join(names[:EXAMPLES])} |"
    if len(ordered) > most:
        rest = sum(len(names) for _, names in ordered[most:])
        yield f"| {rest} | | {len(ordered) - most} more causes | |"


def one(row: Row) -> str:
    """A net's own line: its name, how far it came, and the processor time of what it came through."""
    last = [outcome for outcome in row.outcomes if outcome.end == "stopped"]
    through = [o.stage for o in row.outcomes if o.end == "ok" and (o.stage in OURS or o.stage in COMPARED)]
    end = "; ".join(f"{o.stage}: {o.message or o.cause}" for o in last) or "ok"
    return f"{row.name}\t{through[-1] if through else '-'}\t{sum(o.processor for o in row.outcomes):.1f} s\t{end}"
