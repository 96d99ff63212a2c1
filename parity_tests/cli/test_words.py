"""Options that several verbs have are the same everywhere: spelling, kind of value, and what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fcn_port.cli.engine import PrecisionParam
from fcn_port.cli.inspect import SizeParam
from fcn_port.cli.program import VERBS, cli
from parity_tests.test_architecture import ROOT

COMMANDS = {verb: cli.get_command(click.Context(cli), verb) for verb in VERBS}
OPTIONS = {
    verb: {name: option for option in command.params if isinstance(option, click.Option) for name in option.opts}
    for verb, command in COMMANDS.items()
    if command is not None
}
TAKES_NETS = ("inspect", "convert", "verify", "export", "diff", "trace", "predict", "edges", "evaluate", "fcn-score")
TAKES_NETS += ("report", "surgery", "train")


def having(name: str) -> dict[str, click.Option]:
    return {verb: options[name] for verb, options in OPTIONS.items() if name in options}


@pytest.mark.parametrize("name", ["--json", "--device", "--input", "--register", "--void", "--engine", "--workers"])
def test_they_say_the_same_everywhere(name: str) -> None:
    found = having(name)
    assert len(found) > 2 and len({(each.help, repr(each.type.name), each.metavar) for each in found.values()}) == 1


@pytest.mark.parametrize("name, verbs", [("--size", ("trace", "inspect", "export")), ("--out", ("publish", "export"))])
def test_what_an_argument_says_an_option_may(name: str, verbs: tuple[str, ...]) -> None:
    assert set(verbs) <= set(having(name))


@pytest.mark.parametrize(
    "words", [("publish", "x"), ("publish", "x", "a", "--out", "b"), ("trace", "voc-fcn8s", "50x50", "--size", "60x60")]
)
def test_not_both_or_neither(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2 and "xpected one" in result.output


def test_the_size_of_a_trace_may_be_an_option() -> None:
    shown = [
        CliRunner().invoke(cli, ("trace", "voc-fcn8s", *size)).output for size in (("60x70",), ("--size", "60x70"))
    ]
    assert shown[0] == shown[1] != CliRunner().invoke(cli, ("trace", "voc-fcn8s")).output


WITHOUT_JSON = {
    "demo": "runs other verbs and shows them; each has --json",
    "view": "opens a browser; --out FILE.json is for programs",
    "serve": "its address is one line, and GET /net of it is JSON",
}


def test_json_is_a_flag_that_every_verb_has_but_for_a_reason() -> None:
    found = having("--json")
    assert all(option.is_flag for option in found.values())
    assert VERBS.keys() - found.keys() == WITHOUT_JSON.keys()


def test_precision_is_one_word_everywhere_and_pytorchs_are_taken_too() -> None:
    found = having("--precision")
    assert found.keys() == {"predict", "serve", "evaluate", "fcn-score", "train"}
    for option in found.values():
        assert isinstance(option.type, PrecisionParam) and option.default == "fp32"
        words = [option.type.convert(word, option, None) for word in ("fp32", "float32", "bf16", "bfloat16")]
        assert words == ["fp32", "fp32", "bf16", "bf16"]
        with pytest.raises(click.BadParameter, match="half"):
            option.type.convert("half", option, None)


def test_out_is_a_path_and_has_its_short_form() -> None:
    for verb, option in having("--out").items():
        assert "-o" in option.opts and isinstance(option.type, click.Path), verb
    assert having("-o").keys() == having("--out").keys()


def test_a_size_is_height_by_width() -> None:
    for verb, option in having("--size").items():
        assert isinstance(option.type, SizeParam), verb
        assert "height first" in (option.help or ""), verb
        assert option.type.convert("375", option, None) == (375, 375), "and one number is a square"


@pytest.mark.parametrize("verb", TAKES_NETS)
def test_a_verb_that_takes_nets_has_input_and_register(verb: str) -> None:
    assert {"--input", "--register"} <= OPTIONS[verb].keys()


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_a_narrow_terminal_and_plain_text(verb: str) -> None:
    """In 72 columns, but for a list of words to choose from, and in ASCII."""
    command = COMMANDS[verb]
    assert command is not None
    with click.Context(command, info_name=verb, terminal_width=72) as context:
        said = command.get_help(context)
    assert said.isascii()
    assert [line for line in said.splitlines() if len(line) > 72 and "|" not in line] == []


def run_plainly(*arguments: str, module: bool = True, **environ: str) -> subprocess.CompletedProcess[bytes]:
    begin = ["-m", "fcn_port"] if module else ["-c", "from fcn_port.cli import main; main()"]
    return subprocess.run(
        [sys.executable, *begin, *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        timeout=120,
    )


def test_the_module_is_the_program_and_a_plain_terminal_loses_nothing() -> None:
    """`python -m fcn_port` equals `fcn-port`, in the C locale, without colour, and in a pipe."""
    plain = {
        "LANG": "C",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "NO_COLOR": "1",
        "COLUMNS": "40",
    }
    one = run_plainly("releases", "sample", **plain)
    other = run_plainly("releases", "sample", module=False, **plain)
    assert one.returncode == 0 and one.stdout == other.stdout and one.stderr == other.stderr
    assert b"\x1b[" not in one.stdout and b"\r" not in one.stdout and one.stdout.isascii()


def test_a_warning_is_a_sentence(tmp_path: Path) -> None:
    """It named the line of Python that it came from."""
    picture = str(ROOT / "docs/pictures/sample.png")
    done = run_plainly("predict", "sample", picture, "-o", str(tmp_path / "out"), FCN_PORT_NATIVE="junk")
    assert done.returncode == 0
    assert b"fcn-port: FCN_PORT_NATIVE is 'junk', which is neither 0 nor 1, and taken for 1" in done.stderr.splitlines()
