"""The table of targets: every reader of a stranger's bytes, its seeds and changes, and the errors it may end in."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

import converters
import fcn_port
from converters.escaping import json_text
from converters.export.python import python_source
from converters.formats import read_datum, read_leveldb, read_lmdb
from converters.formats.prototxt import format_prototxt
from converters.formats.solver import format_solver, read_solver
from converters.formats.solverstate import read_solverstate
from converters.net.shapes import iter_layer_shapes
from converters.net.spec import NetSpec
from converters.safety.json_file import read_json
from fcn_port.cli.program import answer
from fcn_port.data.drawings import DrawnFiles, read_drawings
from fcn_port.data.files import read_depth, read_label_png, read_mat
from fcn_port.data.label_maps import read_label_map
from fcn_port.data.lists import read_list
from fcn_port.data.sets.pascalcontext import read_names
from fcn_port.data.sets.voc import _own_classes
from fcn_port.data.unpacking import unpack
from fcn_port.errors import ImageError
from fcn_port.evaluation.results import read_evaluation
from fcn_port.evaluation.submission import check_submission
from fcn_port.exporting import ExportError, export_net, with_random_weights
from fcn_port.predict.images import read_image
from fcn_port.predict.tiles import tiling_of
from fcn_port.recording import read_recording
from fcn_port.training.checkpoints import read_snapshot
from fcn_port.training.recipe import find_recipe
from weights.card import Card
from weights.errors import WeightsError
from weights.sidecar import read_record

from ..leveldb_files import around
from . import mutators, seeds
from .judge import Target

MOST_VALUES = 1 << 17
"""Values in all blobs of a net that is run here; a larger one is an honest large net, and is only looked at."""
MOST_MACS = 1 << 24
MOST_LAYERS = 60


def prototxt(path: Path) -> None:
    """Read, written and read again: the same net."""
    spec = converters.read_prototxt(path)
    again = format_prototxt(spec)
    settled = format_prototxt(converters.parse_prototxt(again))
    # A fork's field in a message that an upgrade took away comes last, and stands in its place once it is read again.
    assert sorted(settled.splitlines()) == sorted(again.splitlines()), "what is written is read as another net"
    assert format_prototxt(converters.parse_prototxt(settled)) == settled, "what is written is read as another net"
    converters.to_deploy(spec)


def solver(path: Path) -> None:
    """Read and written."""
    format_solver(read_solver(path))


def caffemodel(path: Path) -> None:
    """Read to its last value, and as a state dict."""
    model = converters.read_caffemodel(path)
    for own in model.blobs.values():
        for blob in own:
            blob.tobytes()
    if model.spec is not None:
        format_prototxt(model.spec)
    converters.to_state_dict(model)


def json(path: Path) -> None:
    """The bytes as a card, as an evaluation, as a snapshot, as a record of a checksum."""
    card = path.with_suffix(".json")
    path.rename(card)
    record = card.with_suffix(".sha256")
    record.unlink(missing_ok=True)
    record.hardlink_to(card)
    with contextlib.suppress(ValueError):
        Card.beside(path).to_metadata()
    with contextlib.suppress(ValueError):
        found = read_json(card)
        if isinstance(found, dict):
            Card.from_metadata(found).to_metadata()
    with contextlib.suppress(WeightsError):
        read_record(record)
    with contextlib.suppress(converters.CaffeFormatError):
        json_text(read_evaluation(card).to_json())
    read_snapshot(card)


def archive(path: Path) -> None:
    """Unpacked, all or nothing, and nothing outside."""
    home = path.parent / "home"
    try:
        unpack(path, home / "VOC", marker="JPEGImages", largest=1 << 20)
    finally:
        left = sorted(found.name for found in path.parent.iterdir())
        inside = sorted(found.name for found in home.iterdir()) if home.exists() else []
        links = [found for found in path.parent.rglob("*") if found.is_symlink()]
        shutil.rmtree(home, ignore_errors=True)
        assert left in (["input"], ["home", "input"]) and inside in ([], ["VOC"]) and not links, (left, inside, links)


def picture(path: Path) -> None:
    """The picture as a photograph, as a label map and as depth."""
    for read in (read_image, read_label_png, read_depth):
        with contextlib.suppress(converters.CaffeFormatError):
            read(path)


def lmdb(path: Path) -> None:
    """The records of a database, each as an image."""
    found = read_lmdb(path)
    for number in range(len(found.keys)):
        with contextlib.suppress(converters.CaffeFormatError):
            read_datum(found.value(number), path=path, where=str(number))


def leveldb(path: Path) -> None:
    """A file of a database, each of whose records is an image."""
    folder = path.with_name("folder")
    try:
        found = read_leveldb(around(folder, path.read_bytes()))
        for number in range(len(found.keys)):
            with contextlib.suppress(converters.CaffeFormatError):
                read_datum(found.value(number), path=folder, where=str(number))
    finally:
        shutil.rmtree(folder)


def matlab(path: Path) -> None:
    """The label map under each of the names that data sets have."""
    for keys in (("LabelMap",), ("GTcls", "Segmentation")):
        with contextlib.suppress(converters.CaffeFormatError):
            read_mat(path, *keys)


def lists(path: Path) -> None:
    """The text as a list of images, of classes, of numbered names, and of names with ids or colours."""
    for read in (read_list, _own_classes, read_names, read_label_map):
        with contextlib.suppress(converters.CaffeFormatError):
            read(path)


def drawings(path: Path) -> None:
    """The text as CVAT's, as labelme's or as COCO's, whichever it looks like, and the label maps of small images."""
    text = path.read_bytes()
    place = path.with_suffix(".xml" if text[:1] == b"<" else ".json")
    path.rename(place)
    found, classes = read_drawings(path.parent if b'"shapes"' in text else place)
    small = {id_: each for id_, each in found.items() if each.size[0] * each.size[1] <= MOST_VALUES}
    files = DrawnFiles(path.parent, "{}", read_label_png, drawings=small, classes=classes)
    for id_, each in small.items():
        with contextlib.suppress(converters.CaffeFormatError):
            assert files.of(id_).shape == each.size


def recipe(path: Path) -> None:
    """A recipe by its path."""
    named = path.with_suffix(".toml")
    path.rename(named)
    find_recipe(os.fspath(named))


# Nets: from the text to numbers


def _made(path: Path) -> tuple[converters.CaffeNet, bool]:
    """The net of a prototxt, and whether it is small enough to be run; a large one is made without memory."""
    spec = converters.to_deploy(converters.read_prototxt(path))
    small = _is_small(spec)
    with contextlib.nullcontext() if small else torch.device("meta"):
        return converters.CaffeNet(spec), small


def _is_small(spec: NetSpec) -> bool:
    values = macs = 0
    for number, row in enumerate(iter_layer_shapes(spec)):
        values += sum(int(np.prod([1, *shape], dtype=object)) for shape in (*row.tops, *row.blobs))
        macs += row.macs
        if values > MOST_VALUES or macs > MOST_MACS or number > MOST_LAYERS:
            return False
    return True


def net(path: Path) -> None:
    """A net with whatever numbers: made, traced, written as Python, and run once if it is small."""
    made, small = _made(path)
    fcn_port.trace(made, (8, 8))
    compile(python_source(made.spec), "exported", "exec")
    if small:
        shapes = {top: shape for row in iter_layer_shapes(made.spec) for top, shape in _tops(row).items()}
        found = made.blobs(**{name: torch.zeros(shape) for name, shape in made.inputs.items()})
        if not any(layer.type == "Filter" for layer in made.spec.layers):
            assert {name: tuple(blob.shape) for name, blob in found.items()} == shapes, "other shapes than traced"


def _tops(row: object) -> Mapping[str, tuple[int, ...]]:
    return dict(zip(row.layer.tops, row.tops, strict=True))  # type: ignore[attr-defined]


def fast(path: Path) -> None:
    """A net cut into tiles, and a small one run in the form that leaves work out."""
    made, small = _made(path)
    with contextlib.suppress(ValueError):
        tiling_of(made)
    if small:
        quick = fcn_port.fast(with_random_weights(made))
        quick(**{name: torch.zeros(shape) for name, shape in made.inputs.items()})


def _exported(path: Path, *formats: str) -> None:
    made, small = _made(path)
    if not small:
        return
    with_random_weights(made)
    for to in formats:
        out = path.parent / "out"
        try:
            export_net(made, to=to, out=out / f"net.{to}")
        finally:
            shutil.rmtree(out, ignore_errors=True)


def export(path: Path) -> None:
    """A small net in the formats that need no other library."""
    _exported(path, "python", "caffe", "hdf5", "safetensors")


def onnx(path: Path) -> None:
    """A small net as ONNX; seconds each."""
    _exported(path, "onnx")


def predict(path: Path) -> None:
    """Weights on the command line, with a picture: an exit status, whatever they are."""
    picture, out = path.with_name("picture.png"), path.with_name("out")
    if not picture.exists():
        picture.write_bytes(seeds.photograph())
    _answered("predict", path, picture, "--out", out, "--scores", "--probabilities", "--device", "cpu")
    _answered("predict", path, picture, "--out", out, "--tile", 24)
    shutil.rmtree(out, ignore_errors=True)


def inspect(path: Path) -> None:
    """Any file on the command line: an exit status, whatever it is."""
    _answered("inspect", path)


def _answered(*arguments: object) -> None:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        status = answer([*map(str, arguments)])
    assert status in (0, 1, 2, 3), status


_TABLE = (
    Target("prototxt", prototxt, seeds.prototxts, mutators.text),
    Target("solver", solver, seeds.solvers, mutators.text),
    Target("caffemodel", caffemodel, seeds.caffemodels, mutators.plain),
    Target("mean", converters.read_mean, seeds.means, mutators.plain),
    Target("h5", caffemodel, seeds.h5s, mutators.addresses),
    Target("solverstate", read_solverstate, seeds.solverstates, mutators.plain),
    Target("solverstate-h5", read_solverstate, seeds.solverstates_h5, mutators.addresses),
    Target("safetensors", fcn_port.load, seeds.safetensors, mutators.header),
    Target("pth", fcn_port.load, seeds.pths, mutators.members),
    Target("json", json, seeds.jsons, mutators.card, errors=(FileNotFoundError,)),
    Target("archive", archive, seeds.archives, mutators.tar, errors=(WeightsError,)),
    Target("submission", check_submission, seeds.submissions, mutators.tar),
    # Pillow's pixels, an array or what a progressive JPEG holds until it is decoded, and as much of what is free again,
    # which a large process's C library keeps
    Target("picture", picture, seeds.pictures, mutators.png, errors=(ImageError,), expansion=64, times=3),
    Target("lmdb", lmdb, seeds.lmdbs, mutators.plain, expansion=16),
    # entries, and a block of them unpacked
    Target("leveldb", leveldb, seeds.leveldbs, mutators.leveldb, expansion=24 + 22),
    Target("matlab", matlab, seeds.matlabs, mutators.matlab, expansion=64),
    Target("lists", lists, seeds.lists, mutators.text),
    Target("drawings", drawings, seeds.drawings, mutators.text, expansion=1 << 12),
    Target("recipe", recipe, seeds.recipes, mutators.text, errors=(FileNotFoundError,)),
    Target("recording", read_recording, seeds.recordings, mutators.members),
    Target("net", net, seeds.layers, mutators.text),
    Target("fast", fast, seeds.layers, mutators.text),
    Target("export", export, seeds.layers, mutators.text, errors=(ExportError,), expansion=1 << 20),
    Target("onnx", onnx, seeds.some_layers, mutators.text, errors=(ExportError,), expansion=4096),
    Target("predict", predict, seeds.segmenters, mutators.header, expansion=1 << 16),
    Target("inspect", inspect, seeds.everything, mutators.plain),
)

TARGETS: Mapping[str, Target] = {target.name: target for target in _TABLE}
