"""What the whole project agrees on is written in one place; a second one is found here before it disagrees."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    """Every node of every source file, with the file's path."""
    paths = [
        path
        for package in ("converters", "weights", "fcn_port", "benchmarks")
        for path in sorted((ROOT / package).rglob("*.py"))
    ]
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    return [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]


def constant(value: object) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Constant) and type(node.value) is type(value) and node.value == value


def is_ignore_label(node: ast.AST) -> bool:
    """255 under a name for the ignored label: assigned, a default, an argument, or where VOC's labels are made."""
    named = {ast.Assign: "targets", ast.AnnAssign: "target", ast.keyword: "arg"}.get(type(node))
    if named is not None:
        target = getattr(node, named)
        text = target if isinstance(target, str) else ast.dump(target) if isinstance(target, ast.AST) else ""
        text = "".join(map(ast.dump, target)) if isinstance(target, list) else text
        return "ignore_label" in text.lower() and constant(255)(getattr(node, "value", None))
    if isinstance(node, ast.arguments):
        known = [*node.posonlyargs, *node.args][-len(node.defaults) :] if node.defaults else []
        pairs = [*zip(known, node.defaults, strict=True), *zip(node.kwonlyargs, node.kw_defaults, strict=True)]
        return any("ignore" in argument.arg and constant(255)(value) for argument, value in pairs)
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "np.where" and any(map(constant(255), node.args))


def is_empty_sha256(node: ast.AST) -> bool:
    """A digest that is fed piece by piece, or with a file read whole."""
    text = ast.unparse(node) if isinstance(node, ast.Call) else ""
    return bool(re.match(r"(hashlib\.)?sha256\((\)|.*\.read)", text))


def imports(name: str) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Import) and any(alias.name == name for alias in node.names)


def is_a_ramp(node: ast.AST) -> bool:
    """The outer product of the interpolation's ramp with itself."""
    if not isinstance(node, ast.Call) or ast.unparse(node.func) != "np.outer":
        return False
    return len({ast.unparse(argument) for argument in node.args}) == 1 and not isinstance(node.args[0], ast.Starred)


def tells_html(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bytes) and b"doctype" in node.value.lower()


OTHERS = ("parts.py", "convolution.py", "onnx_export.py", "onnx_targets.py", "self_check.py", "by_images.py")
ONCE: dict[str, tuple[Callable[[ast.AST], bool], list[str]]] = {
    "the metrics' names": (constant("fwavacc"), ["weights/records.py"]),
    "what people call the metrics": (constant("mean IU"), ["weights/records.py"]),
    "the ignored label": (is_ignore_label, ["weights/records.py"]),
    "the digest of a file": (is_empty_sha256, ["converters/safety/digest.py"]),
    "the user's cache folder": (imports("platformdirs"), ["weights/cache.py"]),
    "what a web page begins with": (tells_html, ["converters/formats/sniff.py"]),
    "the scale of pool3's skip": (constant(0.0001), ["fcn_port/nets/fcn8s_atonce.py"]),
    "the bilinear kernel": (is_a_ramp, ["converters/layers/bilinear.py"] * 2),  # Caffe's own, and the one before 1.0
    "the version": (constant(VERSION[1] if VERSION else ""), []),  # pyproject.toml says it
}


@pytest.mark.parametrize("name", ONCE)
def test_it_is_said_once(name: str) -> None:
    says, homes = ONCE[name]
    found = [path for path, node in nodes() if says(node)]
    if name == "the scale of pool3's skip":  # LRN's alpha and bounds on errors are other numbers of that size
        found = [path for path in found if path.startswith("fcn_port/") and Path(path).name not in OTHERS]
    assert found == homes
