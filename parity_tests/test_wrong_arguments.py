"""Public functions that are given something of another kind say what they take and what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import converters
import fcn_port
import weights
from fcn_port.data import make_shapes, open_dataset
from fcn_port.errors import ImageError
from fcn_port.evaluation import evaluate, score, scores
from fcn_port.fastpath import engines
from fcn_port.onnx_export import export_onnx
from fcn_port.serving import make_app
from fcn_port.training import softmax_with_loss
from parity_tests.tolerances import tolerance
from parity_tests.verbs import SAMPLE

PICTURE = np.zeros((40, 50, 3), np.uint8)
LABELS = np.zeros((4, 5), np.uint8)
OF_A_NET: dict[str, Callable[[Any], object]] = {
    "fast": lambda net: fcn_port.fast(net),
    "segment": lambda net: fcn_port.segment(net, PICTURE),
    "see": lambda net: fcn_port.see(net, PICTURE),
    "classify": lambda net: fcn_port.classify(net, PICTURE),
    "detect": lambda net: fcn_port.detect(net, PICTURE),
    "prepare": lambda net: fcn_port.prepare(net, PICTURE),
    "trace": lambda net: fcn_port.trace(net, (40, 50)),
    "blobs": lambda net: fcn_port.blobs(net),
    "export_net": lambda net: fcn_port.exporting.export_net(net, to="onnx", out="never.onnx"),
    "evaluate": lambda net: fcn_port.evaluation.evaluate(net, None),  # type: ignore[arg-type]
    "parameter_groups": lambda net: fcn_port.training.parameter_groups(net),
}


@pytest.mark.parametrize("given, said", [(None, "None"), (5, "5"), ("voc-fcn8s", "'voc-fcn8s'"), ({}, "type dict")])
@pytest.mark.parametrize("name", OF_A_NET)
def test_what_is_no_net(name: str, given: object, said: str) -> None:
    with pytest.raises(ValueError, match=f"expected a net; found .*{said}; fcn_port.load, fcn_port.build and conv"):
        OF_A_NET[name](given)


SMALL = """
    name: "small" input: "data" input_shape { dim: 1 dim: 3 dim: 16 dim: 16 }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param { num_output: 4 kernel_size: 3 } }
    layer { name: "prob" type: "Softmax" bottom: "conv" top: "prob" }
"""


def small() -> converters.CaffeNet:
    return converters.CaffeNet(converters.parse_prototxt(SMALL))


def on_arrays(**settings: Any) -> fcn_port.NumpyNet:
    net = small()
    return fcn_port.NumpyNet(net.spec, {key: value.numpy() for key, value in net.state_dict().items()}, **settings)


OF_A_SIZE: dict[str, Callable[[Any], object]] = {
    "trace": lambda size: fcn_port.trace(fcn_port.build("voc-fcn32s"), size),
    "explain of a fast FCN": lambda size: fcn_port.fast(fcn_port.build("voc-fcn32s")).explain(size),
    "explain of a fast CaffeNet": lambda size: fcn_port.fast(small()).explain(size),
    "explain of a NumpyNet": lambda size: on_arrays().explain(size),
}


@pytest.mark.parametrize("size", [None, 5, "40x40", (40,), (40, 40, 40), (0, 5), (40.0, 40.5), ("a", "b")], ids=repr)
@pytest.mark.parametrize("name", OF_A_SIZE)
def test_what_is_no_size(name: str, size: object) -> None:
    with pytest.raises(ValueError, match=r"expected a size \(h, w\) of two whole numbers above 0; found "):
        OF_A_SIZE[name](size)


@pytest.mark.parametrize("name", OF_A_SIZE)
def test_a_size_may_be_a_list(name: str) -> None:
    assert OF_A_SIZE[name]([70, 90]) == OF_A_SIZE[name]((70, 90)) == OF_A_SIZE[name](np.array([70, 90]))


THREADS: dict[str, Callable[[Any], object]] = {
    "NumpyNet": lambda threads: on_arrays(threads=threads),
    "Predictor": lambda threads: fcn_port.Predictor(SAMPLE, threads=threads)([]),
    "make_app": lambda threads: make_app(fcn_port.load(SAMPLE), name="a net", threads=threads),
    "make_app, batch": lambda batch: make_app(fcn_port.load(SAMPLE), name="a net", batch=batch),
}


@pytest.mark.parametrize("name", THREADS)
@pytest.mark.parametrize("threads", [0, -1, 1.5, "2"], ids=repr)
def test_how_many(name: str, threads: object) -> None:
    """A NumpyNet of -1 threads computed for ever; a server of -1 had none and kept every image waiting."""
    with pytest.raises((TypeError, ValueError), match=f"expected a whole number.*; found {threads!r}"):
        THREADS[name](threads)


CHOICES: dict[str, tuple[Callable[[Any], object], str]] = {
    "fast, precision": (lambda it: fcn_port.fast(small(), precision=it), "no precision .*; there are fp32, bf16"),
    "fast, convolutions": (lambda it: fcn_port.fast(small(), convolutions=it), "there are native, torch, direct"),
    "scores": (lambda it: scores(np.eye(3, dtype=int), over=it), "there are present, labelled"),
    "InputRecipe": (lambda it: weights.InputRecipe("data", "color", it, (0.0,)), "channels: expected bgr or file; fo"),
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("given", ["BGR", "fp16", None, 5], ids=repr)
def test_a_choice_that_there_is_none_of(name: str, given: object) -> None:
    """It was taken for another one: BGR fed RGB, fp16 computed float32."""
    call, said = CHOICES[name]
    with pytest.raises(ValueError, match=said):
        call(given)


@pytest.mark.parametrize("outputs", ["prob", ["prob"], iter(["prob"]), {"prob"}], ids=lambda each: type(each).__name__)
def test_names_of_outputs(outputs: Any) -> None:
    """A name alone was taken for a list of letters; an iterator was used up before it was read."""
    kept = list(outputs) if isinstance(outputs, Iterator) else None

    def given() -> Any:
        return outputs if kept is None else iter(kept)

    spec = converters.parse_prototxt(SMALL)
    assert converters.CaffeNet(spec, outputs=given()).outputs == ("prob",)
    assert on_arrays(outputs=given()).outputs == ("prob",)
    assert converters.export.OnnxOptions(outputs=given()).outputs == ("prob",)


OTHERS: dict[str, tuple[Callable[[], object], str]] = {
    "build(None)": (lambda: fcn_port.build(None), "expected the name of a net, such as 'voc-fcn8s'; found None"),  # type: ignore[call-overload]
    "build([])": (lambda: fcn_port.build([]), "found an object of type list"),  # type: ignore[call-overload]
    "numpy_net": (lambda: fcn_port.numpy_net(None), "expected a file's path; found None"),  # type: ignore[arg-type]
    "export_onnx": (lambda: export_onnx(None, "never"), "expected a file's path; found None"),  # type: ignore[arg-type]
    "CaffeNet": (
        lambda: converters.CaffeNet("a.prototxt"),
        "expected a NetSpec, as read_prototxt gives it; found",
    ),  # type: ignore[arg-type]
    "to_state_dict": (lambda: converters.to_state_dict(None), "expected a CaffeModel, as read_caffemodel gives it; f"),  # type: ignore[arg-type]
    "from_state_dict": (lambda: converters.from_state_dict(None, None), "expected a state dict, as net.state_dict()"),  # type: ignore[arg-type]
    "from_state_dict, spec": (lambda: converters.from_state_dict({}, 5), "expected a NetSpec, as read_proto.* found 5"),  # type: ignore[arg-type]
    "write_caffemodel": (lambda: converters.write_caffemodel(small(), "never"), "expected a CaffeModel, as read_caff"),  # type: ignore[arg-type]
    "write_hdf5": (lambda: converters.write_hdf5(None, "never"), "expected a CaffeModel, as read_caffemodel gives it"),  # type: ignore[arg-type]
    "write_prototxt": (lambda: converters.write_prototxt(small(), "never"), "expected a NetSpec, as read_prototxt g"),  # type: ignore[arg-type]
    "to_deploy": (lambda: converters.to_deploy("a.prototxt"), "expected a NetSpec, as read_prototxt gives it; found"),  # type: ignore[arg-type]
    "prepare": (lambda: converters.passes.prepare(None), "expected a NetSpec, as read_prototxt gives it; found None"),  # type: ignore[arg-type]
    "infer_shapes": (lambda: converters.net.infer_shapes(small()), "expected a NetSpec, as read_prototxt gives it; "),  # type: ignore[arg-type]
    "parse_prototxt": (lambda: converters.parse_prototxt(b"layer {}"), "expected the text of a prototxt; read_proto"),  # type: ignore[arg-type]
    "task_of": (lambda: fcn_port.training.task_of(None), "expected a NetSpec"),  # type: ignore[arg-type]
    "release": (lambda: weights.release(None), "expected the name of a release, such as 'voc-fcn8s'; found None"),  # type: ignore[arg-type]
    "converted_path": (lambda: weights.converted_path("voc-fcn8s"), "expected a Release, as weights.release"),  # type: ignore[arg-type]
    "stop_when": (lambda: fcn_port.stop_when(True), "expected a function that says whether to end, .* found True"),  # type: ignore[arg-type]
    "score": (lambda: score(LABELS, LABELS, num_classes="21"), "num_classes: expected a whole number; found '21'"),  # type: ignore[arg-type]
    "transplant": (lambda: fcn_port.surgery.transplant(small(), small()), "expected a state dict, as net.state_dict"),  # type: ignore[arg-type]
    "fetch": (lambda: weights.fetch(5), "expected the name of a release, such as 'voc-fcn8s'; found 5"),  # type: ignore[arg-type]
}


OF_A_PATH: dict[str, Callable[[Any], object]] = {
    "load": lambda path: fcn_port.load(path),
    "read_caffemodel": lambda path: converters.read_caffemodel(path),
    "read_prototxt": lambda path: converters.read_prototxt(path),
    "read_mean": lambda path: converters.read_mean(path),
    "convert": lambda path: converters.convert(path, "never.safetensors"),
    "convert, out": lambda path: converters.convert(SAMPLE, path),
    "write_caffemodel": lambda path: converters.write_caffemodel(converters.read_caffemodel(SAMPLE), path),
    "write_hdf5": lambda path: converters.write_hdf5(converters.read_caffemodel(SAMPLE), path),
    "write_prototxt": lambda path: converters.write_prototxt(small().spec, path),
    "open_dataset": lambda path: open_dataset(path),
    "make_shapes": lambda path: make_shapes(path, count=1),
    "export": lambda path: fcn_port.exporting.export(path, to="python", out="never.py"),
    "export_net, out": lambda path: fcn_port.exporting.export_net(small().eval(), to="python", out=path),
    "publish": lambda path: fcn_port.publishing.publish(path, "never"),
    "publish, folder": lambda path: fcn_port.publishing.publish("sample", path),
}


@pytest.mark.parametrize("given", [None, 5, b"net.caffemodel", ["net.caffemodel"], ""], ids=repr)
@pytest.mark.parametrize("name", OF_A_PATH)
def test_what_is_no_path(name: str, given: object) -> None:
    """Python said "expected str, bytes or os.PathLike", and took no bytes; "" was this folder."""
    with pytest.raises((TypeError, ValueError), match=r"expected .*(path|folder).*; found (None|5|''|an object)"):
        OF_A_PATH[name](given)


OF_A_PATH_OR_NONE: dict[str, Callable[[Any], object]] = {
    "load, prototxt": lambda path: fcn_port.load(SAMPLE, prototxt=path),
    "export, out": lambda path: fcn_port.exporting.export(SAMPLE, to="onnx", out=path),
    "export, prototxt": lambda path: fcn_port.exporting.export(SAMPLE, to="onnx", out="never.onnx", prototxt=path),
    "fetch, directory": lambda path: weights.fetch("sample", directory=path),
    "fetch, from_file": lambda path: weights.fetch("sample", from_file=path),
}


@pytest.mark.parametrize("given", [5, b"net.caffemodel", ["net.caffemodel"], ""], ids=repr)
@pytest.mark.parametrize("name", OF_A_PATH_OR_NONE)
def test_what_is_no_path_where_none_is_needed(name: str, given: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"expected .*(path|folder).*; found (5|''|an object)"):
        OF_A_PATH_OR_NONE[name](given)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", [], -1, 1.5], ids=repr)
@pytest.mark.parametrize("name", ["load", "Predictor"])
def test_what_is_no_device(name: str, device: Any) -> None:
    """It was PyTorch's list of all the devices that were ever thought of, once the file was read."""
    calls = {"load": fcn_port.load, "Predictor": lambda file, device: fcn_port.Predictor(file, device=device)([])}
    with pytest.raises(RuntimeError, match=r"expected a device that is here, such as 'cpu', .*; found ") as raised:
        calls[name](SAMPLE, device=device)
    assert isinstance(raised.value, (ValueError, TypeError)), "programs may catch either"


@pytest.mark.parametrize("given", [{"crf": None}, {"flip": None}, {"flip": 0}], ids=repr)
def test_what_ran_before_it_was_looked_at(given: dict[str, Any]) -> None:
    net = fcn_port.load(SAMPLE)
    assert np.array_equal(fcn_port.segment(net, PICTURE, **given).labels, fcn_port.segment(net, PICTURE).labels)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None], ids=repr)
def test_a_device_by_name_or_not(device: Any) -> None:
    assert next(fcn_port.load(SAMPLE, device=device).parameters()).device.type == "cpu"


@pytest.mark.parametrize("split", ["val", Path("val"), 5, b"val"], ids=repr)
def test_a_split_by_name_or_by_path(split: Any, tmp_path: Path) -> None:
    """A Path was "argument of type 'PosixPath' is not iterable"."""
    make_shapes(tmp_path, count=4, size=(40, 50))
    if isinstance(split, (str, Path)):
        path = tmp_path / "ImageSets" / "Segmentation" / "val.txt"
        given = path if isinstance(split, Path) else split
        assert open_dataset(tmp_path, split=given).ids == open_dataset(tmp_path, split=str(path)).ids
        return
    with pytest.raises(TypeError, match="expected split as the name of a list, or the path of one; found "):
        open_dataset(tmp_path, split=split)


@pytest.mark.parametrize("images", [None, 5, True], ids=repr)
def test_what_is_no_list_of_images(images: Any) -> None:
    with pytest.raises(TypeError, match=f"expected a list of images; found {images!r}"):
        fcn_port.Predictor(SAMPLE)(images)


@pytest.mark.parametrize(
    "settings", [{"count": "5"}, {"count": 1.5}, {"count": -1}, {"count": 1, "seed": "x"}], ids=repr
)
def test_how_many_shapes(settings: Any, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match="expected a whole number"):
        make_shapes(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tile": "100"}, "tile: expected a whole number; found '100'"),
        ({"tile": True}, "tile: expected a whole number; found True"),
        ({"crf": "yes"}, "expected crf=True, False or a DenseCrf; found 'yes'"),
        ({"flip": "no"}, "expected flip=True or False; found 'no'"),
        ({"scales": ("1",)}, "scales are numbers above 0"),
        ({"threshold": "high"}, "expected threshold as a number; found 'high'"),
        ({"preprocessing": "voc-fcn8s"}, "expected a Preprocessing, such as weights.release.* found"),
        ({"preprocessing": (104, 117, 123)}, "expected a Preprocessing, such as weights.release.* found"),
    ],
    ids=repr,
)
def test_settings_of_segment(settings: Any, said: str) -> None:
    """Some were Python's words about its parts; a flip of "no" mirrored, a threshold of letters was passed over."""
    with pytest.raises((TypeError, ValueError), match=said):
        fcn_port.segment(fcn_port.load(SAMPLE), PICTURE, **settings)


@pytest.mark.parametrize(("given", "said"), [
    ((PICTURE,), "expected a tensor as input 'data', such as fcn_port.prepare.*; found an object of type ndarray"),
    (("street.jpg",), "expected a tensor as input 'data', .*; found 'street.jpg'"),
    ((), "expected the inputs data; found none"),
])  # fmt: skip
def test_blobs_of_what_is_no_tensor(given: Any, said: str) -> None:
    """It was a list of what PyTorch's conv2d takes."""
    with pytest.raises((TypeError, ValueError), match=said):
        fcn_port.blobs(fcn_port.load(SAMPLE), *given)


def test_one_scale_is_a_list_of_it() -> None:
    net = fcn_port.load("sample")
    assert np.array_equal(
        fcn_port.segment(net, PICTURE, scales=0.5).labels,  # type: ignore[call-overload]
        fcn_port.segment(net, PICTURE, scales=(0.5,)).labels,
    )


def test_a_state_dict_of_arrays_is_one() -> None:
    model = converters.read_caffemodel(SAMPLE)
    state = {key: value.numpy() for key, value in converters.to_state_dict(model).items()}
    assert model.spec is not None
    back = converters.from_state_dict(state, model.spec)  # type: ignore[arg-type]
    assert np.array_equal(back.blobs["fc6"][0], model.blobs["fc6"][0])


@pytest.mark.parametrize("name", ["trace", "blobs", "export_net", "evaluate", "parameter_groups", "make_app"])
def test_a_net_on_arrays_where_one_of_pytorch_is_wanted(name: str) -> None:
    calls = {**OF_A_NET, "make_app": lambda net: make_app(net, name="a net")}
    with pytest.raises(
        ValueError, match=r"expected a net of PyTorch, as fcn_port\.load gives it of the same file; foun"
    ):
        calls[name](on_arrays())


def test_what_cannot_be_served() -> None:
    with pytest.raises(ValueError, match="Conv2d is no net whose layers are known"):
        make_app(torch.nn.Conv2d(3, 3, 1), name="a net")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="this net does not say how its input is made"):
        make_app(small(), name="a net")  # type: ignore[arg-type]


def test_a_net_in_train_mode_is_not_scored(tmp_path: Path) -> None:
    """Its dropout was random, and the scores with it."""
    make_shapes(tmp_path, count=4, size=(40, 50))
    with pytest.raises(ValueError, match=r"the net is in train mode.*: call net.eval\(\) first"):
        evaluate(fcn_port.load(SAMPLE).train(), open_dataset(tmp_path, split="val"))


@pytest.mark.parametrize("make", [fcn_port.fast, lambda net: engines.make("torch", net)], ids=["fast", "engine"])
@pytest.mark.parametrize("net", [lambda: fcn_port.load(SAMPLE), small], ids=["FCN", "CaffeNet"])
def test_what_runs_a_net_in_another_way(make: Callable[[Any], Any], net: Callable[[], Any], tmp_path: Path) -> None:
    """It said of itself that it is in training, was not exported, and after `eval` its file had no layer of the net."""
    plain = net()
    found = make(plain)
    assert not found.training
    report = fcn_port.exporting.export_net(found, to="caffe", out=tmp_path / "net.caffemodel")
    assert report.error <= tolerance("lossless")
    found.train()
    assert plain.training and found.training
    plain.eval()
    assert not found.training


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_of_another_kind(name: str) -> None:
    call, said = OTHERS[name]
    with pytest.raises(TypeError, match=said):
        call()


def test_classes_are_no_yes() -> None:
    with pytest.raises(ValueError, match="expected such as 21, found True"):
        fcn_port.build("voc-fcn8s", num_classes=True)


def test_classes_may_be_counted_by_numpy() -> None:
    net = fcn_port.build("siftflow-fcn32s", num_classes={"sem": np.int64(3), "geo": np.uint8(2)})
    shapes = fcn_port.trace(net, (32, 32))
    assert (shapes["score_sem"][1], shapes["score_geo"][1]) == (3, 2)


@pytest.mark.parametrize("kind", [list, torch.tensor, np.array])
def test_weights_of_classes_may_be_an_array(kind: Callable[[list[float]], Any]) -> None:
    found, labels = torch.arange(12.0).reshape(1, 3, 2, 2), torch.tensor([[[0, 1], [2, 1]]])
    expected = softmax_with_loss(found, labels, class_weights=(1.0, 2.0, 3.0))
    assert softmax_with_loss(found, labels, class_weights=kind([1.0, 2.0, 3.0])) == expected


def test_a_picture_without_a_pixel() -> None:
    net = fcn_port.load(SAMPLE)
    with pytest.raises(ImageError, match=r"an array of uint8 \(0, 50, 3\); expected"):
        fcn_port.segment(net, np.zeros((0, 50, 3), np.uint8), preprocessing=weights.release("sample").preprocessing)
