"""Cards, results, snapshots, records and recipes with hostile contents: our errors, and strict JSON on the way out."""

from __future__ import annotations

import copy
import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcn_port
from converters import CaffeFormatError, convert
from converters.errors import MismatchError
from fcn_port.evaluation.cache import Cache
from fcn_port.evaluation.results import Evaluation, ImageResult, read_evaluation
from fcn_port.training.checkpoints import RandomStates, RunProgress, read_snapshot, save, set_random_states
from fcn_port.training.recipe import find_recipe
from parity_tests.goldens import formats
from parity_tests.limited import linux_only, run_limited
from parity_tests.runs import narrow_task, shapes, solver_of
from weights import release
from weights.card import Card
from weights.errors import WeightsError
from weights.sidecar import read_record

CARD = Card.of(release("siftflow-fcn8s")).to_metadata()
IMAGES = tuple(ImageResult(f"image {i}", {"score": np.array([[5, 1], [0, 7]])}) for i in range(2))
EVALUATION = Evaluation("w", None, "voc", "VOC", "val", False, {"score": ("a", "b")}, IMAGES, {}, 1.5, 2, {"a": "b"})
RECORD = '# fcn-port {"size": 5, "mtime_ns": 7, "verified_by": "sha1", "source": "http://x"}\n' + "a" * 64 + "  x\n"


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ODD = (
    None, True, -1, 10**18, 10**400, 1.5, 1e308, math.nan, math.inf, "", "x\ud800", "[red]", [], {}, {"a": 1},
    ["a", "b"], [1, 2, 3], [0, 0, 2**63 - 1], [0, 0, 2**64], nested(60), nested(800), "[" * 5000,
)  # fmt: skip


def card_in_metadata(card: Any, folder: Path) -> None:
    """A converted file with this card; with texts that are no Unicode there can be none."""
    metadata = {key: value if isinstance(value, str) else json.dumps(value) for key, value in dict(card).items()}
    try:
        convert(formats("v1-mini.caffemodel"), folder / "x.safetensors", metadata=metadata)
    except CaffeFormatError as error:
        raise error.in_file(folder / "x.safetensors") from None
    fcn_port.load(folder / "x.safetensors")


def card_beside(card: Any, folder: Path) -> None:
    """A caffemodel with this card beside it."""
    shutil.copy(formats("v1-mini.caffemodel"), folder / "x.caffemodel")
    (folder / "x.json").write_text(json.dumps({"card": card}))
    fcn_port.load(folder / "x.caffemodel")


def results(value: Any, folder: Path) -> None:
    """An evaluation, with all that is made of one."""
    (folder / "x.json").write_text(json.dumps(value))
    found = read_evaluation(folder / "x.json")
    json.dumps(found.to_json(), allow_nan=False)


def snapshot(value: Any, folder: Path) -> None:
    (folder / "x_iter_1.json").write_text(json.dumps(value))
    read_snapshot(folder / "x_iter_1.json")


SNAPSHOT = {
    "format": 1, "iteration": 1, "losses": [1.5, None], "settings": {"a": 1}, "card": CARD,
    "random": {"cpu": ["YWJj"], "cuda": []},
    "files": {"x.caffemodel": {"sha256": "a"}, "x.solverstate": {"sha256": "b"}},
}  # fmt: skip
READERS: dict[str, tuple[Callable[[Any, Path], None], Any]] = {
    "card in metadata": (card_in_metadata, CARD),
    "card beside": (card_beside, CARD),
    "results": (results, EVALUATION.to_json()),
    "snapshot": (snapshot, SNAPSHOT),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def replaced(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    found = copy.deepcopy(value)
    target = found
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = odd
    return found


@pytest.mark.parametrize("name", READERS)
def test_an_odd_value_anywhere_is_read_or_an_error_of_ours(name: str, tmp_path: Path) -> None:
    read, whole = READERS[name]
    r = random.Random(3)
    everywhere = [(place, odd) for place in places(whole) if place for odd in ODD]
    for place, odd in r.sample(everywhere, min(len(everywhere), 150)):
        try:
            read(replaced(whole, place, odd), tmp_path)
        except (CaffeFormatError, FileNotFoundError) as error:
            assert str(tmp_path) in str(error) and len(str(error)) < 1500
            str(error).encode()


BAD_CARDS = {
    "a palette of nobody": {"palette": "rainbow"},
    "a number for text": {"release": 5},
    "deep": {"classes": "[" * 50_000},
    "classes that are no names": {"classes": {"score": [1, 2]}},
    "a mean beyond float32": {"preprocessing": {"inputs": [{"name": "data", "kind": "color", "channels": "bgr",
                                                            "mean": [1e300]}]}},
    "a mean of a thousand digits": {"preprocessing": {"inputs": [{"name": "data", "kind": "color", "channels": "bgr",
                                                                  "mean": [10**1000]}]}},
    "not a number": {"preprocessing": {"inputs": [{"name": "data", "kind": "color", "channels": "bgr",
                                                   "mean": [math.nan]}]}},
    "half a surrogate pair": {"classes": {"score": ["\ud800"]}},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CARDS)
@pytest.mark.parametrize("read", [card_in_metadata, card_beside])
def test_cards_that_cannot_be_are_refused(name: str, read: Callable[[Any, Path], None], tmp_path: Path) -> None:
    card = {
        key: value if isinstance(value, (str, int)) else json.dumps(value) for key, value in BAD_CARDS[name].items()
    }
    if read is card_in_metadata and name == "a number for text":
        pytest.skip("metadata are texts")
    with pytest.raises(CaffeFormatError, match=r"x\.(safetensors|json)"):
        read(card, tmp_path)


HISTOGRAMS = {
    "beyond int64": [0, 0, 1 << 63],
    "beyond any image": [0, 0, 1 << 41],
    "together beyond any image": [0, 0, 1 << 39] * 3,
    "negative": [0, 0, -1],
    "a class that is none": [2, 0, 1],
    "a number of a thousand digits": [0, 0, 10**1000],
    "fractions": [0, 0, 1.5],
}


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_counts_that_no_image_has_are_refused(name: str, tmp_path: Path) -> None:
    value = EVALUATION.to_json()
    value["images"][0]["histograms"]["score"] = HISTOGRAMS[name]
    with pytest.raises(CaffeFormatError, match="not an evaluation"):
        results(value, tmp_path)
    line = json.dumps({"id": "a", "histograms": {"score": HISTOGRAMS[name]}, "files": []})
    (tmp_path / "0000.jsonl").write_text(f"{line}\n{line[:20]}\n{'[' * 100_000}\n")
    assert Cache(tmp_path).read({"score": ("a", "b")}) == {}


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path) -> None:
    results(EVALUATION.to_json(), tmp_path)
    again = read_evaluation(tmp_path / "x.json")
    assert again.to_json() == EVALUATION.to_json()
    assert np.array_equal(again.images[1].histograms["score"], IMAGES[1].histograms["score"])


@linux_only
def test_the_memory_of_results_follows_the_file(tmp_path: Path) -> None:
    """Two files: 100,000 classes without a name; and 1,000 classes of which 2,000 images have one histogram each."""
    many = replaced(EVALUATION.to_json(), ("classes", "score"), [""] * 100_000)
    images = [{"id": str(i), "histograms": {"score": [0, 0, 1]}} for i in range(2_000)]
    wide = {**replaced(EVALUATION.to_json(), ("classes", "score"), ["c"] * 1_000), "images": images}
    for name, value in (("many", many), ("wide", wide)):
        (tmp_path / name).write_text(json.dumps(value))
    code = """
from pathlib import Path
try:
    read_evaluation(Path(sys.argv[1], "many"))
except ValueError as error:
    print("MOST_CLASSES" in str(error))
print(len(read_evaluation(Path(sys.argv[1], "wide")).images))
"""
    imports = "from fcn_port.evaluation.results import read_evaluation"
    assert run_limited(code, str(tmp_path), imports=imports, more=100 << 20).split() == ["True", "2000"]


RECIPES = {
    "deep": "a = " + "[" * 50_000,
    "many digits": "seed = " + "9" * 10_000,
    "beyond 64 bits": "seed = 9223372036854775808",
    "a whole number beyond a double": "[solver]\nbase_lr = " + "9" * 400,
    "not a number": "[solver]\nbase_lr = nan",
    "infinite": '[multipliers]\n"a" = {lr_mult = inf}',
    "like a name without end": 'like = "' + "x" * 5_000 + '.toml"',
    "like a name with a NUL": r'like = "x\u0000.toml"',
    "not UTF-8": b"about = '\xff'",
    "too long": "#" + "x" * (1 << 20),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_that_cannot_be_are_refused(name: str, tmp_path: Path) -> None:
    text = RECIPES[name]
    body = text if isinstance(text, bytes) else text.encode()
    like = b"" if "like" in name else b'like = "voc-fcn32s"\n'
    (tmp_path / "x.toml").write_bytes(like + body)
    with pytest.raises(CaffeFormatError, match=r"x\.toml") as error:
        find_recipe(str(tmp_path / "x.toml"))
    assert len(str(error.value)) < 1500


def test_a_damaged_record_of_a_file_is_an_error_or_counts_for_nothing(tmp_path: Path) -> None:
    r = random.Random(5)
    path = tmp_path / "x.sha256"
    for _ in range(300):
        damaged = bytearray(RECORD.encode())
        for _ in range(r.choice([1, 2, 5])):
            here = r.randrange(len(damaged))
            damaged[here : here + r.choice([0, 1, 9])] = r.choice(
                [b"", b"[" * 9999, b"9" * 9999, b"NaN", b"\xff", b"{"]
            )
        path.write_bytes(damaged)
        try:
            found = read_record(path)
        except WeightsError:
            continue
        assert found is not None and type(found.size) in (int, type(None)) and type(found.source) in (str, type(None))


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", ""])
def test_a_snapshot_of_files_that_cannot_be(name: str, tmp_path: Path) -> None:
    files = {name: {"sha256": "a"}, "x.solverstate": {"sha256": "b"}}
    with pytest.raises(CaffeFormatError, match="x_iter_1"):
        snapshot({**SNAPSHOT, "files": files}, tmp_path)


def test_random_states_of_another_run_are_an_error_of_ours() -> None:
    for states in (RandomStates((b"abc",)), RandomStates(()), RandomStates((b"",))):
        with pytest.raises(MismatchError, match="random states"):
            set_random_states(states, rank=0)


def test_a_run_that_diverged_is_saved_as_strict_json(tmp_path: Path) -> None:
    task = narrow_task(shapes(tmp_path))
    found = save(tmp_path, "x", task, solver_of(task), RunProgress(losses=(1.0, math.nan, math.inf)))
    json.loads(found.path.read_text(), parse_constant=pytest.fail)
    assert [math.isnan(loss) for loss in read_snapshot(found.path).progress.losses] == [False, True, True]


def test_what_a_net_of_a_stranger_calls_its_classes_travels_unchanged() -> None:
    card = Card(classes={"score": ("a\nb", "\u202e", "<b>", "\0", "é")}, palette="voc")
    assert Card.from_metadata(card.to_metadata()) == card
