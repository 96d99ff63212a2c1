"""The releases: what was published, where from, how a copy is checked, and where it lives.

    releases(), release(name)      the catalogue (`catalogue.py`, `releases.toml`)
    fetch(name)                    a verified file on disk (`fetch.py`)
    weights_dir()                  where files live (`store.py`)

Nothing here needs torch, and the network library is imported when it is first used.
"""

from weights.catalogue import datasets, init_nets, release, releases
from weights.errors import (
    CatalogueError,
    ChecksumError,
    FetchError,
    OfflineError,
    UnknownReleaseError,
    WeightsError,
)
from weights.records import Checksum, Dataset, Input, Licence, Preprocessing, Release, Score

__all__ = [
    "CatalogueError",
    "Checksum",
    "ChecksumError",
    "Dataset",
    "FetchError",
    "Input",
    "Licence",
    "OfflineError",
    "Preprocessing",
    "Release",
    "Score",
    "UnknownReleaseError",
    "WeightsError",
    "datasets",
    "init_nets",
    "release",
    "releases",
]
