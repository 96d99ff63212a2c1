"""From a release's name to a converted file that is ready to load."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converters.cancelling import ProgressCallback
from converters.conversion import TOOL, ConversionReport, convert
from converters.errors import CaffeFormatError, MismatchError
from converters.execution import cover
from converters.export import read_metadata
from converters.formats import read_caffemodel
from converters.net import NetSpec
from converters.safety import remove_abandoned, unlinked
from weights.card import Card
from weights.catalogue import release as find_release
from weights.download import Callback, FetchResult, fetch, fetch_prototxt
from weights.records import Release
from weights.store import converted_path, prototxt_place

if TYPE_CHECKING:
    from .nets import NumClasses


def net_definition(name: str, *, num_classes: NumClasses | None = None) -> NetSpec:
    """The definition of a hand-written net; no weights are made."""
    import torch

    from .nets import build, definition

    with torch.device("meta"):
        net = build(name, num_classes)
    return definition(net, name=name)


def card_of_net(name: str) -> Card:
    """The card of a hand-written net whatever its weights: how its inputs are made, and the classes of its data set."""
    from .nets import NETS

    family = NETS[name]
    dataset = family.dataset
    return Card(net=name, preprocessing=family.preprocessing, classes=dataset.heads, palette=dataset.palette)


def check_structure(path: Path, release: Release) -> None:
    """Check that a caffemodel whose checksum nobody published is what it should be.

    Every blob of the release's net must be there in the right shape, no other ones, and nothing behind the net; of a
    famous net, whose definition is not ours, only some weights.
    Raises CaffeFormatError.
    """
    model = read_caffemodel(path)
    if release.net is None:
        if not model.blobs:
            raise MismatchError("a caffemodel without weights", path=path)
        return
    coverage = cover(model, spec=net_definition(release.net))
    if coverage.unused:
        names = ", ".join(dict.fromkeys(layer for layer, _, _ in coverage.unused))
        raise MismatchError(f"layers that {release.name} does not have: {names}", path=path)


def fetch_release(
    name: str,
    *,
    from_file: str | os.PathLike[str] | None = None,
    verify: bool = False,
    progress: Callback | None = None,
) -> FetchResult:
    """The caffemodel of a release, verified by checksum, or by structure where no checksum was published."""
    release = find_release(name)
    return fetch(
        release,
        from_file=from_file,
        verify=verify,
        progress=progress,
        check=lambda path: check_structure(path, release),
    )


@dataclass(frozen=True)
class Ported:
    """A converted release: the caffemodel that it came from, the file, and the report if it was converted just now."""

    fetched: FetchResult
    path: Path
    report: ConversionReport | None


def port_release(
    name: str,
    *,
    out: str | os.PathLike[str] | None = None,
    from_file: str | os.PathLike[str] | None = None,
    fetch_progress: Callback | None = None,
    progress: ProgressCallback | None = None,
) -> Ported:
    """Fetch and convert a release; `out` is by default `<name>.safetensors` in the folder for weights.

    A famous net's caffemodel often holds the net that it was trained with: it is fitted to the definition that its
    authors published, which is fetched too. A file that this version made from the same bytes before is left as it is.
    """
    release = find_release(name)
    fetched = fetch_release(name, from_file=from_file, progress=fetch_progress)
    path = converted_path(release) if out is None else Path(out)
    if _is_current(path, fetched):
        return Ported(fetched, path, None)
    target = unlinked(path) if out is None else path
    report = convert(
        fetched.path,
        target,
        prototxt=definition_of(release, fetch_progress),
        metadata=Card.of(release).to_metadata(),
        progress=progress,
    )
    return Ported(fetched, path, report)


def definition_of(release: Release, progress: Callback | None = None) -> Path | None:
    """The file with the net that a famous net is fitted to: the authors', or one put beside the caffemodel by hand."""
    if release.kind != "famous" or not (release.prototxts or prototxt_place(release).path.is_file()):
        return None
    return fetch_prototxt(release, progress=progress)


def _is_current(path: Path, fetched: FetchResult) -> bool:
    if not path.is_file():
        return False
    try:
        metadata = read_metadata(path)
    except CaffeFormatError:
        return False
    return metadata.get("source_sha256") == fetched.sha256 and metadata.get("tool") == TOOL


def converted(name: str, *, fetch_progress: Callback | None = None) -> Path:
    """The converted file of a release, made if it is not there yet."""
    path = converted_path(find_release(name))
    remove_abandoned(path)  # what a killed conversion left
    return path if path.is_file() else port_release(name, fetch_progress=fetch_progress).path
