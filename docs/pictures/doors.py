"""Draw docs/pictures/opencv5.png and docs/pictures/export.png, those of the first and the third door of the README.

python -m docs.pictures.doors

What stands in them is what OpenCV 5 (`make opencv5`) and `fcn-port export` gave; Chromium sets it.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from html import escape
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

import fcn_port
from converters import CaffeNet, from_state_dict, parse_prototxt, write_caffemodel
from fcn_port.cli import run
from fcn_port.exporting import with_random_weights
from fcn_port.predict.legend import with_legend
from fcn_port.predict.pictures import opened_picture
from parity_tests.chromium import Page
from parity_tests.opencv5 import environment

SAMPLE = environment.PROJECT / "weights" / "sample"
IN_OPENCV_5 = """
import json, sys
import cv2, numpy as np
files, image, out = ("shapes-fcn8s.prototxt", "shapes-fcn8s.caffemodel"), cv2.imread("shapes.png"), sys.argv[1]
said = [f">>> cv2.__version__", repr(cv2.__version__)]
try:
    cv2.dnn.readNetFromCaffe(*files)
except AttributeError as error:
    said += [">>> cv2.dnn.readNetFromCaffe", f"AttributeError: {error}"]
from fcn_port.opencv import readNetFromCaffe
net = readNetFromCaffe(*files)
recorded = np.load("shapes-fcn8s.golden.npz")
net.setInput(recorded["data"])
found, expected = net.forward(), recorded["score"]
off = np.abs(found - expected).max() / np.abs(expected).max()
mean = tuple(float(each) for each in sys.argv[2].split(","))
net.setInput(cv2.dnn.blobFromImage(image, 1.0, image.shape[1::-1], mean))
scores = net.forward()
said += [">>> from fcn_port.opencv import readNetFromCaffe", ">>> net = readNetFromCaffe(prototxt, caffemodel)"]
said += [">>> type(net)", f"<class '{type(net).__module__}.{type(net).__name__}'>"]
said += [">>> net.setInput(blob)", ">>> net.forward().shape", str(scores.shape)]
np.save(out, scores[0].argmax(axis=0).astype(np.uint8))
print(json.dumps({"said": said, "off": float(off), "version": cv2.__version__}))
"""
NET = """name: "LeNet"
input: "data"
input_shape { dim: 1 dim: 1 dim: 28 dim: 28 }
layer { name: "conv1" type: "Convolution"
  bottom: "data" top: "conv1"
  convolution_param {
    num_output: 20 kernel_size: 5 } }
layer { name: "pool1" type: "Pooling"
  bottom: "conv1" top: "pool1" pooling_param {
    pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct"
  bottom: "pool1" top: "ip1"
  inner_product_param { num_output: 500 } }
layer { name: "relu1" type: "ReLU"
  bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct"
  bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 10 } }
"""
STYLE = """
* { box-sizing: border-box }
body { margin: 0; width: 960px; font: 12.5px/1.45 "DejaVu Sans Mono", monospace; color: #1f2328 }
main { display: flex; gap: 12px; padding: 12px; align-items: stretch; background: #fff }
section { flex: 1 1 auto; min-width: 0; border: 1px solid #d0d7de; border-radius: 6px; background: #f6f8fa }
h2 { margin: 0; padding: 5px 10px; font: 600 13px "DejaVu Sans", sans-serif; border-bottom: 1px solid #d0d7de }
pre { margin: 0; padding: 8px 10px; white-space: pre-wrap; font: inherit }
.bad { color: #b3261e } .dim { color: #59636e } img { display: block; width: 100% }
.small { font-size: 11px; white-space: pre }
.left { flex: 0 0 235px } .middle { flex: 0 0 385px } .right { flex: 0 0 292px }
p { margin: 0; padding: 7px 10px; font: 12.5px "DejaVu Sans", sans-serif; background: #fff }
"""


def draw(name: str, panels: Sequence[str]) -> None:
    """A picture of panels side by side under this name."""
    with tempfile.TemporaryDirectory() as folder, Page(width=960, height=600) as browser:
        page = Path(folder) / "page.html"
        page.write_text(f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><main>{''.join(panels)}</main>")
        browser.open(page.as_uri())
        height = browser.value("document.querySelector('main').getBoundingClientRect().height")
        clip = {"x": 0, "y": 0, "width": 960, "height": height, "scale": 2}
        shot = browser.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    with opened_picture(base64.b64decode(shot["data"])) as picture:
        picture.convert("RGB").save(Path(__file__).with_name(f"{name}.png"), optimize=True)


def panel(title: str, *lines: str, kind: str = "", small: bool = False) -> str:
    """A titled panel; what is an error is red, and what is a comment or was typed is grey or plain."""
    kinds = ((r"^\w+Error", "bad"), (r"^(#|\.\.\.)", "dim"))
    shown = []
    for line in lines:
        style = next((style for pattern, style in kinds if re.match(pattern, line)), "")
        shown.append(f'<span class="{style}">{escape(line)}</span>')
    body = "\n".join(shown)
    size = "small" if small else ""
    return f'<section class="{kind}"><h2>{escape(title)}</h2><pre class="{size}">{body}</pre></section>'


def opencv5() -> None:
    """Before and after in OpenCV 5, and what the bundled net sees there."""
    net = fcn_port.load(SAMPLE / "shapes-fcn8s.caffemodel")
    (recipe,) = net.preprocessing.inputs
    with tempfile.TemporaryDirectory() as folder:
        labels = Path(folder) / "labels.npy"
        script = f"import os; os.chdir({str(SAMPLE)!r})\n{IN_OPENCV_5}"
        done = environment.run("-c", script, str(labels), ",".join(map(str, recipe.mean)))
        assert done.returncode == 0, done.stderr
        result, seen = json.loads(done.stdout), np.load(labels)
    with opened_picture(SAMPLE / "shapes.png") as picture:
        image = np.asarray(picture.convert("RGB"))
    pair = Image.fromarray(np.concatenate([image, np.asarray(net.palette, np.uint8)[seen]], axis=1))
    colours = [tuple(map(int, colour)) for colour in net.palette]
    entries = [(name, colours[i]) for i, name in enumerate(net.classes["score"]) if i in seen]
    stored = BytesIO()
    with_legend(pair.resize((900, 900 * pair.height // pair.width), Image.Resampling.LANCZOS), entries).save(
        stored, "PNG"
    )
    said = result["said"]
    cut = said.index(">>> from fcn_port.opencv import readNetFromCaffe")
    picture = base64.b64encode(stored.getvalue()).decode()
    about = f"the scores are real Caffe's within {result['off']:.0e} of the largest"
    draw(
        "opencv5",
        [
            panel("OpenCV 5", *said[:cut], kind="left"),
            panel("OpenCV 5 and one import", *said[cut:], kind="middle"),
            '<section class="right"><h2>what the net sees there</h2>'
            f'<img src="data:image/png;base64,{picture}"><p>{about}</p></section>',
        ],
    )


def export() -> None:
    """A net as Caffe's prototxt, as PyTorch's source and as ONNX's nodes, as `fcn-port export` writes them."""
    with tempfile.TemporaryDirectory() as folder:
        spec = parse_prototxt(NET)
        model, said = Path(folder) / "lenet.caffemodel", StringIO()
        write_caffemodel(from_state_dict(with_random_weights(CaffeNet(spec)).state_dict(), spec), model)
        source, graph = model.with_suffix(".py"), model.with_suffix(".onnx")
        with redirect_stderr(said):
            assert run(["export", str(model), "--to", "python", "-o", str(source)]) == 0
            assert run(["export", str(model), "--to", "onnx", "-o", str(graph)]) == 0
        text = source.read_text(encoding="utf-8")
        nodes = list(onnx.load(graph).graph.node)
    errors = re.findall(r"largest difference from the module (\S+)", said.getvalue())
    body = text[text.index("class ") :].rstrip().splitlines()
    rows = [f"{node.name:12} {node.op_type:8} -> {node.output[0]}" for node in nodes]
    draw(
        "export",
        [
            panel("lenet.prototxt", *NET.splitlines(), small=True),
            panel("--to python", *body, "", f"# off the net in Caffe's layers: {errors[0]}", small=True),
            panel("--to onnx", *rows, "", f"# off it in onnxruntime: {errors[1]}", small=True),
        ],
    )


if __name__ == "__main__":
    opencv5()
    export()
