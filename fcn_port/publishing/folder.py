"""A published folder read: every file has its digest, and the net gives its recorded pass again."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from converters.errors import CaffeFormatError, MismatchError
from converters.safety import sha256_of

from ..nets.net import as_net
from ..recording import golden_errors
from .records import CONFIG, GOLDEN, WEIGHTS, PublishedNet, is_published

_NEEDED = (WEIGHTS, GOLDEN)
"""The files that loading a net reads; others, such as ONNX, need not have been fetched."""


def checked_folder(folder: Path) -> PublishedNet:
    """The record of a published folder whose weights and recording have the sizes and digests that it says.

    A name in config.json leads to no file: only those that this project writes are opened. FileNotFoundError where
    config.json or one of the files is missing, CaffeFormatError for what is damaged, MismatchError for another file.
    """
    if not is_published(folder):
        raise CaffeFormatError(
            f"a folder without {CONFIG}; expected a net that `fcn-port publish` wrote, or a file of weights",
            path=folder,
        )
    found = PublishedNet.read(folder)
    for name in _NEEDED:
        if name not in found.files:
            raise CaffeFormatError(f"files: {name} is missing", path=folder / CONFIG)
        _check(folder / name, size=found.files[name].size, digest=found.files[name].sha256)
    return found


def _check(path: Path, *, size: int, digest: str) -> None:
    there = path.stat().st_size
    if there != size:
        hint = "a pointer of Git LFS: `git lfs pull` brings the file" if there < 1024 < size else "fetch it again"
        raise MismatchError(f"{there:,} bytes; {CONFIG} says {size:,}", path=path, hint=hint)
    found = sha256_of(path)
    if found != digest:
        raise MismatchError(f"its sha256 is {found}; {CONFIG} says {digest:.80}", path=path, hint="fetch it again")


def check_pair(net: nn.Module, published: PublishedNet, folder: Path) -> None:
    """Run a net on the recorded input; MismatchError where an output is not the recorded one.

    And where config.json says other classes or another way to make inputs than the file of the weights.
    """
    errors = golden_errors(net, folder / GOLDEN)
    if not set(published.outputs) <= set(errors):
        missing = sorted(set(published.outputs) - set(errors))
        raise CaffeFormatError(f"it has no output {missing[0][:80]!r}", path=folder / GOLDEN)
    worst = max(errors, key=lambda name: errors[name])
    if not errors[worst] <= published.tolerance:
        raise MismatchError(
            f"the net gives {worst[:80]!r} with an error of {errors[worst]:.1e} of its largest value; "
            f"{published.tolerance:.0e} is allowed",
            path=folder / GOLDEN,
            hint="these weights are not the ones published",
        )
    if not published.says_what(as_net(net).card):
        raise MismatchError(
            f"its classes or preprocessing are not those in {WEIGHTS}", path=folder / CONFIG, hint="publish it again"
        )
