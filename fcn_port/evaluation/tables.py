"""An evaluation as a table for people, as CSV, and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from converters.escaping import csv_cell, markdown_cell, markdown_code
from weights.catalogue import datasets, releases
from weights.records import METRICS

from .comparison import compare, published_scores, verdict
from .results import Evaluation
from .tasks import ScoringTask

Cells = tuple[str, ...]


def class_rows(evaluation: Evaluation, task: ScoringTask) -> list[Cells]:
    """Class by class: name, IU, accuracy (percent), labelled and predicted pixels; "-" where there is nothing."""
    found = evaluation.scores(task)
    rows = zip(task.classes, found.iu, found.accuracy, found.labelled, found.predicted, strict=True)
    return [
        (name, percent(100 * iu), percent(100 * accuracy), str(labelled), str(predicted))
        for number, (name, iu, accuracy, labelled, predicted) in enumerate(rows)
        if number not in task.without
    ]


CLASS_HEADER = ("class", "IU", "accuracy", "labelled", "predicted")
_METRIC_HEADER = ("", "here", "published", "difference", "source")


def metric_table(evaluation: Evaluation, task: ScoringTask) -> tuple[Cells, list[Cells]]:
    """The header and the four metrics in percent, with a line for each published value and how far we are from it.

    Where nobody published any, as of own data, there are no columns for them.
    """
    rows = _metric_rows(evaluation, task)
    count = len(_METRIC_HEADER) if any(row[2] for row in rows) else 2
    return _METRIC_HEADER[:count], [row[:count] for row in rows]


def _metric_rows(evaluation: Evaluation, task: ScoringTask) -> list[Cells]:
    rows: list[Cells] = []
    for row in compare(evaluation, task):
        first = (METRICS[row.metric], percent(row.ours))
        for value, source in reversed(row.published):
            rows.append((*first, f"{value:.6g}", f"{row.ours - value:+.2f}", source))
            first = ("", "")
        if not row.published:
            rows.append((*first, "", "", ""))
    return rows


def to_csv(evaluations: Sequence[Evaluation]) -> str:
    """One table: a line for each class and each metric of each task, values in percent with full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")

    def write(row: Iterable[object]) -> None:
        writer.writerow([csv_cell(value) for value in row])

    write(("weights", "dataset", "split", "images", "task", "what", "value", "accuracy", "labelled", "published"))
    for each in evaluations:
        for task in each.tasks:
            start = (each.weights, each.dataset, each.split, len(each.images), task.title)
            for row in compare(each, task):
                published = row.published[-1][0] if row.published else ""
                write((*start, METRICS[row.metric], _exact(row.ours), "", "", published))
            found = each.scores(task)
            for number, name in enumerate(task.classes):
                if number not in task.without:
                    values = _exact(100 * found.iu[number]), _exact(100 * found.accuracy[number])
                    write((*start, f"IU {name}", *values, found.labelled[number], ""))
    return out.getvalue()


def to_markdown(evaluations: Sequence[Evaluation], missing: Mapping[str, str]) -> str:
    """The comparison of releases with what was published; `missing` gives the reason for each that was not run."""
    first = evaluations[0] if evaluations else None
    title = f"{first.title}, {first.split}" if first else "nothing was run"
    heading = "The published numbers and ours" if _published(evaluations) else "Scores"
    lines = [f"# {heading}: {markdown_cell(title)}", ""]
    if first is not None:
        lines += [_preamble(first, evaluations), "", *_metrics_markdown(evaluations)]
    if missing:
        lines += ["", "Not run:", "", *(_item(name, " ".join(reason.split())) for name, reason in missing.items())]
    if first is not None and first.tasks:
        lines += ["", "## IU of each class, in percent", "", *_classes_markdown(evaluations)]
        lines += ["", *_others_markdown(first)]
    return "\n".join(lines).rstrip() + "\n"


def _row(cells: Iterable[object]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(markdown_cell, cells))} |"


def _item(name: str, said: str) -> str:
    return f"- {markdown_code(name)}: {markdown_cell(said)}"


def percent(value: float) -> str:
    """Two decimals, "-" for NaN."""
    return "-" if value != value else f"{value:.2f}"


def _preamble(first: Evaluation, evaluations: Sequence[Evaluation]) -> str:
    counts = sorted({len(each.images) for each in evaluations})
    images = " or ".join(map(str, counts))
    whole = ", all images of the split" if all(each.complete for each in evaluations) else ""
    if not whole and _published(evaluations):
        whole = ", NOT the whole published split"
    made = ", ".join(f"{key} {value}" for key, value in first.settings.items())
    return f"{images} images{whole}; in percent. Made with {markdown_cell(made)}."


def _published(evaluations: Sequence[Evaluation]) -> bool:
    return any(published_scores(each, task) for each in evaluations for task in each.tasks)


def _metrics_markdown(evaluations: Sequence[Evaluation]) -> list[str]:
    count = 6 if _published(evaluations) else 3
    lines = [_row(("net", "metric", "here", "published", "difference", "source")[:count]),
             f"| {' | '.join(('---', '---', '---:', '---:', '---:', '---')[:count])} |"]  # fmt: skip
    for each in evaluations:
        for task in each.tasks:
            name = each.weights if len(each.tasks) == 1 else f"{each.weights}, {task.title}"
            for cells in _metric_rows(each, task):
                lines.append(_row((name, *cells)[:count]))
                name = ""
    found = [(each.weights, verdict(each)) for each in evaluations]
    said = [_item(name, each.text) for name, each in found if each is not None]
    return [*lines, *([""] if said else []), *said]


def _classes_markdown(evaluations: Sequence[Evaluation]) -> list[str]:
    same = [each for each in evaluations if each.classes == evaluations[0].classes]
    task = same[0].tasks[0]
    columns = [{row[0]: row[1] for row in class_rows(each, task)} for each in same]
    lines = [
        _row(("class", *(each.weights for each in same))),
        "| --- |" + " ---: |" * len(same),
    ]
    return lines + [_row((name, *(column[name] for column in columns))) for name in columns[0]]


def _others_markdown(first: Evaluation) -> list[str]:
    """Scores published elsewhere on the same data, for comparison: test sets, and other methods; none for own data."""
    if first.dataset not in datasets() or first.classes != datasets()[first.dataset].heads:
        return []
    rows = [
        (release.name, score)
        for release in releases().values()
        if release.dataset.name == first.dataset
        for score in release.scores
        if score.split != first.split
    ]
    rows += [(score.model or "", score) for score in datasets()[first.dataset].scores]
    if not rows:
        return []
    lines = [
        "## Published elsewhere, not run here",
        "",
        "| method | split | mean IU | time for an image | source |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for name, score in rows:
        iu = "" if score.mean_iu is None else f"{score.mean_iu:.1f}"
        seconds = "" if score.seconds is None else f"{score.seconds:g} s"
        lines.append(_row((name, score.split, iu, seconds, score.source)))
    return lines


def _exact(value: float) -> str:
    return "" if value != value else repr(round(value, 6))
