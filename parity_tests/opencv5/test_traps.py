"""OpenCV 5.0's traps that the forms and the door go around; where one of these fails, what goes around it can go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from parity_tests.opencv5.environment import run

pytestmark = pytest.mark.opencv5

PROGRAM = """
import json, cv2, numpy as np, onnx
from onnx import helper as h, numpy_helper, TensorProto
rng = np.random.default_rng(0)

def model(nodes, constants, name, size=(8, 9)):
    ends = [h.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, *given])
            for n, given in (("data", size), ("out", (None, None)))]
    tensors = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    made = h.make_model(h.make_graph(nodes, "net", ends[:1], ends[1:], tensors), ir_version=8,
                        opset_imports=[h.make_opsetid("", 17)])
    onnx.save(made, name)
    return made.SerializeToString()

def out(name, engine, x):
    net = cv2.dnn.readNetFromONNX(name, engine)
    net.setInput(x)
    return net.forward()

x = rng.standard_normal((1, 3, 8, 9)).astype(np.float32)
new, classic = cv2.dnn.ENGINE_NEW, cv2.dnn.ENGINE_CLASSIC
said = {}
chain = [h.make_node("MaxPool", ["data"], ["pool"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
         h.make_node("LRN", ["pool"], ["norm"], name="norm", size=3, alpha=5.0),
         h.make_node("Softmax", ["norm"], ["out"], name="out", axis=1)]
data = model(chain, {}, "chain.onnx")
path = cv2.dnn.readNetFromONNX("chain.onnx", classic).getLayerNames()
buffer = cv2.dnn.readNetFromONNX(np.frombuffer(data, np.uint8), classic).getLayerNames()
said["a buffer goes to the new engine"] = path[0].startswith("onnx_node!") and buffer != path
net = cv2.dnn.readNetFromONNX("chain.onnx", new)
net.setInput(x); net.forward(); net.setInput(x)
windows = x[:, :, :, :8].reshape(1, 3, 4, 2, 4, 2).max((3, 5))
try:
    said["the new engine's values in the middle are others"] = not np.allclose(net.forward("pool"), windows)
except cv2.error:
    said["the new engine's values in the middle are others"] = True
mean = [h.make_node("AveragePool", ["data"], ["out"], name="m", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)]
model(mean, {}, "mean.onnx")
whole = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
right = sum(whole[:, :, i : i + 8, j : j + 9] for i in range(3) for j in range(3)) / 9
wrong = not np.allclose(out("mean.onnx", classic, x), right, atol=1e-4)
said["the classic engine leaves the padding out of averages"] = wrong
said["the new one counts it"] = bool(np.allclose(out("mean.onnx", new, x), right, atol=1e-4))
model([h.make_node("Softplus", ["data"], ["out"], name="s")], {}, "soft.onnx")
said["Softplus overflows"] = not np.isfinite(out("soft.onnx", new, x * 0 + 100)).all()
crop = [h.make_node("Shape", ["data"], ["s"], name="s", start=2), h.make_node("Sub", ["s", "two"], ["e"], name="e"),
        h.make_node("Slice", ["data", "two", "e", "axes"], ["out"], name="c")]
model(crop, {"two": np.array([2, 2]), "axes": np.array([2, 3])}, "crop.onnx", size=(None, None))
said["the new engine crops by a Shape"] = bool(np.array_equal(out("crop.onnx", new, x), x[:, :, 2:6, 2:7]))
try:
    out("crop.onnx", classic, x)
    said["the classic engine refuses a Shape of free sizes"] = False
except cv2.error:
    said["the classic engine refuses a Shape of free sizes"] = True
print(json.dumps({key: bool(value) for key, value in said.items()}))
"""


def test_the_traps_are_still_there(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"import os; os.chdir({str(tmp_path)!r})\n{PROGRAM}", encoding="utf-8")
    done = run(str(program))
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert len(said) == 7 and [trap for trap, there in said.items() if not there] == []
