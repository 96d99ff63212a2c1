"""Make `.venv` where it is missing, half made, broken or of a Python that is too old, and say why.

Any Python from 3.6 on runs this, so that an old one can say what is needed:

    python3 .ci/venv.py FOLDER               makes it usable
    python3 .ci/venv.py FOLDER --outdated    removes it where it is of another Python
"""

import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 10)
NEWEST_TRIED = 13
HERE = ".".join(map(str, sys.version_info[:3]))
ASK = "import sys, pip; print(*sys.version_info[:3], sep='.')"


def main(arguments):
    """Status 0 with a usable environment in the folder, 2 where this Python cannot make one."""
    folder = Path(arguments[0])
    if "--outdated" in arguments[1:]:
        return forget_another(folder)
    problem = what_is_wrong(folder)
    if problem is None:
        return 0
    if sys.version_info < OLDEST:
        return tell(f"fcn-port needs Python 3.10 or newer, and {sys.executable} is {HERE}: {advice()}")
    if folder.exists():
        tell(f"{folder} {problem}: made again with Python {HERE}")
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=False)
    if made.returncode:
        return tell(f"{sys.executable} -m venv failed, above; Debian has it in the package python3-venv")
    return 0


def what_is_wrong(folder):
    """Why the environment in a folder cannot be used, or None."""
    version = version_in(folder)
    if not folder.exists():
        return "is missing"
    if version is None:
        return "is half made, or its Python is gone"
    if version < OLDEST:
        return f"is of Python {version[0]}.{version[1]}, and 3.10 or newer is needed"
    return None


def version_in(folder):
    """The version of an environment's Python as numbers, or None where that does not start or has no pip."""
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    try:
        done = subprocess.run([str(python), "-c", ASK], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return None
    return tuple(map(int, done.stdout.decode().split("."))) if done.returncode == 0 else None


def forget_another(folder):
    """Empty an environment of another Python than this one, and say so; `make PYTHON=...` begins with it."""
    version = version_in(folder)
    if version and version[:2] != sys.version_info[:2] and sys.version_info >= OLDEST:
        tell(f"{folder} is of Python {version[0]}.{version[1]}: made again with Python {HERE}")
        shutil.rmtree(str(folder))
    return 0


def advice():
    """A Python of this machine that is new enough, as make takes it."""
    for minor in range(NEWEST_TRIED, OLDEST[1] - 1, -1):
        name = f"python3.{minor}"
        if shutil.which(name):  # which may be a shim of pyenv's, without an interpreter
            done = subprocess.run(
                [name, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )
            if done.returncode == 0:
                return f"say which to take, make TARGET PYTHON={name}"
    return "install one, and say make TARGET PYTHON=python3.12"


def tell(message):
    """Print a message; the status of a failure."""
    print(message, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
