"""The famous nets: each entry is whole, says where its facts were read, and is one that `fetch` and `convert` can take.

What was published is not looked up here (`make check-links` asks the addresses); a fact without a source is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from parity_tests.docs.links import catalogue_addresses
from weights.card import Card
from weights.catalogue import bundled, famous, init_nets, parse_catalogue, release, releases
from weights.errors import CatalogueError
from weights.records import TASKS, Preprocessing, Release

NETS = famous()
LISTED = [
    *("caffenet", "alexnet", "googlenet", "rcnn-ilsvrc13", "vgg-19", "resnet-50", "resnet-101", "resnet-152"),
    *("squeezenet-1-0", "squeezenet-1-1", "mobilenet-v1", "mobilenet-v2", "mobilenet-ssd", "ssd300-voc"),
    *("ssd512-voc", "res10-face", "age-net", "gender-net", "openpose-body25", "openpose-face", "openpose-hand"),
    *("colorization-v2", "hed", "rcf", "pspnet101-voc", "icnet-cityscapes", "segnet-basic-camvid"),
    *("enet-cityscapes", "deeplab-v2-resnet101", "crf-rnn", "open-nsfw", "mtcnn-det1", "mtcnn-det2", "mtcnn-det3"),
    *("wechat-qr-detect", "wechat-qr-sr", "fcn-8s-cityscapes", "nin", "densenet-121", "inception-bn"),
    *("places365-vgg16", "flownet2"),
]


def test_the_nets_that_people_ask_for_are_there() -> None:
    assert set(LISTED) <= set(NETS)


def test_names_and_files_are_nobody_elses() -> None:
    others = {**releases(), **init_nets(), **bundled()}
    assert not NETS.keys() & others.keys()
    files = Counter(each.file.lower() for each in (*NETS.values(), *others.values()))
    assert [file for file, count in files.items() if count > 1] == []


@pytest.mark.parametrize("name", NETS)
def test_entry_is_whole(name: str) -> None:
    entry = release(name)
    about = entry.about
    assert about is not None and entry.kind == "famous" and entry.task in TASKS
    assert re.fullmatch(r"[a-z0-9-]+", name)  # a dot would make it a file
    for words in (about.title, about.purpose, about.running):
        assert len(words.split()) > 1 and words[0] == words.strip()[0]
    assert entry.licence.name and entry.licence.note and urlsplit(entry.licence.url).hostname
    assert bool(entry.urls) != (about.by_hand is not None)  # fetched, or said how it is come by
    assert len(set(entry.urls)) == len(entry.urls)
    for url in (*entry.urls, *entry.prototxts):
        assert urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname and " " not in url
    assert re.search(r"\.caffemodel(\.h5)?$", entry.file)


@pytest.mark.parametrize("name", NETS)
def test_every_fact_names_where_it_was_read(name: str) -> None:
    entry = release(name)
    about = entry.about
    assert about is not None
    facts = {each.algorithm for each in entry.checksums} | {"licence"}
    facts |= {field for field in ("urls", "prototxts", "size", "scores") if getattr(entry, field)}
    facts |= {field for field in ("papers", "figures") if getattr(about, field)}
    facts |= {"inputs"} if entry.preprocessing is not None else set()
    facts |= {"classes"} if entry.classes else set()
    assert about.sources.keys() == facts
    assert all(re.search(r"https?://|releases\.toml", place) for place in about.sources.values())


@pytest.mark.parametrize("name", NETS)
def test_card_is_what_a_converted_file_carries(name: str) -> None:
    """Preprocessing and classes come back from the metadata as they went in."""
    entry = release(name)
    card = Card.from_metadata(Card.of(entry).to_metadata())
    assert card.preprocessing == entry.preprocessing and dict(card.classes) == dict(entry.classes)
    assert card.release == name


def test_labels_are_one_a_line_and_each_once() -> None:
    folder = Path(__file__).parents[2] / "weights" / "labels"
    for path in folder.iterdir():
        names = path.read_text(encoding="utf-8").splitlines()
        assert len(set(names)) == len(names) and all(name == name.strip() and name for name in names)
    classes = release("alexnet").classes["prob"]
    assert len(classes) == 1000 and classes[0] == "tench, Tinca tinca" and classes[281] == "tabby, tabby cat"
    assert len(release("places365-vgg16").classes["prob"]) == 365


def test_published_preprocessing() -> None:
    """Spot checks against the sources: BGR and centre crop, scale, grey, RGB."""
    by_name = {name: entry.preprocessing for name, entry in NETS.items()}
    alexnet, mobilenet = _only(by_name["alexnet"]), _only(by_name["mobilenet-v2"])
    assert alexnet.mean == (104.0069879317889, 116.66876761696767, 122.6789143406786) and alexnet.resize == (256, 256)
    assert (mobilenet.scale, mobilenet.resize, mobilenet.mean) == (0.017, (256,), (103.94, 116.78, 123.68))
    assert _only(by_name["mtcnn-det1"]).channels == "file" and len(_only(by_name["wechat-qr-detect"]).mean) == 1
    assert _only(by_name["res10-face"]).mean == (104.0, 177.0, 123.0)
    assert by_name["flownet2"] is None and by_name["colorization-v2"] is None


def _only(preprocessing: Preprocessing | None):  # type: ignore[no-untyped-def]
    assert preprocessing is not None
    (recipe,) = preprocessing.inputs
    return recipe


def test_check_links_asks_every_address_of_the_catalogue() -> None:
    asked = catalogue_addresses()
    for entry in (*NETS.values(), *releases().values()):
        for url in (*entry.urls, *entry.prototxts):
            assert entry.name in asked[url.rstrip(".,;")]
    assert "ssd300-voc" in asked["https://drive.google.com/open?id=0BzKzrI_SkD1_TkFPTEQ1Z091SUE"]


# --- an entry with a mistake in it ---

BASE = """
[sources]
paper = "the paper, https://example.org"
[licences.free]
name = "free"
url = "http://example.org/licence"
note = "-"
attribution = "us"
[datasets.things]
title = "things"
inputs.color = { channels = "bgr", mean = [1, 2, 3] }
"""
NET = """
[famous.a-net]
title = "A net"
task = "classify"
purpose = "Saying what is there."
running = "As it is."
file = "a.caffemodel"
urls = ["http://example.org/a.caffemodel"]
git = "0123456789012345678901234567890123456789"
dataset = "things"
licence = "free"
figures = [{ metric = "top-1", value = 1.5, on = "val" }]
read.paper = ["urls", "git", "inputs", "licence", "figures"]
"""


def small(net: str = NET) -> Release:
    return parse_catalogue(BASE, net).famous["a-net"]


def test_the_small_entry_is_good() -> None:
    entry = small()
    assert entry.about is not None and entry.about.figures[0].value == 1.5 and str(entry.checksum).startswith("git 01")
    assert entry.about.sources["git"] == "the paper, https://example.org"


@pytest.mark.parametrize(
    ("good", "bad", "problem"),
    [
        ('"urls", "git", "inputs"', '"urls", "inputs"', "famous.a-net: read: git: where was it read"),
        ('"inputs", ', "", "read: inputs: where was it read"),
        ('"licence", ', "", "read: licence: where was it read"),
        ('"figures"]', '"figures", "sha1"]', "read: sha1: there is no such fact here"),
        ("read.paper", "read.blog", "read 'blog' is not one of paper"),
        ('task = "classify"', 'task = "guess"', "famous.a-net.task: expected .* found 'guess'"),
        ('title = "A net"', "", "famous.a-net.title: is empty"),
        ('running = "As it is."', 'running = " "', "famous.a-net.running: is empty"),
        ('urls = ["http://example.org/a.caffemodel"]', "", "urls: expected at least one address"),
        ("value = 1.5", 'value = "1.5"', r"figures\[0\].value: expected a number"),
        ('git = "0', 'git = "', "git: expected 40 lower-case hex digits"),
        ("[famous.a-net]", "[licences.free]\nname = 'x'\n[famous.a-net]", "licences.free: is in releases.toml and in"),
        ("http://example.org/a", "hf:owner", "is not an http or https address"),
        (
            'licence = "free"',
            'licence = "free"\nrecipes.data = { channels = "bgr", mean = [1], resize = [1, 2, 3] }',
            "resize: expected the shorter side",
        ),
    ],
)
def test_a_mistake_names_its_entry_and_field(good: str, bad: str, problem: str) -> None:
    assert good in NET
    with pytest.raises(CatalogueError, match=problem):
        small(NET.replace(good, bad, 1))


def test_a_repository_of_a_model_hub_is_an_address() -> None:
    assert small(NET.replace("http://example.org/a.caffemodel", "hf:owner/name")).urls == ("hf:owner/name",)
