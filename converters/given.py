"""Arguments of another kind than a public function takes, told in words where Python would name its own parts."""

from __future__ import annotations

from .escaping import terminal

_SHOWN = 60


def refuse_other_than(kind: type | tuple[type, ...], given: object, expected: str) -> None:
    """TypeError where `given` is no instance of `kind`; `expected` says in words what is, and where it comes from."""
    if not isinstance(given, kind):
        raise TypeError(f"expected {expected}; found {found_in_words(given)}")


def found_in_words(given: object) -> str:
    """An argument as a message names it: None, a number or text as it is written, all else by its type."""
    if given is None or isinstance(given, (bool, int, float, str)):
        return terminal(f"{given!r:.{_SHOWN}}")
    return f"an object of type {type(given).__name__}"
