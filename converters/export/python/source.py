"""The Python file of a net: its class, the helpers that it uses, and names for everything."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

from ... import layers
from ...escaping import docstring_lines, identifiers, python_literal
from ...execution.state_dict import key_of
from ...net.parameter_sharing import borrowed_blobs
from ...net.shapes import infer_blobs, infer_shapes
from ...net.spec import NetSpec
from ...passes.prepare import prepare
from ...version import VERSION
from .program import Module, PythonProgram, Statement, program_of, substituted
from .text import INDENT, WIDTH, indented, layout, unparse

HELPERS = (Path(layers.__file__).with_name("functions.py"), Path(__file__).with_name("helpers.py"))
"""The files of what an exported file may bring along."""
MOST_SIZES = 8
"""The number of inputs and outputs whose sizes the docstring gives."""
_RESERVED = frozenset({"NAMES", "SHARED", "self", "torch", "nn", "F", "Tensor", "Any", *keyword.kwlist, *dir(builtins)})
_BODY = WIDTH - 2 * len(INDENT)


def python_source(spec: NetSpec) -> str:
    """A Python file with the deployable form of the net as a class, which `class_name` names.

    The class loads the state dicts of CaffeNet and of `to_state_dict`, and computes what CaffeNet does, like it in
    eval mode at first. Raises NetError where Caffe would refuse the net, and where a layer has no form in Python.
    """
    spec = prepare(spec)
    attributes = _attributes(list(infer_blobs(spec)))
    program = program_of(spec, attributes)
    names = _variables(program)
    forward = _forward(program, names)
    tables = _tables(spec, attributes, program.modules)
    init = _init(program.modules, attributes, tables=bool(tables), modes=_has_modes(forward, program.modules))
    base = "CaffeKeys" if tables else "nn.Module"
    code = [f"class {class_name(spec)}({base}):", *indented([*init, *([""] if init else []), *forward])]
    return _file(_docstring(spec, [names[version] for version in program.inputs.values()]), [*tables, *code])


def class_name(spec: NetSpec) -> str:
    """The name of the class in `python_source`: that of the net in capitals, as Fcn8sMini for fcn8s-mini."""
    words = re.findall(r"[0-9A-Za-z]+", spec.name)
    name = "".join(word[:1].upper() + word[1:] for word in words)
    reserved = not name or name[0].isdigit() or name in _RESERVED or name in _helpers()
    return f"Net{name}" if reserved else name


# The parts of the file


def _file(docstring: Sequence[str], code: Sequence[str]) -> str:
    used = _used_helpers("\n".join(code))
    everything = "\n\n\n".join([*used, "\n".join(code)])
    imports = ["from typing import Any", ""] if re.search(r"\bAny\b", everything) else []
    imports += ["import torch"] if re.search(r"\btorch\.", everything) else []
    imports += ["from torch import Tensor, nn"]
    imports += ["from torch.nn import functional as F"] if re.search(r"\bF\.", everything) else []
    return "\n".join([*docstring, "", *imports, "", "", everything, ""])


def _docstring(spec: NetSpec, inputs: Sequence[str]) -> list[str]:
    shapes = infer_shapes(spec)
    ends = (*spec.inputs, *spec.outputs)[:MOST_SIZES]
    sizes = [f"{name} {'x'.join(map(str, shapes[name]))}" for name in ends]
    source = f" from {Path(spec.path).name}" if spec.path else ""
    lines = [
        *docstring_lines(f"{spec.name or 'A net'}, written by fcn-port {VERSION}{source}.", width=WIDTH - 3),
        "",
        f"{INDENT}net = {class_name(spec)}()",
        f"{INDENT}net.load_state_dict(state)",
        f"{INDENT}net({', '.join(inputs)})",
        "",
        *docstring_lines(f"Sizes in the definition: {', '.join(sizes)}.", width=WIDTH),
    ]
    return [f'"""{lines[0]}', *lines[1:], '"""']


def _tables(spec: NetSpec, attributes: Mapping[str, str], modules: Mapping[str, Module]) -> list[str]:
    """The constants that CaffeKeys is given; nothing where the net can do without."""
    odd = {attributes[layer]: layer for layer in modules if attributes[layer] != layer}
    shared = {key_of(*own): key_of(*owner) for own, owner in borrowed_blobs(spec).items()}
    if not odd and not shared:
        return []
    return [*_table("NAMES", odd), *_table("SHARED", shared), "", ""]


def _table(name: str, entries: Mapping[str, str]) -> list[str]:
    if not entries:
        return [f"{name}: dict[str, str] = {{}}"]
    return [f"{name} = {{", *indented(f"{python_literal(k)}: {python_literal(v)}," for k, v in entries.items()), "}"]


def _init(modules: Mapping[str, Module], attributes: Mapping[str, str], *, tables: bool, modes: bool) -> list[str]:
    """`__init__`, with an empty line after each stage; empty where there is nothing to make."""
    lines = ["super().__init__(NAMES, SHARED)" if tables else "super().__init__()"]
    for layer, module in modules.items():
        lines += layout(f"self.{attributes[layer]} = ", module.made, width=_BODY)
        lines += [""] if module.ends_stage else []
    while not lines[-1]:
        lines.pop()
    if modes:
        lines.append("self.eval()  # Caffe's TEST phase; train() for the other")
    return ["def __init__(self) -> None:", *indented(lines)] if len(lines) > 1 else []


def _has_modes(forward: Sequence[str], modules: Mapping[str, Module]) -> bool:
    """True where training makes a difference."""
    kinds = [unparse(module.made).partition("(")[0] for module in modules.values()]
    return "CaffeBatchNorm" in kinds or any("self.training" in line for line in forward)


def _forward(program: PythonProgram, names: Mapping[str, str]) -> list[str]:
    """`forward`, with an empty line after each stage."""
    statements = _folded(program, names)
    outputs = {name: ast.Name(version) for name, version in program.outputs.items()}
    result: ast.expr = ast.Dict([ast.Constant(name) for name in outputs], list(outputs.values()))
    if len(outputs) == 1:
        result = next(iter(outputs.values()))
        if statements and statements[-1].targets == tuple(program.outputs.values()):
            result = statements.pop().value
    last = Statement((), result)
    names = {**names, **dict.fromkeys(_links([*statements, last]), _link_name(names))}
    lines = [line for statement in statements for line in _lines(statement, names)]
    lines += layout("return ", _named(result, names), width=_BODY)
    head = ["self", *(f"{names[version]}: Tensor" for version in program.inputs.values())]
    returns = "Tensor" if len(outputs) == 1 else "dict[str, Tensor]"
    signature = f"def forward({', '.join(head)}) -> {returns}:"
    if len(signature) > WIDTH - len(INDENT):
        return ["def forward(", *indented(f"{argument}," for argument in head), f") -> {returns}:", *indented(lines)]
    return [signature, *indented(lines)]


# Statements


def _folded(program: PythonProgram, names: Mapping[str, str]) -> list[Statement]:
    """Activations and the like around what they work on, as F.relu(self.conv1(x)), where a line holds both."""
    readers = _readers(program.statements)
    readers.update(program.outputs.values())
    done: list[Statement] = []
    for statement in program.statements:
        bottom = done[-1].targets if done else ()
        alone = len(bottom) == 1 and statement.reads == Counter(bottom) and readers[bottom[0]] == 1
        if statement.folds and alone:
            value = substituted(statement.value, {bottom[0]: done[-1].value})
            whole = replace(statement, value=value, ends_stage=done[-1].ends_stage)
            if len(layout("x = ", _named(whole.value, names), width=_BODY)) == 1:
                done[-1] = whole
                continue
        done.append(statement)
    return done


def _readers(statements: Sequence[Statement]) -> Counter[str]:
    """The number of times that each version is read."""
    return Counter(version for statement in statements for version in statement.reads.elements())


def _links(statements: Sequence[Statement]) -> Iterator[str]:
    """The versions that only the next statement reads, and it nothing else."""
    readers = _readers(statements)
    for statement, following in pairwise(statements):
        if len(statement.targets) == 1 and set(following.reads) == set(statement.targets):
            version = statement.targets[0]
            if readers[version] == following.reads[version]:
                yield version


def _lines(statement: Statement, names: Mapping[str, str]) -> list[str]:
    targets = ", ".join(names[target] for target in statement.targets)
    lines = layout(f"{targets} = ", _named(statement.value, names), width=_BODY)
    return [*lines, ""] if statement.ends_stage else lines


def _named(value: ast.expr, names: Mapping[str, str]) -> ast.expr:
    read = {node.id for node in ast.walk(value) if isinstance(node, ast.Name)}
    return substituted(value, {version: ast.Name(names[version]) for version in read if version in names})


# Names


def _attributes(layers: Iterable[str]) -> dict[str, str]:
    """An attribute for each layer: its name, where Python and nn.Module allow that."""
    from torch import nn

    taken = {*dir(nn.Module()), *_RESERVED}
    return identifiers(layers, taken)


def _variables(program: PythonProgram) -> dict[str, str]:
    """A variable for each version: one for all of a blob."""
    blobs = dict.fromkeys(program.blob_of.values())
    names = identifiers(blobs, {*_helpers(), *_RESERVED}, prefix="blob_")
    return {version: names[blob] for version, blob in program.blob_of.items()}


def _link_name(names: Mapping[str, str]) -> str:
    """The name of the links of a chain: x, unless a blob is called so."""
    taken = set(names.values())
    return next(name for name in ("x", "h", *(f"link{i}" for i in range(len(taken) + 1))) if name not in taken)


# Helpers


@cache
def _helpers() -> Mapping[str, str]:
    """The functions and classes of the HELPERS, by name, as text."""
    found = {}
    for text in (path.read_text(encoding="utf-8") for path in HELPERS):
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[node.name] = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    return found


def _used_helpers(code: str) -> list[str]:
    """The text of the helpers that the code uses, and of those that they use, in the order of their files."""
    helpers = _helpers()
    used: set[str] = set()
    waiting = [code]
    while waiting:
        words = set(re.findall(r"\w+", waiting.pop()))
        found = words & helpers.keys() - used
        used |= found
        waiting += [helpers[name] for name in found]
    return [text for name, text in helpers.items() if name in used]
