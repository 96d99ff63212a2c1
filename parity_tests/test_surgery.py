"""Net surgery: what is copied, coerced, expanded, zeroed, interpolated, and every parameter accounted for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fcn_port
from converters.errors import MismatchError
from converters.schema import NetParameter
from fcn_port.cli import run
from fcn_port.loading import read_weights
from fcn_port.nets import FCN, NETS, FCNGoogLeNet
from fcn_port.surgery import Surgery, expand_score, initialise, transplant
from parity_tests.fill import bilinear_blob
from parity_tests.nets import narrow_net, with_random_weights
from parity_tests.small_files import blob_proto

CONVOLUTION, INNER_PRODUCT = 4, 14
"""Layer types by number, in V1."""


def classifier_state(net: FCN, *, last: str = "fc8") -> dict[str, np.ndarray]:
    """The weights of a classification net that `net` can begin from: fully connected fc6 and fc7, and a last layer."""
    generator = np.random.default_rng(7)
    state = {}
    for key, value in net.state_dict().items():
        layer = key.rpartition(".")[0]
        if layer.startswith(("score", "upscore", "scale")):
            continue
        shape = tuple(value.shape)
        if layer in ("fc6", "fc7") and len(shape) == 4:
            shape = shape[0], int(np.prod(shape[1:]))
        state[key] = generator.standard_normal(shape).astype(np.float32)
    state[f"{last}.weight"] = generator.standard_normal((10, 16)).astype(np.float32)
    state[f"{last}.bias"] = generator.standard_normal(10).astype(np.float32)
    return state


def write_v1(state: dict[str, np.ndarray], path: Path) -> None:
    """A caffemodel of 2014: layers by number, blobs with four axes. Here each layer has an input of its own."""
    model: Any = NetParameter(name="classifier")
    for key, value in state.items():
        layer, _, blob = key.rpartition(".")
        if blob == "weight":
            kind = CONVOLUTION if value.ndim == 4 else INNER_PRODUCT
            made = model.layers.add(name=layer, type=kind, bottom=[f"into {layer}"], top=[layer])
            param = made.convolution_param if value.ndim == 4 else made.inner_product_param
            param.num_output = value.shape[0]
            if value.ndim == 4:
                param.kernel_size.append(value.shape[2])
            model.input.append(f"into {layer}")
            size = value.shape[2:] or (1, 1)
            model.input_dim.extend((1, value.shape[1], *size))
        made.blobs.append(blob_proto(value, legacy=True))
    path.write_bytes(model.SerializeToString())


def tensors(state: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in state.items()}


def fates(surgery: Surgery) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for change in surgery.changes:
        found.setdefault(change.fate, []).append(change.key or change.source)
    return found


@pytest.mark.parametrize("name", ["voc-fcn32s", "voc-fcn8s-atonce", "voc-fcn-alexnet", "siftflow-fcn16s"])
def test_a_classifier_of_2014_becomes_an_fcn(name: str, tmp_path: Path) -> None:
    net = with_random_weights(narrow_net(name))
    classifier = classifier_state(net)
    write_v1(classifier, tmp_path / "classifier.caffemodel")
    surgery = initialise(net, read_weights(tmp_path / "classifier.caffemodel").state)
    found = fates(surgery)
    assert found["coerced"] == ["fc6.weight", "fc7.weight"] and found["dropped"] == ["fc8.weight", "fc8.bias"]
    assert "untouched" not in found
    net.load_state_dict(surgery.state, strict=True)
    for key, value in net.state_dict().items():
        if key in classifier:
            assert np.array_equal(value.numpy().ravel(), classifier[key].ravel()), key
        elif key.startswith("score"):
            assert not value.any(), key
        elif key.startswith("upscore"):
            assert np.array_equal(value.numpy(), bilinear_blob(value.shape)), key
        else:
            assert float(value[0]) == pytest.approx({"scale_pool4": 1e-2, "scale_pool3": 1e-4}[key.partition(".")[0]])


def test_every_parameter_of_both_nets_is_accounted_for_once() -> None:
    net = narrow_net("voc-fcn8s")
    source = tensors(classifier_state(net))
    changes = transplant(net, source).changes
    assert [change.key for change in changes if change.key] == list(net.state_dict())
    assert sorted(change.source for change in changes if change.source) == sorted(source)


def test_fc6_as_a_convolution_gives_what_the_fully_connected_layer_gave() -> None:
    net = narrow_net("voc-fcn32s")
    source = tensors(classifier_state(net))
    net.load_state_dict(initialise(net, source).state)
    pool5 = torch.randn(2, 8, 7, 7, generator=torch.Generator().manual_seed(3))
    expected = nn.functional.linear(pool5.flatten(1), source["fc6.weight"], source["fc6.bias"])
    torch.testing.assert_close(net.fc6(pool5).flatten(1), expected)


def test_a_finer_net_goes_on_from_a_coarser_one() -> None:
    coarse, fine = with_random_weights(narrow_net("voc-fcn32s")), narrow_net("voc-fcn16s")
    surgery = initialise(fine, coarse.state_dict())
    found = fates(surgery)
    assert found["zeroed"] == ["score_pool4.weight", "score_pool4.bias"]
    assert found["interpolated"] == ["upscore2.weight", "upscore16.weight"] and found["dropped"] == ["upscore.weight"]
    assert torch.equal(surgery.state["score_fr.weight"], coarse.score_fr.weight)


def test_weights_of_other_numbers_are_dropped_with_the_reason() -> None:
    net = narrow_net("voc-fcn32s")
    source = tensors(classifier_state(net)) | {"fc6.weight": torch.zeros(15, 392)}
    (dropped,) = (change for change in transplant(net, source).of("dropped") if change.source == "fc6.weight")
    assert dropped.why == "fc6.weight is (16, 8, 7, 7)" and dropped.source_shape == (15, 392)
    transposed = {"fc6.weight": torch.zeros(392, 16)}  # the same count, but not the same layer
    assert transplant(net, transposed).of("coerced") == ()


@pytest.mark.parametrize("outputs", [1, 4])
def test_fully_connected_and_convolution_hold_the_same_numbers(outputs: int) -> None:
    """A fully connected layer is a convolution with a kernel as large as its input, also one of a single output."""
    generator = torch.Generator().manual_seed(outputs)
    weight, x = torch.randn(outputs, 72, generator=generator), torch.randn(2, 8, 3, 3, generator=generator)
    for shape in ((outputs, 72), (1, 1, outputs, 72)):  # as files of 2014 have it
        found = transplant({"fc.weight": torch.zeros(outputs, 8, 3, 3)}, {"fc.weight": weight.reshape(shape)})
        assert [change.fate for change in found.changes] == ["coerced"]
        scores = torch.nn.functional.conv2d(x, found.state["fc.weight"]).flatten(1)
        torch.testing.assert_close(scores, x.flatten(1) @ weight.T)
        back = transplant({"fc.weight": torch.zeros(shape)}, found.state)
        assert torch.equal(back.state["fc.weight"].reshape(weight.shape), weight)


def test_more_classes_begin_with_the_old_ones() -> None:
    old = with_random_weights(narrow_net("voc-fcn8s"))
    new = narrow_net("pascalcontext-fcn8s")
    kept = initialise(new, old.state_dict(), expand_scores=True)
    assert len(kept.of("expanded")) == 6 and not kept.of("zeroed", "untouched")
    for layer in ("score_fr", "score_pool4", "score_pool3"):
        for blob in ("weight", "bias"):
            value, before = kept.state[f"{layer}.{blob}"], old.state_dict()[f"{layer}.{blob}"]
            assert len(value) == 60 and torch.equal(value[:21], before)
            assert torch.equal(value[21:], new.state_dict()[f"{layer}.{blob}"][21:])
    assert len(initialise(new, old.state_dict()).of("zeroed")) == 6


def test_scores_can_only_be_expanded() -> None:
    few, many = narrow_net("voc-fcn8s").state_dict(), narrow_net("pascalcontext-fcn8s").state_dict()
    with pytest.raises(MismatchError, match="cannot be expanded"):
        expand_score(few, many, layer="score_fr")
    with pytest.raises(MismatchError, match=r"the net has no score_pool2\.weight"):
        expand_score(many, few, layer="score_pool2")


def test_depth_is_seen_through_the_average_of_the_colours() -> None:
    net = narrow_net("nyud-fcn32s-color-d")
    source = tensors(classifier_state(narrow_net("voc-fcn32s")))
    surgery = initialise(net, source)
    weight = surgery.state["conv1_1_bgrd.weight"]
    assert torch.equal(weight[:, :3], source["conv1_1.weight"])
    torch.testing.assert_close(weight[:, 3], source["conv1_1.weight"].mean(1))
    assert torch.equal(surgery.state["conv1_1_bgrd.bias"], source["conv1_1.bias"])
    assert set(fates(surgery)) == {"widened", "copied", "coerced", "zeroed", "interpolated", "dropped"}


def test_each_stream_of_late_fusion_has_its_source() -> None:
    net = narrow_net("nyud-fcn32s-color-hha")
    color = with_random_weights(narrow_net("nyud-fcn32s-color")).state_dict()
    hha = {key: value + 1 for key, value in color.items()}
    both = initialise(net, color, hha)
    assert torch.equal(both.state["conv3_2color.weight"], color["conv3_2.weight"])
    assert torch.equal(both.state["score_frhha.weight"], hha["score_fr.weight"])
    assert fates(both)["dropped"] == ["upscore.weight", "upscore.weight"] and not both.of("untouched", "zeroed")
    same = initialise(net, color)
    assert torch.equal(same.state["fc7hha.weight"], same.state["fc7color.weight"])
    assert torch.equal(initialise(net, both.state).state["fc7hha.weight"], hha["fc7.weight"])  # goes on from itself
    with pytest.raises(ValueError, match="found 3"):
        initialise(net, color, hha, color)


def test_what_fits_nothing_is_an_error() -> None:
    with pytest.raises(MismatchError, match="nothing in it fits"):
        initialise(narrow_net("voc-fcn8s"), {"features.0.weight": torch.zeros(4, 3, 3, 3)})


def test_shapes_are_not_called_names() -> None:
    net = narrow_net("voc-fcn8s")
    other = {"other.weight": torch.zeros(1), "conv1_1.weight": torch.zeros(3, 3, 3, 3)}
    with pytest.raises(MismatchError, match=r"conv1_1.weight is .* there and \(3, 3, 3, 3\) here") as caught:
        initialise(net, other)
    assert "rename" not in str(caught.value) and "shapes are not" in str(caught.value)


def googlenet_classifier() -> dict[str, np.ndarray]:
    """GoogLeNet's weights with the classifiers that an FCN does not want."""
    state = classifier_state(NETS["voc-fcn-googlenet"].make(num_classes=2), last="loss3/classifier")
    auxiliary = {"loss1/conv.weight": np.ones((2, 512, 1, 1), np.float32), "loss1/conv.bias": np.ones(2, np.float32)}
    return {**state, **auxiliary}


def test_googlenet_of_2014_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classifier = googlenet_classifier()
    write_v1(classifier, tmp_path / "bvlc_googlenet.caffemodel")
    out = tmp_path / "init.safetensors"
    args = ["surgery", "voc-fcn-googlenet", "--init", str(tmp_path / "bvlc_googlenet.caffemodel"), "-o", str(out)]
    assert run([*args, "--num-classes", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["summary"] == "114 copied, 2 zeroed, 1 interpolated, 4 dropped"
    assert {c["source"] for c in report["changes"] if c["fate"] == "dropped"} == {
        "loss1/conv.weight", "loss1/conv.bias", "loss3/classifier.weight", "loss3/classifier.bias",
    }  # fmt: skip
    net = fcn_port.load(out)
    assert isinstance(net, FCNGoogLeNet) and net.score_fr.out_channels == 3
    assert net.preprocessing.inputs[0].channels == "bgr" and net.classes == {}
    key = "inception_4c/5x5_reduce.weight"
    assert np.array_equal(net.state_dict()[key].numpy(), classifier[key])

    assert run(args) == 0  # with the release's own classes, for people
    printed = capsys.readouterr().out
    assert "dropped  loss3/classifier.weight 10x16: the net has no loss3/classifier.weight" in printed
    assert len(fcn_port.load(out).classes["score"]) == 21


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["voc-fcn-googlenot"], 2, "did you mean voc-fcn-googlenet"),
        (["voc-fcn-googlenet", "--num-classes", "many"], 2, "such as sem=33,geo=3"),
        (["voc-fcn-googlenet", "--num-classes", "sem=2,geo=2"], 2, "expected such as 21"),
        (["voc-fcn-googlenet", "--init", "SAME"], 2, "expected one source; found 2"),
    ],
)
def test_wrong_use_is_told(
    args: list[str], status: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "w.pth"
    torch.save({"conv1_1.weight": torch.zeros(2, 3, 3, 3)}, weights)
    args = [str(weights) if arg == "SAME" else arg for arg in args]
    assert run(["surgery", *args, "--init", str(weights), "-o", str(tmp_path / "x")]) == status
    assert says in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_source_that_does_not_fit_or_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "a.pth")
    assert run(["surgery", "voc-fcn-googlenet", "--init", str(tmp_path / "a.pth")]) == 3
    assert "a.pth: nothing in it fits" in capsys.readouterr().err
    assert run(["surgery", "voc-fcn-googlenet", "--init", str(tmp_path / "b.pth")]) == 2
