"""The addresses that a file is really asked of: an institution's own server instead of all others, or a model hub's.

`FCN_PORT_MIRROR` is the address of a folder that has every file under its name in the catalogue: caffemodels, net
definitions as `<release>.prototxt`, and archives of data sets. With it nothing else is asked, so a machine without the
internet, or one that must not use it, needs no other setting; sizes and checksums are looked at as ever.

An address `hf:owner/name` or `hf:owner/name@revision`, in the catalogue or as the mirror, is a repository of a model
hub: the file is asked of `$HF_ENDPOINT` (https://huggingface.co) under the path that hub libraries use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from weights.errors import FetchError

MIRROR_VARIABLE = "FCN_PORT_MIRROR"
_HUB = re.compile(r"hf:([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?", re.ASCII)


def addresses(urls: Sequence[str], file: str) -> tuple[str, ...]:
    """The addresses to ask for `file`, which the catalogue says is at `urls`; FetchError for a mirror that is none."""
    mirror = os.environ.get(MIRROR_VARIABLE, "").strip()
    if not mirror:
        return tuple(_of_hub(url, file) or url for url in urls)
    hub = _of_hub(mirror, file)
    if hub is None and not is_address(mirror):
        shown = "what it holds (not shown: it may hold a password)" if "@" in mirror else f"'{mirror:.80}'"
        raise FetchError(
            f"{MIRROR_VARIABLE}: {shown} is no address of a folder such as https://mirror.example.org/caffe or "
            "hf:owner/name"
        )
    return (hub or f"{mirror.rstrip('/')}/{quote(file)}",)


def is_address(url: str) -> bool:
    """True for an http or https address, and for a repository of a model hub."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(_HUB.fullmatch(url)) or (parts.scheme in ("http", "https") and bool(parts.hostname))


def _of_hub(url: str, file: str) -> str | None:
    """The address of `file` in a repository of a model hub; None where `url` is none."""
    match = _HUB.fullmatch(url)
    if match is None:
        return None
    endpoint = os.environ.get("HF_ENDPOINT", "").strip() or "https://huggingface.co"
    return f"{endpoint.rstrip('/')}/{match[1]}/resolve/{quote(match[2] or 'main', safe='')}/{quote(file)}"
