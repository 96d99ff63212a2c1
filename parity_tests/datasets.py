"""Tiny data sets in the layouts of the real ones, for tests: a few images of noise, labels of every class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from fcn_port.evaluation.labels import indexed_image

VOC_FOLDERS = {"made": "val"} | {folder: "seg11valid" for folder in [os.environ.get("FCN_PORT_VOC")] if folder}
"""Where VOC is, and the split to look at: made for the test, and the real one where FCN_PORT_VOC says where it is."""

SCENES = "spatial_envelope_256x256_static_8outdoorcategories"


def noise(seed: int, size: tuple[int, ...]) -> np.ndarray:
    """Seeded bytes."""
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def save(path: Path, image: Image.Image | np.ndarray) -> Path:
    """Write an image, folders and all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path)
    return path


def save_list(path: Path, ids: Sequence[str]) -> Path:
    """Write a list of ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{id_}\n" for id_ in ids))
    return path


def save_matlab(path: Path, **variables: object) -> Path:
    """Write a .mat file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables)
    return path


def make_voc(root: Path, ids: Sequence[str] = ("a", "b", "c"), *, split: str = "val", labels: bool = True) -> Path:
    """A folder VOC2012 with images of several sizes."""
    for number, id_ in enumerate(ids):
        h, w = 20 + number, 30 - number
        save(root / "JPEGImages" / f"{id_}.jpg", noise(number, (h, w, 3)))
        if labels:
            drawn = noise(100 + number, (h, w)) % 22
            drawn[drawn == 21] = 255
            save(root / "SegmentationClass" / f"{id_}.png", indexed_image(drawn))
    save_list(root / "ImageSets" / "Segmentation" / f"{split}.txt", ids)
    return root


def make_sbd(root: Path, ids: Sequence[str] = ("a", "b")) -> Path:
    """SBD's `benchmark_RELEASE/dataset` with labels as MATLAB structs."""
    folder = root / "benchmark_RELEASE" / "dataset"
    for number, id_ in enumerate(ids):
        save(folder / "img" / f"{id_}.jpg", noise(number, (20, 30, 3)))
        labels = noise(100 + number, (20, 30)) % 21
        save_matlab(folder / "cls" / f"{id_}.mat", GTcls={"Segmentation": labels, "Boundaries": np.zeros((20, 1))})
    for split in ("train", "val"):
        save_list(folder / f"{split}.txt", ids)
    return folder


def make_context(root: Path, labels: np.ndarray, names: Sequence[str]) -> Path:
    """PASCAL-Context with VOC2010 beside it; one image, whose label map is given."""
    save(root / "VOC2010" / "JPEGImages" / "a.jpg", noise(0, (*labels.shape, 3)))
    save_list(root / "VOC2010" / "ImageSets" / "Main" / "val.txt", ["a"])
    folder = root / "pascal-context"
    save_matlab(folder / "trainval" / "a.mat", LabelMap=labels)
    (folder / "labels.txt").write_text("".join(f"{i}: {name}\n" for i, name in enumerate(names, start=1)))
    return folder


def make_siftflow(root: Path, semantic: np.ndarray, geometric: np.ndarray) -> Path:
    """SIFT Flow with one image."""
    save(root / "Images" / SCENES / "coast_a1.jpg", noise(0, (*semantic.shape, 3)))
    save_matlab(root / "SemanticLabels" / SCENES / "coast_a1.mat", S=semantic, names="x")
    save_matlab(root / "GeoLabels" / SCENES / "coast_a1.mat", S=geometric)
    save_list(root / "test.txt", ["coast_a1"])
    return root


def make_nyud(root: Path, labels: np.ndarray) -> Path:
    """NYUDv2 with one image: colour, HHA and depth of 16 bits."""
    size = labels.shape
    for seed, kind in enumerate(("images", "hha")):
        save(root / "data" / kind / "img_5001.png", noise(seed, (*size, 3)))
    depth = np.random.default_rng(9).integers(500, 9000, size).astype(np.uint16)
    save(root / "data" / "depth" / "img_5001.png", depth)
    save_matlab(root / "segmentation" / "img_5001.mat", segmentation=labels)
    save_list(root / "test.txt", ["5001"])
    return root


def make_cityscapes(root: Path, frames: Sequence[str] = ("aachen", "aachen", "ulm"), *, split: str = "val") -> Path:
    """Cityscapes with frames of these cities, label ids in blocks, 64x128; no images."""
    for number, city in enumerate(frames):
        ids = np.kron(noise(200 + number, (8, 16)) % 34, np.ones((8, 8), np.uint8)).astype(np.uint8)
        save(root / "gtFine" / split / city / f"{city}_{number:06d}_000019_gtFine_labelIds.png", ids)
    return root


def make_generated(folder: Path, ids: Sequence[str]) -> Path:
    """Generated images, 32x32 of noise, for frames of Cityscapes."""
    for number, id_ in enumerate(ids):
        save(folder / f"{id_}_leftImg8bit.png", noise(300 + number, (32, 32, 3)))
    return folder
