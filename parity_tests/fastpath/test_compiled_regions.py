"""Cells of regions by the C code: the numbers that the layers' own functions give, wherever channels lie in memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from converters.layers.lent import computed_by
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.native.lent import LENT
from parity_tests.layers.test_layers import make, values
from parity_tests.layers.test_regions import CASES, H, W, regions
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "planes": lambda x: x,
    "pixels": lambda x: x.contiguous(memory_format=torch.channels_last),
    "cut": lambda x: torch.nn.functional.pad(x, (2, 3, 1, 1))[..., 1:-1, 2:-3],
    "every second channel": lambda x: x.repeat_interleave(2, 1)[:, ::2],
}
GROUPED = ("PSROIPooling", "PSROIAlign")
COMPILED = [case for case in CASES if case != "ROIWarping"]


def both(case: str, x: Tensor, rois: np.ndarray) -> tuple[Tensor, Tensor]:
    """The cells by PyTorch and by the C code."""
    layer = make(case.partition(",")[0], CASES[case][0], bottoms=2)
    bottoms = (x, torch.from_numpy(rois))
    (plain,) = layer.forward(bottoms, ())
    with computed_by(LENT):
        (found,) = layer.forward(bottoms, ())
    return plain, found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", COMPILED)
def test_the_same_numbers(case: str, layout: str) -> None:
    """Of two images, for fewer channels than a vector has and for more, some left over."""
    channels = CASES[case][1]
    for more in (0,) if case.startswith(GROUPED) else (0, 35):
        x = LAYOUTS[layout](values(layout, 2, channels + more, H, W))
        plain, found = both(case, x, regions(40, seed=layout))
        assert found.shape == plain.shape
        assert plain[:, :, 0, 0].unique().numel() > 20, "nothing but empty cells"
        if case.startswith("ROIPooling"):
            assert torch.equal(found, plain)
        else:
            torch.testing.assert_close(found, plain, rtol=0, atol=tolerance("fast-net"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_the_largest(value: float) -> None:
    """Among numbers, as the first of a cell and as its last; a cell of nothing but -inf is -inf, an empty one 0."""
    x = values("none", 2, 20, H, W)
    x[:, ::2, 1::3, ::4] = value
    x[:, 19] = value
    plain, found = both("ROIPooling", x, regions(40))
    assert torch.equal(found.isnan(), plain.isnan())
    assert torch.equal(found.nan_to_num(7, 8, 9), plain.nan_to_num(7, 8, 9))
    assert (found == 0).any()


def test_gradients_and_double_precision_are_pytorch_s() -> None:
    """The C code computes neither: it is asked for float32 without a gradient only."""
    layer = make("ROIPooling", CASES["ROIPooling"][0], bottoms=2)
    x, rois = values("x", 2, 3, H, W), torch.from_numpy(regions(9))
    with computed_by(LENT):
        (top,) = layer.forward((x.clone().requires_grad_(), rois), ())
        (double,) = layer.forward((x.double(), rois.double()), ())
    assert top.requires_grad
    assert double.dtype is torch.float64
