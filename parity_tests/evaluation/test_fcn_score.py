"""FCN-score: the published script's counting, worked out pixel by pixel here, and the verb as its users meet it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fcn_port.cli import run
from fcn_port.data import DataError, open_dataset
from fcn_port.data.generated import generated_images
from fcn_port.evaluation.generated import as_published, fcn_score, means
from fcn_port.loading import load
from fcn_port.nets import FCN8s
from parity_tests.datasets import make_cityscapes, make_generated, make_voc, noise, save
from parity_tests.evaluation.test_evaluate import NARROW, filled
from weights import datasets

N = 19


def script_counts(labels: np.ndarray, predictions: np.ndarray, n: int) -> np.ndarray | int:
    """A frame's histogram as the script makes it, pixel by pixel; 0 where it has too many bins."""
    kept = [(a, b) for a, b in zip(labels.ravel().tolist(), predictions.ravel().tolist(), strict=True) if 0 <= a < n]
    bins = [0] * (n * n)
    for a, b in kept:
        number = n * a + b
        bins.extend([0] * (number + 1 - len(bins)))
        bins[number] += 1
    return np.array(bins).reshape(n, n) if len(bins) == n * n else 0


def counted(labels: np.ndarray, predictions: np.ndarray, outputs: int) -> np.ndarray:
    counts = np.zeros((N, outputs), np.int64)
    for a in range(N):
        for b in range(outputs):
            counts[a, b] = ((labels == a) & (predictions == b)).sum()
    return counts


@pytest.mark.parametrize("outputs", [19, 20, 21])
@pytest.mark.parametrize("last", [False, True], ids=["without class 18", "with class 18"])
def test_a_frame_is_counted_as_the_script_counts_it(outputs: int, last: bool) -> None:
    labels, predictions = noise(1, (40, 50)) % 21, noise(2, (40, 50)) % outputs
    labels[labels > 18 if last else labels > 17] = 255
    expected = script_counts(labels, predictions, N)
    found = as_published(counted(labels, predictions, outputs))
    if isinstance(expected, int):
        assert found is None and last and outputs > 19
    else:
        assert found is not None and np.array_equal(found, expected)
        spilled = np.array_equal(found, counted(labels, predictions, outputs)[:, :N])
        assert spilled is (outputs == 19)  # a prediction of 19 falls on another class, and does not vanish


def test_the_means_are_the_script_s() -> None:
    counts = counted(noise(3, (30, 30)) % 17, noise(4, (30, 30)) % 17, N)
    right, rows, columns = np.diag(counts), counts.sum(1), counts.sum(0)
    found = means(counts)
    assert found.pixel_accuracy == right.sum() / (counts.sum() + 1e-12)
    assert found.class_accuracy == np.nanmean(right / (rows + 1e-12))  # classes that are nowhere count as 0
    assert found.class_iou == np.nanmean(right / (rows + columns - right + 1e-12))
    assert found.class_iou < right[:17].sum() and found.accuracy[18] == 0


def test_a_prediction_of_no_class_is_wrong_in_the_plain_numbers() -> None:
    counts = np.zeros((2, 3), np.int64)
    counts[0] = 1, 0, 3
    counts[1, 1] = 4
    found = means(counts)
    assert found.accuracy == pytest.approx((0.25, 1.0)) and found.pixel_accuracy == pytest.approx(5 / 8)


# The data


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return make_cityscapes(tmp_path / "cityscapes")


@pytest.fixture
def generated(tmp_path: Path, labels: Path) -> Path:
    return make_generated(tmp_path / "generated", open_dataset(labels).ids)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    path = tmp_path / "net.safetensors"
    save_file(filled(FCN8s(20, widths=NARROW)).state_dict(), path)
    return str(path)


def test_cityscapes_label_ids_become_classes(labels: Path) -> None:
    data = open_dataset(labels)
    assert data.kind == "cityscapes" and data.split == "val" and len(data.ids) == 3
    assert data.ids[0].startswith("aachen") and data.ids[2].startswith("ulm")
    path = labels / "gtFine" / "val" / "ulm" / f"{data.ids[2]}_gtFine_labelIds.png"
    stored = np.asarray(Image.open(path))
    names = [
        *("road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation"),
        *("terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    ]
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]  # labels.py of cityscapesscripts
    assert list(data.classes["score"]) == names
    expected = np.full_like(stored, 255)
    for number, id_ in enumerate(ids):
        expected[stored == id_] = number
    found = np.asarray(data.labels["score"].read(path))
    assert np.array_equal(found, expected) and (found == 255).any()


def test_an_image_is_enlarged_to_its_labels(labels: Path, generated: Path) -> None:
    data = generated_images(open_dataset(labels), generated, outputs=20)
    sample = data.read(data.ids[1])
    original = Image.open(generated / f"{data.ids[1]}_leftImg8bit.png")
    h, w = sample.labels["score"].shape
    expected = np.asarray(original.resize((w, h), Image.Resampling.BILINEAR))
    assert np.array_equal(sample.images["color"], expected)
    assert not np.array_equal(expected, np.asarray(original.resize((w, h), Image.Resampling.BICUBIC)))


def test_the_score_is_that_of_the_labels_that_the_net_predicts(labels: Path, generated: Path, weights: str) -> None:
    net, data = load(weights), open_dataset(labels)
    found = fcn_score(net, generated=generated, data=data)
    total = np.zeros((N, N), np.int64)
    for id_ in data.ids:
        sample = generated_images(data, generated, outputs=20).read(id_)
        mean = np.array((72.78044, 83.21195, 73.45286), np.float32)
        x = (sample.images["color"].astype(np.float32)[:, :, ::-1] - mean).transpose(2, 0, 1)
        with torch.inference_mode():
            predicted = net(torch.from_numpy(x.copy())[None])[0].argmax(0).numpy()
        total += script_counts(sample.labels["score"], predicted, N)
    assert np.array_equal(found.as_published.histogram, total) and found.images == 3


# The verb


@pytest.fixture
def command(labels: Path, generated: Path, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return ["fcn-score", "--generated", str(generated), "--cityscapes", str(labels), "--weights", weights, "--no-cache"]


def test_the_table(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 0
    out, err = capsys.readouterr()
    rows = {line.split("  ")[0].strip(): line.split() for line in out.splitlines() if line.strip()}
    assert len(rows["class IOU"]) == 4 and "as published" in out and "IOU bicycle" in rows
    assert rows["pix2pix, L1 + cGAN"][4:7] == ["0.66", "0.23", "0.17"]
    assert "originals, not resized" in err and "32x32" in err
    assert run([*command, "--plain"]) == 0
    out = capsys.readouterr().out
    assert "as published" not in out and "plain" in out


def test_json_agrees_with_the_function(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    found = fcn_score(load(command[6]), generated=command[2], data=open_dataset(command[4]))
    assert said["as_published"]["class_iou"] == found.as_published.class_iou
    assert said["plain"]["histogram"] == found.plain.histogram.tolist() and said["images"] == 3
    assert len(said["published"]) == len(datasets()["cityscapes"].scores) > 8


def test_results_of_another_folder_are_not_taken_from_the_cache(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cached = [*command[:-1], "--cache", str(tmp_path / "cache"), "--json"]
    assert run(cached) == 0
    first = json.loads(capsys.readouterr().out)
    other = tmp_path / "other"
    shutil.copytree(command[2], other)
    for path in other.iterdir():
        stat = path.stat()
        save(path, np.full((32, 32, 3), 128, np.uint8))
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run([*cached[:2], str(other), *cached[3:]]) == 0
    assert json.loads(capsys.readouterr().out)["plain"] != first["plain"]


def test_missing_images_are_named_before_anything_is_computed(
    command: list[str], generated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = sorted(generated.iterdir())[1]
    gone.unlink()
    assert run(command) == 3
    err = capsys.readouterr().err
    assert "1 of 3 images are missing" in err and gone.name in err and "--skip-bad" in err
    assert run([*command, "--skip-bad"]) == 0
    out, err = capsys.readouterr()
    assert "2 images" in out and f"skipped: {gone}" in err


def test_what_people_got_wrong_is_said(labels: Path, generated: Path, tmp_path: Path, command: list[str]) -> None:
    from fcn_port.data.generated import doubts

    data = open_dataset(labels)
    jpeg = tmp_path / "jpeg"
    for id_ in data.ids:
        save(jpeg / f"{id_}_leftImg8bit.jpg", noise(0, (256, 256, 3)))
    large = tmp_path / "large"
    for id_ in data.ids:
        save(large / f"{id_}_leftImg8bit.png", noise(0, (64, 128, 3)))
    assert any("JPEG" in each for each in doubts(generated_images(data, jpeg, outputs=20)))
    said = doubts(generated_images(data, large, outputs=20))
    assert any("as large as the label maps" in each for each in said) and not any("JPEG" in each for each in said)


@pytest.mark.parametrize("wrong", ["no folder", "other names", "no split", "both"])
def test_mistakes_are_one_line(
    wrong: str, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    given = {
        "no folder": (["--generated", str(tmp_path / "nowhere")], 2, "there is no such folder"),
        "other names": (["--generated", str(tmp_path / "empty")], 3, "_leftImg8bit.png"),
        "no split": (["--split", "test"], 2, "here are val"),
        "both": (["--data", str(tmp_path)], 2, "--cityscapes and --data: one of them"),
    }[wrong]
    assert run([*command, *given[0]]) == given[1]
    err = capsys.readouterr().err
    assert given[2] in err and "Traceback" not in err


def test_a_net_of_another_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc = make_voc(tmp_path / "VOC2012")
    data = open_dataset(voc, split="val")
    folder = tmp_path / "made"
    for id_ in data.ids:
        save(folder / f"{id_}.png", noise(9, (16, 16, 3)))
    path = tmp_path / "voc.safetensors"
    save_file(filled(FCN8s(21, widths=NARROW)).state_dict(), path)
    found = fcn_score(load(path), generated=folder, data=data)
    assert found.images == 3 and found.spilled == 0
    assert np.array_equal(found.as_published.histogram, found.plain.histogram)
    save_file(filled(FCN8s(7, widths=NARROW)).state_dict(), path)
    with pytest.raises(DataError, match="21 classes"):
        fcn_score(load(path), generated=folder, data=data)


# Own data


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """Three images of three classes, generated ones for them, and the verb on these."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root, made, net = tmp_path / "own", tmp_path / "made", tmp_path / "three.safetensors"
    for number in range(3):
        save(root / "images" / f"i{number}.png", noise(number, (16, 24, 3)))
        save(root / "labels" / f"i{number}.png", noise(40 + number, (16, 24)) % 3)
        save(made / f"i{number}.png", noise(80 + number, (8, 8, 3)))
    (root / "dataset.toml").write_text('classes = ["ground", "wall", "sky"]\n')
    save_file(filled(FCN8s(4, widths=NARROW)).state_dict(), net)
    given = ["fcn-score", "--generated", str(made), "--data", str(root), "--weights", str(net), "--no-cache", "--json"]
    return root, given


def labelme_of(root: Path) -> str:
    (root / "drawn").mkdir()
    for number in range(3):
        wall = {"label": "wall", "shape_type": "rectangle", "points": [[2, 3], [20, 9]]}
        drawn = {"imagePath": f"i{number}.png", "imageHeight": 16, "imageWidth": 24, "shapes": [wall]}
        (root / "drawn" / f"i{number}.json").write_text(json.dumps(drawn))
    return 'annotations = "drawn"\n'


def hdf5_of(root: Path) -> str:
    shown = np.stack([noise(number, (3, 16, 24)) for number in range(3)])
    labels = np.stack([noise(40 + number, (1, 16, 24)) % 3 for number in range(3)])
    with h5py.File(root / "i.h5", "w") as file:
        file.update({"data": shown, "label": labels})
    for number, path in enumerate(sorted((root.parent / "made").iterdir())):
        path.rename(path.with_name(f"i-{number:06d}.png"))
    return 'images = "i.h5"\nlabels = "i.h5"\n'


@pytest.mark.parametrize("made", [lambda root: "", labelme_of, hdf5_of], ids=["files", "drawings", "store"])
def test_any_data_set_is_scored(
    made: Callable[[Path], str], own: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, command = own
    (root / "dataset.toml").write_text('classes = ["ground", "wall", "sky"]\n' + made(root))
    assert run(command) == 0
    said = json.loads(capsys.readouterr().out)
    data = open_dataset(root)
    labels = np.concatenate([data.read_labels(id_, "score").ravel() for id_ in data.ids])
    assert np.array(said["plain"]["histogram"]).sum(axis=1).tolist() == np.bincount(labels, minlength=3).tolist()
    assert said["images"] == 3 and said["published"] == []
    assert run(command[:-1]) == 0
    assert "class IOU" in capsys.readouterr().out


def test_a_label_beyond_the_classes_is_refused_also_where_the_net_has_an_output_for_it(
    own: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    root, command = own
    save(root / "labels" / "i1.png", np.full((16, 24), 3, np.uint8))
    assert run(command) == 3
    assert "i1.png" in (err := capsys.readouterr().err) and "label 3 is no class" in err


def test_a_damaged_first_image_is_skipped_as_others_are(
    own: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    first = Path(own[1][2]) / "i0.png"
    first.write_bytes(first.read_bytes()[:60])
    assert run(own[1]) == 3 and f"{first}: not an image" in capsys.readouterr().err
    assert run([*own[1], "--skip-bad"]) == 0
    said, err = capsys.readouterr()
    assert list(json.loads(said)["skipped"]) == ["i0"] and "256x256" in err


def test_only_the_first_images_need_be_there(own: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    (Path(own[1][2]) / "i2.png").unlink()
    assert run([*own[1], "--limit", "2"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 2 and said["skipped"] == {}
