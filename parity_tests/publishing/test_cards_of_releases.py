"""The card of a published release: whose the weights are, what they were scored, and how to cite them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fcn_port
from converters.escaping import markdown_cell
from converters.export import ExportError
from fcn_port.publishing import publish
from fcn_port.publishing.model_card import ModelCard, to_markdown
from fcn_port.publishing.records import PublishedNet
from weights.catalogue import bundled, famous, releases
from weights.records import METRICS

EVERY = {name: release for catalogue in (releases(), bundled(), famous()) for name, release in catalogue.items()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "sample"
    publish("sample", folder, repository="me/sample", onnx=False)
    return folder


def test_a_release_is_published_by_its_name(sample: Path) -> None:
    release, said = bundled()["sample"], json.loads((sample / "config.json").read_text())
    assert release.licence is not None
    assert said["name"] == "sample" and said["licence"].startswith(release.licence.name)
    assert said["source"]["sha256"] == release.checksums[0].digest
    assert said["classes"] == {name: list(each) for name, each in release.dataset.heads.items()}  # type: ignore[union-attr]
    lines = (sample / "README.md").read_text().splitlines()
    assert "license: bsd-2-clause" in lines and "| val | 99.3 | 97.4 | 95.6 | 98.6 |" in "\n".join(lines)


def test_a_release_has_its_own_licence(tmp_path: Path) -> None:
    """config.json said the one that was given, and the card the release's."""
    with pytest.raises(ExportError, match="the weights of the release sample are under BSD-2-Clause"):
        publish("sample", tmp_path / "net", licence="MIT", onnx=False)
    assert not (tmp_path / "net").exists()


def test_safetensors_of_a_release_are_published_as_they_are(sample: Path, tmp_path: Path) -> None:
    """There is nothing to compare them with, which the card says; whose they are it says too."""
    weights = sample / "model.safetensors"
    publish(weights, tmp_path / "again", repository="me/again", onnx=False)
    text = (tmp_path / "again" / "README.md").read_text()
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == weights.read_bytes()
    assert "There was no Caffe file to compare with" in text and "license: bsd-2-clause" in text
    assert fcn_port.load(tmp_path / "again").card.release == "sample"


@pytest.mark.parametrize("name", EVERY)
def test_a_card_says_licence_scores_and_papers(name: str, sample: Path) -> None:
    release = EVERY[name]
    made = ModelCard(PublishedNet.read(sample), (), release, release.licence, None, None, "me/net")
    text = to_markdown(made)
    front = text.split("---")[1].splitlines()
    if release.licence is not None:
        known = {"BSD-2-Clause", "MIT", "Apache-2.0"} & {release.licence.name}
        assert ("license: other" in front) == (not known)
        assert known or f"license_name: {json.dumps(release.licence.name)}" in front
        for fact in (release.licence.name, release.licence.note, release.licence.url, release.licence.attribution):
            assert markdown_cell(fact) in text.partition("## Licence")[2]
    scores = text.partition("## Published scores")[2].partition("##")[0]
    rows = [line.split(" | ") for line in scores.splitlines() if line.startswith("| ")][2:]
    for row, score in zip(rows, release.scores, strict=True):
        numbers = [getattr(score, metric) for metric in METRICS]
        assert [number.strip() for number in row[1 : 1 + len(METRICS)]] == [
            "" if number is None else f"{number:.1f}" for number in numbers
        ]
        assert all(part in row[0] for part in (score.split, score.model, score.head) if part)
    for figure in release.about.figures if release.about is not None else ():
        assert f"{markdown_cell(figure.metric)}: {figure.value:g} ({markdown_cell(figure.on)})" in text
    for paper in release.about.papers if release.about is not None else ():
        assert markdown_cell(paper) in text.rpartition("Papers: ")[2]
