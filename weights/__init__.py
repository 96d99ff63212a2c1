"""The releases: what was published, where from, how a copy is checked, and where it lives.

    releases(), release(name)      the catalogue (`catalogue.py`, `releases.toml`)
    famous()                       Caffe's other well-known nets (`famous.toml`)
    fetch(name), plan(name)        a verified file on disk (`fetch.py`), and what that will take
    weights_dir()                  where files live (`store.py`)

Nothing here needs torch, and the network library is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converters.lazy import lazy_attributes
from converters.old_names import WEIGHTS, keep_old_names
from converters.passes import assume_channels

if TYPE_CHECKING:
    from weights.catalogue import datasets, famous, init_nets, release, releases
    from weights.download.fetching import FetchPlan, FetchResult, fetch, is_offline, plan
    from weights.download.progress import Progress, human_bytes
    from weights.download.prototxt import fetch_prototxt
    from weights.download.retry_policy import RetryPolicy
    from weights.errors import (
        CatalogueError,
        ChecksumError,
        FetchError,
        OfflineError,
        UnknownReleaseError,
        WeightsError,
    )
    from weights.records import (
        About,
        Checksum,
        Dataset,
        InputRecipe,
        Licence,
        Preprocessing,
        PublishedFigure,
        Release,
        Score,
    )
    from weights.store import converted_path, place_of, weights_dir

__all__ = [
    "About",
    "CatalogueError",
    "Checksum",
    "ChecksumError",
    "Dataset",
    "FetchError",
    "FetchPlan",
    "FetchResult",
    "InputRecipe",
    "Licence",
    "OfflineError",
    "Preprocessing",
    "Progress",
    "PublishedFigure",
    "Release",
    "RetryPolicy",
    "Score",
    "UnknownReleaseError",
    "WeightsError",
    "converted_path",
    "datasets",
    "famous",
    "fetch",
    "fetch_prototxt",
    "human_bytes",
    "init_nets",
    "is_offline",
    "place_of",
    "plan",
    "release",
    "releases",
    "weights_dir",
]

keep_old_names(WEIGHTS)
_HOMES = {
    "catalogue": ("datasets", "famous", "init_nets", "release", "releases"),
    "download.fetching": ("FetchPlan", "FetchResult", "fetch", "is_offline", "plan"),
    "download.progress": ("Progress", "human_bytes"),
    "download.prototxt": ("fetch_prototxt",),
    "download.retry_policy": ("RetryPolicy",),
    "errors": (
        "CatalogueError", "ChecksumError", "FetchError", "OfflineError", "UnknownReleaseError", "WeightsError",
    ),
    "records": (
        "About", "Checksum", "Dataset", "InputRecipe", "Licence", "Preprocessing", "PublishedFigure", "Release",
        "Score",
    ),
    "store": ("converted_path", "place_of", "weights_dir"),
}  # fmt: skip

__getattr__, __dir__ = lazy_attributes(
    __name__,
    {name: home for home, names in _HOMES.items() for name in names},
    rooms=("download",),
    renamed={"Input": "InputRecipe", "Patience": "RetryPolicy"},
)
assume_channels("depth", 1)  # the NYUDv2 nets read log depth as a blob of that name
