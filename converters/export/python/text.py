"""Python expressions as lines of text, broken where formatters break them (88 columns)."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from ...escaping import python_literal

INDENT = "    "
WIDTH = 88


def expression(text: str) -> ast.expr:
    """The syntax tree of an expression."""
    return ast.parse(text, mode="eval").body


def unparse(value: ast.expr) -> str:
    """The expression on one line, its strings as `python_literal` writes them."""

    class Quote(ast.NodeTransformer):
        def visit_Constant(self, node: ast.Constant) -> ast.expr:
            return ast.Name(python_literal(node.value)) if isinstance(node.value, str) else node

    return ast.unparse(Quote().visit(expression(ast.unparse(value))))


def indented(lines: Iterable[str]) -> list[str]:
    """The lines one level further in; empty ones stay empty."""
    return [INDENT + line if line else "" for line in lines]


def layout(before: str, value: ast.expr, after: str = "", *, width: int) -> list[str]:
    """`before`, the expression and `after` in lines of at most `width` columns, as far as there are brackets."""
    flat = f"{before}{unparse(value)}{after}"
    if len(flat) <= width:
        return [flat]
    if isinstance(value, ast.Call):
        named = [(f"{keyword.arg}=", keyword.value) for keyword in value.keywords]
        parts = [*(("", argument) for argument in value.args), *named]
        return _bracketed(f"{before}{unparse(value.func)}(", parts, f"){after}", width)
    if isinstance(value, (ast.List, ast.Tuple)):
        opening, closing = ("[", "]") if isinstance(value, ast.List) else ("(", ")")
        return _bracketed(f"{before}{opening}", [("", item) for item in value.elts], f"{closing}{after}", width)
    if isinstance(value, ast.Dict):
        items = [(f"{unparse(key)}: ", item) for key, item in zip(value.keys, value.values, strict=True) if key]
        return _bracketed(f"{before}{{", items, f"}}{after}", width)
    if isinstance(value, ast.BinOp):
        return [f"{before}(", *indented(_terms(value, width - len(INDENT))), f"){after}"]
    return [flat]


def _bracketed(opening: str, parts: list[tuple[str, ast.expr]], closing: str, width: int) -> list[str]:
    """The parts between brackets: all on a line of their own if they fit, else each on one."""
    inner = ", ".join(f"{name}{unparse(value)}" for name, value in parts)
    if len(INDENT + inner) <= width and not opening.endswith(("[", "{")):
        return [opening, INDENT + inner, closing]
    lines = [line for name, value in parts for line in layout(name, value, ",", width=width - len(INDENT))]
    return [opening, *indented(lines), closing]


def _terms(value: ast.BinOp, width: int) -> list[str]:
    """A sum or product in parentheses: on one line, else an operator and a term on each."""
    flat = unparse(value)
    if len(flat) <= width:
        return [flat]
    terms: list[ast.expr] = []
    operators: list[ast.operator] = []
    node: ast.expr = value
    while isinstance(node, ast.BinOp) and isinstance(node.op, type(value.op)):
        terms.append(node.right)
        operators.append(node.op)
        node = node.left
    signs = [_SIGNS[type(operator)] for operator in operators]
    rest = [f"{sign} {unparse(term)}" for sign, term in zip(signs, terms, strict=True)]
    return [unparse(node), *rest[::-1]]


_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**"}
