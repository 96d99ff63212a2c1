"""Command lines of the documentation, checked and not carried out: verbs, options and their words, targets, modules."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec

import click

from fcn_port.cli.program import cli
from parity_tests.test_architecture import ROOT

TARGETS = set(re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
VARIABLES = set(re.findall(r"\$\(([A-Z_]+)\)", (ROOT / "Makefile").read_text(encoding="utf-8")))
EXTRAS = set(re.findall(r"(?m)^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8")))


def commands_in(text: str) -> list[str]:
    """The command lines of a block: those after a `$` where there are any, else every line."""
    lines = text.replace("\\\n", " ").splitlines()
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    return prompted or [line for line in lines if line.strip()]


def problem_of(line: str) -> str | None:
    """What is wrong with a command line, or None."""
    words = shlex.split(line, comments=True)
    while words and re.match(r"[A-Z0-9_]+=", words[0]):
        words = words[1:]
    words = [word for before, word in zip(["", *words], words, strict=False) if word != "..." or before[:2] == "--"]
    if not words:
        return None
    name = words[0].rpartition("/")[2]
    if name == "torchrun":
        name, words = "python", ["python", *words[words.index("-m") :]]
    if name == "fcn-port" or words[:3] == ["python", "-m", "fcn_port"]:
        return _of_verb(words[1:] if name == "fcn-port" else words[3:], shortened="..." in line)
    if name == "make":
        return _of_make(words[1:])
    if name == "python" and words[1] == "-m":
        return None if find_spec(words[2]) else f"no module {words[2]}"
    if name == "pip":
        wanted = {extra for group in re.findall(r"\[([\w,]+)\]", line) for extra in group.split(",")}
        return f"no extra {wanted - EXTRAS}" if wanted - EXTRAS else None
    if name == "curl":  # its options are its own; addresses are those of `serve`
        return None
    return f"{name} is neither ours nor make, python or pip; mark what a program prints as ```text"


def _of_verb(words: list[str], *, shortened: bool) -> str | None:
    context = click.Context(cli, info_name="fcn-port")
    verb, arguments = words[0], words[1:]
    command = cli.get_command(context, verb)
    if command is None:
        return f"no verb {verb}"
    below = click.Context(command, info_name=verb, resilient_parsing=False)
    try:
        values, left, _ = command.make_parser(below).parse_args(list(arguments))
        if left:
            return f"left over: {left}"
        for parameter in command.params:
            _check(parameter, values.get(parameter.name or ""), below, shortened=shortened)
    except click.ClickException as error:
        return error.format_message()
    return None


def _check(parameter: click.Parameter, value: object, context: click.Context, *, shortened: bool) -> None:
    """A word for a choice or a number must be one; files need not be there. What is required is asked for."""
    missing = value is None or value == () or "UNSET" in repr(value)
    if missing and parameter.required and not shortened:
        raise click.MissingParameter(param=parameter)
    if missing or isinstance(parameter.type, click.Path | click.File):
        return
    for each in value if isinstance(value, tuple | list) else (value,):
        if isinstance(each, str):
            parameter.type.convert(each, parameter, context)


def _of_make(words: list[str]) -> str | None:
    for word in words:
        name, given, _ = word.partition("=")
        if given and name not in VARIABLES:
            return f"the Makefile has no variable {name}"
        if not given and word not in TARGETS:
            return f"no target {word}"
    return None
