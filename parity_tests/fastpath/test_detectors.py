"""`fast` of detectors: SSD's heads are views and native steps, priors are computed once, boxes suppressed in C."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from converters import CaffeNet
from converters.formats import parse_prototxt
from converters.layers.boxes import box_overlaps, nms
from converters.layers.lent import computed_by
from converters.layers.prior_box import PriorBox
from fcn_port.fastpath.flow import FlowLayer
from fcn_port.fastpath.native import why_not
from fcn_port.fastpath.native.lent import LENT
from fcn_port.fastpath.program import FastNet, program
from parity_tests.fastpath.random_nets import filled
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.skipif(why_not() is not None, reason="no C compiler")

HEAD = """
layer { name: "loc" type: "Convolution" bottom: "%(x)s" top: "loc_%(x)s"
    convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc_%(x)s" top: "loc_perm_%(x)s"
    permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm_%(x)s" top: "loc_flat_%(x)s" flatten_param { axis: 1 } }
layer { name: "conf" type: "Convolution" bottom: "%(x)s" top: "conf_%(x)s"
    convolution_param { num_output: 10 kernel_size: 3 pad: 1 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf_%(x)s" top: "conf_perm_%(x)s"
    permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm_%(x)s" top: "conf_flat_%(x)s" flatten_param { axis: 1 } }
layer { name: "prior" type: "PriorBox" bottom: "%(x)s" bottom: "data" top: "prior_%(x)s"
    prior_box_param { min_size: %(size)d aspect_ratio: 2 flip: false clip: false } }
"""
SSD = (
    """
input: "data" input_shape { dim: [1, 3, 32, 32] }
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
    convolution_param { num_output: 16 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "b" type: "Convolution" bottom: "a" top: "b"
    convolution_param { num_output: 24 kernel_size: 3 pad: 1 stride: 2 } }
"""
    + HEAD.replace('name: "', 'name: "a_') % {"x": "a", "size": 8}
    + HEAD.replace('name: "', 'name: "b_') % {"x": "b", "size": 16}
    + """
layer { name: "locs" type: "Concat" bottom: "loc_flat_a" bottom: "loc_flat_b" top: "locs" concat_param { axis: 1 } }
layer { name: "confs" type: "Concat" bottom: "conf_flat_a" bottom: "conf_flat_b" top: "confs"
    concat_param { axis: 1 } }
layer { name: "priors" type: "Concat" bottom: "prior_a" bottom: "prior_b" top: "priors" concat_param { axis: 2 } }
layer { name: "rows" type: "Reshape" bottom: "confs" top: "rows"
    reshape_param { shape { dim: 0 dim: -1 dim: 5 } } }
layer { name: "prob" type: "Softmax" bottom: "rows" top: "prob" softmax_param { axis: 2 } }
layer { name: "flat" type: "Flatten" bottom: "prob" top: "flat" flatten_param { axis: 1 } }
layer { name: "found" type: "DetectionOutput" bottom: "locs" bottom: "flat" bottom: "priors" top: "found"
    detection_output_param { num_classes: 5 background_label_id: 0 keep_top_k: 50 code_type: CENTER_SIZE
        confidence_threshold: 0.25 nms_param { nms_threshold: 0.45 top_k: 100 } } }
"""
)
"""A small SSD with two heads."""
BEHIND = """
layer { name: "again" type: "Concat" bottom: "prior_a" bottom: "prior_a" top: "again" concat_param { axis: 2 } }
"""
"""A constant that is asked for behind the detections, whose shape no rule knows."""


REGIONS = """
input: "data" input_shape { dim: [1, 3, 64, 64] }
input: "im_info" input_shape { dim: [1, 3] }
layer { name: "a" type: "Convolution" bottom: "data" top: "a"
    convolution_param { num_output: 16 kernel_size: 3 pad: 1 stride: 4 } }
layer { name: "scores" type: "Convolution" bottom: "a" top: "scores"
    convolution_param { num_output: 12 kernel_size: 1 } }
layer { name: "offsets" type: "Convolution" bottom: "a" top: "offsets"
    convolution_param { num_output: 24 kernel_size: 1 } }
layer { name: "rois" type: "Proposal" bottom: "scores" bottom: "offsets" bottom: "im_info" top: "rois"
    proposal_param { ratio: 0.5 ratio: 1.5 scale: 1 scale: 2 scale: 4 feat_stride: 4 min_size: 1
        pre_nms_topn: 100 post_nms_topn: 90 nms_thresh: 0.3 } }
layer { name: "pool" type: "ROIPooling" bottom: "a" bottom: "rois" top: "pool"
    roi_pooling_param { pooled_h: 4 pooled_w: 4 spatial_scale: 0.25 } }
layer { name: "b" type: "Convolution" bottom: "pool" top: "b"
    convolution_param { num_output: 24 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "b" top: "b" }
layer { name: "cls" type: "InnerProduct" bottom: "b" top: "cls" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "cls" top: "prob" }
"""
"""A small Faster R-CNN, whose layers behind `rois` have as many images as there are regions."""


def boxes_of(kind: str, count: int, generator: torch.Generator) -> Tensor:
    """Boxes (count, 4): anywhere, on a grid so that many overlaps are equal, upside down, or no numbers."""
    corner = torch.rand(count, 2, generator=generator)
    if kind == "anywhere":
        return torch.cat((corner, corner + 0.4 * torch.rand(count, 2, generator=generator)), 1)
    grid = torch.randint(0, 12, (count, 4), generator=generator).float()
    if kind == "grid":
        grid[:, 2:] = grid[:, :2] + grid[:, 2:] % 8
    if kind == "no numbers":
        for value in (float("nan"), float("inf"), -float("inf")):
            grid[torch.rand(count, 4, generator=generator) < 0.03] = value
    return grid


@pytest.mark.parametrize("keep_equal", [True, False])
@pytest.mark.parametrize("of_smaller", [True, False])
@pytest.mark.parametrize(("threshold", "eta"), [(0.0, 1.0), (0.3, 1.0), (0.5, 1.0), (0.7, 0.9)])
@pytest.mark.parametrize("kind", ["anywhere", "grid", "upside down", "no numbers"])
def test_c_code_keeps_the_same_boxes(
    kind: str, threshold: float, eta: float, of_smaller: bool, keep_equal: bool
) -> None:
    """As many as vectors hold and not, more than a block of the Python code, and pixels that count or do not."""
    generator = torch.Generator().manual_seed(len(kind) + int(10 * threshold))
    for number, count in enumerate((1, 2, 16, 37, 300, 700)):
        boxes = boxes_of(kind, count, generator)
        scores = torch.randint(0, 40, (count,), generator=generator).float()
        choose = partial(
            nms, boxes, scores, threshold=threshold, eta=eta, pixels=number % 2, of_smaller=of_smaller,
            keep_equal=keep_equal,
        )  # fmt: skip
        expected = choose()
        with computed_by(LENT):
            found = choose()
        assert found.tolist() == expected.tolist(), count


def test_equal_overlaps_tell() -> None:
    """The grid's boxes do overlap by as much as a threshold: otherwise the test above could not tell `keep_equal`."""
    boxes, scores = boxes_of("grid", 300, torch.Generator().manual_seed(0)), torch.arange(300.0)
    with computed_by(LENT):
        more, less = (nms(boxes, scores, threshold=0.5, keep_equal=each) for each in (True, False))
    assert len(more) > len(less)


def test_overlaps_are_rounded_as_caffe_rounds_them() -> None:
    """A threshold of exactly the overlap of two boxes parts them; a product added unrounded would move one of many."""
    pairs = boxes_of("anywhere", 800, torch.Generator().manual_seed(1)).unflatten(0, (-1, 2))
    for pair in pairs:
        overlap = float(box_overlaps(pair[:1], pair[1:]))
        with computed_by(LENT):
            kept = [
                len(nms(pair, torch.tensor([1.0, 0.5]), threshold=overlap, keep_equal=each)) for each in (True, False)
            ]
        assert kept == [2, 1]


@pytest.fixture
def ssd() -> CaffeNet:
    net = filled(CaffeNet(parse_prototxt(SSD + BEHIND), outputs=["found", "again", "priors", "locs", "prob"]))
    return net.eval()


@pytest.mark.parametrize("size", [(32, 32), (29, 41)])
@pytest.mark.parametrize("images", [1, 2])
def test_ssd(ssd: CaffeNet, size: tuple[int, int], images: int) -> None:
    """All blobs that are given, over memory that held NaN before, twice; nothing but the detections is PyTorch's."""
    quick = FastNet(ssd)
    x = torch.randn(images, 3, *size, generator=torch.Generator().manual_seed(3))
    expected = ssd(x)
    assert expected["found"].shape[2] > images, "nothing is detected"
    plan = quick.program({"data": tuple(x.shape)})
    for _ in range(2):
        found = plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32))
        for name, value in expected.items():
            assert found[name].shape == value.shape, name
            np.testing.assert_allclose(
                found[name], value, rtol=0, atol=tolerance("fast-net") * float(value.abs().max())
            )
        assert np.array_equal(found["priors"], expected["priors"])
    slow = [each.operation.name for each in plan.planned if each.is_slow]
    assert slow == ["found"]


def test_priors_are_computed_once_for_a_size(ssd: CaffeNet, monkeypatch: pytest.MonkeyPatch) -> None:
    quick, computed, forward = FastNet(ssd), [], PriorBox.forward

    def counted(self: PriorBox, bottoms: list[Tensor], *rest: object, **more: object) -> tuple[Tensor, ...]:
        computed.append(tuple(bottoms[0].shape))
        return forward(self, bottoms, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(PriorBox, "forward", counted)
    with torch.no_grad():
        small, again, large, last = (
            quick(torch.randn(1, 3, *size)) for size in [(32, 32), (32, 32), (48, 32), (32, 32)]
        )
    assert sorted(shape[2:] for shape in computed) == [(8, 8), (12, 8), (16, 16), (24, 16)]
    assert torch.equal(small["priors"], again["priors"])
    assert torch.equal(small["priors"], last["priors"])
    assert large["priors"].shape != small["priors"].shape


def test_priors_given_away_are_not_the_kept_ones(ssd: CaffeNet) -> None:
    quick, x = FastNet(ssd), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        quick(x)["priors"].zero_()
        assert quick(x)["priors"].abs().max() > 0


@pytest.mark.parametrize("size", [(64, 64), (40, 72)])
def test_what_lies_behind_regions_is_native(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """For as many regions as there are, which no shape rule knows; they and their pooling are PyTorch's."""
    net = filled(CaffeNet(parse_prototxt(REGIONS), outputs=["prob", "rois", "a"])).eval()
    net.state_dict()["offsets.weight"].mul_(0.02)  # boxes of many sizes, and none of none
    quick, asked, plainly = FastNet(net), [], program.by_pytorch

    def watched(part: FlowLayer, *rest: Any) -> list[Any]:
        asked.append(part.name)
        return plainly(part, *rest)

    monkeypatch.setattr(program, "by_pytorch", watched)
    counts = set()
    for seed in range(4):
        x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(seed)) * (1 + seed)
        info = torch.tensor([[*size, 1.0]], dtype=torch.float32)
        expected = net(data=x, im_info=info)
        counts.add(len(expected["rois"]))
        plan = quick.program({"data": tuple(x.shape), "im_info": (1, 3)})
        for _ in range(2):
            found = plan({"data": x.numpy(), "im_info": info.numpy()}, np.full(plan.floats, np.nan, np.float32))
            for name, value in expected.items():
                assert found[name].shape == value.shape, name
                allowed = tolerance("fast-net") * float(value.abs().max())
                np.testing.assert_allclose(found[name], value, rtol=0, atol=allowed, err_msg=name)
    assert len(counts) > 1, "always as many regions"
    assert set(asked) == {"rois", "pool"}


def test_priors_in_another_shape() -> None:
    """A view of a constant that nothing else reads."""
    text = """input: "data" input_shape { dim: [1, 3, 32, 32] }
    layer { name: "prior" type: "PriorBox" bottom: "data" bottom: "data" top: "prior" prior_box_param { min_size: 8 } }
    layer { name: "shaped" type: "Reshape" bottom: "prior" top: "shaped" reshape_param { shape { dim: [2, -1] } } }
    layer { name: "relu" type: "ReLU" bottom: "data" top: "relu" }"""
    net = CaffeNet(parse_prototxt(text)).eval()
    x = torch.randn(1, 3, 32, 32)
    plan = FastNet(net).program({"data": (1, 3, 32, 32)})
    found = plan({"data": x.numpy()}, np.full(plan.floats, np.nan, np.float32))
    assert np.array_equal(found["shaped"], net(x)["shaped"])
