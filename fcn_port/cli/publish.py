"""`fcn-port publish`"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from converters.escaping import shell_word
from converters.export import require

from .bringing import bring_file, looks_like_a_name
from .given_net import prototxt_option
from .like import card_of_own
from .net_choice import net_options
from .output import echo, human_bytes, json_option, note, write_columns, write_json
from .progress import progress_bar
from .registering import register_option

if TYPE_CHECKING:
    from ..publishing import PublishedNet
    from ..verification import Check

_REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


@click.command("publish")
@click.argument("what")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), required=False)
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="The same as FOLDER.")
@click.option("--repository", metavar="OWNER/NAME", help="Where the net will be on the hub, for the model card.")
@prototxt_option
@click.option("--like", metavar="RELEASE", help="Say that inputs are made and classes named as for RELEASE.")
@click.option("--licence", metavar="TEXT", help="The terms of weights that are no release's, such as MIT.")
@click.option("--no-onnx", is_flag=True, help="Leave out onnx/model.onnx.")
@json_option
@register_option
@net_options
def command(
    what: str,
    folder: Path | None,
    out: Path | None,
    repository: str | None,
    prototxt: Path | None,
    like: str | None,
    licence: str | None,
    no_onnx: bool,
    as_json: bool,
) -> int:
    """Write WHAT, a release or a file, to FOLDER as a model hub has it, and print the command that uploads it.

    FOLDER gets model.safetensors, config.json (net, preprocessing, classes, sizes, digests), onnx/model.onnx,
    golden.npz (an input and its outputs), and README.md, the model card: where the weights are from, what was verified
    against what, scores, licence, how to use and cite them. It appears whole or not at all, once all checks hold.

    `fcn_port.load(FOLDER)` and `fcn_port.load("hf:OWNER/NAME")` check the digests and compute the pair again. Nothing
    is uploaded.
    """
    if (folder is None) == (out is None):
        raise click.UsageError("Expected one folder to write, as FOLDER or as --out.")
    folder = folder or out
    assert folder is not None
    if repository is not None and not _REPOSITORY.fullmatch(repository):
        raise click.BadParameter(f"{repository}: expected OWNER/NAME", param_hint="'--repository'")
    if not no_onnx:
        require("onnxruntime", hint="or do without: --no-onnx")
    from ..publishing import publish

    if looks_like_a_name(what):
        bring_file(what)
    card = None if like is None else card_of_own(like, None)
    name = repository or f"OWNER/{_hub_name(folder.resolve().name)}"
    with progress_bar(what, active=sys.stderr.isatty(), kept="nothing was written") as progress:
        report = publish(
            what, folder, prototxt=prototxt, card=card, licence=licence, repository=name, onnx=not no_onnx,
            progress=progress,
        )  # fmt: skip
    upload = f"hf upload {name} {shell_word(f'./{folder}' if str(folder).startswith('-') else str(folder))}"
    if as_json:
        write_json({"folder": folder, "already_there": report.already_there, "upload": upload,
                    "checks": report.checks, "config": report.net.to_json()})  # fmt: skip
        return 0
    if report.already_there:
        note(f"{folder} is there already")
    _tell(folder, report.net, report.checks)
    note("to upload it (pip install huggingface_hub; hf auth login):")
    echo(upload)
    return 0


def _hub_name(folder: str) -> str:
    """The name of a folder as a hub takes it: 96 letters and digits of ASCII with single dots and dashes, not x.git."""
    name = re.sub(r"[.-]*(--|\.\.)[.-]*", "-", re.sub(r"[^A-Za-z0-9._-]+", "-", folder))
    return name[:96].removesuffix(".git").strip("-.") or "NAME"


def _tell(folder: Path, net: PublishedNet, checks: tuple[Check, ...]) -> None:
    for check in checks:
        note(f"{'ok' if check.ok else '--'} {check.what}: {check.details}")
    write_columns([(f"{folder}/{name}", human_bytes(each.size)) for name, each in net.files.items()], right=(1,))
