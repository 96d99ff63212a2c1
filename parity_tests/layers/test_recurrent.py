"""LSTM, RNN and LSTMUnit against real Caffe (live and recorded), Lstm and the layers around sequences against loops.

Record again, with the oracle installed: ``python -m parity_tests.layers.test_recurrent``.
"""

from __future__ import annotations

from math import exp, tanh
from pathlib import Path

import numpy as np
import pytest
import torch

from converters import CaffeNet, NetError, parse_prototxt
from converters.export import write_caffe
from fcn_port.training import task_of
from parity_tests.fill import rs
from parity_tests.goldens import GOLDEN
from parity_tests.layers.test_layers import make, run, values
from parity_tests.oracle.client import Oracle, open_oracle

RECORDED = GOLDEN / "recurrent.npz"
T, N, D = 4, 3, 6


def _input(name: str, *dims: int) -> str:
    shape = " ".join(f"dim: {dim}" for dim in dims)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}\n'


def _layer(name: str, kind: str, bottoms: str, tops: str, settings: str = f"num_output: {D}") -> str:
    wires = " ".join([*(f'bottom: "{b}"' for b in bottoms.split()), *(f'top: "{t}"' for t in tops.split())])
    filler = 'weight_filler { type: "uniform" min: -0.5 max: 0.5 }' if kind != "LSTMUnit" else ""
    own = f"recurrent_param {{ {settings} {filler} }}" if kind != "LSTMUnit" else ""
    return f'layer {{ name: "{name}" type: "{kind}" {wires} {own} }}\n'


EXPOSED = f"num_output: {D} expose_hidden: true"
NET = "".join(
    [
        _input("x", T, N, 5), _input("wide", T, N, 2, 3), _input("cont", T, N), _input("one", 1, N),
        _input("static", N, 2, 2), _input("h", 1, N, D), _input("c", 1, N, D), _input("gates", 1, N, 4 * D),
        _layer("lstm", "LSTM", "x cont", "lstm"),
        _layer("lstm_wide", "LSTM", "wide cont static", "lstm_wide"),
        _layer("lstm_state", "LSTM", "x cont h c", "lstm_state h_T c_T", EXPOSED),
        _layer("lstm_all", "LSTM", "x cont static h c", "lstm_all h_all c_all", EXPOSED),
        _layer("rnn", "RNN", "x cont", "rnn"),
        _layer("rnn_wide", "RNN", "wide cont static", "rnn_wide"),
        _layer("rnn_state", "RNN", "x cont h", "rnn_state h_R", EXPOSED),
        _layer("unit", "LSTMUnit", "c gates one", "unit_c unit_h"),
    ]
)  # fmt: skip


def inputs() -> dict[str, np.ndarray]:
    """Streams that begin anew at different steps; a first step that goes on, from a state of zeros or a given one."""
    spec = parse_prototxt(NET)
    found = {name: rs(name).standard_normal(shape).astype(np.float32) for name, shape in spec.inputs.items()}
    found["cont"] = np.array([[0, 1, 0], [1, 1, 1], [1, 0, 1], [1, 1, 0.5]], np.float32)
    found["one"] = np.array([[1, 0, 0.5]], np.float32)
    return found


def net() -> CaffeNet:
    caffe_net = CaffeNet(parse_prototxt(NET))
    state = {
        key: torch.from_numpy((rs(key).standard_normal(tuple(blob.shape)) * 0.4).astype(np.float32))
        for key, blob in caffe_net.state_dict().items()
    }
    caffe_net.load_state_dict(state)
    return caffe_net


def ask(oracle: Oracle, folder: Path) -> dict[str, np.ndarray]:
    """The outputs of real Caffe for the weights and inputs above."""
    caffe_net, path = net(), folder / "net.caffemodel"
    write_caffe(caffe_net.spec, caffe_net.state_dict(), path)
    return {
        name: blob
        for name, blob in oracle.forward(NET, weights=path, inputs=inputs()).blobs.items()
        if name in caffe_net.outputs
    }


def ours() -> dict[str, np.ndarray]:
    with torch.no_grad():
        tops = net()(**{name: torch.from_numpy(x) for name, x in inputs().items()})
    assert isinstance(tops, dict)
    return {name: top.numpy() for name, top in tops.items()}


def test_real_caffe_gave_these_numbers() -> None:
    with np.load(RECORDED) as recorded:
        tops = ours()
        assert set(tops) == set(recorded)
        for name, top in tops.items():
            np.testing.assert_allclose(top, recorded[name], rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.oracle
def test_real_caffe_gives_these_numbers(oracle: Oracle, tmp_path: Path) -> None:
    tops = ours()
    for name, expected in ask(oracle, tmp_path).items():
        np.testing.assert_allclose(tops[name], expected, rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("wrong", ["cont", "gates", "blobs"])
def test_wrong_variants_are_seen(wrong: str) -> None:
    """Streams that never begin anew, gates in PyTorch's order (i, f, g, o), W_hc read before W_xc_static."""
    caffe_net, fed = net(), {name: torch.from_numpy(x) for name, x in inputs().items()}
    if wrong == "cont":
        fed["cont"] = torch.ones(T, N)
    state = caffe_net.state_dict()
    if wrong == "gates":
        weight = state["lstm_wide.weight"].unflatten(0, (4, D))
        state["lstm_wide.weight"] = weight[[0, 1, 3, 2]].flatten(0, 1)
    if wrong == "blobs":
        state["lstm_all.blob2"], state["lstm_all.blob3"] = state["lstm_all.blob3"][:, :4], state["lstm_all.blob3"] * 0
    caffe_net.load_state_dict(state)
    with np.load(RECORDED) as recorded, torch.no_grad():
        tops = caffe_net(**fed)
        name = "lstm_all" if wrong == "blobs" else "lstm_wide"
        assert np.abs(tops[name].numpy() - recorded[name]).max() > 1e-2


# Training

TRAINED = (
    _input("x", T, N, 5) + _input("cont", T, N) + _layer("layer", "{kind}", "x cont", "top")
    + 'layer {{ name: "l" type: "EuclideanLoss" bottom: "top" bottom: "x" top: "l" }}'
).replace(f"{T} dim: {N} dim: 5", f"{T} dim: {N} dim: {D}")  # fmt: skip


def trained(kind: str) -> str:
    fork = f"lstm_param {{ num_output: {D} }}"
    text = TRAINED.replace("{{", "{").replace("}}", "}").replace("{kind}", kind)
    return text.replace("recurrent_param", fork + " recurrent_param") if kind == "Lstm" else text


@pytest.mark.parametrize("row", ["zeros", "goes on", "one goes on"])
def test_training_of_a_fork_refuses_to_go_on_from_the_pass_before(row: str) -> None:
    """Its source keeps the state, too; nobody can be asked whether one kept here is the same."""
    task = task_of(parse_prototxt(trained("Lstm")))
    cont = torch.ones(T, N)
    cont[0] = {"zeros": torch.zeros(N), "goes on": torch.ones(N), "one goes on": torch.eye(N)[1]}[row]
    blobs = {"x": torch.from_numpy(rs("x").standard_normal((T, N, D))).float(), "cont": cont}
    assert torch.isfinite(task.losses_of(blobs)["l"])  # it is not trained yet
    task.net.train()
    if row == "zeros":
        task.losses_of(blobs)["l"].backward()
        return
    with pytest.raises(NetError, match="Lstm: its sequences go on, not 0 in the first row") as caught:
        task.losses_of(blobs)
    assert "expose_hidden" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_training_goes_on_from_the_pass_before_and_testing_does_not(kind: str) -> None:
    """recurrent_layer.cpp:256-264; real Caffe's numbers are in golden/solver/losses.npz, `lstm-goes-on`."""
    task = task_of(parse_prototxt(trained(kind)))
    blobs = {"x": torch.from_numpy(rs("x").standard_normal((T, N, D))).float(), "cont": torch.ones(T, N)}
    for key, blob in task.net.state_dict().items():
        blob.copy_(torch.from_numpy(rs(key).standard_normal(tuple(blob.shape)) * 0.4))
    tested = [task.losses_of(blobs)["l"].item() for _ in range(2)]
    task.net.train()
    trained_on = [task.losses_of(blobs)["l"].item() for _ in range(3)]
    assert tested[0] == tested[1] == pytest.approx(trained_on[0]) and len(set(trained_on)) == 3


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_caffe_goes_on_from_the_pass_before(oracle: Oracle, tmp_path: Path, kind: str) -> None:
    """Twice the same batch and nothing learned: with ones in the first row the second loss is another."""
    text, path = trained(kind), tmp_path / "net.caffemodel"
    made = CaffeNet(parse_prototxt(text.split('layer { name: "l"')[0]))
    made.load_state_dict(
        {
            key: torch.from_numpy(rs(key).standard_normal(tuple(blob.shape)).astype(np.float32))
            for key, blob in made.state_dict().items()
        }
    )
    write_caffe(made.spec, made.state_dict(), path)
    x = rs("x").standard_normal((T, N, D)).astype(np.float32)
    for first in (0, 1):
        cont = np.ones((T, N), np.float32)
        cont[0] = first
        fed = {"x": np.stack([x, x]), "cont": np.stack([cont, cont])}
        one, two = oracle.solve('base_lr: 0 lr_policy: "fixed"', text, fed, losses=["l"], weights=path).losses["l"]
        assert (one == two) == (first == 0)
        with torch.no_grad():
            top = made(x=torch.from_numpy(x), cont=torch.from_numpy(cont))
        assert float((top - torch.from_numpy(x)).square().sum()) / 2 / T == pytest.approx(one, rel=1e-5)


# What is refused, and layers around sequences


@pytest.mark.parametrize(
    ("bottoms", "tops", "settings", "message"),
    [
        (2, 1, "", "num_output is missing"),
        (4, 1, "num_output: 2", "4 bottoms; expected 2, or 3"),
        (4, 1, "num_output: 2 expose_hidden: true", "1 tops; expected 3"),
        (2, 1, "num_output: 2 direction: 'reverse'", "direction of Synopsys"),
        (2, 1, "num_output: 2 continue_recur: true", "continue_recur of Synopsys"),
    ],
)
def test_refusals(bottoms: int, tops: int, settings: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make("LSTM", f"recurrent_param {{ {settings} }}", bottoms=bottoms, tops=tops)


def test_shapes_that_do_not_go_together() -> None:
    layer = make("LSTM", "recurrent_param { num_output: 2 }", bottoms=3)
    for shapes in [((4, 3), (4, 3), (3, 2)), ((4, 3, 2), (4, 2), (3, 2)), ((4, 3, 2), (4, 3), (2, 2))]:
        with pytest.raises(ValueError, match=r"expected"):
            layer.top_shapes(shapes)


def test_forget_bias_of_synopsys() -> None:
    """lstm_unit_layer.cpp of the version that has it: sigmoid(X + forget_bias) for the gate f, b_c's second."""
    x, cont = values("x", T, N, 5), torch.ones(T, N)
    blobs = (values("w", 4 * D, 5), values("b", 4 * D), values("u", 4 * D, D))
    biased = blobs[1].clone()
    biased[D : 2 * D] += 1.5
    plain_layer = make("LSTM", f"recurrent_param {{ num_output: {D} }}", bottoms=2)
    plain = run(plain_layer, x, cont, blobs=(blobs[0], biased, blobs[2]))
    layer = make("LSTM", f"recurrent_param {{ num_output: {D} forget_bias: 1.5 }}", bottoms=2)
    np.testing.assert_allclose(run(layer, x, cont, blobs=blobs)[0], plain[0], rtol=1e-5, atol=1e-6)


# junhyukoh's fork


def _sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def lstm_by_hand(x: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray, clip: np.ndarray | None) -> np.ndarray:
    """tianzhi0549/CTPN, lstm_layer.cpp, Forward_cpu, number by number."""
    steps, streams, hidden = x.shape[0], x.shape[1], u.shape[1]
    top, c = np.zeros((steps, streams, hidden)), np.zeros((streams, hidden))
    h = np.zeros((streams, hidden))
    for t in range(steps):
        for n in range(streams):
            cont = bool(clip[t, n]) if clip is not None else t > 0
            pre = w @ x[t, n] + b + (u @ h[n] if cont else 0)
            for d in range(hidden):
                i, f, o = (_sigmoid(pre[k * hidden + d]) for k in range(3))
                c[n, d] = (f if cont else 0) * c[n, d] + i * tanh(pre[3 * hidden + d])
                top[t, n, d] = o * tanh(c[n, d])
        h = top[t]
    return top


@pytest.mark.parametrize("clipped", [False, True])
def test_lstm_of_ctpn(*, clipped: bool) -> None:
    x, blobs = values("x", T, N, 5), (values("w", 16, 5), values("u", 16, 4), values("b", 16))
    clip = torch.tensor([[0.0, 1, 0], [1, 1, 1], [1, 0, 1], [1, 1, 1]])
    layer = make("Lstm", "lstm_param { num_output: 4 clipping_threshold: 1 }", bottoms=1 + clipped)
    top = run(layer, x, *([clip] if clipped else []), blobs=blobs)[0]
    expected = lstm_by_hand(x.numpy(), *(blob.numpy() for blob in blobs), clip.numpy() if clipped else None)
    np.testing.assert_allclose(top, expected, rtol=1e-4, atol=1e-5)


def test_lstm_of_the_first_version_has_one_stream() -> None:
    x, blobs = values("x", T, 5), (values("w", 16, 5), values("u", 16, 4), values("b", 16))
    expected = lstm_by_hand(x.numpy()[:, None], *(blob.numpy() for blob in blobs), None)
    top = run(make("Lstm", "inner_product_param { num_output: 4 }"), x, blobs=blobs)[0]
    np.testing.assert_allclose(top, expected.reshape(T, 4, 1, 1), rtol=1e-4, atol=1e-5)
    bare = make("Lstm", "inner_product_param { num_output: 4 bias_term: false }")
    assert bare.blob_shapes([(T, 5)]) == ((16, 5), (16, 4))


# Around sequences


def test_reverse_and_transpose() -> None:
    x = values("x", 2, 3, 4, 5)
    assert np.array_equal(run(make("Reverse"), x)[0], x.numpy()[::-1])
    assert np.array_equal(run(make("Reverse", "reverse_param { axis: 2 }"), x)[0], x.numpy()[:, :, ::-1])
    assert np.array_equal(run(make("Flip"), x)[0], x.numpy()[..., ::-1])
    flipped = make("Flip", "flip_param { flip_width: false flip_height: true }")
    assert np.array_equal(run(flipped, x)[0], x.numpy()[:, :, ::-1])
    layer = make("Transpose", "transpose_param { dim: 3 dim: 0 dim: 1 dim: 2 }")
    assert np.array_equal(run(layer, x)[0], x.numpy().transpose(3, 0, 1, 2))
    with pytest.raises(NetError, match="each axis once"):
        make("Transpose", "transpose_param { dim: 1 dim: 1 }")


def test_continuation_indicator() -> None:
    settings = "continuation_indicator_param { time_step: 3 batch_size: 2 }"
    assert run(make("ContinuationIndicator", settings, bottoms=0))[0].tolist() == [[0, 0], [1, 1], [1, 1]]


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("blank", [-1, 0, 2])
def test_ctc_greedy_decoder(*, merge: bool, blank: int) -> None:
    """ctc_decoder_layer.cpp, Decode: a repeat counts against the step before, blank or not."""
    x = values("ctc", 9, 4, 4) * 3
    x[1] = x[0]
    indicator = torch.ones(9, 4)
    indicator[0] = 0
    indicator[5:, 1], indicator[3, 2] = 0, 0
    expected, scores = np.full((4, 9, 1, 1), -1.0), np.zeros((4, 1, 1, 1))
    for n in range(4):
        found, before = [], -1
        for t in range(9):
            best = int(x[t, n].argmax())
            scores[n] -= float(x[t, n].max())
            if best != (blank if blank >= 0 else 3) and not (merge and best == before):
                found.append(best)
            before = best
            if t == 8 or indicator[t + 1, n] == 0:
                break
        expected[n, : len(found), 0, 0] = found
    settings = f"ctc_decoder_param {{ ctc_merge_repeated: {str(merge).lower()} blank_index: {blank} }}"
    tops = run(make("CTCGreedyDecoder", settings, bottoms=2, tops=2), x, indicator)
    assert np.array_equal(tops[0], expected)
    np.testing.assert_allclose(tops[1], scores, rtol=1e-5)


def test_grn() -> None:
    x = values("x", 2, 3, 4, 5)
    expected = x.numpy() / np.sqrt((x.numpy() ** 2).sum(1, keepdims=True) + 0.25)
    np.testing.assert_allclose(run(make("GRN", "grn_param { bias: 0.25 }"), x)[0], expected, rtol=1e-5)
    assert torch.equal(torch.from_numpy(run(make("ScaleFilter"), x)[0]), x)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        np.savez_compressed(RECORDED, **ask(open_oracle(), Path(folder)))
