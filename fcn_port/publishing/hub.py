"""A published net from a model hub, by huggingface_hub and into its cache."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from converters.escaping import terminal
from converters.export import require
from converters.version import VERSION
from weights.download import is_offline
from weights.errors import FetchError

from .records import CONFIG, GOLDEN, WEIGHTS

_ADDRESS = re.compile(r"hf:([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,200}))?", re.ASCII)
_ENDPOINT, _MIRROR = "HF_ENDPOINT", "FCN_PORT_MIRROR"


def is_on_hub(name: str | os.PathLike[str]) -> bool:
    """True for "hf:owner/name" and "hf:owner/name@revision"."""
    return _text(name).startswith("hf:")


def _text(name: str | os.PathLike[str]) -> str:
    return os.fspath(name).replace(os.sep, "/")


def fetch_from_hub(name: str | os.PathLike[str]) -> Path:
    """The folder of a net on the hub, in the hub's own cache; what is there already is not fetched again.

    `revision` may be a branch, a tag or a commit; a commit is the same net for ever. FCN_PORT_OFFLINE=1 takes what the
    cache has; HF_ENDPOINT is the hub that is asked. Raises FetchError, and ExportError where the extra is missing.
    """
    found = _ADDRESS.fullmatch(_text(name))
    if found is None:
        raise FetchError(f"{terminal(_text(name)[:200])}: expected hf:owner/name or hf:owner/name@revision")
    require("huggingface_hub")
    if (given := os.environ.get(_ENDPOINT)) and not re.match(r"https?://[^/]", given):
        raise FetchError(f"{_ENDPOINT}: {terminal(given[:200])!r} is no address such as https://hub.example.org")
    if os.environ.get(_MIRROR) and not os.environ.get(_ENDPOINT) and not is_offline():
        raise FetchError(
            f"{_text(name)}: {_MIRROR} is set, so that the public hub is not asked\n"
            f"  set {_ENDPOINT} to your institution's hub, or take a copy of the folder: fcn_port.load(FOLDER)"
        )
    from huggingface_hub import snapshot_download

    endpoint = os.environ.get(_ENDPOINT) or None
    try:
        folder = snapshot_download(
            found[1], revision=found[2], allow_patterns=[CONFIG, WEIGHTS, GOLDEN], endpoint=endpoint,
            local_files_only=is_offline(), library_name="fcn-port", library_version=VERSION,
        )  # fmt: skip
    except Exception as error:  # the library's, its network library's, and the system's
        raise FetchError(f"{_text(name)}: {_problem(error)}") from error
    return Path(folder)


def _problem(error: Exception) -> str:
    """The error of a hub's library in one line, for people who did not call it."""
    if is_offline():
        return "FCN_PORT_OFFLINE is set, and the hub's cache on this machine does not have it"
    problem = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, json.JSONDecodeError | TypeError | KeyError | AttributeError):
        return f"the answer of {os.environ.get(_ENDPOINT) or 'the hub'} is not that of a hub: {terminal(problem)}"
    return terminal(problem)
