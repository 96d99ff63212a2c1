"""The table of nets and programs in docs/export.md: `python -m parity_tests.proof` runs them all and writes it.

A net is what it is in CaffeNet, or the hand-written one; OpenCV 4 reading the Caffe files is a second judge. Each
program gets the file that `--target` writes for it, on seeded noise and zeros at two sizes where it takes any. Rows are
kept in build/proof, so a run that was cut short goes on where it was; a row of other code or programs is made anew.
`python -m parity_tests.proof NAME ...` prints rows, also of files: DEPLOY.prototxt:WEIGHTS.caffemodel.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch
from torch import nn

import converters
from converters.errors import CaffeFormatError
from converters.execution import from_state_dict
from converters.export import (
    TOLERANCE,
    ExportError,
    OnnxOptions,
    build_onnx,
    difference,
    index_inputs,
    programs_of,
)
from converters.net import NetSpec
from fcn_port.loading import load
from fcn_port.nets import NETS as FAMILY
from fcn_port.onnx_export import OnnxSource, part_of, source_of, trials_of
from fcn_port.onnx_targets import Arrays, TargetJudge, check_in_target, judge_of_module, trial
from parity_tests import famous_nets
from parity_tests.goldens import formats
from parity_tests.nets import narrow_net, with_random_weights
from parity_tests.test_architecture import ROOT

PAGE = ROOT / "docs" / "export.md"
ROWS = ROOT / "build" / "proof"
MARK = re.compile(r"(<!-- proof -->\n).*?(<!-- /proof -->)", re.DOTALL)
TARGETS = ("onnxruntime", "openvino", "opencv4", "opencv5")
MINIS = {"fcn8s-mini": 50.0, "layer-zoo-0": 1.0, "layer-zoo-1": 1.0, "v0-mini": 50.0, "v1-mini": 50.0}
"""The goldens, with the spread of their inputs: with an image's the zoos' sigmoids are all at their ends."""

SIZES = 2
"""Sizes at which a net is tried, each with noise and with zeros."""

MOST_CLASSES = 5
"""Of a net of the family: 60 of them take OpenCV's classic engine minutes for each image."""

SQUASHING = ("Softmax", "Sigmoid", "TanH", "ArgMax", "DetectionOutput")
"""Types whose tops hide differences, so that their bottoms are compared too."""


@dataclass(frozen=True)
class Subject:
    """A net of the table: its name, the module, its Caffe files, and the spread of the noise that it is fed."""

    name: str
    module: nn.Module
    prototxt: Path
    model: Path
    spread: float = 50.0

    @cached_property
    def source(self) -> OnnxSource:
        return source_of(self.module)

    @property
    def spec(self) -> NetSpec:
        return self.source.spec

    @property
    def judged(self) -> tuple[str, ...]:
        """The blobs that are compared: the outputs, and what goes into a layer that hides differences."""
        hidden = [bottom for layer in self.spec.layers if layer.type in SQUASHING for bottom in layer.bottoms]
        ends = (*self.spec.inputs, *(top for layer in self.spec.layers for top in layer.tops if top in layer.bottoms))
        return tuple(dict.fromkeys([*self.spec.outputs, *(blob for blob in hidden if blob not in ends)]))


# The nets


def subjects(folder: Path) -> Mapping[str, Callable[[], Subject]]:
    """Every net by name, each made when it is asked for, with files in `folder`."""
    found: dict[str, Callable[[], Subject]] = {}
    for name in famous_nets.NETS:
        found[f"{name}-like"] = partial(_famous, name, folder)
    for name, spread in MINIS.items():
        found[name] = partial(of_files, name, formats(f"{name}.prototxt"), formats(f"{name}.caffemodel"), spread)
    found["layer-zoo-1 less Filter"] = partial(_less, found["layer-zoo-1"], "chosen")
    for name in sorted(FAMILY):  # whose own order is that in which they were first asked for
        found[name] = partial(_of_the_family, name, folder)
    return found


def of_files(name: str, prototxt: Path, model: Path, spread: float = 50.0) -> Subject:
    return Subject(name, load(model, prototxt=prototxt), prototxt, model, spread)


def _famous(name: str, folder: Path) -> Subject:
    return of_files(f"{name}-like", *famous_nets.write(name, folder))


def _less(make: Callable[[], Subject], layer: str) -> Subject:
    """The net without a layer, which some programs refuse, so that the rest is compared in them too."""
    whole = make()
    tops = next(each.tops for each in whole.spec.layers if each.name == layer)
    outputs = tuple(blob for blob in whole.spec.outputs if blob not in tops)
    part = part_of(whole.source, OnnxOptions(outputs=outputs), whole.module)
    assert part is not None
    return replace(whole, name=f"{whole.name} less {layer}", module=part)


def _of_the_family(name: str, folder: Path) -> Subject:
    """A net of the papers with few channels and classes: the wiring is its own."""
    net = with_random_weights(narrow_net(name, most_classes=MOST_CLASSES))
    prototxt, model = folder / f"{name}.prototxt", folder / f"{name}.caffemodel"
    spec = source_of(net).spec
    converters.write_prototxt(spec, prototxt)
    converters.write_caffemodel(from_state_dict(net.state_dict(), spec), model)
    return Subject(name, net, prototxt, model)


# Their rows


def row(subject: Subject, folder: Path) -> list[str]:
    """The cells of a net: OpenCV 4 reading Caffe, and each program of each target."""
    part = part_of(subject.source, OnnxOptions(outputs=subject.judged), subject.module)
    assert part is not None
    judge = judge_of_module(part, subject.judged)
    cells = [natively(subject, judge)]
    for target in TARGETS:
        cells += in_target(subject, judge, target, folder)
    return cells


def natively(subject: Subject, judge: TargetJudge) -> str:
    """The difference of OpenCV 4 with the Caffe files, or what it says against them."""
    makers = {top: (layer.name, i) for layer in subject.spec.layers for i, top in enumerate(layer.tops)}
    pins = [layer if not place else f"{layer}.{place}" for layer, place in (makers[blob] for blob in subject.judged)]
    worst, magnified = 0.0, set()
    for number, shapes in enumerate(tuple(trials_of(build_onnx(subject.spec, subject.source.arrays)))[:SIZES]):
        given = trial(shapes, number, index_inputs(subject.spec, shapes), spread=subject.spread)[0]
        try:
            found = _in_opencv4(subject, given, pins)
        except cv2.error as error:
            return short(str(error))
        right = judge.outputs(given)
        for blob, each in zip(subject.judged, found, strict=True):
            apart = difference(each, right[blob])
            if apart <= TOLERANCE:
                worst = max(worst, apart)
            elif apart <= judge.allowed(given)[blob]:
                magnified.add(blob)
            else:
                return f"{blob} differs by {number_of(apart)}"
    return equal(worst, sorted(magnified))


def _in_opencv4(subject: Subject, given: Arrays, pins: Sequence[str]) -> list[np.ndarray]:
    """What OpenCV computes, read anew: after a change of sizes its PriorBox goes wrong."""
    net = cv2.dnn.readNetFromCaffe(str(subject.prototxt), str(subject.model))
    net.enableWinograd(False)
    net.enableFusion(False)  # with it, one net asked for several layers gives wrong ones
    for name, value in given.items():
        net.setInput(value, name)
    return [np.array(each) for each in net.forward(list(pins))]


def in_target(subject: Subject, judge: TargetJudge, target: str, folder: Path) -> Iterator[str]:
    """A cell for each program of a target."""
    options = OnnxOptions(target=target, outputs=subject.judged)
    programs = programs_of(target)
    rebuild = partial(build_onnx, subject.spec, subject.source.arrays, options)
    try:
        net = rebuild()
    except (ExportError, CaffeFormatError) as error:
        yield from [short(str(error))] * len(programs)
        return
    path = folder / f"{target}.onnx"
    with path.open("wb") as file:
        net.write(file)
    shapes = tuple(trials_of(net))[:SIZES]
    indices = index_inputs(net.spec, shapes[0])
    for program in programs:
        try:
            (checked,) = check_in_target(
                path, net, judge, target=target, programs=[program], rebuild=rebuild, shapes=shapes, indices=indices,
                tolerance=TOLERANCE, spread=subject.spread,
            )  # fmt: skip
        except ExportError as error:
            yield short(str(error))
            continue
        yield f"not here: {checked.problem}" if checked.error is None else equal(checked.error, checked.magnified)


# In words


def equal(error: float, magnified: Sequence[str]) -> str:
    """The cell of a net that is equal, with the blobs of which no more can be said than that they round."""
    more = f"; rounding decides {', '.join(magnified)}" if magnified else ""
    return f"{number_of(error)}{more}"


def number_of(error: float) -> str:
    return "0" if error == 0 else f"{error:.0e}" if np.isfinite(error) else "shape"


def short(message: str) -> str:
    """The reason in a few words."""
    text = " ".join(message.split())
    if refused := re.search(r"layer '[^']*' \((\w+)[^)]*\): (.*)", text):
        return f"no {refused[1]}: {refused[2].partition('  ')[0]}"[:160].rstrip()
    for pattern in (
        r"Can't create layer \"[^\"]*\" of type \"(\w+)\"",
        r"(?:Unknown|unknown) layer type:? ?\"?(\w+)",
        r"No Op registered for (\w+)",
        r"Node \[(\w+)@",
    ):
        if found := re.search(pattern, text):
            return f"no {found[1]}"
    if failed := re.search(r"(?:Assertion failed\) |error: \(-\d+:)(.*?)(?: in function '(\w+)'|$)", text):
        return f"OpenCV's {failed[2] or 'check'}: {failed[1]}".replace("|", "\\|")[:120].rstrip()
    text = re.sub(r"^.*?(?:error: |inputs [^:]*: |model: )", "", text).replace("; nothing written", "")
    return text.replace("|", "\\|")[:120].rstrip() or "refused"


# The table


def titles() -> list[str]:
    programs = [program.title for target in TARGETS for program in programs_of(target)]
    return ["net", "OpenCV 4, Caffe files", *programs]


def key() -> str:
    """What a row depends on: the code, the small nets, and the programs."""
    digest = hashlib.sha256()
    for folder in ("converters", "fcn_port/nets", "parity_tests/golden/formats"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".prototxt", ".caffemodel"):
                digest.update(path.read_bytes())
    for path in (Path(__file__), Path(famous_nets.__file__), ROOT / "fcn_port" / "onnx_targets.py"):
        digest.update(path.read_bytes())
    for target in TARGETS:
        for program in programs_of(target):
            digest.update(f"{program} {cv2.__version__}".encode())
    return digest.hexdigest()[:16]


def kept(name: str, now: str, make: Callable[[], list[str]]) -> list[str]:
    """The cells of a row, from the folder of rows if they are there."""
    path = ROWS / f"{name}.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["key"] == now:
            return list(found["cells"])
    cells = make()
    ROWS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": now, "cells": cells}), encoding="utf-8")
    return cells


def table(rows: Mapping[str, Sequence[str]]) -> str:
    head = titles()
    lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in rows.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(argv: Sequence[str]) -> None:
    missing = [program for target in TARGETS for program in programs_of(target) if program.python is None]
    if missing and not argv:
        sys.exit("; ".join(f"{program.title}: {program.missing}" for program in missing))
    rows: dict[str, Sequence[str]] = {}
    with TemporaryDirectory() as name:
        folder, now = Path(name), key()
        known = subjects(folder)
        for wanted in argv or known:
            prototxt, _, model = wanted.partition(":")
            make = known.get(wanted) or partial(of_files, Path(model).stem, Path(prototxt), Path(model))
            cells = partial(lambda make: row(make(), folder), make)
            rows[wanted] = cells() if argv else kept(wanted, now, cells)
            print(wanted, *rows[wanted], sep="  ", file=sys.stderr, flush=True)
    if argv:
        print(table(rows))
        return
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(MARK.sub(lambda found: found[1] + table(rows) + found[2], text), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
