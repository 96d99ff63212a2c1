"""Runs inside the oracle, on its Python 3.9 with pycaffe: answers the questions in the folders that `server` names.

Each is answered by a copy of this process in its folder, which `client` filled: the question is in ``request.json``, a
net in ``net.prototxt``, weights in ``weights``, inputs in ``inputs.npz``; answers go to ``blobs.npz`` or ``answer``.
When a CHECK of Caffe fails, the copy is gone: `client` reads the message in the file that it wrote its outputs to.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import caffe
import fill
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

NET = "net.prototxt"


def forward(request: dict) -> None:
    """Every blob after one forward pass."""
    net = open_net(request)
    if request["size"]:
        resize(net, *request["size"])
    for name, shape in request["shapes"].items():
        net.blobs[name].reshape(*shape)
    net.reshape()
    given = np.load("inputs.npz") if Path("inputs.npz").exists() else {}
    for name in net.inputs:
        blob = net.blobs[name]
        if name in given:
            blob.data[...] = given[name]
        else:
            blob.data[...] = fill.input_blob(name, blob.data.shape, scale=request["input_scale"])
    net.forward()
    wanted = request["blobs"] or own_blobs(net)
    np.savez("blobs.npz", **{name: net.blobs[name].data for name in wanted})
    Path("answer").write_text(json.dumps(net.outputs))


def shapes(request: dict) -> None:
    """Shapes of the weights, crops as the net defines them, and the shape of each blob at each input size."""
    net = open_net(request)
    Path("answer").write_text(
        json.dumps(
            {
                "params": {name: [list(b.data.shape) for b in blobs] for name, blobs in net.params.items()},
                "crops": crops(),
                "blobs": {f"{h}x{w}": shapes_at(net, h, w) for h, w in request["sizes"]},
            }
        )
    )


def shapes_at(net: caffe.Net, height: int, width: int) -> dict:
    resize(net, height, width)
    net.reshape()
    return {name: list(net.blobs[name].shape) for name in own_blobs(net)}


def resize(net: caffe.Net, height: int, width: int) -> None:
    for name in net.inputs:
        blob = net.blobs[name]
        blob.reshape(*list(blob.shape)[:2], height, width)


def crops() -> dict:
    definition = text_format.Parse(Path(NET).read_text(), caffe_pb2.NetParameter())
    return {
        layer.name: {
            "axis": layer.crop_param.axis,
            "offset": list(layer.crop_param.offset),
            "bottom": list(layer.bottom),
        }
        for layer in definition.layer
        if layer.type == "Crop"
    }


def load(request: dict) -> None:
    """Every blob of every layer, as Caffe holds them after it read the weights."""
    net = open_net(request)
    np.savez(
        "blobs.npz",
        **{f"{layer}/{i}": blob.data for layer, blobs in net.params.items() for i, blob in enumerate(blobs)},
    )


def save(request: dict) -> None:
    """The weights file that Caffe writes of the net."""
    net = open_net(request)
    if request["hdf5"]:
        net.save_hdf5("answer")
    else:
        net.save("answer")


def save_legacy(request: dict) -> None:
    """A caffemodel as Caffe wrote it up to 2014: layers as in the text (V1 or V0), blobs with four dims."""
    net = open_net(request)
    definition = text_format.Parse(Path(NET).read_text(), caffe_pb2.NetParameter())
    for connection in definition.layers:
        is_v0 = connection.HasField("layer")
        name = connection.layer.name if is_v0 else connection.name
        for blob in net.params.get(name, ()):
            proto = (connection.layer if is_v0 else connection).blobs.add()
            padded = (1, 1, 1, 1, *blob.data.shape)[-4:]
            proto.num, proto.channels, proto.height, proto.width = padded
            proto.data.extend(blob.data.ravel().tolist())
    Path("answer").write_bytes(definition.SerializeToString())


def solve(request: dict) -> None:
    """Train: feed row t of every input to step t; the losses of each step, and the snapshot after the last."""
    solver = caffe.get_solver("solver.prototxt")
    if request["restore"]:
        solver.restore(request["restore"])
    elif Path("weights").exists():
        solver.net.copy_from("weights")
    else:
        fill_net(solver.net, request["fill"])
    given = np.load("inputs.npz")
    losses = []
    for step in range(len(given[given.files[0]])):
        for name in given.files:
            solver.net.blobs[name].reshape(*given[name][step].shape)
            solver.net.blobs[name].data[...] = given[name][step]
        solver.step(1)
        losses.append({name: float(solver.net.blobs[name].data) for name in request["losses"]})
    solver.snapshot()
    Path("answer").write_text(json.dumps(losses))


def descriptor(request: dict) -> None:
    """The compiled schema of Caffe's messages."""
    Path("answer").write_bytes(caffe_pb2.DESCRIPTOR.serialized_pb)


def version(request: dict) -> None:
    Path("answer").write_text(caffe.__version__)


def open_net(request: dict) -> caffe.Net:
    """The net in its phase, its weights read or filled."""
    phase = {"TEST": caffe.TEST, "TRAIN": caffe.TRAIN}[request["phase"]]
    if Path("weights").exists():
        return caffe.Net(NET, phase, weights="weights")
    net = caffe.Net(NET, phase)
    fill_net(net, request["fill"])
    return net


def fill_net(net: caffe.Net, rule: str) -> None:
    """Fill every blob of every layer by a rule, if one is given."""
    for i, layer in enumerate(net._layer_names if rule else ()):
        for position, blob in enumerate(net.params.get(layer, ())):
            blob.data[...] = filled(net, rule, layer, net.layers[i].type, position)


def filled(net: caffe.Net, rule: str, layer: str, kind: str, position: int) -> np.ndarray:
    blob = net.params[layer][position].data
    if rule == "zoo":
        return fill.zoo_blob(layer, kind, position, blob.shape)
    constant, group = None, 1
    if kind == "Scale" and position == 0:
        constant = float(blob.flat[0])  # Caffe's filler has just put it there
    if kind == "Deconvolution" and position == 0:
        group = net.blobs[net.top_names[layer][0]].shape[1] // blob.shape[1]
    return fill.fill_blob(layer, kind, position, blob.shape, deconvolution=rule, group=group, constant=constant)


def own_blobs(net: caffe.Net) -> list:
    """Names of the net's blobs without the copies that Caffe makes where a blob has several readers."""
    copies = {
        top
        for i, name in enumerate(net._layer_names)
        if net.layers[i].type == "Split" and name.endswith("_split")
        for top in net.top_names[name]
    }
    return [name for name in net.blobs if name not in copies]


OPERATIONS = {op.__name__: op for op in (forward, shapes, load, save, save_legacy, solve, descriptor, version)}


def serve(said: str) -> None:
    """Answer the question in each folder whose name comes in, and say with which status that ended."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            answer(Path("/tmp", line.strip()), said)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def answer(folder: Path, said: str) -> None:
    """Answer the question in a folder, and end."""
    status = 1
    try:
        os.chdir(folder)
        nothing, out = os.open(os.devnull, os.O_RDONLY), os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number, taken in enumerate((nothing, out, out)):
            os.dup2(taken, number)
        request = json.loads(Path("request.json").read_text())
        OPERATIONS[request["operation"]](request)
        status = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
