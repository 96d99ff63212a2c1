"""Compiling the libraries that a wheel brings along (shipped.py): ``python -m fcn_port.fastpath.native.ship``.

`.ci/release` runs it where it builds that wheel. It compiles for every kind of processor that is of the machine's sort.
"""

from __future__ import annotations

import platform

from converters.safety import make_folder

from . import shipped
from .build import compile_for


def ship() -> None:
    """Compile all of them into their folder, instead of what is there."""
    make_folder(shipped.FOLDER)
    for old in shipped.FOLDER.glob("*.so"):
        old.unlink()
    for kind in shipped.KINDS:
        if kind.machine == platform.machine():
            for form in shipped.FORMS:
                compile_for(kind.name, shipped.FOLDER / shipped.name_of(kind, form), openmp=form == "openmp")


if __name__ == "__main__":
    ship()
