"""The table of nets and programs in docs/export.md: `python -m parity_tests.proof` runs them all and writes it.

A net is what it is in CaffeNet, or the hand-written one; OpenCV 4 reading the Caffe files is a second judge. Each
program gets the file that `--target` writes for it, on seeded noise and zeros at two sizes where it takes any.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from torch import nn

import converters
from converters.errors import CaffeFormatError
from converters.execution import from_state_dict
from converters.export import ExportError, OnnxOptions, TargetError, build_onnx, difference, index_inputs, programs_of
from converters.net import NetSpec
from fcn_port.loading import load
from fcn_port.nets import NETS as FAMILY
from fcn_port.nets import FCNGoogLeNet
from fcn_port.onnx_export import OnnxSource, source_of, trials_of
from fcn_port.onnx_targets import check_in_target, judge_of_module
from parity_tests import famous_nets
from parity_tests.goldens import formats
from parity_tests.narrow import narrow
from parity_tests.nets import narrow_net, with_random_weights
from parity_tests.test_architecture import ROOT

PAGE = ROOT / "docs" / "export.md"
MARK = re.compile(r"(<!-- proof -->\n).*?(<!-- /proof -->)", re.DOTALL)
TARGETS = ("onnxruntime", "openvino", "opencv4", "opencv5")
MINIS = ("fcn8s-mini", "layer-zoo-0", "layer-zoo-1", "v0-mini", "v1-mini")

SIZES = 2
"""Sizes at which a net is tried, each with noise and with zeros."""


@dataclass(frozen=True)
class Subject:
    """A net of the table: its name, the module, and its Caffe files."""

    name: str
    module: nn.Module
    prototxt: Path
    model: Path

    @property
    def spec(self) -> NetSpec:
        return source_of(self.module).spec


def subjects(folder: Path, wanted: Sequence[str] = ()) -> Iterator[Subject]:
    """Every net, with files in `folder`; only those `wanted`, if any are."""
    for name in MINIS:
        if not wanted or name in wanted:
            prototxt, model = formats(f"{name}.prototxt"), formats(f"{name}.caffemodel")
            yield Subject(name, load(model, prototxt=prototxt), prototxt, model)
    for name in famous_nets.NETS:
        if not wanted or name in wanted:
            prototxt, model = famous_nets.write(name, folder)
            yield Subject(f"{name}-like", load(model, prototxt=prototxt), prototxt, model)
    for name in FAMILY:
        if not wanted or name in wanted:
            make = FAMILY[name].make
            net = with_random_weights(narrow_net(name)) if make is FCNGoogLeNet else narrow(make)
            prototxt, model = folder / f"{name}.prototxt", folder / f"{name}.caffemodel"
            spec = source_of(net).spec
            converters.write_prototxt(spec, prototxt)
            converters.write_caffemodel(from_state_dict(net.state_dict(), spec), model)
            yield Subject(name, net, prototxt, model)


def row(subject: Subject, folder: Path) -> list[str]:
    """The cells of a net: OpenCV 4 reading Caffe, and each program of each target."""
    cells = [natively(subject)]
    source = source_of(subject.module)
    for target in TARGETS:
        cells += in_target(source, subject, target, folder)
    return cells


def natively(subject: Subject) -> str:
    """The difference of OpenCV 4 with the Caffe files, or what it says against them."""
    ((name, shape), *more) = subject.spec.inputs.items()
    if more or len(subject.spec.outputs) > 1:
        return "several ends"
    x = (np.random.default_rng(0).standard_normal(shape) * 50).astype(np.float32)
    try:
        net = cv2.dnn.readNetFromCaffe(str(subject.prototxt), str(subject.model))
        net.enableWinograd(False)
        net.setInput(x, name)
        found = net.forward()
    except cv2.error as error:
        return short(str(error))
    with torch.no_grad():
        return number(difference(found, subject.module(torch.from_numpy(x)).numpy()))


def in_target(source: OnnxSource, subject: Subject, target: str, folder: Path) -> Iterator[str]:
    """A cell for each program of a target."""
    options = OnnxOptions(target=target)
    programs = programs_of(target)
    try:
        net = build_onnx(source.spec, source.arrays, options)
    except (ExportError, CaffeFormatError) as error:
        yield from [short(str(error))] * len(programs)
        return
    path = folder / f"{target}.onnx"
    with path.open("wb") as file:
        net.write(file)
    shapes = tuple(trials_of(net))[:SIZES]
    for program in programs:
        try:
            (checked,) = check_in_target(
                path,
                net,
                judge_of_module(subject.module, source.spec.outputs),
                target=target,
                programs=[program],
                rebuild=lambda: build_onnx(source.spec, source.arrays, options),
                shapes=shapes,
                indices=index_inputs(net.spec, shapes[0]),
                tolerance=1e-5,
            )
        except TargetError as error:
            yield short(str(error))
            continue
        yield "not here" if checked.error is None else number(checked.error)


def number(error: float) -> str:
    return "0" if error == 0 else f"{error:.0e}" if np.isfinite(error) else "other shape"


def short(message: str) -> str:
    """The reason in a few words."""
    text = " ".join(message.split())
    for pattern in (
        r"Can't create layer \"[^\"]*\" of type \"(\w+)\"",
        r"(?:Unknown|unknown) layer type:? ?\"?(\w+)",
        r"\((\w+)(?:, line \d+)?\): (?:[^:]* has no ONNX form|the number of items)",
        r"No Op registered for (\w+)",
        r"Node \[(\w+)@",
    ):
        if found := re.search(pattern, text):
            return f"no {found[1]}"
    if "Assertion failed" in text:
        return "an assertion fails"
    text = (
        re.sub(r"^.*?(?:error: |inputs [^:]*: |model: )", "", text).replace("; nothing written", "").replace("|", "/")
    )
    return text[:60].rstrip() or "refused"


def table(wanted: Sequence[str] = ()) -> str:
    """The whole table as Markdown; `wanted` are the nets, by default all."""
    titles = ["net", "OpenCV 4, Caffe files"]
    for target in TARGETS:
        titles += [program.title for program in programs_of(target)]
    lines = [f"| {' | '.join(titles)} |", f"| {' | '.join(['---'] * len(titles))} |"]
    with TemporaryDirectory() as name:
        for subject in subjects(Path(name), wanted):
            cells = row(subject, Path(name))
            print(subject.name, *cells, sep="  ", file=sys.stderr, flush=True)
            lines.append(f"| {subject.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    text = table(argv)
    if argv:
        print(text)
        return
    PAGE.write_text(
        MARK.sub(lambda found: found[1] + text + found[2], PAGE.read_text(encoding="utf-8")), encoding="utf-8"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
