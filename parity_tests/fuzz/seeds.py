"""What fuzzing begins with: sound files of a kilobyte or two, made here or recorded from Caffe."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from converters.formats import read_leveldb

from ..leveldb_files import block, edit, internal, log, snappy_packed, table
from ..small_files import PROTOTXT, blob_proto, small_blobs, small_h5, small_v0, small_v1, small_v2

GOLDEN = Path(__file__).parents[1] / "golden"
PALETTE = bytes(range(256)) * 3
CARD = {
    "release": "voc-fcn8s",
    "net": "voc-fcn8s",
    "palette": "voc",
    "classes": '{"fc": ["background", "aeroplane"]}',
    "preprocessing": '{"inputs": [{"name": "data", "kind": "color", "channels": "bgr", "mean": [104, 117, 123]}]}',
}


def prototxts() -> Iterator[bytes]:
    """The nets of the goldens: every layer, every form, and what Caffe upgrades."""
    yield PROTOTXT.encode()
    for folder in ("layers", "upgrade", "formats"):
        for path in sorted((GOLDEN / folder).glob("*.prototxt")):
            if path.stat().st_size < 10_000:
                yield path.read_bytes()


def layers() -> Iterator[bytes]:
    """One small net for each type of layer."""
    yield PROTOTXT.encode()
    yield from (path.read_bytes() for path in sorted((GOLDEN / "layers").glob("*.prototxt")))


def some_layers() -> Iterator[bytes]:
    """Every twelfth of them, for what takes seconds."""
    yield from list(layers())[::12]


def solvers() -> Iterator[bytes]:
    """What Caffe's solvers are told."""
    for path in sorted((GOLDEN / "solver").glob("solver-*.prototxt")):
        if not path.name.endswith("train.prototxt"):
            yield path.read_bytes()
    yield (
        b'net: "train.prototxt"\nbase_lr: 0.01\nlr_policy: "multistep"\nstepvalue: 10\nstepvalue: 20\ngamma: 0.1\n'
        b'momentum: 0.9\nweight_decay: 5e-4\nmax_iter: 30\nsnapshot: 10\nsnapshot_prefix: "x"\nsolver_mode: CPU\n'
        b'type: "Adam"\ndelta: 1e-8\nmomentum2: 0.999\nclip_gradients: 10\niter_size: 2\ntest_iter: 1\n'
    )


def tiny_blobs() -> dict[str, tuple[np.ndarray, ...]]:
    """The same layers with two values in each blob."""
    return {name: tuple(blob.ravel()[:2] for blob in own) for name, own in small_blobs().items()}


def caffemodels() -> Iterator[bytes]:
    """The three forms with all their values, and with hardly any, so that changes hit names, shapes and lengths."""
    for make in (small_v0, small_v1, small_v2):
        yield make().SerializeToString()
        yield make(tiny_blobs()).SerializeToString()
    yield small_v2({"conv": (np.ones((4, 3, 3, 3), np.float16), np.ones(4))}).SerializeToString()


def means() -> Iterator[bytes]:
    """Means in both forms and both types."""
    for legacy in (True, False):
        yield blob_proto(np.full((3, 2, 2), 104, np.float32), legacy=legacy).SerializeToString()
    yield blob_proto(np.full((1, 3, 1, 1), 104.0)).SerializeToString()


def h5s() -> Iterator[bytes]:
    """Weights in HDF5: as Caffe lays them out, packed in chunks, and in the newer format, which has checksums."""
    yield small_h5()
    yield small_h5(tiny_blobs())
    yield _packed_h5()
    yield _newer_h5()


def _packed_h5() -> bytes:
    import h5py

    out = io.BytesIO()
    with h5py.File(out, "w", libver="earliest") as file:
        group = file.create_group("data/conv")
        for name, options in (("0", {"compression": "gzip"}), ("1", {"shuffle": True, "fletcher32": True})):
            group.create_dataset(name, data=np.arange(24, dtype="f4").reshape(4, 6), chunks=(2, 3), **options)
    return out.getvalue()


def _newer_h5() -> bytes:
    """Names in a heap and a tree, and chunks in each of the newer indexes."""
    import h5py

    out, values = io.BytesIO(), np.arange(24, dtype="f4").reshape(4, 6)
    with h5py.File(out, "w", libver="latest") as file:
        for number in range(9):  # of 8 a group has the names in its header
            file.create_group(f"data/layer{number}")
        for name, maxshape in (("fixed", None), ("grows", (None, 6)), ("tree", (None, None))):
            file.create_dataset(f"data/{name}/0", data=values, chunks=(2, 3), maxshape=maxshape)
    return out.getvalue()


def solverstates() -> Iterator[bytes]:
    """A state of Caffe's."""
    yield (GOLDEN / "solver/sgd-step.solverstate").read_bytes()


def solverstates_h5() -> Iterator[bytes]:
    """A state of Caffe's."""
    yield (GOLDEN / "solver/sgd-step.solverstate.h5").read_bytes()


def safetensors() -> Iterator[bytes]:
    """A converted net with its card and prototxt, one without, and types that weights do not have."""
    arrays = {
        f"{name}.{('weight', 'bias')[i]}": blob for name, own in small_blobs().items() for i, blob in enumerate(own)
    }
    yield _safetensors(arrays, {"prototxt": PROTOTXT, **CARD})
    yield _safetensors({"a.weight": np.ones((2, 2), np.float16), "b": np.ones(3, np.int64)}, {"format": "pt"})
    layer = (GOLDEN / "layers/Scale.prototxt").read_text()
    yield _safetensors({"scale0.weight": np.ones(4, np.float32)}, {"prototxt": layer})


def _safetensors(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    from safetensors.numpy import save

    return save(arrays, metadata)


SEGMENTER = """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: MAX kernel_size: 3 stride: 1 pad: 1 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "up"
  convolution_param { num_output: 3 kernel_size: 4 stride: 2 } }
layer { name: "fc" type: "Crop" bottom: "up" bottom: "data" top: "fc" crop_param { axis: 2 offset: 1 } }
"""
"""Scores of three classes for every pixel."""


def segmenters() -> Iterator[bytes]:
    """Nets that label pixels, with a card; one with two outputs; one that classifies."""
    arrays = {"conv.weight": (2, 3, 3, 3), "conv.bias": (2,), "up.weight": (2, 3, 4, 4), "up.bias": (3,)}
    made = {name: np.full(shape, 0.5, np.float32) for name, shape in arrays.items()}
    yield _safetensors(made, {"prototxt": SEGMENTER, **CARD})
    another = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
    another += 'layer { name: "sig" type: "Sigmoid" bottom: "fc" top: "sig" }\n'
    yield _safetensors(made, {"prototxt": SEGMENTER + another, **CARD})
    layers = SEGMENTER.splitlines(keepends=True)
    yield _safetensors({}, {"prototxt": layers[0], **CARD})
    yield next(safetensors())


def pths() -> Iterator[bytes]:
    """State dicts in both forms, shared memory, types of several sizes, a checkpoint."""
    import torch

    shared = torch.arange(6.0)
    state: dict[str, Any] = {"a.weight": shared.reshape(2, 3), "a.bias": shared[:2], "n": torch.tensor(3)}
    halves = {"b.weight": torch.ones(2, 2, dtype=torch.float16), "b.bias": torch.nn.Parameter(torch.ones(2))}
    for legacy in (False, True):
        for each in (state, halves, {"model_state_dict": state, "epoch": 1}):
            out = io.BytesIO()
            torch.save(each, out, _use_new_zipfile_serialization=not legacy)
            yield out.getvalue()


def jsons() -> Iterator[bytes]:
    """Every JSON that is read: a card, an evaluation, a snapshot, a record of a checksum, a note about a download."""
    yield json.dumps({"card": CARD}).encode()
    yield json.dumps(CARD).encode()
    yield json.dumps(
        {
            "format": 1, "iteration": 2, "files": {"a": {"sha256": "0"}, "b": {"sha256": "0"}}, "losses": [1.5, None],
            "settings": {}, "card": CARD, "random": {"cpu": ["AA=="], "cuda": []},
        }
    ).encode()  # fmt: skip
    yield json.dumps(_evaluation()).encode()
    yield b'# fcn-port {"size": 3, "mtime_ns": 4, "verified_by": "published"}\n' + b"0" * 64 + b"  a.caffemodel\n"
    yield json.dumps({"url": "https://example.org/a", "etag": '"x"', "last_modified": None, "total": 3}).encode()


def _evaluation() -> dict[str, Any]:
    from fcn_port.evaluation.results import Evaluation, ImageResult

    image = ImageResult("a", {"score": np.array([[3, 1], [0, 2]])})
    settings = {"tile": "none"}
    return Evaluation(
        "w", None, "voc", "VOC", "val", False, {"score": ("a", "b")}, (image,), {"b": "gone"}, 1.5, 2, settings
    ).to_json()


def _packed_mask() -> str:
    out = io.BytesIO()
    Image.fromarray(np.eye(2, 3, dtype=np.uint8)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def drawings() -> Iterator[bytes]:
    """Shapes as labelme, CVAT and COCO have them; COCO's also as run lengths, as numbers and as text."""
    square, circle = [[1, 1], [5, 1], [5, 5], [1, 5]], [[4, 4], [6, 4]]
    shapes: list[dict[str, Any]] = [
        {"label": "cat", "points": square},
        {"label": "dog", "points": circle, "shape_type": "circle"},
        {"label": "cat", "points": [[2, 2], [4, 3]], "shape_type": "mask", "mask": _packed_mask()},
    ]
    yield json.dumps({"imageHeight": 8, "imageWidth": 9, "imagePath": "a.jpg", "shapes": shapes}).encode()
    yield (
        b'<annotations><image id="0" name="a.jpg" width="9" height="8">'
        b'<polygon label="cat" points="1,1;5,1;5,5;1,5" z_order="1"/>'
        b'<ellipse label="dog" cx="4" cy="4" rx="2" ry="1" rotation="30"/>'
        b'<mask label="cat" rle="3, 2, 4" left="1" top="1" width="3" height="3"/></image></annotations>'
    )
    runs: list[Any] = [[10, 4, 58], ":4j1"]
    for drawn in ([[1, 1, 5, 1, 5, 5, 1, 5]], *({"size": [8, 9], "counts": each} for each in runs)):
        shape = {"image_id": 7, "category_id": 3, "segmentation": drawn, "iscrowd": 0}
        image = {"id": 7, "file_name": "a.jpg", "height": 8, "width": 9}
        names = [{"id": 3, "name": "cat"}]
        yield json.dumps({"images": [image], "annotations": [shape], "categories": names}).encode()


# Archives


def _tar(files: dict[str, bytes], *, format_: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return out.getvalue()[: 512 * (2 * len(files) + 8)]


def archives() -> Iterator[bytes]:
    """Tars of three forms, one in gzip, with members that are no files; zips."""
    files = {"VOC/JPEGImages/a.jpg": b"image", "VOC/readme": b"text"}
    long = {"VOC/JPEGImages/" + "n" * 120 + "ä.jpg": b"image"}
    yield _tar(files)
    yield _tar(long)
    yield _tar(long, format_=tarfile.GNU_FORMAT)
    yield gzip.compress(_tar(files), mtime=0)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("VOC/JPEGImages")
            info.type, info.linkname = kind, "VOC/readme"
            archive.addfile(info)
    yield out.getvalue()[:4096]
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", packing) as archive:
            for name, body in files.items():
                archive.writestr(zipfile.ZipInfo(name), body)
        yield out.getvalue()


def submissions() -> Iterator[bytes]:
    """Results for VOC's server."""
    picture = _saved(_indexed(), "PNG")
    name = "results/VOC2012/Segmentation/comp6_test_cls/2008_000001.png"
    yield _tar({name: picture})
    yield gzip.compress(_tar({name: picture}), mtime=0)


# Pictures, label maps, lists


def _indexed() -> Image.Image:
    image = Image.fromarray(np.arange(20, dtype=np.uint8).reshape(4, 5), "L").convert("P")
    image.putpalette(PALETTE)
    return image


def _saved(image: Image.Image, kind: str, **settings: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def photograph() -> bytes:
    """A PNG of 24x32 pixels."""
    values = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    return _saved(Image.fromarray(values), "PNG")


def pictures() -> Iterator[bytes]:
    """A picture of every format, mode and packing that people have."""
    rgb = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
        yield _saved(rgb, kind)
    yield _saved(rgb, "JPEG", exif=exif, progressive=True)
    yield _saved(rgb, "JPEG", subsampling=0)
    yield _saved(_indexed(), "PNG", transparency=3)
    yield _saved(_indexed(), "GIF")
    for mode in ("1", "L", "LA", "RGBA", "I;16"):
        yield _saved(rgb.convert("I" if mode == "I;16" else mode).convert(mode), "PNG")
    for packing in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield _saved(rgb, "TIFF", compression=packing)
    yield _saved(rgb.convert("L").convert("F"), "TIFF")
    yield _saved(rgb.convert("CMYK"), "JPEG")
    yield _saved(rgb, "WEBP", lossless=True)
    yield _saved(rgb, "MPO", save_all=True, append_images=[rgb])


def matlabs() -> Iterator[bytes]:
    """Label maps of MATLAB as SBD, PASCAL-Context and NYUD have them, plain and packed."""
    from scipy.io import savemat

    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for packed in (False, True):
        for variables in ({"LabelMap": labels.astype(np.uint16)}, {"GTcls": {"Segmentation": labels, "note": "x"}}):
            out = io.BytesIO()
            savemat(out, variables, do_compression=packed)
            yield out.getvalue()


def lmdbs() -> Iterator[bytes]:
    """Databases of pixels, of pictures and of label maps, as Caffe's convert_imageset wrote them."""
    for name in ("raw", "encoded", "labels"):
        yield (GOLDEN / "stores" / name / "data.mdb").read_bytes()


def leveldbs() -> Iterator[bytes]:
    """A log and a manifest of Caffe's convert_imageset, a manifest of tables, and tables of records, packed and not."""
    folder = GOLDEN / "stores" / "leveldb"
    yield (folder / "000003.log").read_bytes()
    yield (folder / "MANIFEST-000002").read_bytes()
    yield log([edit(), edit(tables=[(0, 5, 100), (1, 7, 9)], comparator=None), edit(gone=[(1, 7)], comparator=None)])
    found = read_leveldb(folder)
    puts = [(internal(key, 257), found.value(number)) for number, key in enumerate(found.keys)]
    yield table([block(puts[:2]), block(puts[2:])])
    yield table([snappy_packed(block(puts))], packing=1)


def lists() -> Iterator[bytes]:
    """Lists of images, of classes, and numbered names, also with colours and ids."""
    yield b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\n"
    yield b"0 road\n1: car\nSky 128 128 128\n"
    yield b"2008_000001\n2008_000002 1\n\n"
    yield b"background\naeroplane\nbicycle\n"
    yield b"1: accordion\n2: air conditioner\n3: antenna\n"


def recipes() -> Iterator[bytes]:
    """A recipe of the project, and one that says everything."""
    folder = Path(__file__).parents[2] / "fcn_port/training/recipes"
    for path in sorted(folder.glob("*.toml"))[:3]:
        yield path.read_bytes()
    yield (
        b'like = "voc-fcn32s"\nabout = "x"\nnet = "voc-fcn8s"\ninit = "none"\nwidths = [4, 4]\ndropout = 0.5\n'
        b'batch_size = 2\n[solver]\nbase_lr = 1e-10\nlr_policy = "fixed"\nmax_iter = 10\n[multipliers."conv*"]\n'
        b"lr_mult = 2\n"
    )


def recordings() -> Iterator[bytes]:
    """Blobs in an .npz, plain and packed."""
    for save in (np.savez, np.savez_compressed):
        out = io.BytesIO()
        save(out, data=np.ones((1, 3, 2, 2), np.float32), score=np.ones((1, 2), np.float32))
        yield out.getvalue()


def everything() -> Iterator[bytes]:
    """One of each, for what takes any file."""
    for kind in (
        prototxts,
        caffemodels,
        means,
        h5s,
        solverstates,
        solverstates_h5,
        safetensors,
        solvers,
        pths,
        archives,
    ):
        yield next(kind())
