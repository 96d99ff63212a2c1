"""Make the environment with the extra `ray`, beside the suite's own: `python -m parity_tests.cluster.install`.

It is in `.ray`, sees all packages of the interpreter that made it, and has what those lack. Ray is too large for every
checkout's tests.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / ".ray"


def python() -> Path:
    """The interpreter of the environment."""
    return FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def packages() -> list[str]:
    """The requirements of the extra, as pyproject.toml has them."""
    (said,) = re.findall(r"(?m)^ray = \[(.*)\]$", (PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return re.findall(r'"([^"]+)"', said)


def install() -> int:
    """Exit status; nothing happens where the same requirements are there already."""
    constraints = PROJECT / "constraints.txt"
    wanted = f"{sys.prefix}\n{packages()}\n{constraints.read_text(encoding='utf-8')}"
    stamp = FOLDER / "ready"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return 0
    venv.create(FOLDER, with_pip=True, clear=True)
    own = subprocess.run(
        [str(python()), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    (Path(own) / "suite.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    pip = [str(python()), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    extra = shlex.split(os.environ.get("PIP_ARGS", ""))
    done = subprocess.run([*pip, "--constraint", str(constraints), *extra, *packages()], cwd=PROJECT, check=False)
    if done.returncode == 0:
        stamp.write_text(wanted, encoding="utf-8")
    return done.returncode


if __name__ == "__main__":
    status = install()
    if status == 0:
        print(f"Ray is in {FOLDER}")
    sys.exit(status)
