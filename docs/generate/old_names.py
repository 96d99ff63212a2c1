"""The end of docs/api.md: names of the release before, which work still, and the present ones."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from converters.old_names import CONVERTERS, WEIGHTS

ROOT = Path(__file__).parents[2]
FURTHER = {
    "fcn_port.inference": "fcn_port.predict and fcn_port.fastpath",
    "converters.export.python.form.register": "to_python, a method of the layer",
}
"""What says so in a place of its own."""


def old_names_section() -> str:
    """The section, as Markdown."""
    pairs = CONVERTERS | WEIGHTS | dict(_renamed()) | FURTHER
    rows = [f"| `{old}` | {new if ' ' in new else f'`{new}`'} |" for old, new in sorted(pairs.items())]
    return "\n".join(
        [
            "## Old names",
            "",
            "They work for one release more, with a DeprecationWarning that says the present name.",
            "",
            "| old | now |",
            "| --- | --- |",
            *rows,
        ]
    )


def _renamed() -> Iterator[tuple[str, str]]:
    """The names that modules have under former ones, `lazy_attributes(renamed=)`, read from their sources."""
    for package in ("converters", "weights", "fcn_port"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if "renamed={" in text else ():
                if isinstance(node, ast.keyword) and node.arg == "renamed":
                    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                    for old, new in ast.literal_eval(node.value).items():
                        yield f"{module}.{old}", f"{module}.{new}"


__all__ = ["old_names_section"]
