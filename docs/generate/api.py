"""docs/api.md: the public names of the packages and of their parts, with their signatures and docstrings.

Public is what an `__init__.py` lists in `__all__`. The sources are read by griffe and not imported, so the page is the
same under every version of Python and torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

import griffe

from .old_names import old_names_section

ROOT = Path(__file__).parents[2]
PACKAGES = ("fcn_port", "converters", "weights")
STARS = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
PRIVATE = ("fcn_port.cli",)
"""Packages whose names are not for use from outside."""

INTRODUCTION = """\
# The Python interface

The public names of `fcn_port`, `converters`, `weights` and of their parts. This page is made from the docstrings by
`make docs-generated`; change those and not this file. Names that stand here keep working as `CONTRIBUTING.md` says of
versions and deprecations; what does not stand here may change. [Old names](#old-names) are at the end.
"""


def api_page() -> str:
    """The page, as Markdown."""
    collection = griffe.ModulesCollection()
    loader = griffe.GriffeLoader(search_paths=[ROOT], modules_collection=collection)
    for package in ("converters", "weights", "fcn_port"):
        loader.load(package)
    loader.resolve_aliases(implicit=False, external=False)
    said: dict[str, str] = {}
    parts = [INTRODUCTION]
    for package in _parts():
        parts += _package(collection[package], said)
    parts.append(old_names_section())
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _parts() -> Iterator[str]:
    """The packages in the order of the page: each before what is inside it."""
    for top in PACKAGES:
        for file in sorted((ROOT / top).rglob("__init__.py"), key=lambda file: file.parent.parts):
            name = ".".join(file.parent.relative_to(ROOT).parts)
            if not any((name + ".").startswith(private + ".") for private in PRIVATE):
                yield name


def _package(package: griffe.Module, said: dict[str, str]) -> Iterator[str]:
    """The section of one package; names that a section above has are only pointed to."""
    names = _public(package)
    if not names:
        return
    yield f"## {package.path}"
    yield _docstring(package)
    above = []
    for name in names:
        found = _target(package, name)
        if found.path in said:
            above.append(f"`{name}` (under `{said[found.path]}`)")
        else:
            said[found.path] = package.path
            yield from _entry(found, f"{package.path}.{name}")
    if above:
        yield "Also here: " + ", ".join(above) + "."


def _public(package: griffe.Module) -> list[str]:
    return sorted(str(name) for name in package.exports or ())


def _target(package: griffe.Module, name: str) -> griffe.Object:
    """What a public name is in the end: imports are followed, for a package may hold a module of the same name."""
    while path := package.imports.get(name):
        home, _, name = path.rpartition(".")
        package = package.modules_collection[home]
    found: griffe.Object | griffe.Alias = package[name]
    return found.final_target if isinstance(found, griffe.Alias) else found


def _entry(found: griffe.Object, path: str) -> Iterator[str]:
    yield f"### {path}"
    if isinstance(found, griffe.Class):
        yield _code([f"class {path.rpartition('.')[2]}{_call(found.parameters)}{_bases(found)}"])
        yield _docstring(found)
        members = list(_members(found))
        if members:
            yield "\n".join(members)
    elif isinstance(found, griffe.Function):
        forms = found.overloads or [found]
        yield _code([f"{found.name}{_call(form.parameters)}{_returns(form)}" for form in forms])
        yield _docstring(found)
    else:
        yield _code([f"{found.name} = {found.value}" if isinstance(found, griffe.Attribute) else found.name])
        yield _docstring(found)


def _bases(found: griffe.Class) -> str:
    names = [str(base) for base in found.bases if str(base) not in ("object", "Generic")]
    return f"    # {'an' if names[0][0] in 'AEIOU' else 'a'} {', '.join(names)}" if names else ""


def _members(found: griffe.Class) -> Iterator[str]:
    """The methods, properties and documented fields of a class itself, a line each."""
    for name, member in found.members.items():
        if member.is_alias or name.startswith("_") or member.docstring is None:
            continue
        first = _first(member.docstring.value)
        if isinstance(member, griffe.Function):
            yield f"- `{name}{_call(_own(member.parameters))}{_returns(member)}`: {first}"
        elif isinstance(member, griffe.Attribute):
            yield f"- `{name}{f': {member.annotation}' if member.annotation else ''}`: {first}"


def _own(parameters: Iterable[griffe.Parameter]) -> list[griffe.Parameter]:
    return [each for each in parameters if each.name not in ("self", "cls")]


def _call(parameters: Iterable[griffe.Parameter]) -> str:
    """Parameters as they are written, with the marks of positional-only and keyword-only ones."""
    written: list[str] = []
    before: griffe.ParameterKind | None = None
    for each in _own(parameters):
        kind = each.kind
        star = "" if kind is None else STARS.get(kind, "")
        if before is griffe.ParameterKind.positional_only and kind is not before:
            written.append("/")
        if kind is griffe.ParameterKind.keyword_only and before not in (kind, griffe.ParameterKind.var_positional):
            written.append("*")
        typed = f": {each.annotation}" if each.annotation is not None else ""
        default = "" if each.default is None or star else f" = {each.default}" if typed else f"={each.default}"
        written.append(f"{star}{each.name}{typed}{default}")
        before = kind
    if before is griffe.ParameterKind.positional_only:
        written.append("/")
    return f"({', '.join(written)})"


def _returns(function: griffe.Function) -> str:
    return "" if function.returns is None else f" -> {function.returns}"


def _code(lines: Iterable[str]) -> str:
    return "\n".join(["```python", *lines, "```"])


def _docstring(found: griffe.Object) -> str:
    """The docstring; indented blocks are code in Markdown, too."""
    return inspect.cleandoc(found.docstring.value) if found.docstring else ""


def _first(text: str) -> str:
    """The first paragraph, on a line."""
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())


__all__ = ["api_page"]
