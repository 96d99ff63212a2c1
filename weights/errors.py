"""The errors about releases and their files: one tree.

WeightsError                 base
├── CatalogueError           releases.toml says something that it cannot mean
├── UnknownReleaseError      no release of that name (exit status 2)
└── FetchError               a file could not be had (exit status 1)
    ├── OfflineError         it would have to be downloaded, and FCN_PORT_OFFLINE forbids that
    └── ChecksumError        what is there, or what came, is not the published file
"""

from __future__ import annotations


class WeightsError(Exception):
    """Base of every error about releases and their files; `str()` is a message for people."""


class CatalogueError(WeightsError):
    """An entry of releases.toml that cannot be read; says which entry and which field."""


class UnknownReleaseError(WeightsError):
    """A name that is not in the catalogue; the message offers the closest names."""


class FetchError(WeightsError):
    """A release's file could not be had; says what was tried, why it failed and where to put a copy."""


class OfflineError(FetchError):
    """The file is not here, and the network may not be used."""


class ChecksumError(FetchError):
    """A file that is not the one that was published, or not the one that was recorded at the first download."""
