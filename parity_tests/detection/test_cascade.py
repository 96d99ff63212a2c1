"""MTCNN in `detect`: what goes from net to net, with nets whose weights are chosen by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fcn_port
from converters import CaffeNet, NetError, parse_prototxt
from converters.export.caffe import write_caffe
from fcn_port.cli import run
from fcn_port.detection import cascade

GREY, BRIGHT = (60, 60, 60), (255, 255, 255)


def net_of(side: int, *, points: bool = False, first: bool = False) -> CaffeNet:
    """One of the three: it sees a face where the middle is bright; the points are where its biases say."""
    kernel = side
    layers = [
        f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: [1, 3, {side}, {side}] }} }} }}'
    ]
    kinds = {"score": 2, "reg": 4} | ({"marks": 10} if points else {})
    for name, count in kinds.items():
        kind = (
            f'type: "Convolution" convolution_param {{ num_output: {count} kernel_size: {kernel} stride: 2 }}'
            if first
            else f'type: "InnerProduct" inner_product_param {{ num_output: {count} }}'
        )
        layers.append(f'layer {{ name: "{name}" bottom: "data" top: "{name}" {kind} }}')
    layers.append('layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }')
    net = CaffeNet(parse_prototxt("\n".join(layers)))
    pattern = torch.zeros(side, side)
    quarter = side // 4
    pattern[quarter:-quarter, quarter:-quarter] = 1
    with torch.no_grad():
        weight = (pattern / pattern.sum() / 3).repeat(3, 1, 1)
        net.score.weight[1].copy_(weight.reshape(net.score.weight[1].shape) * 8)  # type: ignore[union-attr]
        net.score.bias[0] = 2  # type: ignore[union-attr]
    return net


def nets() -> list[CaffeNet]:
    third = net_of(48, points=True)
    with torch.no_grad():
        third.marks.bias.copy_(torch.tensor([0.2, 0.7, 0.5, 0.3, 0.7, 0.3, 0.3, 0.5, 0.8, 0.8]))  # type: ignore[union-attr]
    return [net_of(12, first=True), net_of(24), third]


def square(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """A bright square on grey."""
    image = Image.new("RGB", size, GREY)
    image.paste(BRIGHT, box)
    return image


@pytest.mark.parametrize("box", [(40, 30, 80, 70), (100, 60, 140, 100)])
def test_a_face_is_found_where_it_is(box: tuple[int, int, int, int]) -> None:
    """Not with x and y swapped, although the nets see the image so."""
    found = fcn_port.detect(nets(), square((200, 120), box))
    assert len(found) > 0 and {each.name for each in found} == {"face"}
    centres = [((each.box[0] + each.box[2]) / 2, (each.box[1] + each.box[3]) / 2) for each in found]
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    assert min(np.hypot(x - middle[0], y - middle[1]) for x, y in centres) < 8
    assert max(np.hypot(x - middle[0], y - middle[1]) for x, y in centres) < 40


def test_points_are_the_mean_of_the_face_and_its_mirror_image() -> None:
    """Eyes at 0.2 and 0.7 are 0.25 and 0.75 after the mirror has said 1 - 0.7 and 1 - 0.2; heights as they are."""
    found = fcn_port.detect(nets(), square((200, 120), (60, 40, 100, 80)))
    best = found[0]
    (x0, y0, x1, y1), size = best.box, best.box[2] - best.box[0]
    assert x0 > 0 and y0 > 0 and x1 < 200 and y1 < 120, "not cut, so that the points can be seen in it"
    shares = [((x - x0) / size, (y - y0) / size) for x, y in best.points]
    expected = [(0.25, 0.3), (0.75, 0.3), (0.5, 0.5), (0.3, 0.8), (0.7, 0.8)]
    np.testing.assert_allclose(shares, expected, atol=0.01)


def test_offsets_move_the_sides() -> None:
    """The third net's offsets are parts of the box (bbreg.m); its points stay those of the box that it saw."""
    plain, moving = nets(), nets()
    with torch.no_grad():
        moving[2].reg.bias.copy_(torch.tensor([0.1, 0.2, -0.1, -0.05]))  # type: ignore[union-attr]
    image = square((200, 120), (60, 40, 100, 80))
    before, after = (fcn_port.detect(each, image)[0] for each in (plain, moving))
    assert before.points == after.points
    side = before.box[2] - before.box[0]
    moved = np.array(after.box) - np.array(before.box)
    np.testing.assert_allclose(moved / side, [0.1, 0.2, -0.1, -0.05], atol=0.005)


def test_a_face_at_the_edge_is_cut_and_a_small_image_has_none() -> None:
    found = fcn_port.detect(nets(), square((120, 120), (0, 0, 30, 30)))
    assert len(found) > 0
    assert all(0 <= x0 <= x1 <= 120 and 0 <= y0 <= y1 <= 120 for x0, y0, x1, y1 in (each.box for each in found))
    assert len(fcn_port.detect(nets(), square((15, 15), (3, 3, 12, 12)))) == 0
    assert len(fcn_port.detect(nets(), Image.new("RGB", (100, 80), (0, 0, 0)))) == 0


def test_the_order_of_the_nets_does_not_matter_and_others_are_refused() -> None:
    image = square((100, 80), (30, 20, 70, 60))
    assert fcn_port.detect(nets()[::-1], image).found == fcn_port.detect(nets(), image).found
    with pytest.raises(NetError, match="three nets"):
        fcn_port.detect(nets()[:2], image)
    with pytest.raises(NetError, match="channels"):
        fcn_port.detect([net_of(12, first=True), net_of(24), _without_scores()], image)


def _written(folder: Path) -> Path:
    """The three nets as MTCNN is published: det1, det2 and det3, a caffemodel and a prototxt each."""
    folder.mkdir()
    for number, net in enumerate(nets(), start=1):
        weights = folder / f"det{number}.caffemodel"
        write_caffe(net.spec, net.state_dict(), weights, prototxt=weights.with_suffix(".prototxt"))
    return folder


def test_predict_takes_a_folder_with_the_three_nets(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, image = _written(tmp_path / "mtcnn"), square((200, 120), (60, 40, 100, 80))
    image.save(tmp_path / "group.png")
    command = ["predict", str(folder), str(tmp_path / "group.png"), "-o", str(tmp_path / "seen"), "--json"]
    assert run([*command, "--least-score", "0"]) == 0
    (told,) = json.loads(capfd.readouterr().out)["images"]
    expected = fcn_port.detect(nets(), image).to_json()
    assert told["detections"] == expected["detections"] and len(told["detections"][0]["points"]) == 5
    assert (tmp_path / "seen" / "group.detections.png").is_file()


def test_a_folder_without_three_nets_and_options_of_one_are_wrong_use(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = _written(tmp_path / "mtcnn")
    square((50, 50), (10, 10, 40, 40)).save(tmp_path / "a.png")
    command = ["predict", str(folder), str(tmp_path / "a.png")]
    assert run([*command, "--mean", "1,2,3"]) == 2
    assert "--mean is for one net" in capfd.readouterr().err
    (folder / "det2.caffemodel").unlink()
    assert run(command) == 2
    assert "a folder with 2 files of weights; expected MTCNN's three" in capfd.readouterr().err


def _without_scores() -> CaffeNet:
    full = 'type: "InnerProduct" bottom: "data" top: "f" inner_product_param { num_output: 3 }'
    return CaffeNet(parse_prototxt(f'input: "data" input_shape {{ dim: [1, 3, 48, 48] }} layer {{ name: "f" {full} }}'))


def test_boxes_are_cut_out_with_black_around() -> None:
    """pad.m: what lies outside the image is 0, and pixels are counted from 1."""
    x = torch.arange(1.0, 17).reshape(1, 1, 4, 4).repeat(1, 3, 1, 1)
    part = cascade._cut(x, torch.tensor([[0.0, 1, 2, 3]]), 3)[0, 0]
    assert part.tolist() == [[0, 0, 0], [1, 2, 3], [5, 6, 7]]
