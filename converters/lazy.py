"""Names of a package that are imported when they are first asked for (PEP 562): torch and the network take a second."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import MappingProxyType, ModuleType

from .extras import EXTRAS, how_to_install, package_of


def lazy_attributes(
    package: str,
    homes: Mapping[str, str],
    *,
    rooms: Sequence[str] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose names live in these modules of it, by name.

    `rooms` are modules in it that people import names from, which it has without an import of theirs, too. `renamed`
    gives the present name by the former one, which works for one release more with a DeprecationWarning.
    """

    def get(name: str) -> object:
        if name in renamed:
            new = renamed[name]
            warnings.warn(f"{package}.{name} is now {package}.{new}", DeprecationWarning, stacklevel=2)
            return getattr(sys.modules[package], new)
        if name in rooms:
            return import_or_say(f"{package}.{name}", f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(import_or_say(f"{package}.{homes[name]}", f"{package}.{name}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: shown_names(package, *homes, *rooms)


def shown_names(package: str, *more: str) -> list[str]:
    """The names of a package for `dir` and tab completion: what it says is public, its modules, Python's own, `more`.

    Those that it imports for itself, such as `TYPE_CHECKING`, are nobody's business.
    """
    own = vars(sys.modules[package])
    public = own.get("__all__", own)
    modules = {name for name in own if f"{package}.{name}" in sys.modules}
    return sorted({*(name for name in own if name[:2] == "__"), *public, *modules, *more})


def import_or_say(module: str, wanted: str) -> ModuleType:
    """The module `module`; ModuleNotFoundError says what to install where a package of an extra is missing for it."""
    try:
        with _without_collections():
            return import_module(module)
    except ModuleNotFoundError as error:
        missing = package_of(error)
        if missing is None:
            raise
        said = f"{wanted} needs {EXTRAS[missing][0]}: {how_to_install(missing)}"
        raise ModuleNotFoundError(said, name=missing) from None


@contextmanager
def _without_collections() -> Iterator[None]:
    """No search for garbage meanwhile: of PyTorch's import it takes a tenth, and what modules make stays."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
