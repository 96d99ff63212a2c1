"""Compiled code is loaded only where nobody else can have put it, and only if it is what was kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fcn_port import private
from fcn_port.cli import run
from fcn_port.fastpath.native import build

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

PLANTED = """
#include <stdio.h>
#include <stdlib.h>
__attribute__((constructor)) static void run(void) { fclose(fopen(getenv("RAN"), "w")); }
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library whose constructor makes a file `$RAN` as soon as it is loaded."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted.c").write_text(PLANTED)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "planted.so", "planted.c"], cwd=folder, check=True)
    return folder / "planted.so"


@pytest.fixture(scope="module")
def compiled() -> Path:
    """What was compiled here."""
    return Path(build.library()._name)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: Path) -> Iterator[Path]:
    """An empty cache folder, and no library loaded yet; what has to be compiled is copied, which is quicker."""
    monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "native")
    monkeypatch.setattr(build, "_compile", lambda command, folder: Path(shutil.copy(compiled, folder)))
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    (tmp_path / "native").mkdir(mode=0o700)
    build.library.cache_clear()
    yield tmp_path / "native"
    build.library.cache_clear()


def lie(cache: Path, planted: Path, *, name: str = "") -> Path:
    """Put the planted library where the compiled one would be looked for, with a digest that is right."""
    digest = hashlib.sha256(planted.read_bytes()).hexdigest()
    path = cache / (name or f"{build._name(['cc'])}-{digest}.so")
    shutil.copy(planted, path)
    path.chmod(0o700)
    return path


@pytest.mark.parametrize("unsafe", ["folder", "folder above", "another user's", "link to a folder of everybody"])
def test_a_folder_where_others_write(
    unsafe: str, cache: Path, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would pass every check of the file itself; it is neither loaded nor kept there, and all works."""
    place = lie(cache, planted)
    if unsafe == "folder":
        cache.chmod(0o777)
    elif unsafe == "folder above":
        tmp_path.chmod(0o777)
    elif unsafe == "another user's":
        own = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: own + 7)
    else:
        cache.chmod(0o777)
        (tmp_path / "link").symlink_to(cache)
        monkeypatch.setattr(build, "cache_folder", lambda: tmp_path / "link")
    assert build.library().panel() > 0 and cache not in Path(build.library()._name).parents
    assert not (tmp_path / "ran").exists()
    assert list(cache.iterdir()) == [place]


def test_what_is_the_users_own_is_loaded(cache: Path, planted: Path, tmp_path: Path) -> None:
    """Else the tests around would see nothing: this one runs, and is then found not to be ours."""
    lie(cache, planted)
    assert build.library().panel() > 0 and (tmp_path / "ran").exists()


@pytest.mark.parametrize("what", ["link", "another name", "others may write", "another digest", "cut", "junk"])
def test_a_file_that_is_not_what_was_kept(what: str, cache: Path, planted: Path, tmp_path: Path) -> None:
    """It is made again, and none of it ran."""
    path = lie(cache, planted)
    if what == "link":
        path.unlink()
        path.symlink_to(planted)
    elif what == "another name":
        (tmp_path / "name").hardlink_to(path)
    elif what == "others may write":
        path.chmod(0o770)
    elif what == "another digest":
        path = path.rename(path.with_name(f"{build._name(['cc'])}-{'0' * 64}.so"))
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.unlink()
        junk = b"\x7fELF nothing more"
        path = path.with_name(f"{build._name(['cc'])}-{hashlib.sha256(junk).hexdigest()}.so")
        path.write_bytes(junk)
    assert build.library().panel() > 0 and not (tmp_path / "ran").exists()
    (kept,) = cache.iterdir()
    assert kept != path and kept.stat().st_size > 10_000 and build.library()._name == str(kept)


def test_a_damaged_one_is_made_again(cache: Path) -> None:
    build.library()
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    copy = cache / "copy"  # this process has the file itself open
    copy.write_bytes(content[:5000] + b"x" + content[5001:])
    copy.replace(kept)
    build.library.cache_clear()
    build.library()
    assert [each.read_bytes() for each in cache.iterdir()] == [content]


def test_a_damaged_one_that_cannot_be_removed_is_passed_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that is mounted read-only, say: it is compiled for this process."""

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    path = cache / f"{build._name(['cc'])}-{'0' * 64}.so"
    path.write_bytes(b"damaged")
    path.chmod(0o700)
    monkeypatch.setattr(Path, "unlink", read_only)
    monkeypatch.setattr(build, "whole_file", read_only)
    assert build.library().panel() > 0 and [each.name for each in cache.iterdir()] == [path.name]


def test_a_folder_from_which_nothing_may_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mounted with `noexec`: what was compiled for a second, or twenty, was given up."""
    load = ctypes.CDLL

    def refuse(name: str) -> ctypes.CDLL:
        if Path(name).parent == cache:
            raise OSError(f"{name}: failed to map segment from shared object")
        return load(name)

    monkeypatch.setattr(build.ctypes, "CDLL", refuse)
    for _ in range(2):
        assert Path(build._found()._name).parent != cache
        assert not list(cache.iterdir())


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        assert private.why_not_private(tmp_path / "a" / "b") is None
    finally:
        os.umask(old)
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")} == {0o700}


def test_version_says_where_compiled_code_is_or_why_it_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(["--version"]) == 0
    assert "compiled code in " in capsys.readouterr().out and not (tmp_path / "cache").exists()
    tmp_path.chmod(0o777)
    assert run(["--version"]) == 0
    assert f"compiled code is not kept: {tmp_path}: others may write" in capsys.readouterr().out


NONE_OF_OURS = "PyTorch's; none of our own: "
NOT_YET = "our own, which true compiles when a net first runs, and PyTorch's"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"FCN_PORT_NATIVE": "0"}, NONE_OF_OURS + "FCN_PORT_NATIVE=0 forbids it"),
        ({"FCN_PORT_NATIVE": "off"}, NONE_OF_OURS + "FCN_PORT_NATIVE=off forbids it"),
        ({"CC": "no-such-compiler"}, NONE_OF_OURS + "there is no C compiler 'no-such-compiler'; set CC to one"),
        ({"CC": "'cc"}, NONE_OF_OURS + 'CC is "\'cc", which a shell cannot read: no closing quotation'),
        ({"CC": "false"}, NONE_OF_OURS + "false: --version ends with status 1"),
        ({"CC": "true"}, NOT_YET),
        ({"CC": "true", "FCN_PORT_CFLAGS": "--junk"}, NOT_YET.replace("true", "true with FCN_PORT_CFLAGS=--junk")),
        ({"CC": "true", "FCN_PORT_NATIVE": "1"}, NOT_YET),
        ({"CC": "true", "FCN_PORT_NATIVE": "jumk"}, f"{NOT_YET}; FCN_PORT_NATIVE is 'jumk', which is neither 0 nor 1"),
    ],
    ids=["0", "off", "no compiler", "no words", "no version", "not yet", "flags", "1", "neither"],
)
def test_version_says_whose_kernels_run(
    variables: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FCN_PORT_NATIVE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"kernels of fast: {says}"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("", "our own, compiled here by true, and PyTorch's"),
        ("another", "our own, which true compiles when a net first runs, and PyTorch's"),
    ],
    ids=["this source", "the source before"],
)
def test_version_tells_kernels_that_were_compiled_here(
    source: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "true")
    monkeypatch.delenv("FCN_PORT_NATIVE", raising=False)
    folder = build.cache_folder()
    assert private.why_not_private(folder) is None
    tables = build._tables()
    with monkeypatch.context() as then:
        then.setattr(build, "_tables", lambda: tables + source)
        (folder / f"{build._name(['true'])}-0.so").touch()
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"kernels of fast: {says}"
