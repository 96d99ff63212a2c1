"""Hostile names in what people and programs read: terminals, error messages, pages, CSV, Markdown and JSON."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from converters import CaffeFormatError, CaffeNet
from converters.escaping import MOST_SHOWN, terminal
from converters.export.checking import ExportError
from converters.export.safetensors import read_metadata
from converters.formats.prototxt import write_prototxt
from converters.schema import NetParameter
from fcn_port.cli import run
from fcn_port.cli.output import bar, echo, echo_lines, note, write_columns, write_json
from fcn_port.evaluation import Evaluation, ImageResult
from fcn_port.evaluation.tables import to_csv, to_markdown
from fcn_port.predict.palettes import voc_palette
from fcn_port.report import Page, to_html
from fcn_port.report.gallery import Example
from fcn_port.report.page import Parity
from fcn_port.training.events import Updated
from fcn_port.training.logs import JsonLines
from parity_tests.export.test_hostile_exports import spec_of
from parity_tests.hostile import NAMES, UTF8_NAMES
from parity_tests.report.test_report import Reader
from parity_tests.safety.test_escaping import seen, strict
from parity_tests.small_files import blob_proto
from parity_tests.test_architecture import ROOT

hostile = pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:30]))
FORGED = "fcn-port: all is well"


def check_terminal(text: str) -> None:
    """Nothing in the text moves a cursor, changes colours, titles or clipboards, or pretends to be a line of ours."""
    text.encode()
    assert all(map(seen, text.split("\n")))
    assert not re.search(rf"^{FORGED}", text, re.MULTILINE)


def caffe_file(path: Path, name: str, *, bad: bool = False, seed: int = 0) -> Path:
    """A net of everything called `name`: a convolution and a crop, which does not fit where the net is `bad`."""
    net = NetParameter(name=name[:100])
    net.layer.add(name=name + "i", type="Input", top=[name]).input_param.shape.add(dim=[1, 1, 12, 12])
    conv = net.layer.add(name=name, type="Convolution", bottom=[name], top=[name + "c"])
    conv.convolution_param.num_output = 2
    conv.convolution_param.kernel_size.append(3)
    blobs = [np.full((2, 1, 3, 3), seed, np.float32), np.zeros(2, np.float32)]
    for blob in blobs:
        proto = conv.blobs.add()
        proto.shape.dim.extend(blob.shape)
        proto.data.extend(blob.ravel())
    crop = net.layer.add(name=name + "x", type="Crop", bottom=[name, name + ("none" if bad else "c")], top=[name + "t"])
    crop.crop_param.offset.append(1)
    path.write_bytes(net.SerializeToString())
    return path


# The terminal


def answers(argv: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = run(argv)
    out, err = capsys.readouterr()
    check_terminal(out)
    check_terminal(err)
    return status, out, err


@pytest.mark.parametrize("name", UTF8_NAMES, ids=lambda name: ascii(name[:30]))
def test_names_of_a_file_on_the_terminal(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, other = caffe_file(tmp_path / "a.caffemodel", name), caffe_file(tmp_path / "b.caffemodel", name, seed=1)
    shown = terminal(name)[: MOST_SHOWN - 50]
    for argv in (["inspect", str(good)], ["trace", str(good)], ["diff", str(good), str(other)]):
        status, out, err = answers(argv, capsys)
        assert status == (1 if argv[0] == "diff" else 0), err
        assert shown in out
        status, out, _ = answers([*argv, "--json"], capsys)
        strict(out)
    status, _, err = answers(["inspect", str(caffe_file(tmp_path / "bad.caffemodel", name, bad=True))], capsys)
    assert status in (0, 3) and terminal(name) in err


@pytest.mark.parametrize("name", [n for n in UTF8_NAMES if set(n) & set("\n\r\x1b\u202e[\0'") and len(n) < 100])
def test_names_in_what_the_verbs_write(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = str(caffe_file(tmp_path / "a.caffemodel", name)), str(tmp_path / "out.safetensors")
    assert answers(["convert", file, "-o", out], capsys)[0] == 0
    assert answers(["verify", out, "--against", file], capsys)[0] == 0
    assert answers(["report", out, "-o", str(tmp_path / "page.html")], capsys)[0] == 0
    Reader((tmp_path / "page.html").read_text(encoding="utf-8"))
    other = caffe_file(tmp_path / "b.caffemodel", name + "2")
    assert answers(["verify", out, "--against", str(other)], capsys)[0] in (1, 3)
    prototxt = tmp_path / "net.prototxt"
    write_prototxt(spec_of(NetParameter.FromString(other.read_bytes()), tmp_path), prototxt)
    for to in ("python", "caffe"):
        argv = ["export", file, "--to", to, "--prototxt", str(prototxt), "-o", str(tmp_path / f"out.{to}")]
        assert answers(argv, capsys)[0] in (0, 1, 3)


@hostile
def test_arguments_and_file_names_on_the_terminal(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        if b"\0" in os.fsencode(name):
            return  # no system has such an argument
    except UnicodeEncodeError:
        return
    for argv in (["inspect", name], [name], ["convert", f"{name}.caffemodel"], ["trace", "x", "--size", name]):
        status, _, err = answers(argv, capsys)
        assert status in (2, 1, 3) and err  # a folder and names longer than a system takes, too


@hostile
def test_errors_show_names_on_lines_of_their_own_kind(name: str) -> None:
    for error in (
        CaffeFormatError(name, path=name, where=f"layer '{name}'", hint=name),
        ExportError(f"{name} is wrong"),
    ):
        assert all(map(seen, str(error).split("\n")))
    assert str(CaffeFormatError("x", where=f"layer '{name}'")) == f"layer '{terminal(name)}': x"


@hostile
def test_tables_and_messages(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_columns([[name, "1"], ["a", name]], header=("name", "[red]"), right=(1,))
    out, _ = capsys.readouterr()
    check_terminal(out)
    assert len(out.splitlines()) == 3 and "[red]" in out and terminal(name)[:MOST_SHOWN].strip() in out
    echo(name)
    out, _ = capsys.readouterr()
    assert out == terminal(name) + "\n"
    echo_lines(terminal(name) + "\nb\n")
    note(f"saved {name}")
    out, err = capsys.readouterr()
    check_terminal(out + err)
    assert all(line.startswith("  ") for line in err.splitlines()[1:])
    write_json({name: [name, float("nan"), np.float32("inf")]})
    out, _ = capsys.readouterr()
    check_terminal(out)
    assert next(iter(strict(out).values()))[1:] == [None, None]


@pytest.mark.parametrize("name", ["[red]", "[link=https://example.org]a[/link]", "[/x]", "\x1b]0;t\x07", "a\nb", "\\["])
def test_progress_takes_no_markup(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich import console
    from rich.progress import Progress

    shown: list[str] = []
    out = io.StringIO()
    watched = console.Console(file=out, force_terminal=True, width=200, color_system=None)
    monkeypatch.setattr(console, "Console", lambda **_: watched)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    stop = Progress.stop

    def show_and_stop(self: Progress) -> None:
        shown.append(str(self.columns[0].render(self.tasks[0])))
        stop(self)

    monkeypatch.setattr(Progress, "stop", show_and_stop)
    with bar(name):
        pass
    assert shown == [terminal(name)]


ONLY_PLACES = {
    "cli/output.py": {"click.echo"},
    "cli/program.py": {"click.echo"},
    "cli/__init__.py": {"print"},  # before anything is imported; words of its own
}


def test_every_line_of_the_program_goes_through_one_module() -> None:
    """click.echo, print and rich's markup are in one place, and so nobody forgets to escape."""
    for path in (ROOT / "fcn_port").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        calls = {ast.unparse(n.func) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)}
        allowed = ONLY_PLACES.get(path.relative_to(ROOT / "fcn_port").as_posix(), set())
        found = calls & {"click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write", "console.print"}
        assert found <= allowed, f"{path}: {found}"
        assert text.count("TextColumn(") == text.count('TextColumn("{task.description}", markup=False)'), path


# Pages and tables of an evaluation


def evaluation_of(name: str) -> Evaluation:
    counts = np.array([[5, 1], [2, 7]])
    images = (ImageResult(name, {name: counts}), ImageResult(name + "2", {name: counts}))
    classes = {name: (name, name + " 2")}
    settings = {"engine": name}
    return Evaluation(name, None, "voc", name, name, False, classes, images, {name: name}, 1.0, 2, settings)


@hostile
def test_csv_has_a_cell_for_each_value_and_no_formula(name: str) -> None:
    text = to_csv([evaluation_of(name)])
    check_terminal(text)
    rows = list(csv.reader(io.StringIO(text)))
    assert len({len(row) for row in rows}) == 1
    assert all(not cell.lstrip().startswith(tuple("=+-@\t\r")) for row in rows[1:] for cell in row)


@hostile
def test_markdown_has_a_cell_for_each_value_and_no_markup(name: str) -> None:
    text = to_markdown([evaluation_of(name)], {name: name})
    check_terminal(text)
    spans = re.sub(r"(?m)^- (`+).*?(?<!`)\1(?!`): ", "- ", text)
    assert "<" not in spans and "](" not in spans.replace("\\]", "")
    tables = [line for line in text.splitlines() if line.startswith("|")]
    cells = {len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) for line in tables[:6]}
    assert len(cells) == 1


@hostile
def test_a_page_holds_text_and_nothing_else(name: str) -> None:
    picture, labels = np.zeros((4, 4, 3), np.uint8), np.array([[0, 1], [1, 0]], np.uint8).repeat(2, 0).repeat(2, 1)
    example = Example(name, 0.5, picture, labels, labels)
    page = Page(
        name, None, None, voc_palette(), parity=Parity(name, {name: 1.0}, 1e-5), evaluation=evaluation_of(name),
        best=[example], worst=[example],
    )  # fmt: skip
    text = to_html(page)
    text.encode()
    check_terminal(text)
    read = Reader(text)
    allowed = {"!doctype", "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "section"}
    allowed |= {"div", "span", "i", "b", "small", "figure", "figcaption", "img", "svg", "text", "rect"}
    assert set(read.count) <= allowed
    assert all(address.startswith("data:image/") for address in read.addresses)
    assert terminal(name).strip() in read.words


@hostile
def test_the_log_of_a_training_is_strict(name: str, tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    log(Updated(1, 2, float("nan"), float("inf"), {name: 1.0, name + "2": float("nan")}, 0.1, (name,), 1.0, 1.0))
    log.close()
    (line,) = (tmp_path / "log.jsonl").read_bytes().splitlines()
    found = strict(line.decode("ascii"))
    assert found["loss"] is None and found["losses"][terminal_json(name)] == 1.0


def terminal_json(name: str) -> str:
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", name)


# Messages of the library


def messages(net: CaffeNet, name: str) -> Mapping[str, Callable[[], Any]]:
    return {
        "wrong input": lambda: net(torch.zeros(1, 2, 12, 12)),
        "unknown output": lambda: CaffeNet(net.spec, outputs=[name + "none"]),
    }


@pytest.mark.parametrize("name", ["a\x1b[31m", "a\nfcn-port: all is well", "\u202e"])
def test_errors_of_a_net(name: str, tmp_path: Path) -> None:
    net = CaffeNet(spec_of(NetParameter.FromString(caffe_file(tmp_path / "a", name).read_bytes()), tmp_path))
    for call in messages(net, name).values():
        with pytest.raises(ValueError) as caught:
            call()
        assert all(map(seen, str(caught.value).split("\n")))
    json.dumps(str(caught.value))


# What a converted file says about itself


def test_a_card_of_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Class names, release, licence and tool of a safetensors file go into outputs, tables, pages and other files."""
    monkeypatch.chdir(tmp_path)
    net = NetParameter(name="n")
    net.layer.add(name="in", type="Input", top=["data"]).input_param.shape.add(dim=[1, 3, 40, 40])
    conv = net.layer.add(name="score", type="Convolution", bottom=["data"], top=["score"])
    conv.convolution_param.num_output = len(UTF8_NAMES)
    conv.convolution_param.kernel_size.append(1)
    random = np.random.RandomState(0)
    weights = random.standard_normal((len(UTF8_NAMES), 3, 1, 1)).astype(np.float32)
    conv.blobs.extend([blob_proto(weights), blob_proto(np.zeros(len(UTF8_NAMES), np.float32))])
    Path("a.caffemodel").write_bytes(net.SerializeToString())
    assert answers(["convert", "a.caffemodel"], capsys)[0] == 0
    inputs = {"name": "data", "kind": "color", "mean": [1, 2, 3], "channels": "bgr"}
    metadata = {
        **read_metadata("a.safetensors"),
        "classes": json.dumps({"score": UTF8_NAMES}),
        "preprocessing": json.dumps({"inputs": [inputs]}),
        "release": "\x1b[31m../x\n",
        "licence": "<script>[red]",
        "tool": "\x1b]0;x\x07",
    }
    save_file(load_file("a.safetensors"), "a.safetensors", metadata)
    picture = random.randint(0, 255, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(picture).save("picture.png")
    for argv in (
        ["predict", "a.safetensors", "picture.png"],
        ["predict", "a.safetensors", "picture.png", "--json"],
        ["predict", "a.safetensors", "picture.png", "--probabilities", "-o", "more"],
        ["report", "a.safetensors", "-o", "page.html"],
        ["inspect", "a.safetensors", "--json"],
        ["export", "a.safetensors", "--to", "python"],
        ["export", "a.safetensors", "--to", "safetensors", "-o", "again.safetensors"],
        ["export", "a.safetensors", "--to", "onnx", "--size", "40"],
        ["export", "a.safetensors", "--to", "torch-export", "--size", "40"],
    ):
        status, out, err = answers(argv, capsys)
        assert status == 0, err
        if "--json" in argv:
            strict(out)
    Reader(Path("page.html").read_text(encoding="utf-8"))
    written = {path.name for path in tmp_path.iterdir()}
    assert {"a.py", "a.onnx", "a.pt2"} <= written and all(map(seen, written))
    assert all(seen(path.name) and path.is_file() for path in Path("more/picture.probabilities").iterdir())
