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
