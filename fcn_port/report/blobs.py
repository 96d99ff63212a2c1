"""Blobs as pictures: the feature maps of one image, blob by blob."""

from __future__ import annotations

import io
from collections.abc import Mapping

from PIL import Image

from .html import Html, data_uri, name_text, section


def blob_section(image: str, pictures: Mapping[str, Image.Image]) -> Html:
    """The section with a picture for each blob of the image of this name."""
    lead = (
        f"A tile for each channel, for {image}, in one scale for a blob: from black to white, or from blue over white "
        "to red where there are negative values. The net is run as it is written, padding and all."
    )
    figures = "".join(
        f'<h3>{name_text(name)}</h3><div class="scroll">'
        f'<img src="{_address(picture)}" alt="{name_text(name)}" loading="lazy"></div>'
        for name, picture in pictures.items()
    )
    return section("blobs", "Blobs", lead, figures)


def _address(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return data_uri(out.getvalue(), kind="png")
