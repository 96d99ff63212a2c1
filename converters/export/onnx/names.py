"""Names in an ONNX model: Caffe's own wherever ONNX can have them, and each value and each node its own."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...escaping import identifier

_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")
"""To ONNX's runtimes a name ends at a NUL, and all text is UTF-8."""


def onnx_names(blobs: Iterable[str]) -> dict[str, str]:
    """The name in an ONNX model of each of the blobs: Caffe's, unless ONNX cannot have it; "" is no value to ONNX."""
    wanted = list(blobs)
    kept = {name for name in wanted if name and not _IMPOSSIBLE.search(name)}
    return {name: name if name in kept else identifier(name, kept, prefix="blob_") for name in wanted}


def legal(text: str, *, empty: str = "unnamed") -> str:
    """A text as ONNX can have it, where it need not be told apart from others; `empty` stands for an empty one."""
    return _IMPOSSIBLE.sub("_", text) or empty


class Names:
    """The names that are taken: `fresh` gives one that is not, as near to the wanted one as can be."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def fresh(self, wanted: str) -> str:
        """`wanted` while it is free, else with _2, _3 ... behind it; taken from now on."""
        clean = legal(wanted)
        found, number = clean, self._next.get(clean, 2)
        while found in self._taken:
            found = f"{clean}_{number}"
            number += 1
        self._next[clean] = number
        self._taken.add(found)
        return found
