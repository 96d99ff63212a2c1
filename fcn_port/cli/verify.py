"""`fcn-port verify`"""

from __future__ import annotations

from pathlib import Path

import click

from .bringing import bring, definition_here, here, looks_like_a_name
from .net_choice import net_options
from .output import echo, json_option, write_json
from .registering import register_option

_MARKS = {True: "ok  ", False: "FAIL", None: "--  "}
_File = click.Path(dir_okay=False, path_type=Path)


@click.command("verify")
@click.argument("weights")
@click.option("--against", type=_File, help="The .caffemodel or .h5 that the weights came from.")
@click.option("--prototxt", type=_File, help="The net of the Caffe file, where it holds none.")
@click.option("--golden", type=_File, help="An .npz with every blob of a forward pass that Caffe made.")
@json_option
@register_option
@net_options
def command(weights: str, against: Path | None, prototxt: Path | None, golden: Path | None, as_json: bool) -> int:
    """Prove that WEIGHTS, a converted file, are the ones of a Caffe file, and that the net computes the same.

    The name of a release stands for its converted file against its caffemodel.

    Checks that every blob is equal, that shapes and crops are right, and, with OpenCV installed, the numbers of a
    forward pass against OpenCV's own reader of Caffe files. Exit status 1 if anything differs, which is named.
    """
    converted, source = _files(weights, against)
    from ..verification import verify

    prototxt = prototxt or definition_here(weights)

    checks = []
    for check in verify(converted, source, prototxt=prototxt, golden=golden):
        checks.append(check)
        if not as_json:
            echo(f"{_MARKS[check.ok]}  {check.what}: {check.details}")
    ok = all(check.ok is not False for check in checks)
    if as_json:
        write_json({"ok": ok, "checks": checks})
    return 0 if ok else 1


def _files(weights: str, against: Path | None) -> tuple[Path, Path]:
    if looks_like_a_name(weights):
        if against is not None:
            return here(weights), against
        ported = bring(weights)
        return ported.path, ported.fetched.path
    if against is None:
        raise click.UsageError("--against is missing: the Caffe file that the weights came from")
    return Path(weights), against
