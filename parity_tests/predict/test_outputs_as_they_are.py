"""Each output of a net read as what it is: scores, labels, probabilities, maps of values, classes of the image."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fcn_port
from converters.errors import NetError
from converters.net import CoordMap
from fcn_port.cli import run
from fcn_port.predict import Classification, ValueMap, classify, see
from fcn_port.predict.meaning import outputs_of
from fcn_port.predict.reading import upsampled
from fcn_port.predict.segmentation import Segmentation
from parity_tests.datasets import noise
from parity_tests.predict.output_nets import BODIES, NAMES, files_of, net_of

IMAGE = noise(3, (8, 8, 3))
COLOUR = IMAGE.argmax(axis=2)
KINDS = {
    "scores": "scores", "softmax": "probabilities", "argmax": "labels", "sigmoid": "independent",
    "sigmoids": "independent", "threshold": "labels", "map": "map", "coarse": "scores", "classes": "classes",
    "inner": "classes", "inner-argmax": "classes", "fixed": "scores", "larger": "scores", "pooled": "scores",
}  # fmt: skip


@pytest.mark.parametrize(("net", "kind"), KINDS.items())
def test_the_kind_is_read_off_the_definition(net: str, kind: str) -> None:
    assert outputs_of(net_of(net)).expected[""].kind == kind


def test_two_outputs_are_two_things() -> None:
    found = see(net_of("two"), IMAGE)
    assert {name: each.kind for name, each in found.items() if isinstance(each, Segmentation)} == {
        "score": "scores", "edge": "independent",
    }  # fmt: skip


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(NetError, match=r"\(1, 1, 3, 8, 8\): neither scores nor labels"):
        fcn_port.segment(net_of("five axes"), IMAGE)


@pytest.mark.parametrize("net", ["scores", "softmax", "argmax"])
def test_labels_are_the_brightest_colour(net: str) -> None:
    """Before, the labels of an ArgMax were taken for scores of one class: background everywhere."""
    seen = fcn_port.segment(net_of(net), IMAGE)
    ties = np.sort(IMAGE, axis=2)[:, :, 1:].min(axis=2) == IMAGE.max(axis=2)  # of which ArgMax takes the last
    assert np.array_equal(seen.labels[~ties], COLOUR[~ties]) and len(np.unique(seen.labels)) == 3


@pytest.mark.parametrize("threshold", [None, 0.8])
def test_a_probability_and_its_threshold(threshold: float | None) -> None:
    seen = fcn_port.segment(net_of("sigmoid"), IMAGE, threshold=threshold)
    p = 1 / (1 + np.exp(-(IMAGE[:, :, 0] / 255 * 8 - 4)))
    assert seen.scores is not None and np.abs(seen.scores[0] - p).max() < 1e-6
    assert np.array_equal(seen.labels, p >= (threshold or 0.5)) and seen.name(0) == "background"
    labels = fcn_port.segment(net_of("sigmoids"), IMAGE, threshold=0.9).labels
    expected = np.where(IMAGE.max(axis=2) >= 255 * (4 + np.log(9)) / 8, COLOUR + 1, 0)
    assert (labels == expected).mean() > 0.98 and 0 in labels  # colours that tie aside


def test_a_map_is_no_labels_without_a_threshold() -> None:
    net = net_of("map")
    with pytest.raises(NetError, match="a map of values"):
        fcn_port.segment(net, IMAGE)
    seen = see(net, IMAGE)[""]
    assert isinstance(seen, ValueMap) and np.abs(seen.values[0] - IMAGE[:, :, 0] / 255).max() < 1e-6
    low, high = IMAGE[:, :, 0].min() / 255, IMAGE[:, :, 0].max() / 255
    expected = ((IMAGE[:, :, 0] / 255 - low) / (high - low) * 255).round()
    assert np.abs(np.asarray(seen.picture()) - expected).max() <= 1
    assert np.array_equal(fcn_port.segment(net, IMAGE, threshold=0.5).labels, IMAGE[:, :, 0] / np.float32(255) >= 0.5)


def test_probabilities_are_not_made_twice(tmp_path: Path) -> None:
    """Before, --probabilities took the softmax of what a Softmax had made: 0.58 where the net said 1."""
    args = files_of("softmax", tmp_path)
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    assert run(["predict", *args, str(tmp_path / "a.png"), "-o", str(tmp_path), "--probabilities"]) == 0
    scores = np.exp(IMAGE / 255) / np.exp(IMAGE / 255).sum(axis=2, keepdims=True)
    for label in range(3):
        found = np.asarray(Image.open(tmp_path / "a.probabilities" / f"{label}.png"))
        assert np.abs(found - 255 * scores[:, :, label]).max() <= 0.51


# Coarse scores


def test_coarse_scores_lie_where_the_layers_put_them() -> None:
    """A ramp averaged by 4 x 4 with stride 4 is the ramp at the windows' middles, so interpolation gives it back."""
    ramp = np.repeat(np.arange(0, 240, 6, dtype=np.uint8)[None, :, None], 40, axis=0).repeat(3, axis=2)
    seen = fcn_port.segment(net_of("coarse"), ramp)
    assert seen.coarse == (10, 10) and seen.scores is not None
    inside = seen.scores[0][:, 2:-2] * 255
    assert np.abs(inside - ramp[:, 2:-2, 0]).max() < 1e-3
    wrong = np.abs(inside[:, 1:] - ramp[:, 2:-3, 0])  # a pixel off, as with positions at the windows' corners
    assert wrong.min() > 1


def test_valid_convolutions_leave_a_border() -> None:
    ramp = np.repeat(np.arange(0, 240, 6, dtype=np.uint8)[None, :, None], 9, axis=0).repeat(3, axis=2)
    seen = fcn_port.segment(net_of("pooled"), ramp)  # the largest of 7 pixels, 3 to the right
    assert seen.scores is not None and np.abs(seen.scores[0][:, 3:-3] * 255 - ramp[:, 3:-3, 0] - 18).max() < 1e-3


def test_interpolation_by_hand() -> None:
    values = torch.tensor([[[[0.0, 8.0, 4.0]]]])
    assert upsampled(values, (1, 6))[0, 0, 0].tolist() == [0, 2, 6, 7, 5, 4]
    x = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    at = [(np.arange(length) * 0.5 + 0.25).clip(0, count - 1) for length, count in ((9, 5), (13, 7))]
    rows = np.stack([np.interp(at[0], np.arange(5), x[:, i]) for i in range(7)], axis=1)
    expected = np.stack([np.interp(at[1], np.arange(7), row) for row in rows])
    from fractions import Fraction

    places = CoordMap((Fraction(1, 2),) * 2, (Fraction(1, 4),) * 2)
    found = upsampled(torch.from_numpy(x)[None, None], (9, 13), places=places)[0, 0].numpy()
    assert np.abs(found - expected).max() < 1e-6


# Classes of an image


@pytest.mark.parametrize("net", ["classes", "inner", "inner-argmax"])
def test_an_image_is_named(net: str) -> None:
    image = np.zeros((30, 20, 3), np.uint8)
    image[:, :, 1] = 200
    image[:, :, 0] = 90
    found = classify(net_of(net), image, names=NAMES)
    assert [each.name for each in found][:2] == ["green", "red"] and isinstance(found, Classification)
    expected = np.array([90, 200, 0]) / 255
    if net != "inner-argmax":
        expected = np.exp(expected) / np.exp(expected).sum()
    assert found[0].score == pytest.approx(expected[1], abs=1e-5) and found.probabilities == (net != "inner-argmax")


def test_kinds_are_not_mixed_up() -> None:
    with pytest.raises(NetError, match="for the image as a whole"):
        fcn_port.segment(net_of("classes"), IMAGE)
    with pytest.raises(NetError, match="scores of 3 classes"):
        classify(net_of("scores"), IMAGE)


# Every net with every image


def said(call: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run(call)
    return status, out.getvalue(), err.getvalue()


SIZES = {"a8x8": (8, 8), "b5x9": (5, 9), "c1x1": (1, 1)}
REFUSED = {
    "fixed": {"b5x9", "c1x1"}, "pooled": {"b5x9", "c1x1"}, "larger": set(SIZES),
    "five axes": set(SIZES),
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i, (name, size) in enumerate(SIZES.items()):
        Image.fromarray(noise(i, (*size, 3))).save(folder / f"{name}.png")
    return folder


def assert_lines_are(call: list[str], found: dict[str, Any]) -> None:
    """--json-lines writes what --json does, a document a line, and nothing else."""
    status, out, err = said([*call, "--json-lines"])
    assert status == (1 if found["failed"] else 0) and "Traceback" not in err
    lines = [json.loads(line) for line in out.splitlines()]
    by_image = {each["image"]: each for each in lines}
    assert len(by_image) == len(lines)
    assert by_image == {each["image"]: each for each in (*found["images"], *found["failed"])}
    assert said([*call, "--json-lines", "--json"])[0] == 2


@pytest.mark.parametrize("net", BODIES)
def test_an_image_that_does_not_fit_is_a_line_and_the_rest_goes_on(net: str, images: Path, tmp_path: Path) -> None:
    """45 pairs of net and size: what fits is written, what does not is one line, and nothing is a traceback."""
    args = ["predict", *files_of(net, tmp_path), "-o", str(tmp_path / "out")]
    refused = REFUSED.get(net, set())
    status, out, err = said([*args, str(images), "--json"])
    found = json.loads(out)
    assert status == (1 if refused else 0)
    assert {Path(each["image"]).stem for each in found["failed"]} == refused
    assert {Path(each["image"]).stem for each in found["images"]} == set(SIZES) - refused
    assert all(f"{name}.png: " in err for name in refused)
    assert all("\n" not in each["problem"] for each in found["failed"])
    if net in ("coarse", "fixed", "inner"):
        assert_lines_are([*args, str(images)], found)
    one = min(refused or SIZES)
    status, out, err = said([*args, str(images / f"{one}.png")])
    assert status == (3 if refused else 0) and len(err.splitlines()) <= 2


def test_two_images_at_once_are_refused_in_a_line(tmp_path: Path) -> None:
    text = 'input: "a" input_shape { dim: [1, 3, 8, 8] } input: "b" input_shape { dim: [1, 3, 8, 8] } '
    (tmp_path / "net.prototxt").write_text(
        text + 'layer { name: "c" type: "Convolution" bottom: "a" top: "c" convolution_param { num_output: 2 '
        'kernel_size: 1 } } layer { name: "d" type: "Eltwise" bottom: "c" bottom: "b" top: "d" }'
    )
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    status, _, err = said(["predict", str(tmp_path / "net.prototxt"), str(tmp_path / "a.png"), "--mean", "0,0,0"])
    assert status in (2, 3) and "Traceback" not in err


# From the command line


def test_files_of_a_probability(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    args = files_of("sigmoid", tmp_path)
    (tmp_path / "names.txt").write_text("ground\nwater\n")
    call = ["predict", *args, str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--threshold", "0.8"]
    status, out, _ = said([*call, "--classes", str(tmp_path / "names.txt")])
    assert status == 0 and {line.split()[0] for line in out.splitlines()} == {"ground", "water", "->"}
    p = 1 / (1 + np.exp(-(IMAGE[:, :, 0] / 255 * 8 - 4)))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.labels.png")), p >= 0.8)
    assert np.abs(np.asarray(Image.open(tmp_path / "out" / "a.map.png")) - 255 * p).max() <= 0.51


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        ("argmax", ["--scores"], "labels and no scores"),
        ("map", ["--areas", "x.csv"], "--threshold VALUE"),
        ("classes", ["--tile", "64"], "names images as a whole; --tile"),
        ("classes", ["--coco", "x.json"], "names images as a whole; --coco"),
        ("inner", ["--least-score", "0.2"], "names images as a whole; --least-score is for one that finds objects"),
        ("scores", ["--least-score", "0.2"], "says something of pixels; --least-score"),
        ("scores", ["--anchors", "1,2"], "YOLO's heads, which have one place for 8x8 pixels or more"),
        ("scores", ["--threshold", "0.2"], "this one's output is scores of 3 classes"),
        ("argmax", ["--threshold", "0.2"], "this one's output is labels"),
        ("scores", ["--frames", "3"], "--frames goes with a video"),
        ("scores", ["--describe", "void = [3]"], "--describe goes with --data"),
        ("scores", ["--classes"], "2 names; the net has 3 classes"),
    ],
)
def test_what_no_output_can_give(net: str, options: list[str], message: str, tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    options = [*options, str(tmp_path / "two.txt")] if options == ["--classes"] else options
    status, _, err = said(["predict", *files_of(net, tmp_path), str(tmp_path / "a.png"), *options])
    assert status == 2 and message in err


@pytest.mark.parametrize("option", ["--areas", "--coco"])
@pytest.mark.parametrize("lost", ["a.png", "scores.caffemodel", "scores.prototxt", "names.txt"])
def test_a_table_replaces_nothing_that_is_read(option: str, lost: str, tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    call = ["predict", *files_of("scores", tmp_path), str(tmp_path / "a.png"), "--classes", str(tmp_path / "names.txt")]
    before = (tmp_path / lost).read_bytes()
    status, _, err = said([*call, option, str(tmp_path / lost)])
    assert status == 2 and f"choose another with {option}" in err
    assert (tmp_path / lost).read_bytes() == before


def test_the_classes_of_an_image_as_records(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    call = ["predict", *files_of("inner", tmp_path), str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    assert said([*call, "--classes", str(tmp_path / "names.txt")])[0] == 0
    record = json.loads((tmp_path / "out" / "a.classes.json").read_text())
    assert {each["name"] for each in record["classes"]} == set(NAMES) and record["probabilities"]
    assert sum(each["score"] for each in record["classes"]) == pytest.approx(1, abs=1e-5)
