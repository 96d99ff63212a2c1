"""Options that several verbs have in common, put on a verb all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def with_options(command: Any, options: Sequence[Any]) -> Any:
    """A verb with these options of click's, in the order in which its help is to tell them."""
    for option in reversed(options):
        command = option(command)
    return command
