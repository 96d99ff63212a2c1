"""The packages are found whatever lies in the working directory, and what cannot be helped is said plainly."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from parity_tests.test_architecture import ROOT

PACKAGES = ("converters", "weights", "fcn_port")
IMPORT = "import fcn_port.cli, converters.safety.files, weights.card; print(fcn_port.__file__)"

WITHOUT_OURS = """
import sys
from pathlib import Path
sys.path[:] = [folder for folder in sys.path if not Path(folder, "fcn_port", "__init__.py").is_file()]
"""
"""The environment of these tests may have an editable install of its own."""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A working directory with plain folders of the packages' names."""
    for name in ("weights", "converters"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
    return tmp_path / "elsewhere"


def python(code: str, *, cwd: Path, path: Path | None = ROOT) -> subprocess.CompletedProcess[str]:
    """What a script in `cwd` sees where `path` is on sys.path, as an editable install has it."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_folders_of_the_packages_names_are_in_nobodys_way(elsewhere: Path) -> None:
    done = python(IMPORT, cwd=elsewhere)
    assert done.returncode == 0 and done.stdout.strip() == str(ROOT / "fcn_port" / "__init__.py"), done.stderr


@pytest.mark.parametrize("name", ["weights", "converters"])
@pytest.mark.parametrize("kind", ["module", "package"])
def test_a_namesake_is_named(kind: str, name: str, elsewhere: Path) -> None:
    (elsewhere / name).rmdir()
    path = elsewhere / (f"{name}.py" if kind == "module" else f"{name}/__init__.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    done = python(IMPORT, cwd=elsewhere)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: fcn_port: 'import {name}' finds {path} instead") and "rename it" in last


@pytest.mark.parametrize("first", ["", "import converters, weights\n"])
def test_the_packages_beside_are_attributes_of_the_face(first: str, elsewhere: Path) -> None:
    """The very same modules, whichever name is asked for first."""
    code = f"{first}from fcn_port import converters as a, weights as b\nimport converters, fcn_port, weights\n"
    code += "assert a is converters and b is weights and {'converters', 'weights'} <= {*dir(fcn_port)}\n"
    code += "assert fcn_port.converters.NetSpec is converters.NetSpec"
    done = python(code, cwd=elsewhere)
    assert done.returncode == 0, done.stderr


def test_an_editable_install_is_a_folder_on_the_path(elsewhere: Path, tmp_path: Path) -> None:
    """As pip makes it of pyproject.toml, with the setuptools that is here and no network."""
    pytest.importorskip("setuptools", "77")
    source, site = tmp_path / "source", tmp_path / "site"
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("files", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = f"import setuptools.build_meta as backend; print(backend.build_editable({str(tmp_path)!r}))"
    done = python(build, cwd=source, path=None)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(site)
    (pth,) = site.glob("*.pth")
    assert pth.read_text().split() == [str(source)]
    assert not list(site.rglob("*.py")), "a finder, which comes after the working directory"
    found = python(f"{WITHOUT_OURS}import site; site.addsitedir({str(site)!r})\n{IMPORT}", cwd=elsewhere, path=None)
    assert found.returncode == 0 and found.stdout.strip() == str(source / "fcn_port" / "__init__.py"), found.stderr


def test_every_package_is_in_the_wheel() -> None:
    """package-dir would let setuptools look elsewhere; what is packed is asked for by name."""
    text = (ROOT / "pyproject.toml").read_text()
    assert re.search(r'^package-dir = \{ "" = "\." \}$', text, re.M)
    for name in PACKAGES:
        assert f'"{name}*"' in text and (ROOT / name / "__init__.py").is_file()
