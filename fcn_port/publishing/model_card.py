"""A published net's README.md: the model card of a hub, with every text of others made harmless for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from converters.escaping import json_text, markdown_cell, markdown_code
from converters.wording import shape_text
from weights.records import METRICS, InputRecipe, Licence, Release

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


_LOAD = 'net = fcn_port.load("hf:'
_CALLS: Mapping[str, tuple[str, ...]] = {
    "image-segmentation": (
        'seen = fcn_port.segment(net, "street.jpg")    # seen.labels, seen.share_of_classes()',
        'seen.overlay().save("overlay.png")',
    ),
    "object-detection": (
        'found = fcn_port.detect(net, "street.jpg")    # found[0].name, .score, .box',
        'found.picture().save("boxes.png")',
    ),
    "image-classification": ('found = fcn_port.classify(net, "cat.jpg")    # found[0].name, .score; the best first',),
    "": ('blobs = fcn_port.blobs(net, fcn_port.prepare(net, "street.jpg"))    # every blob by Caffe\'s name',),
}
"""The lines that use a net on a photograph, by its task."""


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
    if card.release is not None:
        parts += [*_scores(card.release)]
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


def repository_of(text: str) -> str | None:
    """The repository that a model card says the net is in; None where somebody took that out."""
    _, _, behind = text.partition(_LOAD)
    return behind.partition('"')[0] or None


def _lead(card: ModelCard) -> str:
    known = f", weights of the release {markdown_code(card.release.name)}" if card.release is not None else ""
    size, tool = f"{card.net.parameters:,} parameters", markdown_cell(card.net.made_by)
    about = None if card.release is None else card.release.about
    purpose = f"{markdown_cell(about.title)}: {markdown_cell(about.purpose)}\n\n" if about is not None else ""
    said = (
        f"A Caffe net with {size}{known}, ported to PyTorch by {tool}: the same names, shapes and numbers as in Caffe."
    )
    return f"{purpose}{said}"


def _use(card: ModelCard) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "```python"
    yield "# pip install 'fcn-port[torch,hub]'"
    yield "import fcn_port"
    yield f'{_LOAD}{card.repository}")    # checked: digests, and the recorded pass'
    preprocessing = card.net.preprocessing
    if preprocessing is None or len(preprocessing.inputs) != 1:
        shapes = ", ".join(f"torch.zeros{shape}" for shape in card.net.inputs.values())
        yield "import torch"
        yield f"blobs = fcn_port.blobs(net, {shapes})    # every blob by Caffe's name"
    else:
        yield from _CALLS.get(card.task or "", _CALLS[""])
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
        yield f"| {_code_cell(each.name)} is | {_made(card, each)} |"
    for name, classes in net.classes.items():
        yield f"| classes of {_code_cell(name)} | {len(classes)}: {', '.join(map(markdown_cell, classes))} |"
    for name in (CONFIG, *net.files):
        yield f"| {_code_cell(name)} | {_ABOUT.get(name, 'weights of the ONNX file')} |"


def _made(card: ModelCard, recipe: InputRecipe) -> str:
    """The making of an input in words."""
    log = "the natural logarithm of " if recipe.log else ""
    order = "BGR" if recipe.channels == "bgr" else "channels as stored"
    means = ", ".join(f"{value:g}" for value in recipe.mean)
    size = shape_text(card.net.inputs.get(recipe.name, ())[2:])
    if recipe.resize:
        sides = "the shorter side" if len(recipe.resize) == 1 else "the image"
        sized = f"{sides} scaled to {shape_text(recipe.resize)}, then {size} cut from the centre"
    elif "im_info" in card.net.inputs:
        sized = "scaled as its project does, which `fcn_port.detect` knows"
    elif card.task in ("object-detection", "image-classification"):
        sized = f"both sides scaled to {size}"
    else:
        sized = "never resized"
    return f"{log}{order}, 0 to 255, less {means}, times {recipe.scale:g}; {sized}"


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


def _scores(release: Release) -> Iterator[str]:
    figures = () if release.about is None else release.about.figures
    if not release.scores and not figures:
        return
    yield "## Published scores"
    yield ""
    if release.scores:
        yield f"| | {' | '.join(METRICS.values())} | source |"
        yield f"| --- |{' ---: |' * len(METRICS)} --- |"
    for each in release.scores:
        values = [getattr(each, name) for name in METRICS]
        cells = " | ".join("" if value is None else f"{value:.1f}" for value in values)
        title = " ".join(filter(None, (each.model, each.split, each.head)))
        yield f"| {markdown_cell(title)} | {cells} | {markdown_cell(each.source)} |"
    for figure in figures:
        yield f"* {markdown_cell(figure.metric)}: {figure.value:g} ({markdown_cell(figure.on)})"
    yield ""


def _terms(card: ModelCard) -> Iterator[str]:
    yield "## Licence, and how to cite"
    yield ""
    yield markdown_cell(_licence(card) or "The terms of these weights are not known.")
    if card.licence is not None:
        yield ""
        yield f"{markdown_cell(card.licence.note)} {markdown_cell(card.licence.url)}"
        yield ""
        yield markdown_cell(card.licence.attribution)
    about = None if card.release is None else card.release.about
    if about is not None and about.papers:
        yield ""
        yield f"Papers: {'; '.join(map(markdown_cell, about.papers))}."
    if card.net.source is not None:
        yield ""
        yield f"When you cite the weights, say which: SHA-256 {markdown_code(card.net.source.sha256)}."


__all__ = ["CARD", "ModelCard", "to_markdown"]
