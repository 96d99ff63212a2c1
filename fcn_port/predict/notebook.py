"""A picture as a notebook shows it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from .legend import LegendEntry, with_legend

_LONGEST = 1200
"""Pixels of the longer side from which on a notebook gets a smaller picture."""


def notebook_png(picture: Image.Image, legend: Sequence[LegendEntry] = ()) -> bytes:
    """A PNG of a picture, which is made smaller itself where it is large, with a legend below it where there is one."""
    picture.thumbnail((_LONGEST, _LONGEST))
    out = io.BytesIO()
    (with_legend(picture, legend) if legend else picture).save(out, format="PNG")
    return out.getvalue()
