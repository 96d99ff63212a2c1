"""The curves of a run as a picture: the loss and the scores over its updates, from its log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from converters.safety import parse_json, whole_file
from weights.records import METRICS

Points = Mapping[int, float]
"""A value by the number of its update."""
SIZE = (960, 720)
"""Of the picture, width and height."""
_MARGIN, _INK, _GRID = 64, "#303030", "#dcdcdc"
_COLOURS = ("#1f5fa8", "#c2571a", "#3a7d44", "#8e3b8e")


@dataclass
class RunCurves:
    """The words of a log: the smoothed loss, and each score in percent by name."""

    loss: dict[int, float] = field(default_factory=dict)
    scores: dict[str, dict[int, float]] = field(default_factory=dict)


def read_curves(log: Path) -> RunCurves:
    """The curves in a run's log.jsonl. Where a run began again at an update, what came after it is forgotten.

    A line that is none, as a killed run leaves it, is passed over.
    """
    found = RunCurves()
    for line in log.read_text(errors="replace").splitlines():
        try:
            event = parse_json(line)
            kind, iteration = event["event"], int(event["iteration"])
            if kind == "begun":
                for points in (found.loss, *found.scores.values()):
                    for later in [each for each in points if each > iteration]:
                        del points[later]
            elif kind == "updated":
                _put(found.loss, iteration, event["smoothed"])
            elif kind == "validated":
                for title, metrics in event["scores"].items():
                    for metric, name in (("mean_iu", METRICS["mean_iu"]), ("overall_accuracy", "pixel accuracy")):
                        points = found.scores.setdefault(f"{name}, {title}", {})
                        _put(points, iteration, 100 * metrics[metric])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _put(points: dict[int, float], iteration: int, value: Any) -> None:
    if math.isfinite(value):
        points[iteration] = float(value)


def draw_curves(curves: RunCurves) -> Image.Image:
    """The picture: the loss above, the scores below where there are any."""
    image = Image.new("RGB", SIZE, "white")
    panels: list[tuple[str, Mapping[str, Points]]] = [("loss", {"loss": curves.loss})]
    if curves.scores:
        panels.append(("percent", curves.scores))
    height = SIZE[1] // len(panels)
    last = max((each for points in (curves.loss, *curves.scores.values()) for each in points), default=1)
    for number, (unit, lines) in enumerate(panels):
        _panel(ImageDraw.Draw(image), (0, number * height, SIZE[0], (number + 1) * height), unit, lines, last)
    return image


def write_curves(log: Path, picture: Path) -> bool:
    """Draw the curves of a log into a PNG; False where it has none yet."""
    curves = read_curves(log)
    if not curves.loss:
        return False
    with whole_file(picture) as file:
        draw_curves(curves).save(file, "PNG")
    return True


def _panel(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], unit: str, lines: Mapping[str, Points], last: int
) -> None:
    left, top, right, bottom = box[0] + _MARGIN, box[1] + 40, box[2] - 24, box[3] - 40
    values = [value for points in lines.values() for value in points.values()]
    ticks = _ticks(min(values, default=0.0), max(values, default=1.0))
    low, high = ticks[0], ticks[-1]
    font = ImageFont.load_default(14)

    def at(iteration: float, value: float) -> tuple[float, float]:
        share = (value - low) / (high - low)
        return left + (right - left) * iteration / last, bottom - (bottom - top) * share

    for tick in ticks:
        y = at(0, tick)[1]
        draw.line([(left, y), (right, y)], fill=_GRID)
        draw.text((left - 8, y), f"{tick:.6g}", fill=_INK, font=font, anchor="rm")
    for tick in (each for each in _ticks(0, last) if each <= last):
        draw.text((at(tick, low)[0], bottom + 8), f"{tick:.6g}", fill=_INK, font=font, anchor="mt")
    draw.text((right, bottom + 24), "updates", fill=_INK, font=font, anchor="rt")
    x = left
    for (name, points), colour in zip(lines.items(), _COLOURS * (1 + len(lines) // len(_COLOURS)), strict=False):
        places = [at(iteration, value) for iteration, value in sorted(points.items())]
        if len(places) > 1:
            draw.line(places, fill=colour, width=2)
        if len(places) <= 60:
            for px, py in places:
                draw.ellipse([px - 3, py - 3, px + 3, py + 3], fill=colour)
        text = name if unit == "percent" else unit
        draw.line([(x, top - 20), (x + 24, top - 20)], fill=colour, width=3)
        draw.text((x + 32, top - 20), text, fill=_INK, font=font, anchor="lm")
        x += 56 + int(draw.textlength(text, font=font))


def _ticks(low: float, high: float) -> Sequence[float]:
    """Round numbers around a range, at most eight."""
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next((factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6), 10)
    first = math.floor(low / step)
    return [step * number for number in range(first, math.ceil(high / step) + 1)]
