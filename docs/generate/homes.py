"""converters/layers/homes.py: the module of each layer type, so that a net's own types alone are imported.

Read from the text of the modules, so that it can be made whatever it says now.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

HOMES = Path(__file__).parents[2] / "converters" / "layers" / "homes.py"

HEAD = '''"""The module of this folder that registers each layer type; `make docs-generated` writes it."""

from __future__ import annotations

from collections.abc import Mapping

HOMES: Mapping[str, str] = {
'''


def homes_module(folder: Path = HOMES.parent) -> str:
    """The text of that module for the modules in `folder`, one line a type."""
    found = {
        name: path.stem
        for path in sorted(folder.glob("*.py"))
        for name in _registered(ast.parse(path.read_text(encoding="utf-8")))
    }
    return HEAD + "".join(f'    "{name}": "{module}",\n' for name, module in sorted(found.items())) + "}\n"


def _registered(tree: ast.Module) -> Iterator[str]:
    """The names in @register_layer(...) above the classes of a module."""
    for node in tree.body:
        for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
            if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", None) == "register_layer":
                yield from map(ast.literal_eval, decorator.args)
