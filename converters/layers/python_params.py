"""The param_str of Python layers: YAML, as py-faster-rcnn and the projects after it write it.

    'feat_stride': 16
    'scales': !!python/tuple [4, 8, 16, 32]

One mapping of names to numbers, words and lists, in braces or not; with commas in place of lines, too, which YAML
itself refuses.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

from .base import refuse

if TYPE_CHECKING:
    from ..net.layer import LayerSpec

_ENTRY = re.compile(
    r"""\s* ["']?(\w+)["']? \s*:\s* (?:!![\w/]+\s*)?            # a name, and perhaps YAML's word for a type
        ( \[[^\[\]]*\] | \([^()]*\) | "[^"]*" | '[^']*' | [^,\n{}\[\]()"']+ )
        \s*[,\n]?""",
    re.VERBOSE,
)
_WORDS = {"true": True, "false": False, "yes": True, "no": False, "null": None, "none": None}


def python_params(spec: LayerSpec) -> dict[str, Any]:
    """The mapping in a Python layer's param_str: numbers, words and lists by name; raises NetError where it is none."""
    text = spec.message.python_param.param_str.strip()
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    found: dict[str, Any] = {}
    at = 0
    while at < len(inner.rstrip()):
        entry = _ENTRY.match(inner, at)
        if entry is None:
            raise refuse(spec, f"param_str {text!r}: expected 'name': value at {inner[at : at + 20]!r}")
        found[entry[1]] = _value(entry[2].strip())
        at = entry.end()
    return found


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return list(value) if isinstance(value, tuple) else value


def numbers(spec: LayerSpec, params: dict[str, Any], name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """A list of numbers above 0 of the param_str."""
    values = params.get(name, list(default))
    values = values if isinstance(values, list) else [values]
    if not values or not all(type(value) in (int, float) and value > 0 for value in values):
        raise refuse(spec, f"param_str: '{name}' is {values}; expected numbers above 0")
    return tuple(values)


def whole(spec: LayerSpec, params: dict[str, Any], name: str, default: int | None = None) -> int:
    """A whole number above 0 of the param_str."""
    value = params.get(name, default)
    if type(value) is not int or value < 1:
        raise refuse(spec, f"param_str: '{name}' is {value}; expected a whole number above 0")
    return value
