"""The catalogue says what was published: against the shapes that real Caffe gave the nets, and the release's facts.

A catalogue with an error in it is refused with the entry and the field; nobody finds out from a wrong download.
"""

from __future__ import annotations

import json
import subprocess
import sys
from math import prod

import pytest

from parity_tests.goldens import shapes
from weights.catalogue import datasets, init_nets, parse_catalogue, release, releases
from weights.errors import CatalogueError, UnknownReleaseError, WeightsError
from weights.records import Checksum, InputRecipe, Preprocessing

NAMES = list(releases())
AUTHORS = [name for name in NAMES if release(name).licence == release("voc-fcn8s").licence]
"""Those of the nets' authors; everybody's go through the other tests."""
MEANS = {
    "voc": {"color": (104.00698793, 116.66876762, 122.67891434)},
    "pascalcontext": {"color": (104.007, 116.669, 122.679)},
    "siftflow": {"color": (114.578, 115.294, 108.353)},
    "nyud": {"color": (116.190, 97.203, 92.318), "hha": (132.431, 94.076, 118.477), "depth": (7.844,)},
    "ilsvrc12": {"color": (103.939, 116.779, 123.68)},
}


def test_every_net_that_caffe_gave_shapes_is_a_release() -> None:
    """Of two the authors published a definition and no weights, and voc-fcn8s is recorded in a second form."""
    without = {"voc-fcn-googlenet", "nyud-fcn32s-color-d", "voc-fcn8s-deploy"}
    assert releases().keys() == shapes().keys() - without and without < shapes().keys()


@pytest.mark.parametrize("name", NAMES)
def test_release_fits_the_shapes_that_caffe_gave_its_net(name: str) -> None:
    entry, caffe = release(name), shapes()[name]
    blobs = caffe.blobs[100, 100]
    assert {each.name: len(each.mean) for each in entry.preprocessing.inputs} == {
        blob: blobs[blob][1] for blob in ("data", "color", "hha", "depth") if blob in blobs
    }
    assert {blob: len(classes) for blob, classes in entry.classes.items()} == {
        blob: blobs[blob][1] for blob in ("score", "score_sem", "score_geo") if blob in blobs
    }
    floats = sum(prod(shape) for blobs_of in caffe.params.values() for shape in blobs_of)
    assert entry.blob_bytes == 4 * floats
    assert entry.size is None or 0 < entry.size - entry.blob_bytes < 100_000
    assert entry.net == name


@pytest.mark.parametrize("name", AUTHORS)
def test_release_comes_from_the_authors_server_first(name: str) -> None:
    entry = release(name)
    assert len(AUTHORS) == 14
    assert entry.urls[0] == f"http://dl.caffe.berkeleyvision.org/{entry.file}"
    assert all(f"/shelhamer/fcn.berkeleyvision.org/master/{name}/" in url for url in entry.prototxts)
    assert entry.prototxts and entry.licence.name and "1411.4038" in entry.licence.attribution


def test_checksums_and_sizes_that_were_published() -> None:
    fcn8s, fcn32s, vgg = release("voc-fcn8s"), release("voc-fcn32s"), release("VGG_ILSVRC_16_layers")
    assert fcn8s.checksum == Checksum("sha1", "c449ea74dd7d83751d1357d6a8c323fcf4038962")  # not the weaker md5
    assert fcn8s.checksums[1] == Checksum("md5", "c03b2953ebd846c270da1a8e8f200c09")
    assert fcn32s.checksum == Checksum("sha1", "05eb922d7829c39448f57e5ab9d8cd75d6c0be6d")
    assert vgg.kind == "init" and vgg.size == 553432081 and len(vgg.urls) == 2
    assert vgg.checksum == Checksum("sha256", "a6196bc498e45ea4cb2637114ae8db9410cf1556fd60a55ae93272371beba197")
    assert vgg.checksums[1] == Checksum("sha1", "9363e1f6d65f7dba68c4f27a1e62105cdf6c4e24")
    assert [name for name in AUTHORS if release(name).checksum] == ["voc-fcn32s", "voc-fcn8s"]


@pytest.mark.parametrize("name", MEANS)
def test_means_are_in_the_order_of_the_net(name: str) -> None:
    inputs = datasets()[name].inputs
    assert {kind: each.mean for kind, each in inputs.items()} == MEANS[name]
    assert {kind: each.channels for kind, each in inputs.items()} == {
        kind: "bgr" if kind == "color" else "file" for kind in MEANS[name]
    }
    assert [kind for kind, each in inputs.items() if each.log] == (["depth"] if name == "nyud" else [])


def test_inputs_of_the_nyud_nets() -> None:
    kinds = {n: {i.name: i.kind for i in release(n).preprocessing.inputs} for n in AUTHORS if n.startswith("nyud")}
    assert kinds == {
        "nyud-fcn32s-color": {"data": "color"},
        "nyud-fcn32s-hha": {"data": "hha"},
        "nyud-fcn32s-color-hha": {"color": "color", "hha": "hha"},
    }


@pytest.mark.parametrize(
    ("name", "head", "index", "label"),
    [
        ("voc", "score", 0, "background"),
        ("voc", "score", 15, "person"),
        ("voc", "score", 20, "tvmonitor"),
        ("pascalcontext", "score", 0, "background"),
        ("pascalcontext", "score", 16, "pottedplant"),
        ("pascalcontext", "score", 42, "curtain"),
        ("pascalcontext", "score", 59, "wood"),
        ("siftflow", "score_sem", 0, "awning"),
        ("siftflow", "score_sem", 15, "moon"),
        ("siftflow", "score_sem", 32, "window"),
        ("siftflow", "score_geo", 2, "vertical"),
        ("nyud", "score", 0, "wall"),
        ("nyud", "score", 19, "floor mat"),
        ("nyud", "score", 39, "otherprop"),
    ],
)
def test_classes_are_in_output_order(name: str, head: str, index: int, label: str) -> None:
    assert datasets()[name].heads[head][index] == label


def test_num_classes_is_what_build_takes() -> None:
    assert release("voc-fcn8s").num_classes == 21
    assert release("siftflow-fcn16s").num_classes == {"sem": 33, "geo": 3}


def test_published_and_measured_scores_have_sources() -> None:
    voc = [name for name in AUTHORS if name.startswith("voc")]
    published = {n: [(s.split, s.mean_iu) for s in release(n).scores if "README" in s.source] for n in voc}
    assert published == {
        "voc-fcn32s": [("seg11valid", 63.6)],
        "voc-fcn16s": [("seg11valid", 65.0)],
        "voc-fcn8s": [("seg11valid", 65.5), ("seg12test", 67.2)],
        "voc-fcn8s-atonce": [("seg11valid", 65.4)],
        "voc-fcn-alexnet": [("seg11valid", 48.0)],
    }
    measured = [s for s in release("voc-fcn8s").scores if "wkentaro" in s.source]
    assert [(s.overall_accuracy, s.mean_accuracy, s.mean_iu, s.fwavacc) for s in measured] == [
        (91.2212, 77.6146, 65.5126, 84.5445)
    ]
    paper = {(s.model, s.split): (s.mean_iu, s.seconds) for s in datasets()["voc"].scores}
    assert paper[("FCN-8s (CVPR 2015)", "seg11test")] == (62.7, 0.175)
    assert paper[("SDS", "seg12test")] == (51.6, 50)
    assert paper[("R-CNN", "seg11test")] == (47.9, None)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("voc-fcn8", "voc-fcn8s"), ("VOC-FCN8S", "voc-fcn8s"), ("siftflow-8s", "siftflow-fcn8s"), ("nyud", "nyud-fcn32s")],
)
def test_a_typo_gets_the_closest_names(typo: str, meant: str) -> None:
    with pytest.raises(UnknownReleaseError, match=meant) as caught:
        release(typo)
    assert isinstance(caught.value, WeightsError) and repr(typo) in str(caught.value)


# --- preprocessing travels as JSON ---


@pytest.mark.parametrize("name", [*NAMES, *init_nets()])
def test_preprocessing_survives_json(name: str) -> None:
    before = release(name).preprocessing
    assert Preprocessing.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_scale_and_log_survive_json() -> None:
    before = Preprocessing((InputRecipe("depth", "depth", "file", (7.844,), log=True, scale=0.5),))
    assert Preprocessing.from_json(json.loads(json.dumps(before.to_json()))) == before


GOOD_INPUT = {"name": "data", "kind": "color", "channels": "bgr", "mean": [1.0, 2.0, 3.0]}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "inputs is missing"),
        ({"inputs": []}, "preprocessing, inputs: expected one for each input blob"),
        ({"inputs": ["data"]}, r"preprocessing.inputs\[0\]: expected a table, found 'data'"),
        ({"inputs": [{"name": "data"}]}, r"inputs\[0\]: kind is missing"),
        ({"inputs": [GOOD_INPUT | {"channels": "rgb"}]}, r"\[0\].channels: expected 'bgr' or 'file', found 'rgb'"),
        ({"inputs": [GOOD_INPUT | {"mean": 104.0}]}, r"inputs\[0\].mean: expected a list, found 104"),
        ({"inputs": [GOOD_INPUT | {"mean": [True]}]}, r"mean\[0\]: expected a number, found True"),
        ({"inputs": [GOOD_INPUT | {"scale": "1"}]}, r"inputs\[0\].scale: expected a number, found '1'"),
        ({"inputs": [GOOD_INPUT | {"name": 1}]}, r"inputs\[0\].name: expected text, found 1"),
    ],
)
def test_damaged_preprocessing_is_an_error_that_says_what(data: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Preprocessing.from_json(data)


# --- a catalogue with a mistake in it ---

SMALL = """
[sources]
paper = "the paper"
[licences.free]
name = "free"
url = "http://example.org/licence"
note = "-"
attribution = "us"
[datasets.shapes]
title = "shapes"
palette = "voc"
ignore_label = 255
[datasets.shapes.inputs.color]
channels = "bgr"
mean = [1, 2.5, 3]
[datasets.shapes.heads]
score = ["background", "disc"]
[releases.a-net]
file = "a.caffemodel"
urls = ["http://example.org/a.caffemodel"]
size = 10
sha1 = "0123456789012345678901234567890123456789"
architecture = "fcn8s"
dataset = "shapes"
licence = "free"
[[releases.a-net.scores]]
split = "test"
mean_iu = 50
source = "paper"
"""


def test_the_small_catalogue_is_good() -> None:
    entry = parse_catalogue(SMALL).releases["a-net"]
    assert entry.preprocessing.inputs[0].mean == (1.0, 2.5, 3.0)
    assert (entry.size, entry.expected_bytes, entry.num_classes) == (10, 10, 2)


@pytest.mark.parametrize(
    ("good", "bad", "problem"),
    [
        ("[sources]", "[sources", "not TOML"),
        ("[licences.free]", "[licenses.free]", "unknown field 'licenses'; did you mean 'licences'"),
        ('dataset = "shapes"', 'dataset = "shape"', "releases.a-net: dataset 'shape' is not one of shapes"),
        ('licence = "free"', "", "releases.a-net: licence is missing"),
        ('licence = "free"', 'licence = "paid"', "licence 'paid' is not one of free"),
        ("size = 10", 'size = "10"', "releases.a-net.size: expected a whole number, found '10'"),
        ("size = 10", "size = true", "size: expected a whole number, found True"),
        ("size = 10", "size = -1", "size: expected a number of bytes, found -1"),
        ("size = 10", "sise = 10", "releases.a-net: unknown field 'sise'; did you mean 'size'"),
        ('sha1 = "0', 'sha1 = "', "releases.a-net: sha1: expected 40 lower-case hex digits, found"),
        ('sha1 = "01', 'sha1 = "AB', "releases.a-net: sha1: expected 40 lower-case hex digits, found"),
        ('"http://example.org/a.caffemodel"', '"ftp://example.org/a"', "is not an http or https address"),
        ('"http://example.org/a.caffemodel"', '"http://me:secret@example.org/a"', "without a password"),
        ('"http://example.org/a.caffemodel"', "", "urls: expected at least one address"),
        ('"http://example.org/a.caffemodel"', "7", r"releases.a-net.urls\[0\]: expected text, found 7"),
        ('file = "a.caffemodel"', 'file = "../a.caffemodel"', "not a plain file name"),
        ('file = "a.caffemodel"', 'file = ".sha256"', "not a plain file name"),
        ('channels = "bgr"', 'channels = "rgb"', "shapes.inputs.color.channels: expected 'bgr' or 'file', found 'rgb'"),
        ("mean = [1, 2.5, 3]", "mean = []", "datasets.shapes.inputs.color, mean: expected a number for each channel"),
        ("mean = [1, 2.5, 3]", "mean = [1, true]", r"shapes.inputs.color.mean\[1\]: expected a number, found True"),
        *(
            ("mean = [1, 2.5, 3]", f"mean = [1]\nresize = {resize}", "resize: expected the shorter side, or height and")
            for resize in ("[0]", "[5, -1]", "[1, 2, 3]", "[1073741824]")
        ),
        ('"background", "disc"', '"disc", "disc"', "shapes.heads.score: expected the names of its classes, each once"),
        ('palette = "voc"', 'palette = "sbd"', "datasets.shapes, palette: 'sbd' is none of voc, .* or #rrggbb"),
        ('palette = "voc"', 'palette = "#12345"', "datasets.shapes, palette: '#12345' is none of"),
        ("mean_iu = 50", "mean_iu = 0.5e3", r"releases.a-net.scores\[0\]: a score needs .* in percent"),
        ("mean_iu = 50", "", "a score needs at least one of"),
        ('source = "paper"', 'source = "blog"', "source 'blog' is not one of paper"),
        ('split = "test"', 'split = "test"\nhead = "score_geo"', "head 'score_geo' is not one of score"),
        ('split = "test"', 'split = "test"\nmodel = "other"', "scores of a release are its own"),
        ('licence = "free"', 'licence = "free"\ninputs = { data = "hha" }', "data 'hha' is not one of color"),
    ],
)
def test_a_mistake_names_its_entry_and_field(good: str, bad: str, problem: str) -> None:
    assert good in SMALL
    with pytest.raises(CatalogueError, match=problem):
        parse_catalogue(SMALL.replace(good, bad))


def test_a_data_set_may_write_its_colours_out() -> None:
    text = SMALL.replace('palette = "voc"', 'palette = "#0000ff #a0b0c0"')
    assert parse_catalogue(text).datasets["shapes"].palette == "#0000ff #a0b0c0"


def test_two_releases_cannot_share_a_file() -> None:
    again = SMALL + SMALL[SMALL.index("[releases.a-net]") :].replace("a-net", "b-net")
    with pytest.raises(CatalogueError, match="a-net and b-net both"):
        parse_catalogue(again)


def test_the_catalogue_needs_neither_torch_nor_the_network_library() -> None:
    code = "import sys, weights; weights.release('voc-fcn8s'); print({'torch', 'requests'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"
