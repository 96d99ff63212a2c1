"""Arguments of another kind than a public function takes, told in words where Python would name its own parts."""

from __future__ import annotations

import operator
import os
from collections.abc import Collection, Iterable
from pathlib import Path, PurePath
from typing import TypeVar

from .escaping import terminal

_SHOWN = 60
AnyPath = TypeVar("AnyPath", bound=PurePath)


def refuse_other_than(kind: type | tuple[type, ...], given: object, expected: str) -> None:
    """TypeError where `given` is no instance of `kind`; `expected` says in words what is, and where it comes from."""
    if not isinstance(given, kind):
        raise TypeError(f"expected {expected}; found {found_in_words(given)}")


def refuse_other_choice(choices: Collection[str], given: object, what: str) -> None:
    """ValueError where `given` is none of `choices`; `what` says in words what there is to choose."""
    if not isinstance(given, str) or given not in choices:
        raise ValueError(f"there is no {what} {found_in_words(given)}; there are {', '.join(choices)}")


def whole_number(given: object, what: str, *, least: int = 1) -> int:
    """The `given` number as an int, of NumPy's too; ValueError for one below `least`, TypeError for all else."""
    try:
        if isinstance(given, bool):
            raise TypeError
        number = operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{what}: expected a whole number; found {found_in_words(given)}") from None
    if number < least:
        raise ValueError(f"{what}: expected a whole number from {least} up; found {number}")
    return number


def path_of(given: object, expected: str = "a file's path") -> Path:
    """The `given` path; TypeError for what is none, bytes too, ValueError for "", which Path takes for this folder."""
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"expected {expected}; found {found_in_words(given)}")
    if given == "":
        raise ValueError(f"expected {expected}; found ''")
    return Path(given)


def names_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """The names in a list, each once; one name alone, whose letters nobody means, is a list of it."""
    return tuple(dict.fromkeys([given] if isinstance(given, str) else given))


def means_no(said: str) -> bool:
    """True for an environment variable's text that says no."""
    return said.strip().lower() in ("0", "false", "no", "off")


def means_yes(said: str) -> bool:
    """True for an environment variable's text that says yes."""
    return said.strip().lower() in ("1", "true", "yes", "on")


def found_in_words(given: object) -> str:
    """An argument as a message names it: None, a number or text as it is written, all else by its type."""
    if given is None or isinstance(given, (bool, int, float, str)):
        return terminal(f"{given!r:.{_SHOWN}}")
    return f"an object of type {type(given).__name__}"


def without_ending(path: AnyPath) -> AnyPath:
    """A path without the last ending of its name; as it is where only dots would be left, as of `..png`."""
    stem = path.name[: len(path.name) - len(path.suffix)]
    return path.with_name(stem) if stem.strip(".") else path
