"""The one table of tolerances. What is not in it must be equal to the last bit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tolerance:
    """How far two results may differ, as a fraction of `of`, and why they may differ at all."""

    claim: str
    value: float
    of: str
    why: str


_BLOB = "the blob's largest magnitude"
_OUTPUT = "the output's largest magnitude"

TABLE = (
    Tolerance(
        "fcn-blobs",
        5e-6,
        _BLOB,
        "float32 sums of up to 25088 terms in another order: 2e-6 seen with AVX-512, 4e-6 with AVX2; two builds of "
        "Caffe with OpenBLAS differ by 1.6e-6, and Caffe with the reference BLAS by 3.5e-6",
    ),
    Tolerance(
        "fcn-labels",
        1e-5,
        _OUTPUT,
        "a label may differ where its score and the best are this close: twice the tolerance of a blob, because both "
        "scores move",
    ),
    Tolerance(
        "edges",
        1e-5,
        "probabilities of up to 1",
        "float32 beside float64 in the interpolation of two neighbours",
    ),
    Tolerance(
        "lossless",
        5e-6,
        _OUTPUT,
        "fcn_port.fast beside the net itself: convolutions of other sizes add up in another order (2e-6 seen)",
    ),
    Tolerance(
        "lossless-double",
        1e-13,
        _OUTPUT,
        "the same in double precision, 500 million times finer: what is left is rounding (1e-15 seen)",
    ),
    Tolerance(
        "fast-net",
        8e-6,
        _OUTPUT,
        "fcn_port.fast of any net, in double precision beside it; where the net itself is further off, twice that: "
        "Winograd's filtering rounds more than direct sums (winograd-layer)",
    ),
    Tolerance(
        "engines",
        1e-5,
        _OUTPUT,
        "the same in onnxruntime and OpenVINO; the narrow nets of two streams, whose scores cancel, come to 6e-6",
    ),
    Tolerance(
        "winograd-layer",
        8e-6,
        _BLOB,
        "one layer: 3e-6 seen with 6 points, 6e-6 with 8, the direct sum 2e-6; scores of whole nets have 2e-6",
    ),
    Tolerance(
        "format-blobs",
        5e-6,
        _BLOB,
        "the small nets in Caffe's formats: the same sums as fcn-blobs, shorter, with LRN's powers in v0 and v1",
    ),
    Tolerance(
        "caffenet-zoo",
        1e-5,
        _BLOB,
        "layers with powers, exponentials and variances, where another mathematics library rounds otherwise",
    ),
    Tolerance(
        "real-nets",
        2e-5,
        _BLOB,
        "published nets of up to a hundred layers, with batch norms and softmaxes that magnify rounding",
    ),
    Tolerance(
        "columns",
        2e-6,
        _OUTPUT,
        "a convolution by columns (converters/layers/im2col.py) sums in another order than PyTorch's direct one: 6e-7 "
        "seen",
    ),
    Tolerance(
        "onnx",
        5e-6,
        _OUTPUT,
        "onnxruntime's convolutions sum in another order: 5e-7 seen for the VGG nets, 2.8e-6 for early fusion",
    ),
    Tolerance(
        "onnx-forms",
        2e-5,
        _BLOB,
        "single layers on noise, whose sums nearly cancel: 7e-6 seen where STOCHASTIC pooling divides by one",
    ),
    Tolerance(
        "opencv-forward",
        2e-5,
        _BLOB,
        "OpenCV's Winograd convolutions round more: 8e-6 seen on fcn8s-mini, and 1e-6 with enableWinograd(False)",
    ),
    Tolerance(
        "oracle-live",
        1e-5,
        _BLOB,
        "the oracle's BLAS picks its kernels by CPU: one Caffe with two BLAS libraries differs from itself by 4.8e-6 "
        "(fc6 of FCN-8s), and ours may be as far on the other side",
    ),
    Tolerance(
        "solver-loss",
        1e-4,
        "Caffe's loss",
        "twelve steps of a net of which each has the rounding of those before: 5e-6 seen",
    ),
    Tolerance(
        "solver-blob",
        2e-4,
        "the L2 norm of the blob's change",
        "the L2 norm of the difference after training: 2e-5 seen with Adam, 9e-6 with SGD",
    ),
    Tolerance(
        "solver-element",
        1e-4,
        "the largest change in the blob",
        "single elements after SGD or Nesterov: 2e-5 seen; rules that divide a gradient near zero by its own size have "
        "elements 5e-3 apart between correct implementations",
    ),
    Tolerance(
        "two-processes",
        1e-5,
        "the largest change in the blob",
        "the same sums in another order, once two roundings of the weight itself are taken off: a weight of 0.3 cannot "
        "differ by less than 3e-8, which is 1e-5 of a change of 0.003",
    ),
)

_ROWS = {row.claim: row for row in TABLE}


def tolerance(claim: str) -> float:
    """Tolerance of `claim`; zero for a claim that has no row, so that a misspelt one is strict, never lax."""
    return _ROWS[claim].value if claim in _ROWS else 0.0
