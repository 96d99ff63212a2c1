"""`fcn-port surgery`"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from converters.errors import CaffeFormatError
from converters.passes import choosing
from converters.wording import shape_text

from .bringing import bring_file, looks_like_a_name
from .net_choice import net_options
from .output import echo, json_option, note, refuse_to_replace, write_columns, write_json
from .registering import register_option

if TYPE_CHECKING:
    from ..surgery import StateDict, Surgery


@click.command("surgery")
@click.argument("net")
@click.option(
    "--init", "sources", multiple=True, required=True, metavar="SOURCE",
    help="The net to begin from: any file with weights, or the name of a release. Twice for late fusion's two streams.",
)  # fmt: skip
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), help="By default NET-init.safetensors.")
@click.option("--num-classes", metavar="N", help="Another number of classes; for two heads sem=33,geo=3.")
@click.option("--expand-scores", is_flag=True, help="Let the source's classes be the first ones of more.")
@json_option
@register_option
@net_options
def command(
    net: str, sources: tuple[str, ...], out: Path | None, num_classes: str | None, expand_scores: bool, as_json: bool
) -> None:
    """Make the weights with which NET begins to train, as the paper does, from those of another net.

    Layers of the same name are copied, fully connected ones into convolutions; upsampling interpolates, new scores are
    zero. SOURCE is for example VGG_ILSVRC_16_layers, BVLC's reference CaffeNet or GoogLeNet, or a coarser FCN. Writes
    a safetensors file, and says what became of every parameter.
    """
    from ..loading import read_weights
    from ..nets import build
    from ..surgery import initialise

    target = out or Path(f"{net}-init.safetensors")
    files = [file_of(source) for source in sources]
    refuse_to_replace(target, files)
    states = [read_weights(file).state for file in files]
    classes = _classes(num_classes)
    try:
        module = build(net, classes)
        result = initialise(module, *states, expand_scores=expand_scores)
    except CaffeFormatError as error:
        raise error.in_file(" and ".join(sources)) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _write(result, net, classes, target)
    if as_json:
        write_json({"net": net, "out": target, **result.to_json()})
    else:
        _print(result, target)


def file_of(source: str) -> Path:
    """The file of a source, fetched and verified if it is the name of a release."""
    if not looks_like_a_name(source):
        return Path(source)
    fetched = bring_file(source)
    if not fetched.already_there:
        note(fetched.explanation)
    return fetched.path


def states_to_begin_with(files: Iterable[Path]) -> list[StateDict]:
    """The state dicts of files for a net that learns; --input is that net's, and theirs stay as they are."""
    from ..loading import read_weights

    with choosing(input_shapes={}):
        return [read_weights(file).state for file in files]


def _classes(text: str | None) -> int | Mapping[str, int] | None:
    """A number of classes as it is given: "7" is 7, "sem=33,geo=3" is {"sem": 33, "geo": 3}."""
    if text is None:
        return None
    try:
        if "=" not in text:
            return int(text)
        return {head.strip(): int(count) for head, _, count in (part.partition("=") for part in text.split(","))}
    except ValueError:
        raise click.UsageError(f"--num-classes is a number, or such as sem=33,geo=3; found '{text}'") from None


def _write(result: Surgery, net: str, num_classes: int | Mapping[str, int] | None, out: Path) -> None:
    """The state dict, the net's definition and how its inputs are made, as `load` takes them."""
    from converters.conversion import TOOL
    from converters.export import write_safetensors
    from converters.formats import format_prototxt
    from converters.safety import whole_file

    from ..porting import card_of_net, net_definition

    card = card_of_net(net) if num_classes is None else replace(card_of_net(net), classes={})
    definition = format_prototxt(net_definition(net, num_classes=num_classes))
    arrays = {key: value.detach().cpu().numpy() for key, value in result.state.items()}
    with whole_file(out) as file:
        write_safetensors(file, arrays, {**card.to_metadata(), "format": "pt", "tool": TOOL, "prototxt": definition})


def _print(result: Surgery, out: Path) -> None:
    rows = [
        (change.fate, change.key or "", shape_text(change.shape or ()), change.source or "", change.why)
        for change in result.changes
        if change.fate != "dropped"
    ]
    write_columns(rows, header=("what", "parameter", "shape", "from", ""))
    for change in result.of("dropped"):
        echo(f"dropped  {change.source} {shape_text(change.source_shape or ())}: {change.why}")
    echo(result.summary())
    echo(f"-> {out}")
    for change in result.of("untouched"):
        note(f"note: nothing in the source initialises {change.key}; it holds random values")
