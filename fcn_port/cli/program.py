"""The verbs of `fcn-port`: one file for each, imported only when that verb runs, so that help is immediate.

Data goes to standard output, progress and messages to standard error. Every error is caught here and nowhere else;
what each means is in failures.py.
Exit status: 0 done, 1 a check failed or a file could not be had, 2 wrong use (a missing file too), 3 bad input file,
130 interrupted.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from converters.escaping import terminal_message

from .empty import refuse_empty
from .failures import DONE, INTERRUPTED, WRONG_USE, failure
from .output import WORDS

TASKS = {
    "Begin": {
        "demo": "The whole job on the small bundled release, with no network: convert, check, segment, score, report.",
        "releases": "The published nets: what exists, what it scored, and what is here.",
        "fetch": "Download a release's caffemodel, resumably, and verify it.",
        "inspect": "A table of the layers, shapes, parameters and work of any Caffe file.",
    },
    "Bring a net over": {
        "convert": "Turn a release or a Caffe file into a safetensors file for PyTorch.",
        "verify": "Prove that converted weights are the ones of the Caffe file, and compute the same.",
        "export": "Write a net for Caffe, ONNX, torch.export or as Python source, checked before it is called done.",
        "publish": "A net as a model hub has it: safetensors, ONNX, a model card and a recorded pass, all checked.",
        "diff": "What differs between two nets or files of weights.",
        "view": "A net as a graph in the browser, with work, memory, time and parity by layer.",
        "trace": "The shape of every blob for an input size, and why each crop is where it is.",
    },
    "See with it": {
        "predict": "What a net sees in images: label maps and overlays, boxes of objects, classes.",
        "edges": "Thin edges of photographs by HED, as pix2pix makes its training pairs.",
        "serve": "A net behind an address: a page where one drops an image, and an HTTP interface.",
    },
    "Score it": {
        "data": "The data sets: what is here, what is missing, and where it is published; fetches it.",
        "evaluate": "Score nets on a data set, beside the published numbers.",
        "fcn-score": "How good generated street scenes are: a net's scores on them, as pix2pix and CycleGAN report.",
        "report": "One HTML page: the trace to scale, parity, scores, best and worst images.",
    },
    "Train": {
        "surgery": "The weights with which a net begins to train, made from those of another net.",
        "train": "Train a net as the release did, or as a solver.prototxt says.",
    },
}
"""The verbs by what people come for; help shows them so."""
VERBS = {verb: said for verbs in TASKS.values() for verb, said in verbs.items()}


class _Verbs(click.Group):
    """Verbs that are known by name and imported when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f".{cmd_name.replace('-', '_')}", __package__).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is meant; one that is mistyped gets the nearest."""
        near = get_close_matches(args[0].lower(), VERBS, n=1) if args[0] not in VERBS else []
        if near and not args[0].startswith("-"):
            raise click.UsageError(f"No such command '{args[0]}'. Did you mean '{near[0]}'?", ctx)
        if args[0] not in VERBS and any(mark in args[0] for mark in "./\\"):
            said = f"a verb comes before a file, such as fcn-port inspect {args[0]}"
            raise click.UsageError(f"No such command '{args[0]}': {said}", ctx)
        ctx.meta[WORDS] = tuple(args[1:])
        found = super().resolve_command(ctx, args)
        if found[1] is not None:
            refuse_empty(found[1], found[2], ctx)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, VERBS))
        for task, verbs in TASKS.items():
            with formatter.section(task):
                formatter.write_dl([(verb.ljust(widest), said) for verb, said in verbs.items()])


def _print_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from .version import version_report

        click.echo(version_report())
        ctx.exit()


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Print the versions that a bug report needs.",
)  # fmt: skip
def cli() -> None:
    """Caffe's fully convolutional networks in PyTorch: the published weights, the exact nets, the same numbers.

    Try `fcn-port demo`, `fcn-port inspect FILE` on any Caffe file, or `fcn-port convert voc-fcn8s`.
    """


class _Notes(logging.Handler):
    """A handler that tells what the library logs as messages of the program."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(terminal_message(f"fcn-port: {record.getMessage()}"), err=True)


@contextmanager
def _listening_to_the_library() -> Iterator[None]:
    """Tell what the library logs meanwhile; who runs a verb in a program of their own has their log back afterwards."""
    log, notes = logging.getLogger("fcn_port"), _Notes()
    before = log.propagate
    log.addHandler(notes)
    log.propagate = False
    try:
        with warnings.catch_warnings():  # Pillow's are for who writes programs, and name lines of its own
            warnings.filterwarnings("ignore", module=r"PIL\b")
            yield
    finally:
        log.removeHandler(notes)
        log.propagate = before


def answer(argv: list[str] | None = None) -> int:
    """Run a verb and return the exit status; every error of a verb is told here."""
    with _listening_to_the_library():
        return _answer(argv)


def _answer(argv: list[str] | None) -> int:
    try:
        result: Any = cli.main(argv, prog_name="fcn-port", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else DONE
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.message = terminal_message(error.message)  # type: ignore[misc]
        error.show()
        return WRONG_USE
    except (click.Abort, KeyboardInterrupt):
        return _say("interrupted", INTERRUPTED)
    except Exception as error:
        told = failure(error)
        if told is None:
            raise
        return _say(*told)


def _say(message: str, status: int) -> int:
    click.echo(terminal_message(f"fcn-port: {message}"), err=True)
    return status


__all__ = ["VERBS", "answer", "cli"]
