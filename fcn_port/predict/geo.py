"""Label maps as GeoTIFFs that lie where their image lies, and as polygons in GeoJSON, by rasterio and so by GDAL.

`pip install 'fcn-port[geo]'` brings rasterio. Images are opened as GeoTIFFs only, whatever they are called: other
formats of GDAL name further files and addresses.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from converters.escaping import json_text
from converters.safety import utf8_path

from ..errors import ImageError
from .class_table import KEYWORD, class_table
from .images import is_turned
from .pictures import opened_picture
from .segmentation import Segmentation

WGS84 = "EPSG:4326"
"""The coordinates of GeoJSON, longitude and latitude (RFC 7946, section 4)."""


@dataclass(frozen=True)
class GeoReference:
    """The place of an image: rasterio's coordinate reference system, and its affine map from pixels to it."""

    crs: Any
    transform: Any


def georeference(path: Path, size: tuple[int, int]) -> GeoReference | None:
    """The place that a GeoTIFF gives the (h, w) pixels that were read of it; None for what has no place.

    ImageError where its pixels lie otherwise than in the file: turned or mirrored, or those of another of its pictures.
    """
    import rasterio

    try:
        with open_tiff(path) as found:
            place = GeoReference(found.crs, found.transform)
    except rasterio.errors.RasterioError:
        return None
    if place.crs is None or place.transform.is_identity:
        return None
    with opened_picture(path, pixels=False) as image:
        if is_turned(image):
            raise ImageError(f"{path}: its pixels were turned by its EXIF orientation, and so have no place on the map")
        if image.size[::-1] != size:
            raise ImageError(f"{path}: {size[0]} x {size[1]} pixels that are not those of its first picture, the map's")
    return place


@contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """A GeoTIFF, opened by rasterio for reading, and quietly where it has no place."""
    import rasterio

    # Absolute, as rasterio takes what comes before a colon in a file's name for a protocol, and GDAL for a part of it.
    with utf8_path(path.absolute()) as there, warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(there, driver="GTiff") as found:
            yield found


def write_geotiff(seen: Segmentation, place: GeoReference, file: BinaryIO) -> None:
    """Write the labels as a GeoTIFF: the image's place, the palette as its colours, names as the tag "Classes"."""
    from rasterio.io import MemoryFile

    h, w = seen.labels.shape
    kind = np.uint8 if seen.labels.max(initial=0) < 256 else np.uint16
    table = class_table(seen)
    made: dict[str, Any] = {
        "driver": "GTiff", "height": h, "width": w, "count": 1, "dtype": kind, "crs": place.crs,
        "transform": place.transform, "compress": "deflate",
    }  # fmt: skip
    with MemoryFile() as memory:
        with memory.open(**made) as out:
            out.write(seen.labels.astype(kind), 1)
            if kind is np.uint8:
                out.write_colormap(1, {label: (*seen.colour(label), 255) for label in range(256)})
            names = [{key: each[key] for key in ("label", "name", "color")} for each in table]
            out.update_tags(**{KEYWORD: json_text(names, compact=True)})
        file.write(memory.read())


def geojson(seen: Segmentation, place: GeoReference | None) -> str:
    """The connected parts of each class as GeoJSON, a Feature with label, name and color for each.

    Edges run along those of the pixels, holes are left out, and parts touch at sides, not at corners. With `place`
    coordinates are longitude and latitude; without, they are (x, y) in pixels from the image's top left corner, y down.
    """
    features = [
        {
            "type": "Feature",
            "properties": {"label": label, "name": seen.name(label), "color": "#{:02x}{:02x}{:02x}".format(*colour)},
            "geometry": {"type": "Polygon", "coordinates": rings},
        }
        for label, rings in _parts(seen.labels, place)
        for colour in [seen.colour(label)]
    ]
    return json_text({"type": "FeatureCollection", "features": features}, compact=True)


def _parts(labels: np.ndarray, place: GeoReference | None) -> Iterator[tuple[int, list[list[list[float]]]]]:
    from rasterio.features import shapes
    from rasterio.warp import transform_geom

    kind = np.uint8 if labels.max(initial=0) < 256 else np.int32
    options = {} if place is None else {"transform": place.transform}
    for shape, value in shapes(labels.astype(kind), connectivity=4, **options):
        found = shape if place is None else transform_geom(place.crs, WGS84, shape)
        rings = [[[float(x), float(y)] for x, y in ring] for ring in found["coordinates"]]
        yield int(value), [ring if _turns_left(ring) == (i == 0) else ring[::-1] for i, ring in enumerate(rings)]


def _turns_left(ring: list[list[float]]) -> bool:
    """True for a ring that goes counterclockwise, as RFC 7946 wants the outer ones."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(ring)) > 0
