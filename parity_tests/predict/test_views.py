"""Averages over flips and scales by a formula written out, and the dense CRF by brute force and as a layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fcn_port
from converters import CaffeNet, parse_prototxt
from fcn_port.cli import run
from fcn_port.predict.dense_crf import DenseCrf
from fcn_port.predict.meaning import OutputMeaning
from fcn_port.predict.reading import ReadOutput
from parity_tests.datasets import noise
from parity_tests.predict.output_nets import files_of, net_of

IMAGE = noise(5, (10, 14, 3))


def resized(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w, c) at another size, bilinear between pixel centres, with numpy alone."""
    for axis, length in enumerate(size):
        count = x.shape[axis]
        at = ((np.arange(length) + 0.5) * count / length - 0.5).clip(0, count - 1)
        low = np.minimum(at.astype(int), max(count - 2, 0))
        weight = (at - low).reshape([-1 if i == axis else 1 for i in range(3)])
        x = np.take(x, low, axis) * (1 - weight) + np.take(x, np.minimum(low + 1, count - 1), axis) * weight
    return x


def probability(image: np.ndarray) -> np.ndarray:
    """What the net "scores" says of each pixel by itself."""
    e = np.exp(image / 255)
    return e / e.sum(axis=2, keepdims=True)


def test_the_average_is_the_formula_s() -> None:
    scales = (0.5, 1.0, 1.75)
    seen = fcn_port.segment(net_of("scores"), IMAGE, flip=True, scales=scales)
    total = np.zeros((10, 14, 3))
    for scale in scales:
        small = resized(IMAGE.astype(np.float64), (round(scale * 10), round(scale * 14))).round()
        total += resized(probability(small), (10, 14))
        total += resized(probability(small[:, ::-1]), (10, 14))[:, ::-1]
    expected = (total / 6).transpose(2, 0, 1)
    assert seen.scores is not None and seen.kind == "probabilities"
    assert np.abs(seen.scores - expected).max() < 2e-3  # an image is rounded to bytes, here and there at a half
    assert np.abs(seen.scores.sum(axis=0) - 1).max() < 1e-5
    assert (seen.labels == expected.argmax(axis=0)).mean() > 0.97
    assert np.abs(fcn_port.segment(net_of("scores"), IMAGE, scales=scales[:1]).scores - expected).max() > 0.02


def test_a_net_that_sees_left_and_right_is_evened_out() -> None:
    """Scores that depend on the left neighbour: a mirrored image gives the mirrored average, but not alone."""
    net = CaffeNet(parse_prototxt(
        'input: "data" input_shape { dim: [1, 3, 8, 8] } layer { name: "score" type: "Convolution" bottom: "data" '
        'top: "score" convolution_param { num_output: 2 kernel_h: 1 kernel_w: 3 pad_w: 1 pad_h: 0 } }'
    )).eval()  # fmt: skip
    with torch.no_grad():
        net.score.weight.copy_(torch.randn(net.score.weight.shape, generator=torch.Generator().manual_seed(0)) / 99)  # type: ignore[union-attr, arg-type]
        net.score.bias.zero_()  # type: ignore[union-attr, operator]
    recipe = net_of("scores").preprocessing
    there, back = IMAGE, np.ascontiguousarray(IMAGE[:, ::-1])
    for flip, same in ((True, True), (False, False)):
        one, other = (fcn_port.segment(net, each, preprocessing=recipe, flip=flip).scores for each in (there, back))
        assert one is not None and other is not None
        assert (np.abs(one - other[:, :, ::-1]).max() < 1e-6) == same


def exact(p: np.ndarray, image: np.ndarray, crf: DenseCrf) -> np.ndarray:
    """Mean field with Gaussians summed over every pair of pixels, each filter normalized after it."""
    c, h, w = p.shape
    y, x = np.indices((h, w)).reshape(2, -1)
    places, colours = np.stack([x, y], 1), image.reshape(-1, 3).astype(np.float64)

    def filter_of(features: np.ndarray) -> np.ndarray:
        kernel = np.exp(-0.5 * ((features[:, None] - features[None]) ** 2).sum(2))
        return kernel / kernel.sum(axis=1, keepdims=True)

    spatial = filter_of(places / crf.gamma)
    bilateral = filter_of(np.concatenate([places / crf.alpha, colours / crf.beta], 1))
    unary = np.log(p.reshape(c, -1).astype(np.float64))
    now = unary
    for _ in range(crf.iterations):
        q = np.exp(now - now.max(axis=0))
        q /= q.sum(axis=0)
        now = unary + crf.spatial * (spatial @ q.T).T + crf.bilateral * (bilateral @ q.T).T
    q = np.exp(now - now.max(axis=0))
    return (q / q.sum(axis=0)).reshape(p.shape)


def test_a_crf_draws_labels_to_colours() -> None:
    """Noisy scores of two halves: brute force and lattice agree, and the noise is gone; without it, it is not."""
    random = np.random.default_rng(1)
    image = np.full((12, 16, 3), 40, np.uint8)
    image[:, 8:] = 200
    truth = np.zeros((12, 16), int)
    truth[:, 8:] = 1
    scores = np.stack([1.0 - truth, 1.0 * truth]) + random.normal(0, 1, (2, 12, 16))
    p = (np.exp(scores) / np.exp(scores).sum(axis=0)).astype(np.float32)
    read = ReadOutput(OutputMeaning("probabilities", "Softmax", 2), torch.from_numpy(p))
    crf = DenseCrf(beta=13, alpha=80)
    found = crf.refined(read, image)
    expected = exact(p, image, crf)
    assert (found.values.sum(0) - 1).abs().max() < 1e-5
    assert np.abs(found.values.numpy() - expected).max() < 0.1  # the lattice's Gaussians are not Gauss's
    assert (found.labels().numpy() == truth).mean() == 1 > (p.argmax(axis=0) == truth).mean()
    loose = DenseCrf(beta=13, alpha=80, bilateral=0, spatial=0).refined(read, image)
    assert (loose.values - torch.from_numpy(p)).abs().max() < 1e-5


def test_a_crf_is_the_layer_of_crf_rnn() -> None:
    """The same net with a MultiStageMeanfield at its end, its blobs as CRF-RNN begins with them."""
    scores = torch.randn(1, 3, 9, 11, generator=torch.Generator().manual_seed(2))
    image = noise(4, (9, 11, 3))
    net = CaffeNet(parse_prototxt(
        'input: "u" input_shape { dim: [1, 3, 9, 11] } input: "im" input_shape { dim: [1, 3, 9, 11] } '
        'layer { name: "crf" type: "MultiStageMeanfield" bottom: "u" bottom: "u" bottom: "im" top: "pred" '
        "multi_stage_meanfield_param { num_iterations: 10 compatibility_mode: POTTS theta_alpha: 160 theta_beta: 3 "
        "theta_gamma: 3 spatial_filter_weight: 3 bilateral_filter_weight: 5 } }"
    )).eval()  # fmt: skip
    one = torch.eye(3)[None, None]
    state = dict(zip(net.state_dict(), (3 * one, 5 * one, -one), strict=True))
    net.load_state_dict(state)
    with torch.inference_mode():
        expected = net(u=scores, im=torch.from_numpy(image).permute(2, 0, 1)[None].float())[0].softmax(0)
    read = ReadOutput(OutputMeaning("scores", "", 3), scores[0])
    assert (DenseCrf().refined(read, image).values - expected).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        ("scores", ["--scales", "0,1"], "such as 0.75,1,1.25"),
        ("scores", ["--scales", "nan"], "such as 0.75,1,1.25"),
        ("scores", ["--crf", "--tile", "64"], "--tile goes without"),
        ("argmax", ["--flip"], "labels and no scores"),
        ("map", ["--crf"], "--crf refines scores or probabilities of classes; this net's output is"),
        ("sigmoid", ["--crf"], "--crf refines scores or probabilities of classes"),
        ("classes", ["--crf"], "names images as a whole; --crf"),
    ],
)
def test_wrong_use(
    net: str, options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    assert run(["predict", *files_of(net, tmp_path), str(tmp_path / "a.png"), *options]) == 2
    assert message in capsys.readouterr().err


def test_from_the_command_line(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    call = ["predict", *files_of("scores", tmp_path), str(tmp_path / "a.png"), "-o", str(tmp_path), "--scores"]
    assert run([*call, "--flip", "--scales", "0.5,1"]) == 0
    with np.load(tmp_path / "a.scores.npz") as file:
        expected = fcn_port.segment(net_of("scores"), IMAGE, flip=True, scales=(0.5, 1)).scores
        assert np.abs(file["scores"] - expected).max() < 1e-5
    assert run([*call, "--crf"]) == 0
    with np.load(tmp_path / "a.scores.npz") as file:
        assert np.abs(file["scores"] - fcn_port.segment(net_of("scores"), IMAGE, crf=True).scores).max() < 1e-4
