"""Images of a cluster before Ray has them: where each lies, blocks that are all of them, and what is passed over."""

from __future__ import annotations

import io
import json
import os
import pickle
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcn_port.cli import run
from fcn_port.cluster import ImageRef, Results, Settings, Worker, plan
from fcn_port.cluster.planning import MOST_IN_BLOCK, as_columns, blocks_of
from fcn_port.cluster.worker import MOST_DEATHS
from fcn_port.errors import ImageError
from fcn_port.predictor import Predictor
from parity_tests.cluster.pictures import SAMPLE, folder_of, png, tar_of
from parity_tests.serving.nets import of_four_channels

SETTINGS = Settings("net", "card", None, None)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(SAMPLE)


def rows_in(out: Path) -> list[dict]:
    return [json.loads(line) for part in sorted(Results(out).folder.glob("*.jsonl")) for line in part.open()]


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (7, 2), (1000, 3), (100_000, 4)])
def test_blocks_are_all_of_the_images_in_order(count: int, workers: int) -> None:
    items = [ImageRef(str(i), f"/{i}.png") for i in range(count)]
    blocks = blocks_of(items, workers=workers)
    assert [item for block in blocks for item in block] == items
    assert all(1 <= len(block) <= MOST_IN_BLOCK for block in blocks)
    assert len(blocks) >= min(count, workers)


def test_place_in_a_tar_is_where_its_bytes_are(tmp_path: Path) -> None:
    members = {"a/1.png": png(1), "a/1.json": b"{}", "a/2.png": png(2), "./b.jpg": png(3), ".hidden.png": b"x"}
    tar = tar_of(tmp_path / "shard.tar", members)
    items = plan([tar])
    assert [item.name for item in items] == ["a/1", "a/2", "b"]
    raw = tar.read_bytes()
    for item in items:
        assert raw[item.first : item.first + item.second] == members[item.place]


def test_several_tars_keep_their_images_apart(tmp_path: Path) -> None:
    for name in ("x", "y"):
        tar_of(tmp_path / f"{name}.tar", {"1.png": png(1), "../2.png": png(2)})
    names = [item.name for item in plan([tmp_path])]
    assert len(set(names)) == 4 and names[0] == "x/1" and names[2] == "y/1"
    assert not any(".." in Path(name).parts or Path(name).is_absolute() for name in names)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda at: tar_of(at / "a.tar.gz", {"1.png": b""}, mode="w:gz"), "unpack it"),
        (lambda at: tar_of(at / "a.tar", {"1.png": png(1), "1.jpg": png(2)}), "would both write 1"),
        (lambda at: tar_of(at / "a.tar", {"1.json": b"{}"}), "no image in"),
        (lambda at: at, "no image in"),
    ],
)
def test_what_cannot_be_planned_is_said(tmp_path: Path, make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan([make(tmp_path)])


@pytest.mark.parametrize("cut", [100, 700, 1500])
def test_tar_that_is_cut_is_named(tmp_path: Path, cut: int) -> None:
    path = tar_of(tmp_path / "a.tar", {"1.png": png(1), "2.png": png(2)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ImageError, match=r"a\.tar: "):
        plan([path])


def test_worker_writes_what_predict_writes_and_goes_on_after_a_failure(tmp_path: Path, predictor: Predictor) -> None:
    images = folder_of(tmp_path / "images", 3)
    tar = tar_of(tmp_path / "t.tar", {"0.png": png(0), "bad.png": b"no"})
    assert run(["predict", str(SAMPLE), str(images), "-o", str(tmp_path / "plain")]) == 1
    sent = pickle.loads(pickle.dumps(Worker(predictor, tmp_path / "out", run=1)))
    said = sent(as_columns(plan([images])))
    assert said["name"] == ["0", "1", "2", "broken"] and [bool(each) for each in said["problem"]] == [False] * 3 + [
        True
    ]
    for path in (tmp_path / "plain").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    in_tar = Worker(predictor, tmp_path / "tar", run=1)(as_columns(plan([tar])))
    assert in_tar["problem"][0] == "" and in_tar["problem"][1].startswith(f"{tar}/bad.png: ")
    assert (tmp_path / "tar" / "0.labels.png").read_bytes() == (tmp_path / "out" / "0.labels.png").read_bytes()
    labels = np.asarray(Image.open(tmp_path / "out" / "1.labels.png"))
    (row,) = (row for row in rows_in(tmp_path / "out") if row["name"] == "1")
    assert {each["label"]: each["share"] for each in row["found"]} == pytest.approx(
        {int(label): float((labels == label).mean()) for label in np.unique(labels)}
    )


def test_image_in_a_tar_gives_a_net_of_four_channels_all_four(tmp_path: Path) -> None:
    image = np.random.default_rng(4).integers(0, 256, (9, 11, 4), np.uint8)
    out = io.BytesIO()
    Image.fromarray(image, "RGBA").save(out, "PNG")
    predictor = Predictor("four.caffemodel")
    predictor.__dict__["_net"] = of_four_channels()
    block = as_columns(plan([tar_of(tmp_path / "t.tar", {"0.png": out.getvalue()})]))
    assert Worker(predictor, tmp_path / "out", run=1)(block)["problem"] == [""]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "0.labels.png")), image.argmax(2))


def test_block_done_again_is_there_once(tmp_path: Path, predictor: Predictor) -> None:
    block = as_columns(plan([folder_of(tmp_path / "images", 2)]))
    worker = Worker(predictor, tmp_path / "out", run=3)
    assert worker(block) == worker(block)
    assert [row["name"] for row in rows_in(tmp_path / "out")] == ["0", "1", "broken"]
    assert not list(Results(tmp_path / "out").folder.glob("begun-*"))


def test_image_that_kills_processes_is_passed_over_and_the_others_are_done(
    tmp_path: Path, predictor: Predictor
) -> None:
    """A process that ends without a word, as one that the system kills: what it left is read by the next."""

    class Deadly(Worker):
        def _prediction(self, item: ImageRef):
            if item.name == "1":
                raise SystemExit  # nothing between here and the process catches it
            return super()._prediction(item)

    block = as_columns(plan([folder_of(tmp_path / "images", 3)]))
    for _ in range(MOST_DEATHS):
        with pytest.raises(SystemExit):
            Deadly(predictor, tmp_path / "out", run=1)(block)
        assert not rows_in(tmp_path / "out")
    said = Deadly(predictor, tmp_path / "out", run=1)(block)
    assert said["problem"][0] == "" == said["problem"][2] and "3 processes" in said["problem"][1]


def test_what_failed_is_done_again_and_what_was_done_is_not(tmp_path: Path, predictor: Predictor) -> None:
    items = plan([folder_of(tmp_path / "images", 2)])
    results = Results(tmp_path / "out")
    assert results.next_run() == 1
    Worker(predictor, tmp_path / "out", run=1)(as_columns(items[1:]))
    assert results.done() == {"1"} and results.next_run() == 2


@pytest.mark.parametrize("line", ['{"name": "q"}', "[1, 2]", "7", "{", "[" * 100_000, '{"name": 1, "problem": null}'])
def test_a_part_that_is_damaged_is_named(line: str, tmp_path: Path) -> None:
    results = Results(tmp_path)
    part = results.folder / "000001-x.jsonl"
    part.parent.mkdir()
    part.write_text(line + "\n")
    with pytest.raises(ImageError, match=r"000001-x\.jsonl: damaged.*take it away, and its images are done again"):
        results.done()


def test_folder_is_for_one_run_and_for_results_of_one_kind(tmp_path: Path) -> None:
    results = Results(tmp_path)
    with results.alone(SETTINGS), pytest.raises(ValueError, match="another run"), Results(tmp_path).alone(SETTINGS):
        pass
    with results.alone(SETTINGS):
        pass
    other = Settings("other", "card", None, None)
    with pytest.raises(ValueError, match=r"other settings \(weights differ\)"), results.alone(other):
        pass


@pytest.mark.skipif(os.name == "nt" or os.uname().sysname == "Darwin", reason="file names are text there")
def test_name_that_is_no_text_gets_one(tmp_path: Path, predictor: Predictor) -> None:
    odd = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.png")
    Path(odd).write_bytes(png(1))
    (item,) = plan([tmp_path])
    item.name.encode()
    assert Worker(predictor, tmp_path / "out", run=1)(as_columns([item]))["problem"] == [""]
    assert Results(tmp_path / "out").done() == {item.name}


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is here")
def test_without_ray_it_is_said_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = folder_of(tmp_path / "images", 1)
    assert run(["predict", str(SAMPLE), str(images), "--ray", "auto", "-o", str(tmp_path / "out")]) == 1
    assert "pip install 'fcn-port[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_options_that_workers_cannot_have_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["predict", str(SAMPLE), str(folder_of(tmp_path / "i", 1)), "--ray", "auto", "-o", str(tmp_path / "out")]
    assert run([*given, "--flip", "--phase", "TEST", "--shard", "1/2"]) == 2
    assert "--ray goes without --flip and --shard and --phase" in capsys.readouterr().err.replace("-s ", "-")


@pytest.mark.parametrize("name", ["shard.tar", "images.parquet"])
def test_packed_images_without_ray_are_told_what_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    assert run(["predict", str(SAMPLE), str(tmp_path / name), "-o", str(tmp_path / "out")]) == 2
    assert f"{name}: images in tars and Parquet tables are read with --ray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
