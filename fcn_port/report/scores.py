"""The metrics beside the published ones, and the classes one by one."""

from __future__ import annotations

from math import isnan

from weights.records import METRICS

from ..evaluation.comparison import compare, verdict
from ..evaluation.results import Evaluation
from ..evaluation.tasks import ScoringTask
from .html import Html, bar_row, section, text


def summary(evaluation: Evaluation) -> Html:
    """The four metrics of each task as cards, and the verdict."""
    said = verdict(evaluation)
    parts = []
    for task in evaluation.tasks:
        cards = "".join(_card(METRICS[row.metric], row.ours, row.difference) for row in compare(evaluation, task))
        parts.append((f"<h3>{text(task.title)}</h3>" if len(evaluation.tasks) > 1 else "") + _cards(cards))
    told = "" if said is None else f'<p class="{"ok" if said.ok else "no"}">{text(said.text)}</p>'
    return "".join(parts) + told


def _cards(cards: Html) -> Html:
    return f'<div class="cards">{cards}</div>'


def _card(name: str, ours: float, off: float | None) -> Html:
    beside = "" if off is None else f"<small>published {text(f'{ours - off:.2f}')}, {off:+.2f}</small>"
    return f'<div class="card"><small>{text(name)}</small><b>{text(_percent(ours))}</b>{beside}</div>'


def classes(evaluation: Evaluation, task: ScoringTask) -> Html:
    """The section with a bar for each metric and each class of a task, and ticks at the published values."""
    rows = compare(evaluation, task)
    metrics = "".join(
        bar_row(
            METRICS[row.metric], _percent(row.ours), row.ours,
            marks=[(value, f"published {value:g}: {source}") for value, source in row.published],
        )
        for row in rows
    )  # fmt: skip
    found = evaluation.scores(task)
    mean = next((row.published for row in rows if row.metric == "mean_iu"), ())
    marks = [(value, f"published mean IU {value:g}") for value, _ in mean[-1:]]
    each = "".join(
        bar_row(name, _percent(100 * iu), 0.0 if isnan(iu) else 100 * iu, marks=marks)
        for number, (name, iu) in enumerate(zip(task.classes, found.iu, strict=True))
        if number not in task.without
    )
    tick = '<i class="key" style="background:var(--mark);width:3px"></i>published'
    keys = f'<p class="keys"><i class="key" style="background:var(--bar)"></i>here{tick if mean else ""}</p>'
    lead = (
        f"{task.title} on {len(evaluation.images)} images of {evaluation.title}, {evaluation.split}, in percent. The "
        "IU of a class is its right pixels of all that are labelled or predicted as it"
        + ("; the tick is the published mean IU: no source gives single classes." if mean else ".")
    )
    name = f"Scores: {task.title}" if len(evaluation.tasks) > 1 else "Scores"
    return section(f"scores-{evaluation.tasks.index(task)}", name, lead, f"{keys}{metrics}<h3>IU by class</h3>{each}")


def _percent(value: float) -> str:
    return "-" if isnan(value) else f"{value:.2f}"
