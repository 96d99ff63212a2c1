"""Kernels that came compiled with the package: for machines without a compiler, and for no other."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fcn_port.cli import run
from fcn_port.fastpath.compiler import NotBuilt
from fcn_port.fastpath.native import build, shipped, why_not
from fcn_port.fastpath.native.ship import ship
from fcn_port.fastpath.native.shipped import FORMS, KINDS, ProcessorKind, name_of

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

HERE = ProcessorKind("here", "here", frozenset({"much"}))
PLAIN = ProcessorKind("plain", "here", frozenset())
OPENMP, ALONE = FORMS


@pytest.fixture
def came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of what came with the package, on a machine without a compiler and with nothing in its cache."""
    monkeypatch.setenv("CC", "no-compiler")
    monkeypatch.delenv("FCN_PORT_NATIVE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "compiled")
    monkeypatch.setattr(shipped, "KINDS", (HERE, PLAIN))
    monkeypatch.setattr(shipped, "_flags", lambda: frozenset({"much", "more"}))
    monkeypatch.setattr(shipped.sys, "platform", "linux")
    monkeypatch.setattr(shipped.platform, "machine", lambda: "here")
    (tmp_path / "compiled").mkdir()
    build.library.cache_clear()
    yield tmp_path / "compiled"
    build.library.cache_clear()


@pytest.fixture(scope="module")
def compiled() -> Path:
    """What was compiled here."""
    return Path(build.library()._name)


def loaded() -> str:
    """The name of the library in use, without the digest of its copy in the cache."""
    return Path(build.library()._name).name.rpartition("-")[0] + ".so"


def test_the_best_of_them_is_used(came: Path, compiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in (HERE, PLAIN):
        for form in FORMS:
            shutil.copy(compiled, came / name_of(kind, form))
    assert loaded() == name_of(HERE, OPENMP)
    assert build.library().panel() > 0
    assert run(["--version"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert f"compiled before they came here ({name_of(HERE, OPENMP)})" in said and "no C compiler 'no-compiler'" in said


def test_without_the_runtime_of_openmp(came: Path, compiled: Path) -> None:
    """What cannot be loaded is passed over."""
    (came / name_of(HERE, OPENMP)).write_bytes(b"\x7fELF, but no library")
    shutil.copy(compiled, came / name_of(HERE, ALONE))
    assert loaded() == name_of(HERE, ALONE)


def test_what_the_processor_cannot_run_is_not_used(came: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "_flags", lambda: frozenset({"more"}))
    shutil.copy(compiled, came / name_of(HERE, OPENMP))
    with pytest.raises(NotBuilt, match="no C compiler"):
        build.library()
    shutil.copy(compiled, came / name_of(PLAIN, ALONE))
    assert loaded() == name_of(PLAIN, ALONE)


def test_what_was_compiled_from_another_source_is_not_used(
    came: Path, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(compiled, came / name_of(PLAIN, ALONE))
    (tmp_path / "more.c").write_text("int more;")
    monkeypatch.setattr(shipped, "_MADE_FROM", (*shipped._MADE_FROM, tmp_path / "more.c"))
    with pytest.raises(NotBuilt, match="no C compiler"):
        build.library()


def test_a_compiler_that_fails_is_none(came: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(NotBuilt, match="false"):
        build.library()
    shutil.copy(compiled, came / name_of(PLAIN, ALONE))
    assert loaded() == name_of(PLAIN, ALONE)


def test_who_forbids_native_code_gets_none(came: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FCN_PORT_NATIVE", "0")
    shutil.copy(compiled, came / name_of(PLAIN, ALONE))
    with pytest.raises(NotBuilt, match="forbids"):
        build.library()


def test_they_are_compiled_for_their_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each for its own kind of processor, without what this user sets for his own."""
    calls: list[list[str]] = []

    def compile_nothing(call: list[str]) -> subprocess.CompletedProcess[str]:
        calls.append(call)
        return subprocess.CompletedProcess(call, 0, "", "")

    monkeypatch.setattr(build, "_run", compile_nothing)
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    monkeypatch.setattr(shipped.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("FCN_PORT_CFLAGS", "-mno-avx512f")
    ship()
    kinds = [kind for kind in KINDS if kind.machine == "x86_64"]
    assert len(calls) == len(kinds) * len(FORMS)
    for kind in kinds:
        mine = [call for call in calls if f"-march={kind.name}" in call]
        assert ["-fopenmp" in call for call in mine] == [True, False]
        assert [Path(call[call.index("-o") + 1]).name for call in mine] == [name_of(kind, form) for form in FORMS]
    assert not any("-march=native" in call or "-mno-avx512f" in call for call in calls)
