"""What is tried with one net, stage after stage; each needs the one before."""

from __future__ import annotations

import re
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.errors import CaffeFormatError, UnknownLayerError
from converters.formats import parse_prototxt
from converters.net import NetSpec, infer_shapes
from converters.passes import prepare
from converters.safety import refused_memory

from .comparing import Arrays, DiffersError, NothingToCompareError, compare
from .opencvs_own import opencvs_own
from .sources import Source

OURS = ("read", "deployed", "shapes", "run")
COMPARED = ("caffe", "opencv")
STAGES = (*OURS, *COMPARED)


@dataclass(frozen=True)
class Outcome:
    """How a stage ended: "ok", "stopped" with its cause, or "none" where there is nothing to compare with, and why.

    `processor` is the time that the stage computed, in seconds.
    """

    stage: str
    end: str
    cause: str = ""
    message: str = ""
    processor: float = field(default=0.0, compare=False)


@dataclass
class _Work:
    """What the stages of one net hand on."""

    source: Source
    spec: NetSpec | None = None
    net: Any = None
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    tamed: bool = False

    def tame(self) -> None:
        """Make the weights such as trained ones are, once, and the outputs those of these weights."""
        import torch

        from .noise import as_named, tame

        if self.tamed:
            return
        assert self.spec is not None
        inputs = {name: torch.from_numpy(x) for name, x in self.inputs.items()}
        tame(self.net, inputs)
        with torch.no_grad():
            outputs = as_named(self.net(**inputs), self.spec)
        self.outputs = {name: y.numpy() for name, y in outputs.items()}
        self.tamed = True

    def exact(self) -> Arrays:
        """The outputs in double precision."""
        import torch

        from .noise import as_named

        assert self.spec is not None
        net = deepcopy(self.net).double()
        with torch.no_grad():
            found = as_named(net(**{name: torch.from_numpy(x).double() for name, x in self.inputs.items()}), self.spec)
        return {name: y.numpy() for name, y in found.items()}


def try_stages(source: Source, stages: tuple[str, ...]) -> Iterator[Outcome]:
    """The outcome of each stage, as it ends; a stage of ours that stops is the last."""
    work = _Work(source)
    for stage in stages:
        began = time.process_time()
        outcome = replace(_try(stage, work), processor=round(time.process_time() - began, 2))
        yield outcome
        if outcome.end == "stopped" and stage in OURS:
            return


def _try(stage: str, work: _Work) -> Outcome:
    try:
        _DO[stage](work)
    except NothingToCompareError as error:
        return Outcome(stage, "none", str(error))
    except DiffersError as error:
        return Outcome(stage, "stopped", "other numbers", str(error))
    except (CaffeFormatError, MemoryError) as error:
        if stage in COMPARED and isinstance(error, MemoryError):
            return Outcome(stage, "none", "there is not enough memory for two programs")
        return Outcome(stage, "stopped", cause_of(error), " ".join(str(error).split()))
    except Exception as error:  # a fault of ours: it is counted, and shown with its place
        if refused_memory(error) is not None:
            return Outcome(stage, "stopped", "not enough memory", " ".join(str(error).split())[:500])
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return Outcome(stage, "stopped", f"{type(error).__name__} at {place}", " ".join(str(error).split())[:500])
    return Outcome(stage, "ok")


def cause_of(error: BaseException) -> str:
    """An error without what is this net's alone, so that errors of a kind are counted together."""
    problem = getattr(error, "problem", str(error))
    if isinstance(error, UnknownLayerError):
        return str(problem)
    if type(error).__name__ == "NotEnoughMemoryError" or isinstance(error, MemoryError):
        return "not enough memory"
    kind = re.search(r"\((\w+)(?:, line \d+)?\)", getattr(error, "where", None) or "")
    text = re.sub(r"\(bottoms: .*", "", problem)
    text = re.sub(r"(?<!found )(?<!field )'[^']*'", "'...'", text)
    text = re.sub(r"\(\d[\d, ]*\)", "(...)", text)
    text = re.sub(r"\d[\d,]*", "N", text)
    return f"{kind[1]}: {text.strip()}" if kind else text.strip()


def _read(work: _Work) -> None:
    work.spec = parse_prototxt(work.source.content.decode("utf-8", "surrogateescape"), path=work.source.name)


def _deploy(work: _Work) -> None:
    assert work.spec is not None
    work.spec = prepare(work.spec)
    if not any(layer.type != "Input" for layer in work.spec.layers):
        raise CaffeFormatError("nothing is left of the net", path=work.source.name)


def _shapes(work: _Work) -> None:
    assert work.spec is not None
    infer_shapes(work.spec)


def _run(work: _Work) -> None:
    import torch

    from converters import CaffeNet

    from .noise import as_named, fill_weights, noise_inputs

    assert work.spec is not None
    work.net = CaffeNet(work.spec).eval()
    work.spec = work.net.spec
    fill_weights(work.net)
    inputs = noise_inputs(work.spec)
    with torch.no_grad():
        outputs = as_named(work.net(**inputs), work.spec)
    work.inputs = {name: x.numpy() for name, x in inputs.items()}
    work.outputs = {name: y.numpy() for name, y in outputs.items()}


def _compare_opencv(work: _Work) -> None:
    try:
        import cv2
    except ImportError:
        raise NothingToCompareError("OpenCV is not installed") from None
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        raise NothingToCompareError(f"OpenCV {cv2.__version__} reads no Caffe files")
    assert work.spec is not None
    own = opencvs_own(work.spec)
    if own is not None:
        raise NothingToCompareError(f"OpenCV {cv2.__version__}: {own}")
    cv2.setNumThreads(1)
    work.tame()
    with tempfile.TemporaryDirectory() as folder:
        prototxt, weights = _write(work, Path(folder))
        try:
            net = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
            net.enableWinograd(False)
            net.enableFusion(False)  # with it, layers around a BatchNorm change when several are asked for
            for name, x in work.inputs.items():
                net.setInput(x, name)
            found = {name: _opencv_blob(net, work, name) for name in work.outputs}
        except cv2.error as error:
            raise NothingToCompareError(f"OpenCV {cv2.__version__} does not load or run it: {error.err}") from None
    compare(work.outputs, _without_missing_regions(work, found), exact=work.exact)


def _without_missing_regions(work: _Work, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What OpenCV found, for as many regions as there are: its Proposal makes post_nms_topn, the missing ones zeros."""
    assert work.spec is not None
    if all(layer.type != "Proposal" for layer in work.spec.layers):
        return found
    return {
        name: x[: len(work.outputs[name])] if x.shape[1:] == work.outputs[name].shape[1:] else x
        for name, x in found.items()
    }


def _opencv_blob(net: Any, work: _Work, blob: str) -> np.ndarray:
    """A blob as the net leaves it: OpenCV is asked for layers, and one that works in place has a name of its own.

    A convolution that ends the net is called as its top.
    """
    assert work.spec is not None
    maker = next(layer for layer in reversed(work.spec.layers) if blob in layer.tops)
    name = maker.name if net.getLayerId(maker.name) >= 0 else blob
    return np.array(net.forwardAndRetrieve([name])[0][maker.tops.index(blob)])


def _compare_caffe(work: _Work) -> None:
    from parity_tests.oracle.client import OracleError, open_oracle

    work.tame()
    with tempfile.TemporaryDirectory() as folder:
        prototxt, weights = _write(work, Path(folder))
        try:
            found = open_oracle().forward(
                prototxt.read_text(), weights=weights, inputs=work.inputs, blobs=tuple(work.outputs)
            )
        except OracleError as error:
            raise NothingToCompareError(str(error).partition("\n")[0]) from None
    compare(work.outputs, found.blobs, exact=work.exact)


def _write(work: _Work, folder: Path) -> tuple[Path, Path]:
    """The net as it was run, and its weights, as Caffe's files."""
    from converters.export.caffe import write_caffe

    weights, prototxt = folder / "net.caffemodel", folder / "net.prototxt"
    write_caffe(work.spec, work.net.state_dict(), weights, prototxt=prototxt)
    return prototxt, weights


_DO: dict[str, Callable[[_Work], None]] = {
    "read": _read,
    "deployed": _deploy,
    "shapes": _shapes,
    "run": _run,
    "opencv": _compare_opencv,
    "caffe": _compare_caffe,
}
