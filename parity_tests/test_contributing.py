"""CONTRIBUTING.md names files, targets and folders that are there."""

from __future__ import annotations

import re

from parity_tests.test_architecture import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_path_is_there() -> None:
    written = re.findall(r"`([\w./{},-]+/[\w./{},-]*|[\w-]+\.(?:md|toml|txt|py))`", TEXT)
    paths = {path for path in written if not path.startswith(("build/", "dist/"))}
    expanded = {
        head + part + tail
        for path in paths
        for head, parts, tail in re.findall(r"^([^{]*)\{?([^}]*)\}?(.*)$", path)
        for part in parts.split(",")
    }
    below = [ROOT, ROOT / "fcn_port" / "fastpath", ROOT / "converters" / "export" / "python", ROOT / "parity_tests"]
    assert len(expanded) > 40
    assert sorted(path for path in expanded if not any((folder / path).exists() for folder in below)) == []


def test_every_target_is_in_the_makefile() -> None:
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", TEXT, re.M)) - targets == set()


def test_a_marker_stands_in_the_module_of_its_tests() -> None:
    """`make test-oracle` and `make test-opencv5` look for it there, and collect no other module."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"-m {name} $(call marked,{name})" in makefile for name in ("oracle", "opencv5"))
    for path in (ROOT / "parity_tests").rglob("*.py"):
        if not path.name.startswith("test_"):
            assert not re.search(r"\bmark\.(oracle|opencv5)\b", path.read_text(encoding="utf-8")), path
