"""Live: the published script's rules around real Caffe, on a made-up Cityscapes, count the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from fcn_port.data import open_dataset
from fcn_port.evaluation.generated import fcn_score
from fcn_port.exporting import export
from fcn_port.fastpath.lossless import fast
from fcn_port.loading import load
from fcn_port.nets import FCN8s
from parity_tests.datasets import make_cityscapes, make_generated
from parity_tests.evaluation.test_evaluate import NARROW, filled
from parity_tests.evaluation.test_fcn_score import N, script_counts
from parity_tests.oracle.client import Oracle

pytestmark = pytest.mark.oracle

CLASSES = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13,
           27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip


def test_the_histogram_is_caffe_s_to_the_pixel(oracle: Oracle, tmp_path: Path) -> None:
    cityscapes = make_cityscapes(tmp_path / "cityscapes")
    data = open_dataset(cityscapes)
    generated = make_generated(tmp_path / "generated", data.ids)
    weights = tmp_path / "net.safetensors"
    net = filled(FCN8s(20, widths=NARROW))
    save_file(net.state_dict(), weights)
    model = tmp_path / "net.caffemodel"
    export(weights, to="caffe", out=model)
    prototxt = model.with_suffix(".prototxt").read_text()

    total = np.zeros((N, N), np.int64)
    for id_ in data.ids:
        stored = np.asarray(
            Image.open(cityscapes / "gtFine" / "val" / id_.split("_")[0] / f"{id_}_gtFine_labelIds.png")
        )
        labels = np.full(stored.shape, 255)
        for number, class_ in CLASSES.items():
            labels[stored == number] = class_
        image = Image.open(generated / f"{id_}_leftImg8bit.png")
        image = image.resize(labels.shape[::-1], Image.Resampling.BILINEAR)
        x = np.asarray(image, np.float32)[:, :, ::-1] - np.array((72.78044, 83.21195, 73.45286), np.float32)
        found = oracle.forward(prototxt, weights=model, inputs={"data": x.transpose(2, 0, 1)[None]}, blobs=["score"])
        predicted = found.blobs["score"][0].argmax(axis=0).astype(np.uint8)
        assert len(np.unique(predicted)) > 2
        total += script_counts(labels, predicted, N)

    assert total.sum() > 0
    for each in (load(weights), fast(load(weights))):
        assert np.array_equal(fcn_score(each, generated=generated, data=data).as_published.histogram, total)
