"""Indices that lead out of a blob, said by the layer that has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import NetError


@contextmanager
def indices_within(where: str) -> Iterator[None]:
    """Errors inside the block about an index that leads out of a blob become a NetError that names `where`.

    Indices are values (Upsample's mask, the words of Embed, the items of BatchReindex), so only a forward pass tells;
    on a GPU, CUDA tells later and in its own words.
    """
    try:
        yield
    except (IndexError, RuntimeError) as error:
        if not re.search("index.*out of (bounds|range)", str(error)):
            raise
        raise NetError(f"an index leads out of the blob that it is for: {error}", where=where) from error
