"""python -m benchmarks.coverage: every net of a folder is counted, whatever becomes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.coverage import processes, stages
from benchmarks.coverage.comparing import DiffersError, NothingToCompareError, compare, relative_error
from benchmarks.coverage.opencvs_own import opencvs_own
from benchmarks.coverage.processes import Limits, run_all
from benchmarks.coverage.sources import Source, sources
from benchmarks.coverage.stages import OURS, Outcome, try_stages
from converters.formats import parse_prototxt
from converters.passes import prepare
from parity_tests.limited import linux_only
from parity_tests.without_torch import needs_torch

GOOD = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 16 dim: 16 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
"""
UNKNOWN = GOOD.replace('"ReLU"', '"NobodysType"')
TEXT = "this is no net"


@linux_only
@needs_torch
def test_every_stage_and_cause_is_in_the_table(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "nets.zip", "w") as archive:
        for name, text in {"a.prototxt": GOOD, "deep/b.prototxt": UNKNOWN, "c.prototxt": TEXT, "d.txt": GOOD}.items():
            archive.writestr(name, text)
    results = tmp_path / "results.jsonl"
    command = [sys.executable, "-m", "benchmarks.coverage", str(tmp_path / "nets.zip"), "--results", str(results)]
    for again in (False, True):
        done = subprocess.run([*command, "--until", "opencv"], capture_output=True, text=True, timeout=120, check=True)
        for line in (
            "3 nets; limits: 60 s of processor time for a stage, 900 s by the clock, 4 GiB for a net.",
            "| read | 2 | 3 | 66.7 % |",
            "| shapes | 1 | 3 | 33.3 % |",
            "| run | 1 | 3 | 33.3 % |",
            "| 1 | shapes | unsupported layer type 'NobodysType' | deep/b.prototxt |",
        ):
            assert line in done.stdout, (again, done.stdout)
        assert len(results.read_text().splitlines()) == 3
    first = {json.loads(line)["name"]: json.loads(line)["outcomes"] for line in results.read_text().splitlines()}
    assert [each["end"] for each in first["a.prototxt"][:4]] == ["ok"] * 4


@needs_torch
@pytest.mark.parametrize("more", ["", "convolution_param { num_output: 2 kernel_size: 1 }"])
def test_opencv_computes_the_same(more: str) -> None:
    cv2 = pytest.importorskip("cv2")
    text = GOOD + (f'layer {{ name: "layer" type: "Convolution" bottom: "conv" top: "blob" {more} }}' if more else "")
    ends = {outcome.stage: outcome for outcome in try_stages(Source("a", text.encode()), (*OURS, "opencv"))}
    assert ends["opencv"].end == ("ok" if hasattr(cv2.dnn, "readNetFromCaffe") else "none"), ends["opencv"]


def test_other_numbers_are_seen() -> None:
    found, nan = np.array([1.0, 2.0, np.nan]), np.array([1.0, 2.0, np.nan])
    assert relative_error(found, nan) == 0
    assert relative_error(found, np.array([1.0, 2.0, 3.0])) == float("inf")
    assert relative_error(found, np.array([1.0, 2.1, np.nan])) == pytest.approx(0.1 / 2.1)


@pytest.mark.parametrize(
    ("ours", "theirs", "equal"),
    [
        (1e-6, 8e-6, True),
        (2e-5, 6e-5, True),  # both round
        (2e-5, 2e-4, False),  # theirs is another thing: ours only rounds
        (6e-5, 2e-5, False),  # ours is the worse one
    ],
)
def test_double_precision_is_the_judge(ours: float, theirs: float, equal: bool) -> None:
    truth = np.array([1.0, 0.5])
    asked = []

    def exact() -> dict[str, np.ndarray]:
        asked.append(1)
        return {"a": truth, "b": truth}

    found, expected = (dict.fromkeys("ab", truth - [0, off]) for off in (ours, -theirs))
    try:
        compare(found, expected, exact=exact)
    except DiffersError as error:
        assert not equal
        assert f"ours is {ours:.1e} from double precision, theirs {theirs:.1e}" in str(error)
    else:
        assert equal
    assert len(asked) <= 1


@pytest.mark.parametrize(("scores", "open_"), [((1.0, 1.0, 1.0, 1.0), True), ((0.9, 0.8, 0.7, 0.7), False)])
def test_which_boxes_of_equal_scores_stay_is_open(scores: tuple[float, ...], open_: bool) -> None:
    rows = np.array([[0, 1, score, 0.1 * i, 0.1, 0.5, 0.9] for i, score in enumerate(scores)], np.float32)[None, None]
    others = rows + np.array([0, 0, 0, 0.3, 0, 0, 0], np.float32)
    with pytest.raises(NothingToCompareError if open_ else DiffersError):
        compare({"found": rows}, {"found": others}, exact=dict)
    compare({"found": rows}, {"found": rows}, exact=dict)


def _layer(kind: str, message: str) -> str:
    return f'layer {{ name: "last" type: "{kind}" bottom: "conv" top: "last" {message} }}'


@needs_torch
@pytest.mark.parametrize(
    ("kind", "message", "said"),
    [
        ("BatchNorm", "batch_norm_param { use_global_stats: false eps: 0.1 }", "batch statistics"),
        ("BatchNorm", "batch_norm_param { engine: CAFFE }", "a field of a fork"),
        ("BatchNorm", "batch_norm_param { filler { value: 1 } }", "a field of a fork"),
        ("InnerProduct", "inner_product_param { num_output: 14 transpose: true }", "inner_product_param.transpose"),
        ("LRN", "lrn_param { k: 2 }", "lrn_param.k"),
        ("Dropout", "dropout_param { sample_weights_test: true }", "sample_weights_test"),
        ("BatchNorm", "batch_norm_param { eps: 0.001 }", None),
        ("BatchNorm", "batch_norm_param { scale_bias: true }", None),
        ("InnerProduct", "inner_product_param { num_output: 14 }", None),
        ("LRN", "lrn_param { alpha: 0.1 }", None),
        ("Dropout", "dropout_param { scale_train: false }", None),
    ],
)
def test_what_opencv_computes_in_its_own_way_is_said_and_true(
    kind: str, message: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("this OpenCV reads no Caffe files")
    source = Source("a", (GOOD + _layer(kind, message)).encode())
    *_, last = try_stages(source, (*OURS, "opencv"))
    assert last.end == ("ok" if said is None else "none"), last
    assert said is None or said in last.cause
    monkeypatch.setattr(stages, "opencvs_own", lambda spec: None)
    *_, last = try_stages(source, (*OURS, "opencv"))
    assert last.cause == ("" if said is None else "other numbers"), last


@pytest.mark.parametrize(("size", "group", "is_own"), [((1, 5), 4, True), ((2, 5), 4, False), ((1, 5), 2, False)])
def test_opencvs_depthwise_convolution_of_one_row_is_its_own(size: tuple[int, int], group: int, is_own: bool) -> None:
    h, w = size  # what it reads is whatever lies there, so its numbers are no test
    spec = parse_prototxt(f"""input: "conv" input_shape {{ dim: 1 dim: 4 dim: {h} dim: {w} }}
    {_layer("Convolution", f"convolution_param {{ num_output: 4 kernel_size: 3 pad: 1 group: {group} }}")}""")
    assert (opencvs_own(prepare(spec)) is not None) is is_own


@needs_torch
def test_weights_are_tamed_where_numbers_are_large() -> None:
    import torch

    from benchmarks.coverage.noise import LARGE, fill_weights, noise_inputs, tame
    from converters import CaffeNet

    spec = prepare(parse_prototxt(GOOD + _layer("InnerProduct", "inner_product_param { num_output: 500 }")))
    net = CaffeNet(spec).eval()
    fill_weights(net)
    inputs = noise_inputs(spec)
    inputs["data"] *= 100
    first = {key: blob.clone() for key, blob in net.state_dict().items()}
    wide = net(**inputs).std().item()
    tame(net, inputs)
    assert wide > 10 * LARGE
    assert net(**inputs).std().item() <= LARGE * 1.01
    for layer in ("conv", "last"):  # the bias with the weight, so that a layer says the same, but smaller
        parts = (net.state_dict()[f"{layer}.{part}"] / first[f"{layer}.{part}"] for part in ("weight", "bias"))
        factors = torch.cat([part.flatten() for part in parts])
        assert torch.allclose(factors, factors[0])
        assert factors[0] < 1
    kept = [blob.clone() for blob in net.state_dict().values()]
    tame(net, {name: x / 1000 for name, x in inputs.items()})
    assert all(map(torch.equal, kept, net.state_dict().values()))


@linux_only
@pytest.mark.parametrize(
    ("waits", "cause"), [(False, "more than 1 s of processor time"), (True, "more than 3 s by the clock")]
)
def test_a_net_that_hangs_is_ended(waits: bool, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(source: Source, stages: tuple[str, ...]) -> object:
        yield Outcome("read", "ok")
        while source.name == "hangs":
            if waits:
                time.sleep(60)
        yield Outcome("deployed", "ok")

    monkeypatch.setattr(processes, "try_stages", hang)
    nets = [Source("hangs", b""), Source("ends", b"")]
    limits = Limits(seconds=1, clock=3 if waits else 500)
    rows = {row.name: row for row in run_all(nets, ("read", "deployed"), jobs=2, limits=limits)}
    assert rows["hangs"].outcomes[-1] == Outcome("deployed", "stopped", cause)
    assert [outcome.end for outcome in rows["ends"].outcomes] == ["ok", "ok"]


@linux_only
@needs_torch
def test_a_net_may_not_take_more_memory() -> None:
    huge = GOOD.replace("dim: 16 dim: 16", "dim: 20000 dim: 20000")
    (row,) = run_all([Source("huge", huge.encode())], OURS, jobs=1, limits=Limits(memory_gib=0.5))
    assert row.outcomes[-1].stage == "run"
    assert row.outcomes[-1].cause == "not enough memory"


def test_a_folder_without_nets_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sources(tmp_path)
