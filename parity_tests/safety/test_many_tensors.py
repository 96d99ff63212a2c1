"""A safetensors file of many keys: refused by their count, before a library makes objects of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fcn_port
from converters import LimitError
from converters.export.safetensors import read_metadata
from fcn_port.cli import run
from parity_tests.limited import linux_only, run_limited

HEADERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "tensors": lambda n: {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(n)},
    "entries": lambda n: {"__metadata__": {f"k{i}": "" for i in range(n)}},
}


def _file(path: Path, header: dict[str, Any], *, loose: bool = False) -> Path:
    text = json.dumps(header, separators=(", ", " \n: ") if loose else None).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


@pytest.mark.parametrize("loose", [False, True])
@pytest.mark.parametrize(("what", "count"), [("tensors", 70_000), ("entries", 300_000)])
def test_too_many_are_refused(what: str, count: int, loose: bool, tmp_path: Path) -> None:
    path = _file(tmp_path / "x.safetensors", HEADERS[what](count), loose=loose)
    for read in (read_metadata, fcn_port.load):
        with pytest.raises(LimitError, match=r"x\.safetensors: the keys of its header would take") as caught:
            read(path)
        assert "FCN_PORT_LIMITS=" in str(caught.value)
    assert run(["inspect", str(path)]) == 3


@pytest.mark.parametrize(("what", "count"), [("tensors", 52_000), ("entries", 200_000)])
def test_those_of_the_largest_nets_are_read(what: str, count: int, tmp_path: Path) -> None:
    read_metadata(_file(tmp_path / "x.safetensors", HEADERS[what](count)))


def test_text_with_colons_is_not_keys(tmp_path: Path) -> None:
    prototxt = 'name: "x"\n' + 'layer { name: "a": type: "b" }\n' * 100_000
    path = _file(tmp_path / "x.safetensors", {"__metadata__": {"prototxt": prototxt.replace('"a":', '"a"')}})
    assert len(read_metadata(path)["prototxt"]) > 2_000_000


@linux_only
@pytest.mark.parametrize("what", HEADERS)
def test_memory_stays_in_bounds(what: str, tmp_path: Path) -> None:
    path = _file(tmp_path / "x.safetensors", HEADERS[what](300_000))
    code = """
try:
    read_metadata(sys.argv[1])
except LimitError:
    print("refused")
"""
    imports = "from converters import LimitError\nfrom converters.export.safetensors import read_metadata"
    assert run_limited(code, str(path), imports=imports, more=(64 << 20) + 2 * path.stat().st_size).strip() == "refused"
