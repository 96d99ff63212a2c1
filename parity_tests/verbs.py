"""A short run of every verb, for tests that hold for all of them."""

from __future__ import annotations

from pathlib import Path

from fcn_port.cli.program import VERBS
from parity_tests.goldens import formats
from parity_tests.runs import shapes, write_recipe
from parity_tests.test_architecture import ROOT

SAMPLE = str(ROOT / "weights" / "sample" / "shapes-fcn8s.caffemodel")
PICTURE = str(ROOT / "weights" / "sample" / "shapes.png")
RUNS: dict[str, list[str]] = {
    "releases": ["releases"],
    "fetch": ["fetch", "sample"],
    "inspect": ["inspect", SAMPLE],
    "convert": ["convert", SAMPLE, "-o", "{out}/converted.safetensors"],
    "trace": ["trace", SAMPLE, "--explain-crops"],
    "view": ["view", SAMPLE, "--time", "-o", "{out}/view.json"],
    "verify": ["verify", "{in}/sample.safetensors", "--against", SAMPLE],
    "predict": ["predict", "{in}/sample.safetensors", PICTURE, PICTURE, "-o", "{out}/predicted", "--scores"],
    "data": ["data", "shapes", "--make", "{out}/drawn", "--count", "3", "--size", "40x56"],
    "evaluate": [
        *("evaluate", "{in}/sample.safetensors", "--data", "{in}/shapes", "--split", "val", "--limit", "2", "--csv"),
        *("--save-labels", "{out}/labels", "--markdown", "{out}/table.md", "--cache", "{out}/cache"),
    ],
    "fcn-score": [
        *("fcn-score", "--weights", "{in}/sample.safetensors", "--data", "{in}/shapes", "--split", "val"),
        *("--generated", "{in}/generated", "--limit", "1", "--save-labels", "{out}/scored", "--no-cache"),
    ],
    "edges": [
        *("edges", "{in}/edges.pth", PICTURE, PICTURE, "--prototxt", "{in}/edges.prototxt", "-o", "{out}/edges"),
        *("--border", "8", "--soft"),
    ],
    "serve": ["serve", "{in}/sample.safetensors", "--port", "0", "--check"],
    "demo": ["demo", "-o", "{out}/demo"],
    "report": ["report", "{in}/sample.safetensors", "-o", "{out}/a.html", "--data", "{in}/shapes", "--split", "val"],
    "surgery": ["surgery", "voc-fcn-googlenet", "--init", "{in}/googlenet.pth", "-o", "{out}/init.safetensors"],
    "export": ["export", str(formats("fcn8s-mini.caffemodel")), "--to", "caffe", "-o", "{out}/back.caffemodel"],
    "publish": ["publish", SAMPLE, "{out}/published", "--no-onnx"],
    "train": [
        *("train", "{in}/narrow.toml", "--data", "{in}/shapes", "--max-iter", "2", "--snapshot", "1"),
        *("--val-limit", "1", "--workers", "1", "--out", "{out}/run"),
    ],
    "diff": ["diff", SAMPLE, SAMPLE],
}
assert RUNS.keys() == VERBS.keys(), "every verb has its short run here"


EDGES = """
input: "data" input_shape { dim: 1 dim: 3 dim: 40 dim: 40 }
layer { name: "fuse" type: "Convolution" bottom: "data" top: "fuse" convolution_param { num_output: 1 kernel_size: 1 } }
layer { name: "sigmoid" type: "Sigmoid" bottom: "fuse" top: "sigmoid-fuse" }
"""
"""A net that takes brightness for edges."""


def make_inputs(folder: Path) -> None:
    """What the runs read: a small data set, a recipe, the converted sample, and nets without anybody's weights."""
    import torch
    from PIL import Image

    from converters.conversion import convert
    from weights.card import Card
    from weights.catalogue import release

    shapes(folder)
    write_recipe(folder)
    convert(SAMPLE, folder / "sample.safetensors", metadata=Card.of(release("sample")).to_metadata())
    (folder / "edges.prototxt").write_text(EDGES)
    torch.save({"fuse.weight": torch.full((1, 3, 1, 1), 0.01), "fuse.bias": torch.zeros(1)}, folder / "edges.pth")
    (folder / "generated").mkdir()
    for path in (folder / "shapes" / "JPEGImages").iterdir():
        with Image.open(path) as image:
            image.resize((32, 32)).save(folder / "generated" / f"{path.stem}.png")
    torch.save({"conv1/7x7_s2.weight": torch.ones(64, 3, 7, 7)}, folder / "googlenet.pth")


def argv_of(verb: str, inputs: Path, out: Path) -> list[str]:
    """The command line of a verb's short run, which writes below `out`."""
    return [part.replace("{in}", str(inputs)).replace("{out}", str(out)) for part in RUNS[verb]]
