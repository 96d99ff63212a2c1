"""`fcn-port fetch`"""

from __future__ import annotations

import click

from weights.catalogue import release as find_release
from weights.fetch import FetchPlan, is_offline, plan
from weights.records import Release

from .output import FetchReporter, bar, human_bytes, json_option, note, write_json

_SPEEDS = (("10 Mbit/s", 1.25e6), ("100 Mbit/s", 1.25e7))


@click.command("fetch")
@click.argument("release")
@click.option("--from-file", type=click.Path(), help="Take a file obtained elsewhere, through the same checks.")
@click.option("--verify", is_flag=True, help="Hash a file that is already here again.")
@json_option
def command(release: str, from_file: str | None, verify: bool, as_json: bool) -> None:
    """Download the caffemodel of RELEASE, or go on with an earlier download, and verify it.

    Prints the path of the file. It has its name only when its checksum, or its structure where none was published, is
    right.
    """
    found = find_release(release)
    if from_file is None:
        announce(found, plan(found))
    from ..porting import fetch_release

    with bar(found.file) as update:
        result = fetch_release(release, from_file=from_file, verify=verify, progress=FetchReporter(update))
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
        click.echo(result.path)


def announce(release: Release, expected: FetchPlan) -> None:
    """Say what a download will cost before it begins."""
    if expected.present or is_offline() or release.bundled is not None:
        return
    size = f"about {human_bytes(expected.expected_bytes)}" if expected.expected_bytes else "a file of unknown size"
    kept = f", of which {human_bytes(expected.kept_bytes)} are here already" if expected.kept_bytes else ""
    times = ", ".join(
        f"{_duration(s)} at {name}" for name, bps in _SPEEDS if (s := expected.seconds_at(bps)) is not None
    )
    note(
        f"{release.name}: {release.file}, {size}{kept}"
        + (f"; takes about {times}" if times else "")
        + f"\n{human_bytes(expected.free_bytes)} free in {expected.path.parent}"
    )


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
