"""`fcn-port serve`"""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from converters.escaping import terminal
from converters.export import require

from .device import device_option
from .engine import engine_option, low_memory_option, padded_option, precision_option, run_as_told
from .given_net import NetOptions, check_inputs, like_option, load_as_told, prototxt_option
from .input_options import input_change, input_options
from .net_choice import net_options, tell_idle_shapes
from .numbers import MOST_THREADS, Number
from .output import echo, note
from .registering import register_option

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_COUNT = click.IntRange(min=1)
_ADVICE = {
    errno.EADDRINUSE: "--port 0 takes one that is free",
    errno.EADDRNOTAVAIL: "--host takes an address of this machine, 0.0.0.0 all of them",
    errno.EACCES: "ports below 1024 may be the system administrator's; --port 0 takes one that is free",
}


@dataclass(frozen=True, kw_only=True)
class ServeOptions(NetOptions):
    host: str
    port: int
    names: tuple[str, ...]
    threads: int | None
    batch: int
    most_megabytes: int
    most_megapixels: float
    seconds: float
    waiting: int
    least_score: float
    check: bool


@click.command("serve")
@click.argument("weights")
@click.option(
    "--host", default="127.0.0.1", show_default=True,
    help="The address to listen on; 0.0.0.0 lets the network in.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="The port; 0 takes one that is free."
)
@click.option(
    "--name", "names", multiple=True, metavar="HOST",
    help="A name under which the server is reached, beside localhost and its addresses; may be given again.",
)  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), help="Batches that the net runs at a time.  [default: the cores]"
)
@click.option("--batch", type=_COUNT, default=8, show_default=True, help="The most images of one size in a batch.")
@click.option("--most-megabytes", type=_COUNT, default=16, show_default=True, help="The largest body, in MiB.")
@click.option(
    "--most-megapixels", type=Number(min=0, min_open=True), default=4.0, show_default=True,
    help="The largest image.",
)  # fmt: skip
@click.option(
    "--seconds",
    type=Number(min=0.1),
    default=60.0,
    show_default=True,
    help="The longest that a request takes.",
)
@click.option(
    "--waiting", type=_COUNT, default=32, show_default=True, help="The most requests that are under way at a time."
)
@click.option(
    "--least-score", type=Number(0, 1), default=0.3, show_default=True,
    help="Of objects: tell those from this score on.",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Load the net, try it on a grey picture, take the address, and end.")
@like_option
@prototxt_option
@input_options
@engine_option
@padded_option
@precision_option
@low_memory_option
@device_option
@register_option
@net_options
def command(weights: str, **given: Any) -> int:
    """Put WEIGHTS, the name of a release or a file, behind an address: a page and an HTTP interface.

    On the page one drops an image and sees labels, legend and the share of each class, or boxes. Programs send an
    image to /predict?format=json, labels, overlay or coco: `curl --data-binary @street.jpg ADDRESS/predict`. There are
    /healthz, /metrics for Prometheus, and /net.

    It listens on this machine alone unless --host says otherwise, has no password and no encryption, and keeps no
    image. Ctrl-C or SIGTERM lets requests that are under way end, and stops.
    """
    require("starlette", "uvicorn", "python_multipart", "prometheus_client")
    options = ServeOptions(inputs=input_change(given), **given)
    listening = _socket(options.host, options.port)
    with listening:
        return _serve(weights, listening, options)


def _socket(host: str, port: int) -> socket.socket:
    from ..serving import open_socket

    try:
        return open_socket(host, port)
    except socket.gaierror as error:
        raise click.BadParameter(f"{host}: {(error.strerror or str(error)).lower()}", param_hint="'--host'") from error
    except UnicodeError as error:  # Python's, before anybody is asked
        problem = "no name of a host: its parts, between dots, have 1 to 63 characters"
        raise click.BadParameter(f"{terminal(host)}: {problem}", param_hint="'--host'") from error
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        told = _ADVICE.get(error.errno or 0)
        raise OSError(error.errno, f"{problem}; {told}" if told else problem, f"{host}:{port}") from error


def _serve(weights: str, listening: socket.socket, options: ServeOptions) -> int:
    from ..serving import run_app
    from .signals import stopping

    app = _app(weights, options)
    address = _address(listening)
    if options.check:
        note(f"{weights} can be served")
        return 0
    host = ipaddress.ip_address(listening.getsockname()[0])
    if not host.is_loopback:
        note("anybody who reaches this address may use the net: there is no password and no encryption")
    with stopping(note, "stopping when requests that are under way have their answers") as wanted:
        run_app(app, listening, wanted=wanted, grace=options.seconds, connections=8 * options.waiting,
                ready=lambda: _tell(weights, address))  # fmt: skip
    note("stopped")
    return 0


def _app(weights: str, options: ServeOptions) -> ASGIApp:
    import torch

    from ..detection import finds_objects
    from ..predict.meaning import names_images
    from ..serving import ServerLimits, make_app

    torch.set_num_threads(1)  # the threads that call are as many as the cores: docs/threads.md
    net = load_as_told(weights, options)
    check_inputs(net, weights)
    if not (finds_objects(net) or names_images(net)):
        tell_idle_shapes(net)
    limits = ServerLimits(
        most_bytes=options.most_megabytes << 20,
        most_pixels=int(options.most_megapixels * 1e6),
        seconds=options.seconds,
        waiting=options.waiting,
    )
    try:
        return make_app(
            run_as_told(net, options), name=weights, limits=limits, names=options.names, threads=options.threads,
            batch=options.batch, least=options.least_score,
        )  # fmt: skip
    except ValueError as error:
        if isinstance(error, click.ClickException) or type(error) is not ValueError:
            raise
        raise click.UsageError(f"{weights}: {error}") from error


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell(weights: str, address: str) -> None:
    """The address is data: a program that starts a server reads it from standard output."""
    echo(address)
    note(f"serving {weights}; Ctrl-C stops")
