"""`fcn-port fetch`"""

from __future__ import annotations

import click

from weights.catalogue import release as find_release

from .bringing import bring_file
from .output import echo, json_option, note, write_json


@click.command("fetch")
@click.argument("release")
@click.option("--from-file", type=click.Path(exists=True, dir_okay=False), help="Take a file obtained elsewhere, "
              "through the same checks.")  # fmt: skip
@click.option("--verify", is_flag=True, help="Hash a file that is already here again.")
@json_option
def command(release: str, from_file: str | None, verify: bool, as_json: bool) -> None:
    """Download the caffemodel of RELEASE, or go on with an earlier download, and verify it.

    Prints the path of the file. It has its name only when its checksum, or its structure where none was published, is
    right.
    """
    found = find_release(release)
    result = bring_file(release, from_file=from_file, verify=verify)
    note(result.explanation)
    note(f"{found.licence.name}. {found.licence.attribution}")
    if as_json:
        write_json(
            {
                "release": found.name,
                "path": result.path,
                "sha256": result.sha256,
                "verified_by": result.verified_by,
                "bytes_downloaded": result.bytes_downloaded,
                "source": result.source,
            }
        )
    else:
        echo(result.path)
