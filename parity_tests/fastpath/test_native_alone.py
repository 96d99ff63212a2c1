"""The C code without Python gives what plain loops in double precision give, on every processor, within its memory.

The first test is one of the suite; `make test-native-sanitized` and `make test-native-aarch64` run the others.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from fcn_port.fastpath.native import build
from fcn_port.fastpath.native.steps import KINDS, NativeStep
from parity_tests.fastpath import native_alone as alone
from parity_tests.fastpath.native_cases import cases

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def cases_of(manner: alone.Manner) -> list[bytes]:
    registers = alone.registers_of(manner)
    found = cases(registers)
    kinds = {KINDS[struct.unpack("<q", case[:8])[0]] for case in found}
    others = {"move", "resample", "recurrent"}  # of which the driver has its own
    assert kinds | others | (set() if registers.tiles else {"amx"}) == set(KINDS), "a kind without a case"
    return found


def check(manner: alone.Manner, folder: Path) -> Path:
    """All cases are right; gives the driver."""
    reason = alone.why_not(manner)
    if reason is not None:
        pytest.skip(reason)
    driver, all_of_them = alone.compiled(manner, folder), cases_of(manner)
    done = alone.run(manner, driver, all_of_them)
    assert (done.returncode, done.stdout.strip()) == (0, str(len(all_of_them)).encode()), done.stderr.decode()
    return driver


def _without_first_columns(folder: Path) -> Callable[[Path], Path]:
    """In place of upsample.c another one, in `folder`, that leaves them as they are; what is behind them is right."""

    def instead(source: Path) -> Path:
        if source.name != "upsample.c":
            return source
        right, careless = source.read_text(), folder / source.name
        careless.write_text(right.replace("for (int64_t x = 0; x < s->w; x++)", "for (int64_t x = 1; x < s->w; x++)"))
        assert careless.read_text() != right
        return careless

    return instead


def test_with_the_registers_that_all_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the comparison sees a number of Winograd's matrices that is wrong by a hundredth of a percent, and columns
    that are not written."""
    check(alone.PLAIN, tmp_path)
    right = build._tables()
    wrong = right.replace("0x1.8000000000000p+0", "0x1.8010000000000p+0")
    assert wrong != right
    kept = " ".join(path.stem for path in tmp_path.glob("*.o") if path.stem != "winograd")
    driver = alone.compiled(alone.PLAIN, tmp_path, tables=wrong, kept=kept)
    done = alone.run(alone.PLAIN, driver, cases_of(alone.PLAIN))
    assert done.returncode == 1 and b"winograd" in done.stderr, done.stderr.decode()
    monkeypatch.setattr(build, "_SOURCES", tuple(map(_without_first_columns(tmp_path), build._SOURCES)))
    kept = " ".join(path.stem for path in tmp_path.glob("*.o") if path.stem not in ("winograd", "upsample"))
    done = alone.run(alone.PLAIN, alone.compiled(alone.PLAIN, tmp_path, kept=kept), cases_of(alone.PLAIN))
    assert done.returncode == 1 and b"upsample: nan apart" in done.stderr, done.stderr.decode()


@pytest.mark.sanitized
@pytest.mark.parametrize("manner", [alone.NATIVE, alone.SHORTER], ids=["native", "shorter"])
def test_as_compiled_where_it_runs(manner: alone.Manner, tmp_path: Path) -> None:
    if "-mno-avx512f" in manner.flags and alone.registers_of(alone.PLAIN) != alone.SSE:
        pytest.skip("no processor with AVX")
    check(manner, tmp_path)


@pytest.mark.sanitized
def test_addresses_and_undefined_behaviour(tmp_path: Path) -> None:
    """And the sanitizer sees where a thread has less scratch than its step writes: one thread by itself, as of several
    one would write over another's sums, and the driver might end with these."""
    driver, found = check(alone.ADDRESS, tmp_path), []
    for case in cases(alone.registers_of(alone.ADDRESS), threads=[1]):
        step = NativeStep.from_buffer_copy(case)
        if KINDS[step.kind].startswith(("product", "winograd", "strassen")):
            step.scratch_apart -= 256
            found.append(bytes(step) + case[len(bytes(step)) :])
    errors = (alone.run(alone.ADDRESS, driver, [case]).stderr for case in found)
    assert any(b"heap-buffer-overflow" in each for each in errors)


@pytest.mark.sanitized
def test_threads(tmp_path: Path) -> None:
    """And the sanitizer sees where threads do not wait for what others have written."""
    check(alone.THREAD, tmp_path)
    others = ("acquire", "release", "acq_rel", "seq_cst")
    orders = "".join(f"\n#define memory_order_{each} memory_order_relaxed" for each in others)
    (tmp_path / "careless.h").write_text(f"#include <stdatomic.h>{orders}\n")
    driver = alone.compiled(alone.THREAD, tmp_path, extra=("-include", str(tmp_path / "careless.h")))
    done = alone.run(alone.THREAD, driver, cases_of(alone.THREAD))
    assert done.returncode and b"data race" in done.stderr, done.stderr.decode()


@pytest.mark.aarch64
def test_aarch64(tmp_path: Path) -> None:
    """In qemu-user where this is another processor, with NEON's registers."""
    check(alone.AARCH64, tmp_path)
