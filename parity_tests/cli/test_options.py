"""Options reach the code as fields with types: each is an option of that type, and nothing is looked up by name."""

from __future__ import annotations

import ast
import types
import typing
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import click
import pytest

from fcn_port.cli.inspect import SizeParam
from fcn_port.cli.program import VERBS
from fcn_port.data.inputs import InputChange
from fcn_port.evaluation.predicting import Refinement
from fcn_port.predictor import Shard

CLI = Path(__file__).parents[2] / "fcn_port" / "cli"
RECORDS = {"InputChange": InputChange, "Refinement": Refinement, "Shard": Shard}
"""Types that options are read into, which the verbs import only when they run."""
WITH_RECORDS = [
    verb
    for verb in (name.replace("-", "_") for name in VERBS)
    if f"{verb.title().replace('_', '')}Options" in (CLI / f"{verb}.py").read_text(encoding="utf-8")
]


def values_of(parameter: click.Parameter) -> set[Any]:
    """The types, or for a choice the words, that click gives for a parameter."""
    kind = parameter.type
    if isinstance(kind, click.Choice):
        found: set[Any] = set(kind.choices)
    elif isinstance(kind, click.Path):
        found = {Path}
    elif isinstance(kind, SizeParam):
        found = {tuple[int, int]}
    else:
        found = {
            next(
                python
                for family, python in (
                    (click.types.BoolParamType, bool),
                    (click.types.IntParamType, int),
                    (click.types.FloatParamType, float),
                    (click.types.StringParamType, str),
                )
                if isinstance(kind, family)
            )
        }
    if getattr(parameter, "multiple", False):
        (each,) = found
        return {tuple[each, ...]}
    may_be_missing = not parameter.required and (found != {bool} or parameter.default is None)
    has_default = parameter.default is not None and "UNSET" not in repr(parameter.default).upper()
    return found | {types.NoneType} if may_be_missing and not has_default else found


def values_in(annotation: Any) -> set[Any]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return set().union(*map(values_in, typing.get_args(annotation)))
    return set(typing.get_args(annotation)) if typing.get_origin(annotation) is Literal else {annotation}


@pytest.mark.parametrize("verb", WITH_RECORDS)
def test_each_field_is_an_option_of_its_type(verb: str) -> None:
    module = import_module(f"fcn_port.cli.{verb}")
    record = getattr(module, f"{verb.title().replace('_', '')}Options")
    parameters = {parameter.name: parameter for parameter in module.command.params}
    hints = typing.get_type_hints(record, localns=RECORDS)
    for field in fields(record):
        said = values_in(hints[field.name])
        if said == {InputChange}:  # a record of several options
            assert {each.name for each in fields(InputChange)} <= parameters.keys()
            continue
        if said == {Refinement}:
            assert {"flip", "scales", "crf"} <= parameters.keys()
            continue
        if field.name not in parameters:  # evaluate has no --low-memory
            assert field.default is False
            continue
        read = parameters[field.name].callback
        if read is not None and "return" in (read_as := typing.get_type_hints(read, localns=RECORDS)):
            assert said == values_in(read_as["return"]), field.name
            continue
        given = values_of(parameters[field.name])
        words = {value for value in given if isinstance(value, str)}
        optional = {types.NoneType}
        if field.name in ("folder", "init"):  # checked before, and a tuple whether given or not
            said, given = said - optional, given - optional
        assert said == given or (said - optional == {str} and words == given - optional), field.name


def test_there_are_records_to_look_at() -> None:
    assert set(WITH_RECORDS) >= {"predict", "evaluate", "train", "report"}


def test_nothing_is_looked_up_by_name() -> None:
    for path in CLI.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                assert not ast.unparse(node.value).endswith("options"), f"{path.name}, line {node.lineno}"
