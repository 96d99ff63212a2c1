"""Caffe files of one or two thousand bytes, in every form, made with the protobuf library and h5py."""

from __future__ import annotations

import io
from typing import Any

import h5py
import numpy as np

from converters.schema import BlobProto, NetParameter

PROTOTXT = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 2 } }
"""
"""Its blobs: conv (4, 3, 3, 3) and (4,), fc (2, 144) and (2,)."""


def small_blobs(*, seed: int = 0) -> dict[str, tuple[np.ndarray, ...]]:
    """The blobs of PROTOTXT's net, float32."""
    r = np.random.RandomState(seed)
    shapes = {"conv": ((4, 3, 3, 3), (4,)), "fc": ((2, 144), (2,))}
    return {name: tuple(r.standard_normal(s).astype(np.float32) for s in own) for name, own in shapes.items()}


def blob_proto(blob: np.ndarray, *, legacy: bool = False) -> Any:
    """A BlobProto as Caffe writes it: float64 as double_data, float16 as NVCaffe's raw_data, all else as data."""
    message = BlobProto()
    if legacy:
        message.num, message.channels, message.height, message.width = (1,) * (4 - blob.ndim) + blob.shape
    elif blob.ndim:
        message.shape.dim.extend(blob.shape)
    if blob.dtype == np.float16:
        message.raw_data, message.raw_data_type = blob.tobytes(), BlobProto.RawType.Value("FLOAT16")
    elif blob.dtype == np.float64:
        message.double_data.extend(blob.ravel())
    else:
        message.data.extend(blob.ravel())
    return message


def small_v2(blobs: dict[str, tuple[np.ndarray, ...]] | None = None) -> Any:
    """PROTOTXT's net as a NetParameter with blobs, in today's form."""
    net = NetParameter(name="small")
    data = net.layer.add(name="data", type="Input", top=["data"])
    data.input_param.shape.add(dim=[1, 3, 8, 8])
    conv = net.layer.add(name="conv", type="Convolution", bottom=["data"], top=["conv"])
    conv.convolution_param.num_output = 4
    conv.convolution_param.kernel_size.append(3)
    net.layer.add(name="relu", type="ReLU", bottom=["conv"], top=["conv"])
    fc = net.layer.add(name="fc", type="InnerProduct", bottom=["conv"], top=["fc"])
    fc.inner_product_param.num_output = 2
    _add_blobs({layer.name: layer for layer in net.layer}, blobs or small_blobs(), legacy=False)
    return net


def small_v1(blobs: dict[str, tuple[np.ndarray, ...]] | None = None) -> Any:
    """The same net as Caffe wrote it in 2014: `layers`, types by number, blobs of four axes."""
    net = NetParameter(name="small", input=["data"], input_dim=[1, 3, 8, 8])
    conv = net.layers.add(name="conv", type=4, bottom=["data"], top=["conv"])
    conv.convolution_param.num_output = 4
    conv.convolution_param.kernel_size.append(3)
    net.layers.add(name="relu", type=18, bottom=["conv"], top=["conv"])
    fc = net.layers.add(name="fc", type=14, bottom=["conv"], top=["fc"])
    fc.inner_product_param.num_output = 2
    _add_blobs({layer.name: layer for layer in net.layers}, blobs or small_blobs(), legacy=True)
    return net


def small_v0(blobs: dict[str, tuple[np.ndarray, ...]] | None = None) -> Any:
    """The same net as of 2013: each layer inside a `layers` that wires it."""
    net = NetParameter(name="small", input=["data"], input_dim=[1, 3, 8, 8])
    conv = net.layers.add(bottom=["data"], top=["conv"], layer={"name": "conv", "type": "conv"})
    conv.layer.num_output, conv.layer.kernelsize = 4, 3
    net.layers.add(bottom=["conv"], top=["conv"], layer={"name": "relu", "type": "relu"})
    fc = net.layers.add(bottom=["conv"], top=["fc"], layer={"name": "fc", "type": "innerproduct"})
    fc.layer.num_output = 2
    _add_blobs({layer.layer.name: layer.layer for layer in net.layers}, blobs or small_blobs(), legacy=True)
    return net


def small_h5(blobs: dict[str, tuple[np.ndarray, ...]] | None = None) -> bytes:
    """The blobs in HDF5, as net.cpp, ToHDF5, lays them out."""
    out = io.BytesIO()
    with h5py.File(out, "w", libver="earliest") as file:
        data = file.create_group("data")
        for name in ("data", "conv", "relu", "fc"):
            group = data.create_group(name)
            for position, blob in enumerate((blobs or small_blobs()).get(name, ())):
                group.create_dataset(str(position), data=blob)
    return out.getvalue()


def _add_blobs(layers: dict[str, Any], blobs: dict[str, tuple[np.ndarray, ...]], *, legacy: bool) -> None:
    for name, own in blobs.items():
        layers[name].blobs.extend(blob_proto(blob, legacy=legacy) for blob in own)
