"""--geotiff and --polygons of `fcn-port predict`: labels that lie where their image lies, and their outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..predict.image_lists import ImageSource
    from ..predict.segmenting import OfPixels


def check_rasterio(*, wanted: bool) -> None:
    """ExportError where rasterio is needed and not installed."""
    from converters.export import require

    if wanted:
        require("rasterio")


def add_geography(
    heads: Mapping[str, OfPixels],
    outputs: Sequence[dict[str, Any]],
    source: ImageSource,
    *,
    geotiff: bool,
    polygons: bool,
) -> str | None:
    """The problem of an image without a place, of which a GeoTIFF was wanted; else None.

    Writes the GeoTIFF and the polygons of each output beside its labels, and adds their paths to `outputs`.
    """
    from converters.safety import whole_file

    from ..predict.geo import geojson, georeference, write_geotiff
    from ..predict.image_lists import GEOTIFF, OUTPUTS, POLYGONS
    from ..predict.segmentation import Segmentation

    problem = None
    for seen, written in zip(heads.values(), outputs, strict=True):
        if not isinstance(seen, Segmentation):
            continue
        base = str(written["labels"]).removesuffix(OUTPUTS[0])
        h, w = seen.labels.shape
        place = georeference(source.path, (int(h), int(w)))
        if polygons:
            written["polygons"] = Path(base + POLYGONS)
            with whole_file(written["polygons"], durable=False, follow=False) as file:
                file.write(geojson(seen, place).encode())
        if not geotiff:
            continue
        if place is None:
            problem = f"{source.path}: no GeoTIFF that says where it lies; only its other results are written"
        else:
            written["geotiff"] = Path(base + GEOTIFF)
            with whole_file(written["geotiff"], durable=False, follow=False) as file:
                write_geotiff(seen, place, file)
    return problem
