"""A net as statements in single assignment, before names and lines.

Each layer is one statement, or a few. Every state that a blob goes through is a version of its own, written `_17`, so
that layers which work in place need no care until names are given.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from ...errors import NetError
from ...layers.base import Neuron, blob_name
from ...layers.concat import Concat
from ...layers.pooling import Pooling
from ...layers.scale import Broadcast
from ...net.aliasing import Alias, aliases
from ...net.layer import Layer, LayerSpec, Shape
from ...net.parameter_sharing import BlobId, borrowed_blobs
from ...net.python_form import Form, NoFormError, Site, call
from ...net.shapes import LayerShapes, iter_layer_shapes, known_params
from ...net.spec import NetSpec
from .text import expression


@dataclass(frozen=True)
class Statement:
    """`targets = value`.

    `folds` says that the value reads well with another one in place of its bottom, as relu(conv(x)) does;
    `ends_stage` that an empty line may follow.
    """

    targets: tuple[str, ...]
    value: ast.expr
    folds: bool = False
    ends_stage: bool = False

    @property
    def reads(self) -> Counter[str]:
        """The versions that the value reads, and how often."""
        return Counter(node.id for node in ast.walk(self.value) if isinstance(node, ast.Name) and is_version(node.id))


@dataclass(frozen=True)
class Module:
    """The holder of a layer's blobs: an expression that makes it; `ends_stage` if it is the last of a stage."""

    made: ast.expr
    ends_stage: bool = False


@dataclass(frozen=True)
class PythonProgram:
    """The statements, the modules by layer, which blob each version is of, and the inputs' and outputs' versions."""

    statements: tuple[Statement, ...]
    modules: Mapping[str, Module]
    blob_of: Mapping[str, str]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def is_version(name: str) -> bool:
    """True for a name in an expression that stands for a blob's version."""
    return name[:1] == "_" and name[1:].isdecimal()


def substituted(value: ast.expr, names: Mapping[str, ast.expr]) -> ast.expr:
    """A copy of the expression with others in place of names."""

    class Substitute(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return names.get(node.id, node)

    found: ast.expr = Substitute().visit(expression(ast.unparse(value)))
    return found


def program_of(spec: NetSpec, attributes: Mapping[str, str]) -> PythonProgram:
    """The program of a deployable net; `attributes` names the module of each layer that has blobs.

    Statements that nobody needs are left out. Raises NetError for a layer that has no form in Python.
    """
    writer = _Writer(spec, attributes)
    for row, changed in zip(iter_layer_shapes(spec), aliases(spec), strict=True):
        writer.add(row, changed)
    outputs = {name: writer.current[name] for name in spec.outputs}
    statements = _needed(writer.statements, outputs.values())
    return PythonProgram(tuple(statements), writer.modules, writer.blob_of, writer.inputs, outputs)


def _needed(statements: Sequence[Statement], outputs: Iterable[str]) -> list[Statement]:
    read = set(outputs)
    needed = []
    for statement in reversed(statements):
        if read.intersection(statement.targets):
            read.update(statement.reads)
            needed.append(statement)
    return needed[::-1]


def _ends_stage(params: Layer) -> bool:
    """True where a person would leave a line empty: behind a pooling that shrinks the map, and where branches meet."""
    return isinstance(params, Concat) or (isinstance(params, Pooling) and max(params.stride) > 1)


def _holder(shapes: Mapping[int, Shape]) -> str:
    """The module that holds blobs, by position, for which PyTorch has none; "" where there are none."""
    named = {blob_name(position): repr(shape) for position, shape in shapes.items()}
    return call("CaffeBlobs", **named) if named else ""


class _Writer:
    """Goes through the layers of a net once, in order; `current` is the version in which each blob is."""

    def __init__(self, spec: NetSpec, attributes: Mapping[str, str]) -> None:
        self.statements: list[Statement] = []
        self.modules: dict[str, Module] = {}
        self.blob_of: dict[str, str] = {}
        self.inputs: dict[str, str] = {}
        self.current: dict[str, str] = {}
        self._attributes = attributes
        self._borrowed = borrowed_blobs(spec)
        self._blob_shapes: dict[BlobId, Shape] = {}
        self._path = spec.path
        self._numbers = count()

    def add(self, row: LayerShapes, changed: Sequence[Alias]) -> None:
        """The statements of one layer, and of the blobs that change with its tops because they are one memory."""
        layer, params = row.layer, known_params(row.layer)
        if layer.type == "Input":
            self.inputs.update((top, self._new(top)) for top in layer.tops)
            return
        texts, module = self._written(row)
        values = [expression(text) for text in texts]
        if len(values) > 1 and set(layer.tops) & set(layer.bottoms):
            values = [ast.Tuple(values)]  # at once: a later one may read what an earlier one replaces
        tops = [self._new(top) for top in layer.tops]
        targets = [tuple(tops)] if len(values) == 1 else [(top,) for top in tops]
        folds = isinstance(params, (Neuron, Broadcast))
        ends_stage = _ends_stage(params)
        self.statements += [Statement(t, v, folds, ends_stage) for t, v in zip(targets, values, strict=bool(values))]
        for name, top in changed:
            value = expression(f"{self.current[top]}.reshape({self.current[name]}.shape)")
            self.statements.append(Statement((self._new(name),), value))
        if ends_stage and self.modules:
            last = next(reversed(self.modules))
            self.modules[last] = replace(self.modules[last], ends_stage=True)
        if module:
            self.modules[layer.name] = Module(expression(module))

    def _new(self, blob: str) -> str:
        version = f"_{next(self._numbers)}"
        self.blob_of[version] = blob
        self.current[blob] = version
        return version

    def _written(self, row: LayerShapes) -> tuple[tuple[str, ...], str]:
        """The expressions of the tops, and the one that makes the layer's module, "" where it needs none."""
        layer = row.layer
        ids = [(layer.name, position) for position in range(len(row.blobs))]
        self._blob_shapes.update(zip(ids, row.blobs, strict=True))
        bottoms = tuple(self.current[bottom] for bottom in layer.bottoms)
        site = Site(
            bottoms=bottoms,
            shapes=row.bottoms,
            tops=len(layer.tops),
            module=f"self.{self._attributes[layer.name]}" if ids else "",
            blobs=tuple(map(self._blob, ids)),
            blob_shapes=row.blobs,
        )
        found = self._form(layer, site)
        own = {i: shape for i, shape in enumerate(row.blobs) if (layer.name, i) not in self._borrowed}
        if len(own) == len(ids):
            return found.tops, found.module or _holder(own)
        lender = self._lender(ids, found)
        if lender is not None:
            return self._form(layer, replace(site, module=f"self.{self._attributes[lender]}")).tops, ""
        if not found.shared:
            raise NetError(
                "it shares only some of its blobs, or with a layer that has other settings",
                path=self._path,
                where=layer.place,
                hint=f"in Python source, {layer.type} layers can share all their blobs, with equal settings, or none",
            )
        return found.shared, _holder(own)

    def _form(self, layer: LayerSpec, site: Site) -> Form:
        try:
            return known_params(layer).to_python(site)
        except NoFormError as error:
            raise NetError(
                f"unsupported layer type in Python source: {error} has no form",
                path=self._path,
                where=layer.place,
                hint="--to onnx or torch-export may have one; a type of your own says it in its method `to_python` "
                "(converters/net/python_form.py)",
            ) from None

    def _lender(self, ids: Sequence[BlobId], found: Form) -> str | None:
        """The layer whose module does for this one too, because all blobs and settings are the same."""
        owner = self._borrowed.get(ids[0], ids[0])[0]
        all_its = all(self._borrowed.get(own) == (owner, own[1]) for own in ids)
        same = owner in self.modules and ast.unparse(self.modules[owner].made) == found.module
        return owner if all_its and same else None

    def _blob(self, own: BlobId) -> str:
        owner = layer, position = self._borrowed.get(own, own)
        text = f"self.{self._attributes[layer]}.{blob_name(position)}"
        shape = self._blob_shapes[own]
        same = self._blob_shapes[owner] == shape
        return text if same else f"{text}.reshape({', '.join(map(str, shape))})"
