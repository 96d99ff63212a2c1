"""ONNX forms of SSD's heads in the programs that run them: the detections are those of the layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from converters import CaffeNet, parse_prototxt
from converters.export import ExportError
from converters.export.onnx import OnnxOptions, build_onnx
from converters.export.targets import ProgramError, programs_of, run_model
from fcn_port.exporting import export_net
from parity_tests.detection.nets import ssd
from parity_tests.layers.test_detection_output import CLASSES, SEPARATE, TOPK, heads, predictions
from parity_tests.layers.test_prior_box import CASES, text
from parity_tests.opencv5.environment import why_not_ready

Arrays = Mapping[str, np.ndarray]


def net_of(settings: str, bottoms: Arrays, kind: str = "DetectionOutput", classes: int = CLASSES) -> CaffeNet:
    inputs = "".join(
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ dim: {list(x.shape)} }} }} }}\n'
        for name, x in bottoms.items()
    )
    wires = " ".join(f'bottom: "{name}"' for name in bottoms)
    params = f"detection_output_param {{ num_classes: {classes} {settings} }}"
    return CaffeNet(parse_prototxt(f'{inputs}layer {{ name: "it" type: "{kind}" {wires} top: "it" {params} }}'))


def write(net: CaffeNet, path: Path, options: OnnxOptions | None = None) -> Path:
    model = build_onnx(net.spec, {key: value.numpy() for key, value in net.state_dict().items()}, options)
    with path.open("wb") as file:
        model.write(file)
    return path


def run(model: Path, target: str, inputs: Arrays, output: str, *, engine: str | None = None) -> np.ndarray:
    """The output in a program; OpenCV, which may end its process, in one of its own."""
    if target == "onnxruntime":
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        return session.run([output], dict(inputs))[0]
    program = next(each for each in programs_of(target) if engine in (None, each.engine))
    answer = run_model(model, program, [inputs], outputs=[output]).trials[0]
    assert not isinstance(answer, str), answer
    return answer[output]


def assert_same_set(found: np.ndarray, expected: np.ndarray) -> None:
    """Every row (image, class, score, box) has its partner within 1e-5.

    Rows of image -1 are OpenVINO's filling up to keep_top_k, those of nothing but zeros OpenCV's.
    """
    left = [row for row in found.reshape(-1, expected.shape[-1]) if row[0] >= 0 and row.any()]
    assert len(left) == expected.shape[2]
    for row in expected[0, 0]:
        errors = [np.abs(other - row).max() for other in left]
        assert min(errors) <= 1e-5, row
        left.pop(int(np.argmin(errors)))


# DetectionOutput


def concatenated(**how: int) -> dict[str, np.ndarray]:
    """Without ties: which of equal scores is among the best is decided by std::sort in Caffe, and so not here."""
    loc, conf, priors = predictions(60, seed=3, **how)
    return {"loc": loc, "conf": conf + np.random.default_rng(1).random(conf.shape, np.float32) * 1e-3, "priors": priors}


def refinedet() -> dict[str, np.ndarray]:
    arm_loc, arm_conf, _ = predictions(60, seed=9)
    return concatenated() | {"arm_conf": np.ascontiguousarray(arm_conf[:, :120]), "arm_loc": arm_loc * np.float32(0.2)}


def extended() -> dict[str, np.ndarray]:
    loc, conf, priors = concatenated().values()
    return {"loc": loc.reshape(2, 5, 6, 8), "conf": conf[:, :120].reshape(2, 5, 6, 4).copy(), "priors": priors}


def regions() -> dict[str, np.ndarray]:
    loc, conf, priors = concatenated(images=1, box_classes=CLASSES).values()
    boxes = np.concatenate([np.zeros((60, 1)), priors[0, 0].reshape(-1, 4) * [200, 100, 200, 100]], 1)
    return {"loc": loc, "conf": conf, "rois": boxes.astype(np.float32).reshape(1, 1, -1)}


def not_permuted() -> dict[str, np.ndarray]:
    sizes, offsets, scores, priors = heads()
    conf = [s.transpose(0, 4, 3, 1, 2).reshape(1, CLASSES, r, -1) for s, (_, _, r) in zip(scores, sizes, strict=True)]
    loc = [o.transpose(0, 3, 4, 1, 2).reshape(1, r * 4, h, w) for o, (h, w, r) in zip(offsets, sizes, strict=True)]
    return dict(zip("abcde", [*conf, *loc, priors], strict=True))


def by_ratio() -> dict[str, np.ndarray]:
    _, offsets, scores, priors = heads()
    parts = [part.transpose(0, 4, 3, 1, 2).reshape(1, -1) for part in (*scores, *offsets)]
    return dict(zip("abcde", [*parts, priors], strict=True))


FORMS = {
    "plain": ("", concatenated),
    "all of ssd": (f"{TOPK} confidence_threshold: 0.3 code_type: CENTER_SIZE", concatenated),
    "corner size": (f"{TOPK} confidence_threshold: 0.3 code_type: CORNER_SIZE", concatenated),
    "not shared": (f"{TOPK} share_location: false", lambda: concatenated(box_classes=CLASSES)),
    "background last": (f"{TOPK} background_label_id: 3", concatenated),
    "no background": (f"{TOPK} background_label_id: -1", concatenated),
    "without top_k": ("confidence_threshold: 0.4 keep_top_k: 9", concatenated),
    "without keep_top_k": ("confidence_threshold: 0.4 nms_param { top_k: 9 nms_threshold: 0.5 }", concatenated),
    "clip": (f"{TOPK} clip: true", concatenated),
    "encoded": (f"{TOPK} variance_encoded_in_target: true", concatenated),
    "a threshold above 1": ("nms_param { nms_threshold: 2 }", concatenated),
    "nothing found": ("confidence_threshold: 2", concatenated),
    "nothing kept": ("keep_top_k: 0", concatenated),
    "no candidates": ("nms_param { top_k: 0 }", concatenated),
    "refinedet": (f"{TOPK} code_type: CENTER_SIZE objectness_score: 0.4 confidence_threshold: 0.2", refinedet),
    "extended": (f"{TOPK} confidence_threshold: 0.2", extended),
    "regions": (
        f"{TOPK} share_location: false code_type: CENTER_SIZE variance_encoded_in_target: true normalized: false "
        "input_width: 200 input_height: 100",
        regions,
    ),
    "not permuted": (f"{SEPARATE} no_permute: true nbottom: 2", not_permuted),
    "by ratio": (f"{SEPARATE} ratio_permute: true nbottom: 2 ratio0: 3 ratio1: 2", by_ratio),
}


def form(name: str) -> tuple[CaffeNet, dict[str, np.ndarray], np.ndarray]:
    """The net of a form, its inputs and its detections."""
    settings, make = FORMS[name]
    bottoms = make()
    kind, classes = ("DetectionOutputExtended", 2) if name == "extended" else ("DetectionOutput", CLASSES)
    net = net_of(settings, bottoms, kind, classes)
    with torch.no_grad():
        return net, bottoms, net(**{key: torch.from_numpy(x) for key, x in bottoms.items()}).numpy()


@pytest.mark.parametrize("name", FORMS)
def test_onnxruntime_finds_the_same_rows(name: str, tmp_path: Path) -> None:
    """Row by row, in Caffe's order; also where nothing is found."""
    net, bottoms, expected = form(name)
    found = run(write(net, tmp_path / "net.onnx"), "onnxruntime", bottoms, "it")
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert name in ("nothing found", "nothing kept", "no candidates") or expected.shape[2] > 8


@pytest.mark.parametrize("name", ["all of ssd", "not shared", "refinedet"])
def test_openvino_finds_the_same(name: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    net, bottoms, expected = form(name)
    model = write(net, tmp_path / "net.onnx", OnnxOptions(size=None, batch=2, target="openvino"))
    assert_same_set(run(model, "openvino", bottoms, "it"), expected)


IN_OPENCV = ["all of ssd", "not shared", "without keep_top_k", "no background"]


def in_opencv(name: str, folder: Path, target: str, engine: str | None = None) -> None:
    """One image: OpenCV counts the detections of a batch in its own way."""
    settings, make = FORMS[name]
    bottoms = {key: x[:1] for key, x in make().items()}
    net = net_of(settings, bottoms)
    with torch.no_grad():
        expected = net(**{key: torch.from_numpy(x) for key, x in bottoms.items()}).numpy()
    model = write(net, folder / "net.onnx", OnnxOptions(batch=1, target=target))
    assert_same_set(run(model, target, bottoms, "it", engine=engine), expected)


@pytest.mark.parametrize("name", IN_OPENCV)
def test_opencv_4_finds_the_same(name: str, tmp_path: Path) -> None:
    in_opencv(name, tmp_path, "opencv4")


@pytest.mark.opencv5
@pytest.mark.parametrize("engine", ["ENGINE_NEW", "ENGINE_CLASSIC"])
@pytest.mark.parametrize("name", IN_OPENCV)
def test_both_engines_of_opencv_5_find_the_same(
    name: str, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parity_tests.opencv5.environment import python

    if why_not_ready():
        pytest.skip(str(why_not_ready()))
    monkeypatch.setenv("FCN_PORT_OPENCV5", str(python()))
    in_opencv(name, tmp_path, "opencv5", engine)


def test_what_no_operator_does_is_refused(tmp_path: Path) -> None:
    bottoms = concatenated()
    net = net_of("nms_param { nms_threshold: 0.6 eta: 0.9 }", bottoms)
    with pytest.raises(ExportError, match="eta"):
        write(net, tmp_path / "net.onnx")
    write(net_of("nms_param { nms_threshold: 0.5 eta: 0.9 }", bottoms), tmp_path / "net.onnx")


@pytest.mark.parametrize("settings", ["keep_top_k: 0", "nms_param { top_k: 0 } keep_top_k: 5"])
def test_nothing_kept_is_all_kept_in_opencv_and_so_refused(settings: str, tmp_path: Path) -> None:
    net = net_of(settings, concatenated())
    for target in ("opencv4", "opencv5"):
        with pytest.raises(ExportError, match="keeps nothing, and OpenCV takes it for all"):
            write(net, tmp_path / "net.onnx", OnnxOptions(target=target))


def test_torch_export_is_refused_in_our_own_words(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="suppressed by their numbers"):
        export_net(ssd(), to="torch-export", out=tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["onnx", "caffe", "safetensors"])
def test_a_whole_ssd_is_exported_and_checked(to: str, tmp_path: Path) -> None:
    report = export_net(ssd(), to=to, out=tmp_path / "net")
    assert report.error <= 1e-6 and report.any_size


# PriorBox


@pytest.mark.parametrize("case", CASES)
def test_priors_at_any_size_and_as_constants(case: str, tmp_path: Path) -> None:
    net = CaffeNet(parse_prototxt(text(CASES[case][0])))
    free = write(net, tmp_path / "free.onnx")
    fixed = write(net, tmp_path / "fixed.onnx", OnnxOptions(size=(26, 31), batch=1))
    for shape in ((26, 31), (58, 40)):
        x = np.zeros((1, 3, *shape), np.float32)
        expected = net(torch.from_numpy(x)).numpy()
        found = run(free, "onnxruntime", {"data": x}, "it")
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        if shape == (26, 31):
            np.testing.assert_allclose(run(fixed, "onnxruntime", {"data": x}, "it"), expected, rtol=0, atol=1e-6)


def test_constant_priors_need_nothing_of_the_image(tmp_path: Path) -> None:
    net = CaffeNet(parse_prototxt(text(CASES["sizes and ratios"][0])))
    model = build_onnx(net.spec, {}, OnnxOptions(size=(26, 31), batch=1))
    assert [node.op_type for node in model.graph.nodes if node.name.startswith("it")] == ["Identity"]
    assert math.prod(model.graph.initializers["it/boxes"].dims) == 2 * 12 * 6 * 4
    free = build_onnx(net.spec, {}, None)
    assert "Range" in {node.op_type for node in free.graph.nodes}


def test_a_program_that_cannot_read_a_model_says_so(tmp_path: Path) -> None:
    """OpenCV 4 has no NonMaxSuppression: the wrong target's form is not taken in silence."""
    net, bottoms, _ = form("all of ssd")
    model = write(net, tmp_path / "net.onnx", OnnxOptions(batch=2))
    with pytest.raises(ProgramError):
        run(model, "opencv4", bottoms, "it")
