"""The report: what is drawn is what was measured, and the page stands alone."""

from __future__ import annotations

import io
import json
import re
from base64 import b64decode
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from converters.formats import parse_prototxt
from converters.net.coord_map import derive_crops
from converters.net.layer import LayerSpec
from converters.net.spec import NetSpec
from converters.passes.deploy import to_deploy
from converters.passes.merge_splits import merge_splits
from fcn_port.cli import run
from fcn_port.cli.sources import read_net
from fcn_port.data import make_shapes, open_dataset
from fcn_port.evaluation import Evaluation, ImageResult, evaluate, read_evaluation, scores
from fcn_port.loading import load
from fcn_port.predict.palettes import voc_palette
from fcn_port.recording import golden_errors
from fcn_port.report import Page, to_html
from fcn_port.report.blobs import blob_section
from fcn_port.report.confusion import confusion
from fcn_port.report.diagram import BlobRow, diagram, trace_rows
from fcn_port.report.examples import best_and_worst
from fcn_port.report.gallery import Example, difference, gallery, ranked
from fcn_port.report.parity import parity
from parity_tests.goldens import SAMPLE_GOLDEN
from parity_tests.test_architecture import ROOT

SAMPLE = str(ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel")
VOID = {"meta", "img", "br", "link", "input", "!doctype"}


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FCN_PORT_OFFLINE", "1")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", count=6, seed=1, size=(33, 44), val=0.5)


class Reader(HTMLParser):
    """The elements of a page: every one closed, with the attributes that lead somewhere."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.count: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.words = ""
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += 1
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def evaluation_of(*counts: np.ndarray, names: tuple[str, ...] = ("background", "cat", "dog")) -> Evaluation:
    images = tuple(ImageResult(f"image {i}", {"score": each}) for i, each in enumerate(counts))
    return Evaluation("net", None, "voc", "a set", "val", False, {"score": names}, images, {}, 1.0, len(images), {})


def test_the_whole_job_on_the_sample(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One page with everything, from a folder of images, and the same from results that `evaluate` wrote."""
    page, again = tmp_path / "deep" / "page.html", tmp_path / "again.html"
    common = [
        "report",
        SAMPLE,
        "--data",
        str(shapes),
        "--like",
        "voc-fcn8s",
        "--golden",
        str(SAMPLE_GOLDEN),
        "--images",
        "1",
    ]
    assert run([*common, "-o", str(page)]) == 0
    assert run(["evaluate", SAMPLE, "--data", str(shapes), "--like", "voc-fcn8s", "--json"]) == 0
    (tmp_path / "found.json").write_text(capsys.readouterr().out)
    found = read_evaluation(tmp_path / "found.json")
    assert found.computed == 0, "evaluate finds what the report has computed"
    text = page.read_text(encoding="utf-8")
    read = Reader(text)
    assert read.count["img"] == 8 and read.count["script"] == read.count["link"] == 0
    assert f"{100 * found.scores().mean_iu:.2f}" in read.words and "score_pool3" in read.words
    assert re.findall(r'section id="([^"]+)"', text) == ["scores-0", "confusion", "best", "worst", "trace", "parity"]
    assert run([*common, "-o", str(again), "--results", str(tmp_path / "found.json"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["page"] == str(again) and said["images"] == len(found.images) and len(said["best"]) == 1
    (scores,) = said["scores"].values()
    assert scores["mean_iu"] == found.scores().mean_iu and 0 <= said["parity"]["worst"] <= said["parity"]["allowed"]
    assert again.read_text(encoding="utf-8") == text


def test_the_page_stands_alone(shapes: Path, tmp_path: Path) -> None:
    """Nothing is loaded from anywhere, and a browser is told to load nothing."""
    assert run(["report", SAMPLE, "-o", str(tmp_path / "a.html"), "--data", str(shapes), "--like", "voc-fcn8s"]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert all(address.startswith("data:image/") for address in Reader(text).addresses)
    style = re.findall(r"url\(|@import|@font-face|https?:", re.sub(r'src="data:[^"]+"', "", text))
    assert not style and "default-src 'none'" in text and 'name="viewport"' in text


def test_hostile_names_stay_text() -> None:
    evil = "<script>alert('x')</script>\"&"
    counts = np.array([[5, 3, 0], [1, 9, 0], [0, 0, 0]])
    example = Example(evil, 0.5, *(np.zeros(shape, np.uint8) for shape in ((4, 4, 3), (4, 4), (4, 4))))
    found = replace(evaluation_of(counts, names=("a", evil, "c")), title=evil, weights=evil)
    page = to_html(Page(evil, None, None, voc_palette(), evaluation=found, best=(example,), worst=(example,)))
    read = Reader(page)
    assert read.count["script"] == 0 and read.words.count("<script>") > 3


def test_a_name_of_ten_thousand_letters_leaves_room_for_the_others() -> None:
    """It took three hundred lines of the diagram, and where it was a heading the page was 80,000 pixels wide."""
    name = "x" * 10_000
    layer = f'layer {{ name: "a" type: "ReLU" bottom: "data" top: "{name}" }}'
    spec = parse_prototxt('input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 } ' + layer)
    pictures = blob_section("a.png", {name: Image.new("L", (4, 4))})
    page = diagram(spec) + parity({name: 0.0}, tolerance=1e-6, golden="g") + pictures
    assert name not in page and page.count("... (10,000 characters)") == 5


# --- the trace -------------------------------------------------------------------------------------------------------


def test_blobs_of_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, image = tmp_path / "page.html", str(ROOT / "weights" / "sample" / "shapes.png")
    asked = ["report", SAMPLE, "--like", "voc-fcn8s", "-o", str(page)]
    assert run([*asked, "--image", image, "--blobs", "conv3_3,score"]) == 0
    found = Reader(page.read_text())
    assert "conv3_3" in found.words and found.count["img"] == 2
    assert all(each.startswith("data:image/png;base64,") for each in found.addresses)
    for wrong in (["--blobs", "score"], ["--image", image], ["--image", image, "--blobs", "no"]):
        assert run([*asked, *wrong]) == 2


def rows_of(spec: NetSpec, size: tuple[int, int]) -> dict[str, BlobRow]:
    return {row.name: row for row in trace_rows(spec, size)}


def deploy(name: str) -> NetSpec:
    return merge_splits(to_deploy(read_net(name)))


@pytest.mark.parametrize("name", ["voc-fcn8s", "voc-fcn32s", "voc-fcn-alexnet", "siftflow-fcn16s"])
@pytest.mark.parametrize("size", [(100, 100), (75, 122)])
def test_what_is_added_lies_on_top_of_each_other(name: str, size: tuple[int, int]) -> None:
    """The scores cover the image exactly; a crop keeps the part of its bottom that lies on its reference."""
    spec = deploy(name)
    rows = rows_of(spec, size)
    for derivation in derive_crops(spec):
        top, reference = rows[derivation.layer.tops[0]], rows[derivation.layer.bottoms[1]]
        assert top.extent is not None and reference.extent is not None and top.cut is not None
        shift = max(abs(top.extent.start - reference.extent.start), abs(top.extent.stop - reference.extent.stop))
        pixel = (reference.extent.stop - reference.extent.start) / reference.extent.cells
        assert shift <= (0 if derivation.exact == derivation.derived else pixel)
        assert top.cut.start <= top.extent.start < top.extent.stop <= top.cut.stop
    first = rows["data"].extent
    assert first is not None and (first.start, first.stop) == (0, size[1])


def test_a_crop_that_is_off_is_drawn_off() -> None:
    spec = deploy("voc-fcn8s")
    layers = list(spec.layers)
    message = layers[-1].to_message()
    message.crop_param.offset[0] = 34  # the middle, for 500 pixels
    moved = rows_of(spec.replace_layers((*layers[:-1], LayerSpec.from_message(message))), (100, 100))["score"].extent
    right = rows_of(spec, (100, 100))["score"].extent
    assert right is not None and (right.start, right.stop) == (0, 100)
    assert moved is not None and (moved.start, moved.stop) == (3, 103)


def test_extents_by_hand() -> None:
    """pool1's position 0 looks at pixels -100 and -99 (padded: 1 beside the middle of a window of 3); fc6's at 32."""
    rows = rows_of(deploy("voc-fcn8s"), (100, 100))
    pool1, fc6 = rows["pool1"].extent, rows["fc6"].extent
    assert pool1 is not None and (pool1.start, pool1.stop, pool1.cells) == (Fraction(-99), Fraction(199), 149)
    assert fc6 is not None and (fc6.stop - fc6.start, fc6.cells) == (4 * 32, 4)
    assert rows["score_pool4c"].layer == "crop: columns 5 to 15 of score_pool4's 19"


# --- parity ----------------------------------------------------------------------------------------------------------


def test_errors_of_each_blob() -> None:
    net = load(SAMPLE)
    errors = golden_errors(net, SAMPLE_GOLDEN)
    with np.load(SAMPLE_GOLDEN) as recorded:
        assert list(errors) == recorded.files
        from fcn_port import blobs

        found = blobs(net, torch.from_numpy(recorded["data"]))["fc6"].numpy()
        largest = np.abs(found.astype(float) - recorded["fc6"]).max() / np.abs(recorded["fc6"]).max()
    assert errors["fc6"] == pytest.approx(largest) and max(errors.values()) < 5e-6 and errors["data"] == 0
    with torch.no_grad():
        net.get_parameter("conv3_2.weight").mul_(1.001)
    wrong = golden_errors(net, SAMPLE_GOLDEN)
    assert wrong["conv3_1"] == errors["conv3_1"] and wrong["conv3_2"] > 1e-4
    assert "NOT the same numbers" in parity(wrong, tolerance=5e-6, golden="x")
    assert "NOT" not in (good := parity(errors, tolerance=5e-6, golden="x")) and 'class="bar bad"' not in good


def test_the_chart_is_logarithmic() -> None:
    errors = {"equal": 0.0, "tiny": 1e-9, "middle": 1e-6, "large": 1.0, "shape": float("inf")}
    drawn = parity(errors, tolerance=1e-6, golden="x")
    assert re.findall(r'class="bar \w+" style="width:([0-9.]+)%', drawn) == [
        "0.000", "0.000", "50.000", "100.000", "100.000",
    ]  # fmt: skip
    assert drawn.count('class="bar bad"') == 2 and drawn.count("left:50.000%") == 5 and "other shape" in drawn


# --- scores ----------------------------------------------------------------------------------------------------------


def test_bars_are_the_metrics() -> None:
    counts = np.array([[90, 10, 0], [20, 30, 0], [0, 0, 0]])
    found = evaluation_of(counts)
    page = to_html(Page("x", None, None, voc_palette(), evaluation=found))
    by_hand = scores(counts)
    row = r'class="name">([^<]+)</span><span class="track"><i class="bar " style="width:([0-9.]+)%'
    bars = {name: float(width) for name, width in re.findall(row, page)}
    assert bars["background"] == pytest.approx(100 * 90 / 120, abs=1e-3)
    assert bars["cat"] == pytest.approx(100 * 30 / 60, abs=1e-3) and bars["dog"] == 0
    assert bars["mean IU"] == pytest.approx(100 * by_hand.mean_iu, abs=1e-3)


def test_published_values_are_marked() -> None:
    found = replace(evaluation_of(np.diag([5, 5, 5])), release="voc-fcn8s", split="seg11valid")
    page = to_html(Page("x", None, None, voc_palette(), evaluation=found))
    assert page.count("left:65.513%") == 1 + 3 and page.count("left:91.221%") == 1
    assert "published 65.51, +34.49" in page


def test_the_matrix_and_its_mistakes() -> None:
    counts = np.array([[50, 50, 0], [0, 9, 1], [0, 0, 0]])
    drawn = confusion(counts, ("background", "cat", "dog"))
    cells = re.findall(r"<title>(\w+) as (\w+): ([0-9.]+)%</title>", drawn)
    assert cells == [
        ("background", "background", "50.0"), ("background", "cat", "50.0"), ("cat", "cat", "90.0"),
        ("cat", "dog", "10.0"),
    ]  # fmt: skip
    assert "background as cat (50.0% of background); cat as dog (10.0% of cat)." in drawn
    assert drawn.count("no labelled pixels") == 1
    Reader(drawn)


def test_the_best_and_the_worst(shapes: Path) -> None:
    """Ranked by their own mean IU; an image is in one of the two only."""
    counts = [np.array([[10 - i, i, 0], [0, 5, 0], [0, 0, 0]]) for i in (3, 0, 6)]
    found = evaluation_of(*counts, np.zeros((3, 3), np.int64))
    order = ranked(found, found.tasks[0])
    assert [id_ for id_, _ in order] == ["image 1", "image 0", "image 2"] and order[0][1] == 1.0
    assert order[1][1] == pytest.approx((7 / 10 + 5 / 8) / 2)
    net = load(SAMPLE)
    data = open_dataset(shapes)
    evaluation = evaluate(net, data)
    best, worst = best_and_worst(net, data, evaluation, count=2)
    assert [len(best), len(worst)] == [2, 1] and not {e.id for e in best} & {e.id for e in worst}
    assert best[0].score >= best[1].score >= worst[0].score
    for each in (*best, *worst):
        labels = data.read(each.id).labels["score"]
        counted = next(image for image in evaluation.images if image.id == each.id).histograms["score"]
        keep = labels != 255
        assert np.array_equal(each.labels, labels)
        assert np.array_equal(np.bincount(each.predictions[keep], minlength=7), counted.sum(axis=0))


def test_the_difference() -> None:
    example = Example("x", 1.0, np.zeros((1, 3, 3), np.uint8), np.array([[1, 1, 255]]), np.array([[1, 2, 2]]))
    right, wrong, ignored = difference(example, 255)[0].astype(int)
    assert wrong[0] > 2 * wrong[1] and np.ptp(right) < 20 and ignored.min() > 240
    big = Example("x", 1.0, *(np.zeros(shape, np.uint8) for shape in ((900, 50, 3), (900, 50), (900, 50))))
    drawn = gallery("best", "t", [big], palette=voc_palette(), classes=("a",), ignore_label=255)
    assert drawn.count("<img") == 4 and len(drawn) < 20_000, "pictures are made small"


def test_maps_made_smaller_have_no_colours_between_the_classes() -> None:
    """900 pixels in stripes of classes 1 and 2: labels, predictions and their difference keep pure colours."""
    labels = np.broadcast_to(1 + np.arange(900) // 7 % 2, (40, 900)).astype(np.uint8)
    predictions = np.broadcast_to(1 + np.arange(900) // 5 % 2, (40, 900)).astype(np.uint8)
    example = Example("x", 1.0, np.zeros((40, 900, 3), np.uint8), labels, predictions)
    drawn = gallery("best", "t", [example], palette=voc_palette(), classes=("a", "b", "c"), ignore_label=255)
    maps = [Image.open(io.BytesIO(b64decode(found))) for found in re.findall(r"image/png;base64,([^\"]+)", drawn)]
    colours = [{tuple(colour) for colour in np.asarray(each.convert("RGB")).reshape(-1, 3)} for each in maps]
    pure = {tuple(colour) for colour in voc_palette()[1:3]}
    right_and_wrong = {tuple(colour) for colour in difference(example, 255).reshape(-1, 3)}
    assert maps[0].width < 900 and colours == [pure, pure, right_and_wrong]


# --- mistakes --------------------------------------------------------------------------------------------------------


MISTAKES = [
    (["report"], 2, "Missing argument"),
    (["report", "voc-fcn9s"], 2, "voc-fcn9s"),
    (["report", SAMPLE, "--results", "BAD"], 3, "not an evaluation"),
    (["report", SAMPLE, "--results", "/no/where.json"], 2, "where.json"),
    (["report", SAMPLE, "--golden", "BAD"], 3, "not an .npz of blobs"),
    (["report", SAMPLE, "--data", "/no/where"], 2, "no such folder"),
    (["report", SAMPLE, "--size", "0"], 2, "is not a size"),
]


@pytest.mark.parametrize(("arguments", "status", "says"), MISTAKES)
def test_mistakes(
    arguments: list[str], status: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    bad.write_text("[]")
    out = tmp_path / "page.html"
    assert run([*(str(bad) if each == "BAD" else each for each in arguments), "-o", str(out)]) == status
    err = capsys.readouterr().err
    assert says in err and "Traceback" not in err and not out.exists()


def test_a_net_alone_makes_a_page(tmp_path: Path) -> None:
    """The name of a net, with nothing measured: the trace."""
    assert run(["report", "voc-fcn8s", "-o", str(tmp_path / "a.html"), "--size", "375x500"]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "21 x 375 x 500" in Reader(text).words and text.count("<section") == 1
