"""native_driver.c with the C code, compiled in some manner, and run over the cases for its registers."""

from __future__ import annotations

import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fcn_port.fastpath.native import build
from parity_tests.fastpath.native_cases import AVX2, AVX512, NEON, SSE, Registers, header

DRIVER = Path(__file__).with_name("native_driver.c")
SECONDS = 900
_AS_WE_DO = tuple(flag for flag in build._FLAGS if flag.startswith("-fno"))


@dataclass(frozen=True)
class Manner:
    """A compiler with its flags, and what runs its programs where the system does not."""

    compiler: str = "cc"
    flags: tuple[str, ...] = ("-O1",)
    runner: tuple[str, ...] = ()


PLAIN = Manner()
NATIVE = Manner(flags=("-O3", "-march=native"))
SHORTER = Manner(flags=("-O3", "-march=native", "-mno-avx512f"))
ADDRESS = Manner(
    flags=("-O1", "-g1", "-march=native", "-fopenmp", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
)
THREAD = Manner(
    flags=("-O1", "-g1", "-march=native", "-fsanitize=thread"),
    runner=("setarch", "-R") if shutil.which("setarch") else (),  # whose addresses are not those of some kernels
)
AARCH64 = Manner("aarch64-linux-gnu-gcc", ("-O3", "-static"), ("qemu-aarch64",))
AARCH64_ADVICE = "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"


def why_not(manner: Manner) -> str | None:
    """The tool that is missing for it; None where none is."""
    missing = [tool for tool in (manner.compiler, *manner.runner[:1]) if shutil.which(tool) is None]
    if not missing:
        return None
    return f"no {missing[0]} here" + (f": {AARCH64_ADVICE}" if manner == AARCH64 else "")


def registers_of(manner: Manner) -> Registers:
    """The registers that vector.h will use."""
    command = [manner.compiler, *manner.flags, "-dM", "-E", "-x", "c", "/dev/null"]
    known = {line.split()[1] for line in _done(command).stdout.decode().splitlines() if line.startswith("#define ")}
    by_name = {"__AVX512F__": AVX512, "__AVX__": AVX2, "__aarch64__": NEON}
    return next((registers for name, registers in by_name.items() if name in known), SSE)


def compiled(
    manner: Manner, folder: Path, *, tables: str | None = None, extra: tuple[str, ...] = (), kept: str = ""
) -> Path:
    """The driver; `tables` in place of the right ones, flags behind those of the manner, and objects not made again."""
    folder.mkdir(exist_ok=True)
    (folder / "tables.h").write_text(build._tables() if tables is None else tables)
    (folder / "cases.h").write_text(header(registers_of(manner)))
    flags = [*manner.flags, *_AS_WE_DO, *extra, f"-I{folder}", f"-I{build._SOURCES[0].parent}"]

    def to_object(source: Path) -> str:
        made = folder / f"{source.stem}.o"
        if source.stem not in kept.split():
            _done([manner.compiler, *flags, "-c", "-o", str(made), str(source)])
        return str(made)

    sources = [path for path in build._SOURCES if path.suffix == ".c"]
    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(to_object, [DRIVER, *sources]))
    _done([manner.compiler, *flags, "-o", str(folder / "driver"), *objects, "-lm", "-pthread"])
    return folder / "driver"


def run(manner: Manner, driver: Path, cases: list[bytes]) -> subprocess.CompletedProcess[bytes]:
    """What the driver says; its output is how many cases were right."""
    runner = [] if manner.runner[:1] == ("qemu-aarch64",) and platform.machine() == "aarch64" else manner.runner
    return subprocess.run([*runner, driver], input=b"".join(cases), capture_output=True, timeout=SECONDS)


def _done(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(command, capture_output=True, timeout=SECONDS)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()  # nor any warning
    return done
