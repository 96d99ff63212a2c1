"""Make the oracle: a folder with Debian 11 (bullseye), its python3-caffe 1.0.0, and nothing of this machine.

``python -m parity_tests.oracle.install`` downloads about 300 MB and leaves about 1 GB. It works in a folder beside the
final one and renames it when Caffe answers, so the oracle is whole or not there; after an interruption the same command
goes on where it was. Exit status: 0 done (at once where it was there), 1 failed, 2 it cannot be made on this machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

from parity_tests.oracle.folder import has_caffe, is_root, oracle_folder

SUITE = "bullseye"
# caffe has the upgrade tools; with OpenBLAS (as in the goldens) a net runs twice as fast as with the reference BLAS.
PACKAGES = ("python3-caffe", "caffe", "libopenblas0-pthread")
CAFFE_VERSION = "1.0.0"
DISK_NEEDED = 2 * 10**9
STEP_LIMIT_S = 1800
APT = ("apt-get", "-y", "-o", "Acquire::Retries=3", "-o", "Acquire::http::Timeout=60")

Report = Callable[[str], None]


class InstallError(RuntimeError):
    """A step failed; the message has the end of what it said."""


def why_impossible(folder: Path) -> str | None:
    """None where the oracle can be made in `folder`, else what is missing and how to get it."""
    if not sys.platform.startswith("linux") or not is_root():
        return "real Caffe is installed with debootstrap and run with chroot: both need Linux and root"
    if not shutil.which("debootstrap"):
        return "debootstrap is missing: apt-get install debootstrap debian-archive-keyring"
    if folder.exists() and any(folder.iterdir()):
        return f"{folder} is in the way: it has files but no Caffe. Remove it, or set CAFFE_ORACLE to another folder"
    place = next(parent for parent in folder.parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < DISK_NEEDED:
        return f"{place} has {free / 1e9:.1f} GB free; the oracle needs {DISK_NEEDED / 1e9:.0f} GB while it is made"
    return None


def install(folder: Path, *, mirror: str | None = None, report: Report = lambda message: None) -> None:
    """Make the oracle in `folder`, or go on making it; nothing happens where it is already there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(beside(folder, ".lock")):
        if has_caffe(folder):
            return
        partial, log = beside(folder, ".partial"), beside(folder, ".log")
        base_done = partial / "var/lib/oracle-base-done"
        if not base_done.exists():
            remove(partial)
            report(f"Debian 11 into {partial} (1/2)")
            debootstrap = ["debootstrap", "--variant=minbase", SUITE, str(partial)]
            run(debootstrap + ([mirror] if mirror else []), log=log)
            base_done.touch()
        report(f"{', '.join(PACKAGES)} (2/2)")
        for command in (
            ["dpkg", "--configure", "-a"],  # where an earlier run was interrupted
            [*APT, "update"],
            [*APT, "--fix-broken", "--no-install-recommends", "install", *PACKAGES],
            [*APT, "clean"],
        ):
            run(["chroot", str(partial), *command], log=log)
        version = run(["chroot", str(partial), "python3", "-c", "import caffe; print(caffe.__version__)"], log=log)
        if CAFFE_VERSION not in version.split():
            raise InstallError(f"{partial} has no Caffe {CAFFE_VERSION}; it says: {version.strip()[-300:]}")
        partial.rename(folder)


def beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(folder.name + suffix)


def remove(partial: Path) -> None:
    """Remove what an interrupted debootstrap left, but never through a mount of this machine's own folders."""
    for mount in reversed(mounts_in(partial)):
        run(["umount", str(mount)])
    if partial.exists():
        shutil.rmtree(partial)


def mounts_in(folder: Path) -> list[Path]:
    """Mount points inside `folder`, in the order in which they were mounted."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [Path(line.split(" ")[1].replace("\\040", " ")) for line in lines]
    return [point for point in points if folder in point.parents]


def run(command: Sequence[str], *, log: Path | None = None) -> str:
    """Run one step in a process group of its own, bounded in time; returns and logs what it said."""
    process = subprocess.Popen(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8", "GLOG_minloglevel": "2"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=STEP_LIMIT_S)
    except BaseException as stopped:
        end(process)
        if isinstance(stopped, subprocess.TimeoutExpired):
            raise InstallError(f"{' '.join(command)}: not done after {STEP_LIMIT_S} s") from None
        raise
    if log:
        with log.open("a") as file:
            file.write(f"$ {' '.join(command)}\n{said}")
    if process.returncode:
        tail = "\n  ".join(said.strip().splitlines()[-8:])
        raise InstallError(f"{' '.join(command)} ended with status {process.returncode}:\n  {tail}")
    return said


def end(process: subprocess.Popen) -> None:
    """End a step and all that it started: politely first, because debootstrap unmounts what it mounted."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m parity_tests.oracle.install", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=oracle_folder(), help="default: %(default)s")
    parser.add_argument("--mirror", help="Debian mirror to take bullseye from (default: debootstrap's own)")
    parser.add_argument("--check", action="store_true", help="only say whether it is there or can be made here")
    args = parser.parse_args()
    folder = args.folder.absolute()
    there = has_caffe(folder)
    impossible = None if there else why_impossible(folder)
    if impossible:
        print(f"no Caffe oracle: {impossible}", file=sys.stderr)
        return 2
    if args.check:
        print(f"{folder}: {'there' if there else 'can be made'}")
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that `run` ends what it started
    try:
        install(folder, mirror=args.mirror, report=lambda message: print(message, file=sys.stderr, flush=True))
    except InstallError as error:
        log = beside(folder, ".log")
        print(f"{error}\n(all of it is in {log}; run this again to go on)", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run this again to go on", file=sys.stderr)
        return 130
    print(f"Caffe {CAFFE_VERSION} is in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
