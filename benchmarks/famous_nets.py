"""Famous nets, one after the other, by everything that can run them on a CPU.

``python -m benchmarks.famous_nets`` runs every candidate that is installed once in each round, all in one process and
on the same input, after a pause and a pass that does not count. It prints medians, the ratio of `fast` to the best peer
with right numbers, and errors as Markdown; ``--json FILE`` keeps every number, and ``--page docs/performance.md
--key NAME`` writes the table there, with the day and the processor. ``--clock processor`` counts processor time, for
one thread on a shared machine; wall-clock time is what counts on a quiet one. Errors are the largest difference from
double precision, as a share of the largest value of an output.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import gc
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fcn_port
from benchmarks.engines import PAUSE, machine, say
from benchmarks.famous import NETS, example, seeded
from benchmarks.options import positive
from converters import CaffeNet

Outputs = Mapping[str, np.ndarray]
Run = Callable[[], Outputs]
RIGHT = 2e-5
"""Error up to which a peer counts."""
OURS = "fcn-port"


def ours(net: CaffeNet, x: torch.Tensor, folder: Path) -> Run:
    return _module(fcn_port.fast(net), net, x)


def plain(net: CaffeNet, x: torch.Tensor, folder: Path) -> Run:
    return _module(net, net, x)


def compiled(net: CaffeNet, x: torch.Tensor, folder: Path) -> Run:
    import torch._inductor.config

    with torch._inductor.config.patch(freezing=True):
        run = torch.compile(net)
        run(x)
    return _module(run, net, x)


def onnxruntime(net: CaffeNet, x: torch.Tensor, folder: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = onnxruntime.InferenceSession(str(onnx_file(net, x, folder)), options, providers=["CPUExecutionProvider"])
    (name,), outputs = (each.name for each in session.get_inputs()), [each.name for each in session.get_outputs()]
    return lambda: dict(zip(outputs, session.run(outputs, {name: x.numpy()}), strict=True))


def openvino(net: CaffeNet, x: torch.Tensor, folder: Path) -> Run:
    import openvino

    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(onnx_file(net, x, folder)), "CPU", options)
    request = model.create_infer_request()
    return lambda: {port.any_name: array for port, array in request.infer({0: x.numpy()}).items()}


def opencv(net: CaffeNet, x: torch.Tensor, folder: Path) -> Run:
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    run = cv2.dnn.readNetFromONNX(str(onnx_file(net, x, folder)))
    outputs = list(run.getUnconnectedOutLayersNames())

    def call() -> Outputs:
        run.setInput(x.numpy())
        return dict(zip(net.outputs, run.forward(outputs), strict=True))

    return call


def mnn(net: CaffeNet, x: torch.Tensor, folder: Path) -> Run:
    import MNN.nn

    # its converter calls `pip install` by itself, which once took protobuf away: an environment to be thrown away
    path, names = folder / "net.mnn", list(net.outputs)
    tool = shutil.which("mnnconvert") or str(Path(sys.executable).with_name("mnnconvert"))
    command = [tool, "-f", "ONNX", "--modelFile", str(onnx_file(net, x, folder)), "--MNNModel", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    settings = {"backend": "CPU", "precision": "high", "numThread": torch.get_num_threads()}
    manager = MNN.nn.create_runtime_manager((settings,))
    module = MNN.nn.load_module_from_file(str(path), list(net.inputs), names, runtime_manager=manager)
    array = x.numpy()

    def call() -> Outputs:
        given = MNN.expr.const(array, list(array.shape), MNN.expr.NCHW)
        found = module.onForward([MNN.expr.convert(given, MNN.expr.NC4HW4)])
        return {
            name: np.array(MNN.expr.convert(value, MNN.expr.NCHW).read())
            for name, value in zip(names, found, strict=True)
        }

    return call


CANDIDATES: Mapping[str, Callable[[CaffeNet, torch.Tensor, Path], Run]] = {
    OURS: ours,
    "CaffeNet": plain,
    "onnxruntime": onnxruntime,
    "OpenVINO": openvino,
    "torch.compile": compiled,
    "OpenCV": opencv,
    "MNN": mnn,
}


def onnx_file(net: CaffeNet, x: torch.Tensor, folder: Path) -> Path:
    from fcn_port.exporting import export_net

    path = folder / "net.onnx"
    if not path.exists():
        export_net(net, to="onnx", out=path, size=(x.shape[2], x.shape[3]))
    return path


def _module(run: Callable[[torch.Tensor], Any], net: CaffeNet, x: torch.Tensor) -> Run:
    def call() -> Outputs:
        found = run(x)
        named = found if isinstance(found, dict) else {net.outputs[0]: found}
        return {name: value.numpy() for name, value in named.items()}

    return call


def measure(name: str, candidates: list[str], *, batch: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """One row for each candidate: times in milliseconds, error, or why it failed."""
    net = seeded(name)
    x = example(net, batch=batch)
    double = copy.deepcopy(net).double()(x.double())
    exact = {key: value.numpy() for key, value in _named(net, double).items()}
    rows: dict[str, dict[str, Any]] = {each: {} for each in candidates}
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as folder:
        for each in candidates:
            say(f"{name}: preparing {each}")
            try:
                run = CANDIDATES[each](net, x, Path(folder))
                rows[each]["error"] = _error(run(), exact)
            except Exception as error:  # not installed, or cannot run it: a cell of the table too
                rows[each]["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:160]
                continue
            runs[each] = run
        for count in range(rounds):
            say(f"{name}: round {count + 1} of {rounds}")
            for each, run in runs.items():
                time.sleep(PAUSE)
                run()
                begun = clock()
                run()
                rows[each].setdefault("ms", []).append(1e3 * (clock() - begun))
    return rows


def _named(net: CaffeNet, found: Any) -> dict[str, torch.Tensor]:
    return found if isinstance(found, dict) else {net.outputs[0]: found}


def _error(found: Outputs, exact: Outputs) -> float:
    pairs = [(value, _same(found, name, value)) for name, value in exact.items()]
    return max(float(np.abs(its - value).max() / np.abs(value).max()) for value, its in pairs)


def _same(found: Outputs, name: str, value: np.ndarray) -> np.ndarray:
    """The output of that name; a model whose names are other ones has a single output."""
    return (found[name] if name in found else next(iter(found.values()))).reshape(value.shape)


def table(results: Mapping[str, Mapping[str, Any]], candidates: list[str]) -> str:
    """Medians in milliseconds with errors, and what `fast` takes of the best peer's time: the median within a round."""
    lines = [f"| ms (error) | {' | '.join(candidates)} | of the best peer |", "| --- " * (len(candidates) + 2) + "|"]
    ratios = []
    for name, rows in results.items():
        cells = [
            f"{statistics.median(rows[each]['ms']):.1f} ({rows[each]['error']:.0e})" if "ms" in rows[each] else "failed"
            for each in candidates
        ]
        peers = [
            each
            for each in candidates[1:]
            if "ms" in rows[each] and rows[each]["error"] <= RIGHT and each != "CaffeNet"
        ]
        best = min(peers, key=lambda each: statistics.median(rows[each]["ms"]), default=None)
        if best is not None:
            ratios.append(_ratio(rows[OURS]["ms"], rows[best]["ms"]))
        ratio = "" if best is None else f"{ratios[-1]:.2f} {best}"
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio} |")
    if ratios:
        lines.append(f"| geometric mean | {'| ' * len(candidates)}{statistics.geometric_mean(ratios):.2f} |")
    return "\n".join(lines)


def write_into(page: Path, key: str, text: str) -> None:
    """Put the text between the page's lines `<!-- famous nets: key -->` and `<!-- end -->`."""
    begin, end = f"<!-- famous nets: {key} -->\n", "<!-- end -->\n"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page} has no lines '{begin.strip()}' and '{end.strip()}'")
    page.write_text(f"{before}{begin}{text}\n{end}{after}")


def _ratio(mine: list[float], its: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, its, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS))
    parser.add_argument("--only", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--batch", type=positive, default=1)
    parser.add_argument("--rounds", type=positive, default=9)
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--json", type=Path, help="write every number to this file")
    parser.add_argument("--page", type=Path, help="write the table into this page, between the lines of its --key")
    parser.add_argument("--key", default="", help="say which table of the page it is")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    candidates = [OURS, *(each for each in CANDIDATES if each in arguments.only and each != OURS)]
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    where = ", ".join(f"{key} {value}" for key, value in machine(arguments.threads).items())
    how = f"batch {arguments.batch}, {arguments.clock} time, medians of {arguments.rounds} rounds"
    print(f"{today}, {where}; {how}\n")
    results = {}
    with torch.no_grad():
        for name in arguments.nets:
            results[name] = measure(name, candidates, batch=arguments.batch, rounds=arguments.rounds, clock=clock)
            seeded.cache_clear()
            gc.collect()
    made = table(results, candidates)
    print(made)
    if arguments.page:
        write_into(arguments.page, arguments.key, f"{today}, {where}; {how}.\n\n{made}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(arguments.threads), "results": results}, indent=2))


if __name__ == "__main__":
    main()
