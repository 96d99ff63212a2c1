"""`fcn-port demo`"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import click

from converters.export import require
from weights.store import converted_path

from .output import echo, note

_Folder = click.Path(file_okay=False, path_type=Path)

COUNT, SEED, SIZE = 60, 2, (240, 320)
"""The images that are drawn and scored, as they were for the release's card."""


@click.command("demo")
@click.option("-o", "--out", type=_Folder, default="demo", show_default=True, help="Where images, labels and page go.")
def command(out: Path) -> int:
    """Do the whole job on the small bundled release, with no network.

    Converts its Caffe file, traces the net, compares every blob with what real Caffe computed, draws images that it
    has not seen, segments and scores them, and writes one page about it all: OUT/report.html.
    """
    from weights.catalogue import release

    from ..data.shapes import shape_ids, state_of

    require("torch")
    held_out = out / "held-out"
    if state_of(held_out, count=COUNT, seed=SEED, size=SIZE, val=1) == "other":
        raise click.UsageError(f"{held_out} is not empty, and not of a demo; say --out FOLDER")
    with as_file(files("weights") / "sample") as sample:
        model, golden = sample / "shapes-fcn8s.caffemodel", sample / "shapes-fcn8s.golden.npz"
        converted = str(converted_path(release("sample")))
        images = [str(held_out / "JPEGImages" / f"{id_}.jpg") for id_ in shape_ids(count=6, seed=SEED)]
        steps = (
            ("a Caffe file becomes a PyTorch file", ["convert", "sample"]),
            ("the shape of every blob of a 100x100 image, and what the crops keep", ["trace", "sample", "100x100"]),
            (
                "every blob against what real Caffe computed",
                ["verify", converted, "--against", str(model), "--golden", str(golden)],
            ),
            (
                "images that it never saw, segmented",
                [
                    *("data", "shapes", "--make", str(held_out), "--count", str(COUNT), "--seed", str(SEED)),
                    *("--size", "x".join(map(str, SIZE)), "--val", "1"),
                ],
            ),
            ("", ["predict", "sample", str(sample / "shapes.png"), *images, "--out", str(out)]),
            ("the score beside the recorded one", ["evaluate", "sample", "--data", str(held_out), "--split", "val"]),
            (
                "one page about it all",
                [
                    *("report", "sample", "--data", str(held_out), "--split", "val"),
                    *("--golden", str(golden), "-o", str(out / "report.html")),
                ],
            ),
        )
        for said, arguments in steps:
            status = _step(said, arguments)
            if status:
                return status
    echo()
    echo(f"Open {out / 'report.html'}; the pictures are in {out}.")
    echo("Next: `fcn-port convert voc-fcn8s` downloads and ports the published FCN-8s (538 MB).")
    return 0


def _step(said: str, arguments: list[str]) -> int:
    """Run a verb as a user would; its exit status."""
    from . import run

    if said:
        echo(f"== {said}")
    note(f"$ fcn-port {' '.join(arguments)}")
    status = run(arguments)
    echo()
    return status
