"""Blobs that layers share by the names of their ParamSpecs (net.cpp, AppendParam)."""

from __future__ import annotations

from .spec import NetSpec

BlobId = tuple[str, int]
"""A layer's name and the position of a blob in it."""


def borrowed_blobs(spec: NetSpec) -> dict[BlobId, BlobId]:
    """For each blob that a layer borrows, the blob that owns the values: the first one with that name.

    A .caffemodel holds a borrowed blob again, a .caffemodel.h5 leaves it out, and a state dict may do either.
    """
    owners: dict[str, BlobId] = {}
    borrowed: dict[BlobId, BlobId] = {}
    for layer in spec.layers:
        for position, param in enumerate(layer.param_specs):
            owner = owners.setdefault(param.name, (layer.name, position)) if param.name else (layer.name, position)
            if owner != (layer.name, position):
                borrowed[layer.name, position] = owner
    return borrowed
