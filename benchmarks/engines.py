"""One image through FCN-8s by everything that can run it on a CPU, padded and without the padding's work.

``python -m benchmarks.engines`` runs every candidate that is installed once in each round, all in one process and on
the same image, and prints medians, ratios and errors as Markdown; ``--json FILE`` keeps every number and ``--plot
FILE`` draws them over image sizes (needs matplotlib). Wall-clock time is what counts on a quiet machine; processor
time, the same work counted whoever else is there, on a shared one. Errors are the largest difference from PyTorch's
padded net, as a share of the largest score.

The peers get what suits them: models of one fixed size, OpenCV and MNN the Caffe files themselves.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.nets import plain_convolutions, random_image, random_net
from benchmarks.options import positive
from fcn_port.fastpath import engines
from fcn_port.nets import FCN

Run = Callable[[], np.ndarray]
Make = Callable[[FCN, torch.Tensor, Path], Run]
"""Prepares a candidate for a net and an image, with a folder for files; raises where it is not installed."""

EAGER = "PyTorch eager, padded"
PAUSE = 0.05
"""Seconds before a candidate's turn, in which the threads of the one before it fall asleep: onnxruntime's look for more
work for some 20 ms, and take a processor from whoever is timed next."""


def eager(net: FCN, x: torch.Tensor, folder: Path) -> Run:
    def run() -> np.ndarray:
        with plain_convolutions():
            result: np.ndarray = net(x).numpy()
        return result

    return run


def itself(net: FCN, x: torch.Tensor, folder: Path) -> Run:
    return lambda: net(x).numpy()


def compiled(net: FCN, x: torch.Tensor, folder: Path) -> Run:
    import torch._inductor.config

    with torch._inductor.config.patch(freezing=True):
        run = torch.compile(net)
        run(x)
    return lambda: run(x).numpy()


def lossless(engine: str) -> Make:
    def make(net: FCN, x: torch.Tensor, folder: Path) -> Run:
        module = engines.make(engine, net)
        return lambda: module(x).numpy()

    return make


def onnxruntime_padded(net: FCN, x: torch.Tensor, folder: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(onnx_file(net, x, folder)), options)
    return lambda: session.run(None, {"data": x.numpy()})[0]


def openvino_padded(net: FCN, x: torch.Tensor, folder: Path) -> Run:
    import openvino

    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(str(onnx_file(net, x, folder)), "CPU", options).create_infer_request()
    return lambda: next(iter(request.infer({"data": x.numpy()}).values()))


def opencv_padded(net: FCN, x: torch.Tensor, folder: Path) -> Run:
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    model = cv2.dnn.readNetFromCaffe(*map(str, caffe_files(net, x, folder)))

    def run() -> np.ndarray:
        model.setInput(x.numpy(), "data")
        result: np.ndarray = model.forward("score")
        return result

    return run


def mnn_padded(net: FCN, x: torch.Tensor, folder: Path) -> Run:
    import MNN.nn

    prototxt, weights = caffe_files(net, x, folder)
    path = folder / "net.mnn"
    tool = [str(Path(sys.executable).with_name("mnnconvert")), "-f", "CAFFE", "--modelFile", str(weights)]
    subprocess.run([*tool, "--prototxt", str(prototxt), "--MNNModel", str(path)], check=True, capture_output=True)
    settings = {"backend": "CPU", "precision": "high", "numThread": torch.get_num_threads()}
    manager = MNN.nn.create_runtime_manager((settings,))
    module = MNN.nn.load_module_from_file(str(path), ["data"], ["score"], runtime_manager=manager)
    array = np.ascontiguousarray(x.numpy())

    def run() -> np.ndarray:
        given = MNN.expr.const(array, list(array.shape), MNN.expr.NCHW)
        (score,) = module.onForward([MNN.expr.convert(given, MNN.expr.NC4HW4)])
        result: np.ndarray = np.array(MNN.expr.convert(score, MNN.expr.NCHW).read())
        return result

    return run


CANDIDATES: Mapping[str, Make] = {
    EAGER: eager,
    "torch.compile, frozen, padded": compiled,
    "onnxruntime, padded": onnxruntime_padded,
    "OpenVINO, padded": openvino_padded,
    "MNN, padded (Caffe files)": mnn_padded,
    "OpenCV, padded (Caffe files)": opencv_padded,
    "fcn-port, the padded net": itself,
    "fcn-port, native": lossless("native"),
    "fcn-port, torch": lossless("torch"),
    "fcn-port, torch, direct": lossless("direct"),
    "fcn-port, torch.compile": lossless("compile"),
    "fcn-port, onnxruntime": lossless("onnxruntime"),
    "fcn-port, OpenVINO": lossless("openvino"),
}


def onnx_file(net: FCN, x: torch.Tensor, folder: Path) -> Path:
    """The padded net for exactly this size as an ONNX file."""
    from converters.export import OnnxOptions
    from fcn_port.onnx_export import source_of, write_onnx

    path = folder / f"padded-{x.shape[-2]}x{x.shape[-1]}.onnx"
    if not path.exists():
        h, w = x.shape[-2:]
        write_onnx(source_of(net), path, options=OnnxOptions(size=(h, w), batch=len(x)))
    return path


def caffe_files(net: FCN, x: torch.Tensor, folder: Path) -> tuple[Path, Path]:
    """The net as Caffe's prototxt, for exactly this size, and caffemodel."""
    from converters import from_state_dict, write_caffemodel, write_prototxt
    from fcn_port.nets.record import to_spec

    prototxt, weights = folder / f"{x.shape[-2]}x{x.shape[-1]}.prototxt", folder / "net.caffemodel"
    spec = to_spec(net, {"data": tuple(x.shape)}, name="voc-fcn8s")
    write_prototxt(spec, prototxt)
    if not weights.exists():
        write_caffemodel(from_state_dict(net.state_dict(), spec), weights)
    return prototxt, weights


def measure(names: list[str], size: tuple[int, int], rounds: int, folder: Path) -> list[dict[str, Any]]:
    """One row for each candidate at this size."""
    net = random_net()
    x = random_image(net, size)
    expected = net(x).numpy()
    rows: dict[str, dict[str, Any]] = {name: {"name": name, "size": size} for name in names}
    runs: dict[str, Run] = {}
    for name in names:
        say(f"{size[0]}x{size[1]}: preparing {name}")
        begun = time.perf_counter()
        try:
            run = CANDIDATES[name](net, x, folder)
            found = run()
        except Exception as error:  # not installed, or cannot run it: a line of the table too
            reason = (str(error) or type(error).__name__).splitlines()[0]
            rows[name]["failed"] = f"{type(error).__name__}: {reason}"[:160]
            continue
        rows[name]["start_s"] = time.perf_counter() - begun
        rows[name]["error"] = float(np.abs(found - expected).max() / np.abs(expected).max())
        runs[name] = run
    for count in range(rounds):
        say(f"{size[0]}x{size[1]}: round {count + 1} of {rounds}")
        for name, run in runs.items():
            time.sleep(PAUSE)
            wall, processor = time.perf_counter(), time.process_time()
            run()
            rows[name].setdefault("wall_ms", []).append(1e3 * (time.perf_counter() - wall))
            rows[name].setdefault("processor_ms", []).append(1e3 * (time.process_time() - processor))
    return list(rows.values())


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of one size as Markdown; each ratio is the median over the rounds of the ratio within a round."""
    base = next(row for row in rows if row["name"] == EAGER)
    lines = ["| | ms | of eager | processor ms | of eager | error | start s |", "| --- " * 7 + "|"]
    for row in rows:
        if "failed" in row:
            lines.append(f"| {row['name']} | {row['failed']} | | | | | |")
            continue
        cells = []
        for kind in ("wall_ms", "processor_ms"):
            ratio = statistics.median(mine / its for mine, its in zip(row[kind], base[kind], strict=True))
            cells += [f"{statistics.median(row[kind]):.0f}", f"{ratio:.2f}"]
        lines.append(f"| {row['name']} | {' | '.join(cells)} | {row['error']:.1e} | {row['start_s']:.1f} |")
    return "\n".join(lines)


def machine(threads: int) -> dict[str, str]:
    """What a reader needs to judge the numbers."""
    found = {"processor": processor_name(), "threads": str(threads), "python": platform.python_version()}
    for package in ("torch", "onnxruntime", "openvino", "MNN", "opencv-python-headless"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def processor_name() -> str:
    """The processor as it calls itself and, for x86, its family and model: AMD's Zen 4 and Zen 5 have one name here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    pairs = [[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]
    facts = dict(reversed(pairs))  # the first processor's
    if "cpu family" in facts and "model" in facts:
        return f"{facts.get('model name', '')} (family {facts['cpu family']}, model {facts['model']})"
    return facts.get("model name", platform.processor())


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Median wall-clock time over the size of a square image, a line for each candidate."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

    figure, axes = plt.subplots(figsize=(10, 5))
    colours = iter(plt.colormaps["tab20"].colors[::2] + plt.colormaps["tab20"].colors[1::2])
    for name in CANDIDATES:
        own = [row for row in rows if row["name"] == name and "wall_ms" in row]
        points = [(row["size"][0], statistics.median(row["wall_ms"])) for row in own]
        if points:
            style = {"linestyle": "--", "marker": "."} if "padded" in name else {"linestyle": "-", "marker": "o"}
            axes.plot(*zip(*points, strict=True), color=next(colours), label=name, **style)
    sides = sorted({row["size"][0] for row in rows})
    axes.set(xlabel="side of the image, pixels", ylabel="ms for one image", yscale="log", title="FCN-8s, float32")
    axes.set_xticks(sides)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.02, 0.5))
    figure.savefig(path, bbox_inches="tight", dpi=100)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=positive, nargs="+", default=[256, 500], help="sides of square images")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", default=[], help="parts of candidates' names")
    parser.add_argument("--json", type=Path, help="write every number to this file")
    parser.add_argument("--plot", type=Path, help="draw times over sizes into this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    only = [EAGER, *arguments.only] if arguments.only else [""]
    names = [name for name in CANDIDATES if any(part in name for part in only)]
    print(", ".join(f"{key} {value}" for key, value in machine(arguments.threads).items()))
    rows: list[dict[str, Any]] = []
    with torch.no_grad():
        for side in arguments.sizes:
            with tempfile.TemporaryDirectory() as folder:
                found = measure(names, (side, side), arguments.rounds, Path(folder))
            rows += found
            print(f"\n### {side}x{side}\n\n{table(found)}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(arguments.threads), "rows": rows}, indent=2))
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
