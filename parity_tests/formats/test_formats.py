"""The small nets in each of Caffe's formats: every blob of a forward pass, complete, from each file."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from tempfile import SpooledTemporaryFile, TemporaryFile
from typing import BinaryIO

import numpy as np
import pytest
import torch
from torch import nn

import fcn_port
from converters import (
    CaffeNet,
    convert,
    read_caffemodel,
    read_prototxt,
    to_state_dict,
    write_caffemodel,
    write_hdf5,
    write_prototxt,
)
from fcn_port.nets import FCN8s
from parity_tests.goldens import compare, format_blobs, formats
from parity_tests.tolerances import tolerance


def load_mini(way: str, folder: Path) -> nn.Module:
    if way == "caffemodel":
        return fcn_port.load(formats("fcn8s-mini.caffemodel"))
    if way == "h5":
        return fcn_port.load(formats("fcn8s-mini.caffemodel.h5"))
    if way == "safetensors":
        convert(formats("fcn8s-mini.caffemodel"), folder / "mini.safetensors")
        return fcn_port.load(folder / "mini.safetensors")
    if way == "safetensors of the h5":
        convert(formats("fcn8s-mini.caffemodel.h5"), folder / "h5.safetensors", prototxt=formats("fcn8s-mini.prototxt"))
        return fcn_port.load(folder / "h5.safetensors")
    if way == "pth":
        torch.save(to_state_dict(read_caffemodel(formats("fcn8s-mini.caffemodel"))), folder / "mini.pth")
        return fcn_port.load(folder / "mini.pth")
    return caffe_net("fcn8s-mini")


def caffe_net(name: str) -> CaffeNet:
    """The net as its prototxt defines it, with the weights of its caffemodel."""
    spec = read_prototxt(formats(f"{name}.prototxt"))
    net = CaffeNet(spec)
    net.load_state_dict(to_state_dict(read_caffemodel(formats(f"{name}.caffemodel")), spec=spec))
    return net


@pytest.mark.parametrize("way", ["caffemodel", "h5", "safetensors", "safetensors of the h5", "pth", "CaffeNet"])
def test_every_blob_of_fcn8s_mini(way: str, tmp_path: Path) -> None:
    net = load_mini(way, tmp_path)
    assert isinstance(net, CaffeNet if way == "CaffeNet" else FCN8s)
    check_every_blob(net, "fcn8s-mini")


@pytest.mark.parametrize("name", ["v1-mini", "v0-mini"])
def test_every_blob_of_the_old_nets(name: str) -> None:
    check_every_blob(caffe_net(name), name)


def check_every_blob(net: nn.Module, name: str) -> None:
    expected = format_blobs(name)
    found = fcn_port.blobs(net, torch.from_numpy(np.array(expected["data"])))
    assert found.keys() == expected.keys()
    errors = {blob: compare(value.numpy(), expected[blob]) for blob, value in found.items()}
    assert max(errors.values()) <= tolerance("format-blobs"), errors


def test_hand_written_and_executed_net_agree_to_the_bit(tmp_path: Path) -> None:
    x = torch.from_numpy(np.array(format_blobs("fcn8s-mini")["data"]))
    hand, executed = (fcn_port.blobs(load_mini(way, tmp_path), x) for way in ("caffemodel", "CaffeNet"))
    assert hand.keys() == executed.keys()
    assert all(torch.equal(hand[name], executed[name]) for name in hand)


def test_a_changed_net_under_the_same_names_is_not_taken_for_the_hand_written_one(tmp_path: Path) -> None:
    """Padding 99 instead of 100, same layers, same shapes of weights: only executing the definition is right."""
    text = formats("fcn8s-mini.prototxt").read_text().replace("pad: 100", "pad: 99")
    (tmp_path / "net.prototxt").write_text(text)
    convert(formats("fcn8s-mini.caffemodel"), tmp_path / "x.safetensors", prototxt=tmp_path / "net.prototxt")
    net = fcn_port.load(tmp_path / "x.safetensors")
    assert isinstance(net, CaffeNet)
    assert fcn_port.trace(net, (100, 100))["conv1_1"] == (1, 4, 296, 296)


@pytest.mark.parametrize("opened", [io.BytesIO, TemporaryFile, SpooledTemporaryFile])
def test_open_files_without_a_name_are_written_to(opened: Callable[[], BinaryIO], tmp_path: Path) -> None:
    model = read_caffemodel(formats("fcn8s-mini.caffemodel"))
    writes = (write_caffemodel, write_hdf5, lambda model, file: write_prototxt(model.spec, file))
    for write in writes:
        write(model, tmp_path / "file")
        with opened() as file:
            write(model, file)
            file.seek(0)
            assert file.read() == (tmp_path / "file").read_bytes()
