"""Where the oracle's folder is, and whether real Caffe can be asked there."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PYCAFFE = "usr/lib/python3/dist-packages/caffe/_caffe*.so"
UPGRADER = "usr/bin/upgrade_net_proto_text"


def oracle_folder() -> Path:
    """``$CAFFE_ORACLE``, else ``.oracle/bullseye`` in the project's root."""
    return Path(os.environ.get("CAFFE_ORACLE") or PROJECT / ".oracle" / "bullseye").absolute()


def is_root() -> bool:
    """Whether this process may call chroot; never on Windows."""
    return os.name == "posix" and os.geteuid() == 0


def has_caffe(folder: Path) -> bool:
    """Whether `folder` holds a Debian with pycaffe and Caffe's tools."""
    return any(folder.glob(PYCAFFE)) and (folder / UPGRADER).exists()


def why_not_ready(folder: Path) -> str | None:
    """None where real Caffe can be asked, else what is missing and what to do."""
    if not has_caffe(folder):
        return f"no Caffe in {folder}: run `make caffe-oracle`, or set CAFFE_ORACLE to a folder that has it"
    if not is_root():
        return f"real Caffe runs in {folder} with chroot, which only root may do"
    return None
