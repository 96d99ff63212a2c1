"""The viewers, started on loopback until Ctrl-C."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from converters.escaping import file_name, json_text
from converters.safety import write_whole

from .overlays import Overlay

HOST = "127.0.0.1"


def write_graph(path: Path, graph: Mapping[str, Any], overlays: Sequence[Overlay]) -> list[Path]:
    """Write a graph, and its overlays beside it as `<name>.<overlay>.json`; the paths, the graph's first.

    Model Explorer opens the first as a model and the others as node data.
    """
    stem = path.name.removesuffix(path.suffix)
    paths = [path, *(path.with_name(f"{stem}.{each.name}.json") for each in overlays)]
    contents = [[graph], *({graph["id"]: each.to_json()} for each in overlays)]
    for place, content in zip(paths, contents, strict=True):
        write_whole(place, json_text(content).encode())
    return paths


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as made:
        made.bind((HOST, 0))
        return int(made.getsockname()[1])


def open_model_explorer(
    folder: Path, graph: Mapping[str, Any], overlays: Sequence[Overlay], *,
    port: int, browser: bool, ready: Callable[[str], None],
) -> None:  # fmt: skip
    """Model Explorer with a graph and its overlays, until Ctrl-C; `ready` is told its address.

    What it prints is not passed on. It looks at the network for a newer version of itself, which it only tells.
    """
    from model_explorer import config, server

    paths = write_graph(folder / f"{file_name(str(graph['id']))}.json", graph, overlays)
    wanted = config()
    wanted.add_model_from_path(os.fspath(paths[0]))
    for path in paths[1:]:
        wanted.add_node_data_from_path(os.fspath(path))
    ready(f"http://{HOST}:{port}/?data={wanted.to_url_param_value()}")
    with contextlib.redirect_stdout(io.StringIO()):
        server.start(host=HOST, port=port, config=wanted, no_open_in_browser=not browser)


def open_netron(path: Path, *, port: int, browser: bool, ready: Callable[[str], None]) -> None:
    """Netron with a file that it reads, until Ctrl-C; `ready` is told its address."""
    import netron

    logging.getLogger("netron").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        host, found = netron.start(os.fspath(path), address=(HOST, port), browse=browser)
    ready(f"http://{host}:{found}")
    with contextlib.redirect_stdout(io.StringIO()):
        with contextlib.suppress(KeyboardInterrupt):
            netron.wait()
        netron.stop((host, found))
