"""`fcn-port view`"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converters.escaping import file_name
from converters.export import require, takes_any_size
from converters.formats import format_prototxt
from converters.net import NetSpec, Shape
from converters.passes import chosen, with_input_shapes
from converters.safety import write_whole

from .bringing import here
from .inspect import SizeOption, SizeParam, input_shapes
from .net_choice import net_options
from .output import echo, note, refuse_to_replace
from .registering import register_option
from .sources import is_definition, read_runnable
from .together import only_without

if TYPE_CHECKING:
    from ..nets import Net
    from ..view import Overlay

_FIRST_SIZE = (224, 224)
"""The size (h, w) of the image where a net takes any and none is asked for."""


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    size: SizeOption
    golden: Path | None
    time: bool
    viewer: str | None
    port: int
    browser: bool
    out: Path | None


@click.command("view")
@click.argument("what")
@click.option("--size", type=SizeParam(), help="Of the image, height first; default: 224x224, or the net's own.")
@click.option(
    "--golden", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="An .npz of a forward pass: shows how far each blob is from it.",
)  # fmt: skip
@click.option("--time", is_flag=True, help="Run the net, and show the milliseconds of each step.")
@click.option(
    "--viewer", type=click.Choice(("model-explorer", "netron")),
    help="The program that shows it; default: the first of them that is installed.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default="one that is free", help="Of this machine."
)
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open it in the browser.")
@click.option(
    "-o", "--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.json",
    help="Write graph and overlays for Model Explorer, and open nothing.",
)  # fmt: skip
@register_option
@net_options
def command(what: str, **given: Any) -> None:
    """Look at WHAT, the name of a net or release or a file, as a graph in the browser.

    Model Explorer shows every layer with its settings, blobs and shapes, and colours layers by overlays: share of
    multiply-adds, of the memory of blobs and of weights, with --golden the distance from a recorded pass, with --time
    milliseconds. Netron shows the layers. Both run on this machine until Ctrl-C; `pip install 'fcn-port[view]'`.
    """
    options = ViewOptions(**given)
    refuse_to_replace(options.out, (what, options.golden))
    _refuse_without_weights(what, options)
    if options.out is not None:
        only_without("--out", {"port", "browser"} if options.browser else {"port"})
    if options.out is not None and options.viewer == "netron":
        raise click.UsageError("--out writes a file for Model Explorer, and --viewer netron opens another program")
    viewer = None if options.out is not None else options.viewer or _installed()
    if viewer == "netron":
        require("netron")
        _open_netron(what, options)
        return
    if viewer is not None:
        require("model_explorer")
    from ..view import to_graph
    from ..view.viewers import free_port, open_model_explorer, write_graph

    spec = read_runnable(what)
    inputs = _inputs(spec, options.size)
    graph = to_graph(spec, inputs, name=Path(what).name)
    overlays = tuple(_overlays(what, spec, inputs, options))
    if options.out is not None:
        for path in write_graph(options.out, graph, overlays):
            note(f"-> {path}")
        return
    with tempfile.TemporaryDirectory(prefix="fcn-port-view-") as folder:
        open_model_explorer(
            Path(folder), graph, overlays, port=options.port or free_port(), browser=options.browser, ready=_tell
        )


def _refuse_without_weights(what: str, options: ViewOptions) -> None:
    """UsageError for what a net is run for, where WHAT is a definition alone."""
    asked = next((name for name, given in (("--golden", options.golden), ("--time", options.time)) if given), None)
    if asked is not None and is_definition(what):
        raise click.UsageError(
            f"{asked} runs the net, and {what} is its definition without weights; give a file of weights, such as "
            "a .caffemodel"
        )


def _installed() -> str:
    return "netron" if find_spec("model_explorer") is None and find_spec("netron") is not None else "model-explorer"


def _tell(address: str) -> None:
    echo(address)
    note("Ctrl-C stops")


def _inputs(spec: NetSpec, size: SizeOption) -> Mapping[str, Shape]:
    return input_shapes(spec, size or (_FIRST_SIZE if takes_any_size(spec) and not chosen().input_shapes else None))


def _overlays(what: str, spec: NetSpec, inputs: Mapping[str, Shape], options: ViewOptions) -> Iterator[Overlay]:
    from ..view import costs

    yield from costs(spec, inputs)
    if options.golden is None and not options.time:
        return
    from ..recording import golden_errors
    from ..view import milliseconds, parity

    net = _load(what)
    if options.golden is not None:
        yield parity(spec, golden_errors(net, options.golden))
    if options.time:
        yield milliseconds(net, spec, inputs)


def _load(what: str) -> Net:
    from ..loading import load

    return load(here(what))


def _open_netron(what: str, options: ViewOptions) -> None:
    """Netron reads Caffe's definitions itself; the one that is run is written for it."""
    from ..view.viewers import free_port, open_netron

    for name, given in (("--golden", options.golden), ("--time", options.time)):
        if given:
            raise click.UsageError(f"{name} needs --viewer model-explorer: pip install 'fcn-port[view]'")
    spec = read_runnable(what)
    if options.size is not None:
        spec = with_input_shapes(spec, _inputs(spec, options.size))
    with tempfile.TemporaryDirectory(prefix="fcn-port-view-") as folder:
        path = Path(folder) / f"{file_name(Path(what).stem)}.prototxt"
        write_whole(path, format_prototxt(spec).encode())
        open_netron(path, port=options.port or free_port(), browser=options.browser, ready=_tell)
