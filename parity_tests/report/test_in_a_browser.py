"""The report in a browser: on paper and in the dark, what is drawn is seen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fcn_port.report.gallery import Example
from fcn_port.report.page import Page as Report
from fcn_port.report.page import to_html
from parity_tests.chromium import PROGRAM, Page
from parity_tests.report.test_report import evaluation_of, voc_palette

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    example = Example("x", 0.5, *(np.zeros(shape, np.uint8) for shape in ((4, 4, 3), (4, 4), (4, 4))))
    found = evaluation_of(np.array([[5, 3, 0], [1, 9, 0], [0, 0, 1]]))
    path = tmp_path_factory.mktemp("report") / "page.html"
    path.write_text(to_html(Report("x", None, None, voc_palette(), evaluation=found, best=(example,))))
    return path


def brightness(colour: str) -> float:
    """The relative luminance of a colour as the browser tells it (WCAG 2)."""
    parts = np.array([int(each) for each in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: str, other: str) -> float:
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_on_paper_bars_are_printed_on_white(report: Path, dark: bool) -> None:
    """Browsers leave backgrounds out unless a page asks for them: the bars, keys and diagrams were not there."""
    with Page(dark=dark) as page:
        page.call("Emulation.setEmulatedMedia", media="print")
        page.open(report.as_uri())
        style = "getComputedStyle(document.querySelector('.bar'))"
        assert page.value(f"{style}.printColorAdjust") == "exact"
        assert brightness(page.value("getComputedStyle(document.body).backgroundColor")) > 0.9


@pytest.mark.parametrize("dark", [False, True])
def test_quiet_words_are_read_on_every_ground(report: Path, dark: bool) -> None:
    """They had 4.497 on the ground of the served page's field; WCAG 2 asks for 4.5."""
    shown = "Object.assign(document.body.appendChild(document.createElement('i')).style, {color: 'var(--%s)'}).color"
    with Page(dark=dark) as page:
        page.open(report.as_uri())
        quiet, *grounds = (
            page.value(f"{shown % name}, getComputedStyle(document.body.lastChild).color")
            for name in ("quiet", "paper", "track")
        )
        assert all(contrast(quiet, ground) > 4.5 for ground in grounds)


@pytest.mark.parametrize("dark", [False, True])
def test_the_key_of_a_black_class_is_seen(report: Path, dark: bool) -> None:
    with Page(dark=dark) as page:
        page.open(report.as_uri())
        style = "getComputedStyle(document.querySelector('.swatches .key'))"
        ground = page.value("getComputedStyle(document.body).backgroundColor")
        assert page.value(f"{style}.borderTopWidth") == "1px"
        assert contrast(page.value(f"{style}.borderTopColor"), ground) > 3
