"""Every net of the papers by its name: those of the catalogue's releases, and two without published weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from weights.catalogue import datasets, releases
from weights.records import Preprocessing, Release

from .architectures import ARCHITECTURES, Family


def _of_release(release: Release) -> Family:
    make = ARCHITECTURES.get(release.architecture or "")
    if make is None or release.preprocessing is None:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"releases.{release.name}: architecture {release.architecture!r} is not one of {known}")
    return Family(make, release.dataset, release.preprocessing)


def _without_weights(architecture: str, dataset: str) -> Family:
    """A net whose input blobs are called after what they see, but for `data`, which is colour."""
    make, of = ARCHITECTURES[architecture], datasets()[dataset]
    kinds = {blob: "color" if blob == "data" else blob for blob in make.channels}
    return Family(make, of, Preprocessing(tuple(replace(of.inputs[kind], name=blob) for blob, kind in kinds.items())))


NETS: Mapping[str, Family] = {
    **{name: _of_release(release) for name, release in releases().items()},
    "voc-fcn-googlenet": _without_weights("fcn-googlenet", "voc"),
    "nyud-fcn32s-color-d": _without_weights("fcn32s-color-d", "nyud"),
}
"""The ways to make the nets, by name; a line of weights/releases.toml, `architecture`, makes one of a release."""
