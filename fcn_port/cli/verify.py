"""`fcn-port verify`"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from .output import json_option, write_json

_File = click.Path(dir_okay=False, path_type=Path)


@click.command("verify")
@click.argument("weights", type=_File)
@click.option("--against", required=True, type=_File, help="The .caffemodel or .h5 that the weights came from.")
@click.option("--prototxt", type=_File, help="The net of SOURCE, where the file holds none.")
@click.option("--golden", type=_File, help="An .npz with every blob of a forward pass that Caffe made.")
@json_option
def command(weights: Path, against: Path, prototxt: Path | None, golden: Path | None, as_json: bool) -> int:
    """Prove that WEIGHTS, a converted file, are the ones of a Caffe file, and that the net computes the same.

    Checks that every blob is equal, that shapes and crops are right, and, with OpenCV installed, the numbers of a
    forward pass against OpenCV's own reader of Caffe files. Exit status 1 if anything differs, which is named.
    """
    from ..verification import verify

    checks = []
    for check in verify(weights, against, prototxt=prototxt, golden=golden):
        checks.append(check)
        if not as_json:
            click.echo(f"{'ok  ' if check.ok else 'FAIL'}  {check.what}: {check.details}")
    if as_json:
        write_json({"ok": all(check.ok for check in checks), "checks": [asdict(check) for check in checks]})
    return 0 if all(check.ok for check in checks) else 1
