"""A published net's README.md: the model card of a hub, with every text of others made harmless for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from converters.escaping import json_text, markdown_cell, markdown_code
from weights.records import METRICS, Licence, Release, Score

from ..verification import Check
from .records import CARD, CONFIG, GOLDEN, ONNX, WEIGHTS, PublishedNet

_SPDX: Mapping[str, str] = {"BSD-2-Clause": "bsd-2-clause", "MIT": "mit", "Apache-2.0": "apache-2.0"}
"""Licences that hubs know, by how they are named here; others are "other", with their name."""


_ABOUT: Mapping[str, str] = {
    CONFIG: "all of this for programs",
    WEIGHTS: "the weights, by Caffe's names, with the net's definition",
    ONNX: "the net as ONNX, every blob under its Caffe name",
    GOLDEN: "an input and the outputs for it",
}


@dataclass(frozen=True)
class ModelCard:
    """The contents of a card: the record, what was verified against what, the release if it is one, terms, place.

    `onnx_error` is the largest difference of the ONNX file from the net, None where there is no such file; `task` is
    the hub's name for what the net does; `repository` where it will be, "owner/name".
    """

    net: PublishedNet
    checks: Sequence[Check]
    release: Release | None
    licence: Licence | None
    onnx_error: float | None
    task: str | None
    repository: str


def to_markdown(card: ModelCard) -> str:
    """The whole README.md."""
    parts = [*_front_matter(card), "", f"# {markdown_cell(card.net.name)}", "", _lead(card), ""]
    parts += [*_use(card), "", *_facts(card), "", *_verified(card), ""]
    if card.release is not None and card.release.scores:
        parts += [*_scores(card.release.scores), ""]
    return "\n".join([*parts, *_terms(card), ""])


def _front_matter(card: ModelCard) -> Iterator[str]:
    """YAML, of which JSON's strings are a part."""
    licence = _licence(card)
    known = _SPDX.get(licence or "")
    yield "---"
    yield "library_name: fcn-port"
    yield f"license: {known or 'other'}"
    if known is None:
        yield f"license_name: {json_text(licence or 'unknown')}"
        if card.licence is not None and card.licence.url:
            yield f"license_link: {json_text(card.licence.url)}"
    if card.task is not None:
        yield f"pipeline_tag: {card.task}"
    yield "tags: [caffe, pytorch, onnx]" if card.onnx_error is not None else "tags: [caffe, pytorch]"
    yield "---"


def _licence(card: ModelCard) -> str | None:
    return card.licence.name if card.licence is not None else card.net.licence


def _lead(card: ModelCard) -> str:
    known = f", weights of the release {markdown_code(card.release.name)}" if card.release is not None else ""
    size, tool = f"{card.net.parameters:,} parameters", markdown_cell(card.net.made_by)
    return (
        f"A Caffe net with {size}{known}, ported to PyTorch by {tool}: the same names, shapes and numbers as in Caffe."
    )


def _use(card: ModelCard) -> Iterator[str]:
    what = {"image-segmentation": "segment", "object-detection": "detect"}.get(card.task or "")
    yield "## Use"
    yield ""
    yield "```python"
    yield "# pip install 'fcn-port[torch,hub]'"
    yield "import fcn_port"
    yield f'net = fcn_port.load("hf:{card.repository}")    # checked: digests, and the recorded pass'
    if what == "segment" and card.net.preprocessing is not None:
        yield 'seen = fcn_port.segment(net, "street.jpg")    # seen.labels, seen.share_of_classes()'
        yield 'seen.overlay().save("overlay.png")'
    elif what == "detect" and card.net.preprocessing is not None:
        yield 'found = fcn_port.detect(net, "street.jpg")    # found[0].name, .score, .box'
        yield 'found.picture().save("boxes.png")'
    else:
        yield f"blobs = fcn_port.blobs(net, {', '.join(['x'] * min(1, len(card.net.inputs)))})    # by Caffe's names"
    yield "```"


def _facts(card: ModelCard) -> Iterator[str]:
    net = card.net
    yield "| | |"
    yield "| --- | --- |"
    if net.source is not None:
        yield f"| made from | {_code_cell(net.source.file)}, SHA-256 {_code_cell(net.source.sha256)} |"
        for url in net.source.urls:
            yield f"| published at | {markdown_cell(url)} |"
    size = "any height and width" if net.any_size else "this size alone"
    for kind, blobs in (("input", net.inputs), ("output", net.outputs)):
        for name, shape in blobs.items():
            yield f"| {kind} | {_code_cell(name)} {'x'.join(map(str, shape))}, {size} |"
    for each in net.preprocessing.inputs if net.preprocessing is not None else ():
        order = "BGR" if each.channels == "bgr" else "channels as stored"
        means = ", ".join(f"{value:g}" for value in each.mean)
        made = f"{order}, 0 to 255, less {means}, times {each.scale:g}; never resized"
        yield f"| {_code_cell(each.name)} is | {made} |"
    for name, classes in net.classes.items():
        yield f"| classes of {_code_cell(name)} | {len(classes)}: {', '.join(map(markdown_cell, classes))} |"
    for name in (CONFIG, *net.files):
        yield f"| {_code_cell(name)} | {_ABOUT.get(name, 'weights of the ONNX file')} |"


def _code_cell(text: object) -> str:
    """A code span in a table, where a bar would end the cell."""
    return markdown_code(text).replace("|", "\\|")


def _verified(card: ModelCard) -> Iterator[str]:
    yield "## What was verified"
    yield ""
    for check in card.checks:
        verdict = {True: "holds", False: "does not hold", None: "not checked"}[check.ok]
        yield f"* {markdown_cell(check.what)}: {verdict}; {markdown_cell(check.details)}"
    if not card.checks:
        yield "* There was no Caffe file to compare with: the weights are taken as they were given."
    if card.onnx_error is not None:
        error = f"{card.onnx_error:.1e} of an output's largest value"
        yield f"* ONNX: run beside the net in ONNX Runtime; the largest difference is {error}"
    yield (
        f"* {markdown_code(GOLDEN)}: an input and the outputs that PyTorch gave for it; `fcn_port.load` computes them "
        f"again and refuses the net where they differ by more than {card.net.tolerance:.0e} of the largest value"
    )


def _scores(scores: Sequence[Score]) -> Iterator[str]:
    yield "## Scores"
    yield ""
    yield f"| | {' | '.join(METRICS.values())} | source |"
    yield f"| --- |{' ---: |' * len(METRICS)} --- |"
    for each in scores:
        values = [getattr(each, name) for name in METRICS]
        cells = " | ".join("" if value is None else f"{value:.1f}" for value in values)
        title = " ".join(filter(None, (each.model, each.split, each.head)))
        yield f"| {markdown_cell(title)} | {cells} | {markdown_cell(each.source)} |"


def _terms(card: ModelCard) -> Iterator[str]:
    yield "## Licence, and how to cite"
    yield ""
    yield markdown_cell(_licence(card) or "The terms of these weights are not known.")
    if card.licence is not None:
        yield ""
        yield f"{markdown_cell(card.licence.note)} {markdown_cell(card.licence.url)}"
        yield ""
        yield markdown_cell(card.licence.attribution)
    if card.net.source is not None:
        yield ""
        yield f"When you cite the weights, say which: SHA-256 {markdown_code(card.net.source.sha256)}."


__all__ = ["CARD", "ModelCard", "to_markdown"]
