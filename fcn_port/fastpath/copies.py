"""CopiedAtOnce: what can be copied and pickled while other threads use it."""

from __future__ import annotations

from typing import Any


class CopiedAtOnce:
    """An object with cached properties, whose copy is of a dictionary that nothing is added to meanwhile."""

    def __getstate__(self) -> dict[str, Any]:
        return dict(vars(self))
