"""Proof that converted weights are the ones of a Caffe file, and that the net made of them computes what Caffe does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from converters.cancelling import ProgressCallback, ProgressSteps
from converters.diff import diff_arrays, diff_nets
from converters.errors import MismatchError, NetError
from converters.execution import cover, key_of, to_array, to_arrays
from converters.export import takes
from converters.formats import CaffeModel, read_caffemodel
from converters.net import (
    NetSpec,
    Shape,
    borrowed_blobs,
    derive_crops,
    drawing_layer,
    images_at,
    infer_blobs,
    infer_shapes,
)
from converters.passes import prepare
from converters.wording import shape_text

from .loading import made_from, read_weights
from .nets.net import Net
from .opencv_pass import OpenCVPassError, opencv_outputs
from .recording import GOLDEN_TOLERANCE, error_of, read_recording, run_recorded

AWKWARD_SIZES = (101, 133), (64, 64)
"""Of images (h, w): odd ones, at which poolings round up, and one below the padding."""
NAMED = 4
"""Blobs that differ which are named."""
OPENCV_TOLERANCE = 2e-5
"""OpenCV reads the same files with code of its own; 1e-6 is usual without Winograd."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked: what, whether it held, and the numbers, or what differs first.

    `ok` is None where it could not be checked; `details` then say why.
    """

    what: str
    ok: bool | None
    details: str


def verify(
    weights: Path,
    against: Path,
    *,
    prototxt: Path | None = None,
    golden: Path | None = None,
    progress: ProgressCallback | None = None,
) -> Iterator[Check]:
    """Check converted `weights` against the Caffe file they came from, one Check at a time.

    Every blob equal to the last bit; the shapes of the module's blobs those that Caffe's rules give; crops as derived;
    with `golden`, an .npz of a recorded forward pass, every blob of a pass on the same input; and with OpenCV
    installed the output of its own Caffe importer. Rules and OpenCV are given the net in `prototxt`, else the Caffe
    file's; where all blobs are equal and the weights bring another one, as after `convert --prototxt`, theirs, which is
    told. `progress(done, total)` counts blobs and checks, and may end it
    (`stop_when`). Raises CaffeFormatError for files that cannot be read.
    """
    model = read_caffemodel(against)
    spec = _spec(model, prototxt)
    coverage = cover(model, spec=spec)
    step = ProgressSteps(progress, len(coverage.entries) + (3 if golden is None else 4))
    source = read_weights(weights)
    blobs = _check_blobs(source.state, spec or source.spec, to_arrays(model, coverage), step)
    yield blobs
    if spec is not None and source.spec is not None and prototxt is None and blobs.ok:
        own = prepare(source.spec, blobs=model.blobs)
        if others := diff_nets(own, spec, meaning_only=True):
            yield Check(
                "net", None, f"the weights' own; the Caffe file's is another ({others[0]}), which was not compared"
            )
            spec = own
    if spec is None:
        yield Check("net", None, "the Caffe file holds no net; give --prototxt to have shapes and numbers checked")
        return
    try:
        net = made_from(source if source.spec is not None else replace(source, spec=spec), weights).eval()
    except (NetError, MismatchError) as error:  # a fork's layer, one whose settings have no names in a binary file
        yield Check("net", None, f"not run: {error}")
        return
    try:
        shapes = _check_shapes(net, spec)
    except NetError as error:  # another net, which does not take the Caffe file's inputs
        shapes = Check("shapes", False, str(error))
    yield shapes
    if shapes.ok is False:  # nor need it take those of a recording, or have the outputs that OpenCV has
        return
    step()
    yield from _check_crops(spec)
    step()
    if golden is not None:
        yield _check_golden(net, golden)
        step()
    yield _check_opencv(net, spec, model)
    step()


def _spec(model: CaffeModel, prototxt: Path | None) -> NetSpec | None:
    if prototxt is not None:
        from converters.formats import read_prototxt

        return prepare(read_prototxt(prototxt), blobs=model.blobs)
    return None if model.spec is None else prepare(model.spec, blobs=model.blobs)


def _check_blobs(
    state: Mapping[str, torch.Tensor], spec: NetSpec | None, expected: dict[str, np.ndarray], step: Callable[[], None]
) -> Check:
    found = {key: to_array(value) for key, value in state.items()}
    for held, other in ((found, expected), (expected, found)):
        _lend(held, other, spec)
    problems = [f"{key} is missing" for key in expected if key not in found]
    problems += [f"{key} is not in the Caffe file" for key in found if key not in expected]
    for key, blob in expected.items():
        problems += [] if key not in found else [str(d) for d in diff_arrays(key, found[key], blob)]
        step()
    if problems:
        first, more = sorted(problems)[:NAMED], len(problems) - NAMED
        return Check("blobs", False, "; ".join(first) + (f"; and {more} more, which `fcn-port diff` has" * (more > 0)))
    return Check("blobs", True, f"{len(expected)} blobs, {sum(a.size for a in expected.values()):,} values, all equal")


def _lend(held: dict[str, np.ndarray], other: Mapping[str, np.ndarray], spec: NetSpec | None) -> None:
    """Add the blobs that `other` has again for each layer that shares them, and `held` once."""
    for borrower, owner in ({} if spec is None else borrowed_blobs(spec)).items():
        key, lent = key_of(*borrower), held.get(key_of(*owner))
        if key in other and lent is not None and lent.size == other[key].size:
            held.setdefault(key, lent.reshape(other[key].shape))


def _check_shapes(net: Net, spec: NetSpec) -> Check:
    """The module's shapes against Caffe's rules, at the definition's size and at awkward ones that fit the weights."""
    by_rule = _shapes_by_rule(spec)
    for size, shapes in by_rule.items():
        found = net.shapes({name: shapes.get(name, own) for name, own in net.inputs.items()})
        for name, shape in shapes.items():
            if name not in found:
                return Check("shapes", False, f"the weights' net has no {name}; by Caffe's rules {shape} at {size}")
            if shape != found[name]:
                return Check("shapes", False, f"{name} at {size}: {found[name]}; by Caffe's rules {shape}")
    return Check("shapes", True, f"{len(infer_shapes(spec))} blobs at {', '.join(by_rule)}")


def _shapes_by_rule(spec: NetSpec) -> dict[str, dict[str, Shape]]:
    """The shape of every blob by Caffe's rules, by what people call the size of the input."""
    own = [shape[2:] for shape in spec.inputs.values() if len(shape) == 4]
    found = {shape_text(own[0]) if own else "its size": infer_shapes(spec)}
    for h, w in AWKWARD_SIZES if own else ():
        inputs = images_at(spec.inputs, (h, w), batch=1)
        with suppress(NetError):
            if infer_blobs(spec, inputs) == infer_blobs(spec):  # those of an inner product count its inputs
                found[f"{h}x{w}"] = infer_shapes(spec, inputs)
    return found


def _check_crops(spec: NetSpec) -> Iterator[Check]:
    try:
        derivations = derive_crops(spec)
    except NetError as error:
        yield Check("crops", None, f"cannot be derived for this net: {error.problem}")
        return
    wrong = [
        f"{d.layer.name} is cropped at {d.written}; its layers call for {d.derived}"
        for d in derivations
        if d.written != d.derived
    ]
    offsets = ", ".join(f"{d.layer.name} {d.derived[0]}" for d in derivations)
    yield Check("crops", not wrong, "; ".join(wrong) or offsets or "none")


def _check_golden(net: nn.Module, golden: Path) -> Check:
    recorded = read_recording(golden)
    return _compare("golden", run_recorded(net, recorded, golden), recorded, GOLDEN_TOLERANCE)


def _compare(what: str, found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float) -> Check:
    missing = [name for name in expected if name not in found]
    if missing:
        return Check(what, False, f"the net has no blob {', '.join(missing)}")
    errors = {name: error_of(found[name], blob) for name, blob in expected.items()}
    worst = max(errors, key=lambda name: errors[name])
    details = (
        f"{len(errors)} blobs, the worst {worst}: {errors[worst]:.1e} of its largest value ({tolerance:.0e} allowed)"
    )
    return Check(what, errors[worst] <= tolerance, details)


def _check_opencv(net: Net, spec: NetSpec, model: CaffeModel) -> Check:
    try:
        import cv2
    except ImportError:
        return Check("opencv", None, "not checked: opencv-python-headless<5 is not installed")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        return Check("opencv", None, f"not checked: OpenCV {cv2.__version__} reads no Caffe files; install <5")
    if (drawing := drawing_layer(spec)) is not None:
        return Check(
            "opencv", None, f"not compared: {drawing.place} draws numbers at test, and no pass is like another"
        )
    inputs = _random_inputs(spec)
    try:
        outputs = opencv_outputs(spec, model, inputs)
    except MismatchError as error:
        return Check("opencv", None, f"not checked: {error.problem}")
    except OpenCVPassError as error:
        return Check("opencv", None, f"not checked: OpenCV {cv2.__version__} cannot run this net: {error}")
    with torch.no_grad():
        blobs = net.blobs(**{name: torch.from_numpy(x) for name, x in inputs.items()})
    ours = {name: blobs[name].numpy() for name in outputs if name in blobs}
    return _compare(f"opencv {cv2.__version__}", ours, outputs, OPENCV_TOLERANCE)


def _random_inputs(spec: NetSpec) -> dict[str, np.ndarray]:
    """Seeded inputs with the spread of an image, at most 200 pixels a side where the net takes them."""
    generator = np.random.default_rng(0)
    shapes = {
        name: shape if len(shape) != 4 else (1, shape[1], min(shape[2], 200), min(shape[3], 200))
        for name, shape in spec.inputs.items()
    }
    if not takes(spec, shapes):
        shapes = dict(spec.inputs)
    return {name: (generator.standard_normal(shape) * 50).astype(np.float32) for name, shape in shapes.items()}
