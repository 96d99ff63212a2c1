"""Nets as ONNX models in onnxruntime, with every blob as an output, beside CaffeNet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import torch

from converters import CaffeNet, NetSpec, parse_prototxt
from converters.export import OnnxNet, OnnxOptions, build_onnx, drawn, index_inputs
from converters.export.detections import are_detections, detections_apart
from converters.net import Shape
from parity_tests.goldens import compare

FLT_MAX = np.finfo(np.float32).max


def arrays_of(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in net.state_dict().items()}


def onnx_of(net: CaffeNet, **options: object) -> OnnxNet:
    return build_onnx(net.spec, arrays_of(net), OnnxOptions(**options))  # type: ignore[arg-type]


def with_all_blobs(net: OnnxNet) -> OnnxNet:
    """The model with every blob as an output, so that a runtime gives it by name."""
    return replace(net, outputs=net.ends([blob for blob in net.values if blob not in net.spec.inputs]))


def serialized(net: OnnxNet) -> bytes:
    file = io.BytesIO()
    net.write(file)
    return file.getvalue()


def session_of(model: bytes | str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def blobs_in_onnxruntime(net: OnnxNet, inputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Every blob by its Caffe name, as onnxruntime computes it."""
    model = serialized(with_all_blobs(net))
    onnx.checker.check_model(model, full_check=True)
    blobs = [blob for blob in net.values if blob not in net.spec.inputs]
    feed = {end.name: inputs[blob].numpy() for end, blob in zip(net.inputs, net.spec.inputs, strict=True)}
    session = session_of(model)
    return dict(zip(blobs, session.run([net.values[blob] for blob in blobs], feed), strict=True))


def shapes_at(net: OnnxNet, more: int) -> dict[str, Shape]:
    """The shapes of the inputs with all free sizes larger by `more`."""
    free = {place for each in net.sizes.free for place in each.places}
    return {
        name: tuple(size + more * ((name, axis) in free) for axis, size in enumerate(shape))
        for name, shape in net.own_shapes.items()
    }


def inputs_for(spec: NetSpec, shapes: Mapping[str, Shape], *, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    limits = index_inputs(spec, shapes)
    return {
        name: torch.from_numpy(drawn(limits[name], shape, np.random.default_rng(seed)))
        if name in limits
        else torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }


def worst_blob(found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> tuple[float, str]:
    """The blob that is furthest off, of its largest magnitude.

    Windows with nothing in them hold -FLT_MAX in both, and what is NaN or infinite in one is so in the other.
    """
    worst = (0.0, "")
    for blob, mine in found.items():
        theirs = expected[blob]
        if are_detections(mine) and are_detections(theirs):  # of near equal scores each program has its own order
            worst = max(worst, (detections_apart(mine, theirs), blob))
            continue
        assert mine.shape == theirs.shape, f"{blob}: {mine.shape}, expected {theirs.shape}"
        empty = ~(np.abs(theirs) < FLT_MAX)
        assert np.array_equal(mine[empty], theirs[empty], equal_nan=True), blob
        assert np.isfinite(mine[~empty]).all(), blob
        worst = max(worst, (compare(np.where(empty, 0, mine), np.where(empty, 0, theirs)), blob))
    return worst


def blobs_of(net: CaffeNet, inputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {name: blob.numpy() for name, blob in net.blobs(**inputs).items()}


def with_drawn_weights(spec: NetSpec, *, seed: int = 0) -> CaffeNet:
    """The net with all its weights between 0.1 and 1.1, but for kernels, which have the spread of He et al."""
    net = CaffeNet(spec)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for blob in net.parameters():
            blob.copy_(torch.rand(blob.shape, generator=generator) + 0.1)
            if (blob.ndim == 4 and blob.shape[2] * blob.shape[3] > 1) or blob.ndim == 2:
                blob.copy_(torch.randn(blob.shape, generator=generator) * (2 / blob[0].numel()) ** 0.5)
    return net


def names_of(outputs: Sequence[onnx.ValueInfoProto]) -> list[str]:
    return [each.name for each in outputs]


def caffe_net(text: str) -> CaffeNet:
    return with_drawn_weights(parse_prototxt(text))


IN_PLACE = """
input: "data" input_shape { dim: 1 dim: 3 dim: 9 dim: 7 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "late" type: "Power" bottom: "conv" top: "late" power_param { scale: 3 } }
"""

FULLY_CONNECTED = """
input: "data" input_shape { dim: 2 dim: 3 dim: 8 dim: 8 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 5 } }
"""
