"""Definitions of nets, written layer by layer."""

from __future__ import annotations

from converters.formats import parse_prototxt
from converters.net import NetSpec


class Definition:
    """Text of a prototxt that grows layer by layer; every method gives the name of its top."""

    def __init__(self, name: str, channels: int, h: int, w: int) -> None:
        shape = " ".join(f"dim: {size}" for size in (1, channels, h, w))
        self._text = [
            f'name: "{name}"',
            f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {shape} }} }} }}',
        ]

    def layer(self, kind: str, name: str, *bottoms: str, top: str | None = None, params: str = "") -> str:
        below = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self._text.append(f'layer {{ name: "{name}" type: "{kind}" {below} top: "{top or name}" {params} }}')
        return top or name

    def conv(
        self, name: str, x: str, outputs: int, kernel: int = 1, *, stride: int = 1, pad: int = 0, group: int = 1,
        dilation: int = 1, bias: bool = True, relu: bool = True,
    ) -> str:  # fmt: skip
        settings = f"num_output: {outputs} kernel_size: {kernel} stride: {stride} pad: {pad} group: {group}"
        settings += f" dilation: {dilation} bias_term: {str(bias).lower()}"
        top = self.layer("Convolution", name, x, params=f"convolution_param {{ {settings} }}")
        return self.relu(top) if relu else top

    def relu(self, x: str) -> str:
        return self.layer("ReLU", f"{x}_relu", x, top=x)

    def norm(self, x: str, *, relu: bool = True) -> str:
        """Batch norm and Scale in place, as ResNet's definitions have them."""
        self.layer("BatchNorm", f"{x}_bn", x, top=x)
        self.layer("Scale", f"{x}_scale", x, top=x, params="scale_param { bias_term: true }")
        return self.relu(x) if relu else x

    def norm_of(self, name: str, x: str) -> str:
        """Batch norm, Scale and ReLU of a blob that others read too."""
        x = self.layer("BatchNorm", f"{name}_bn", x)
        self.layer("Scale", f"{name}_scale", x, top=x, params="scale_param { bias_term: true }")
        return self.relu(x)

    def pool(self, name: str, x: str, kernel: int, stride: int, *, pad: int = 0, method: str = "MAX") -> str:
        settings = f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad}"
        return self.layer("Pooling", name, x, params=f"pooling_param {{ {settings} }}")

    def whole(self, name: str, x: str) -> str:
        return self.layer("Pooling", name, x, params="pooling_param { pool: AVE global_pooling: true }")

    def lrn(self, name: str, x: str) -> str:
        return self.layer("LRN", name, x, params="lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def inner(self, name: str, x: str, outputs: int, *, relu: bool = False) -> str:
        top = self.layer("InnerProduct", name, x, params=f"inner_product_param {{ num_output: {outputs} }}")
        return self.relu(top) if relu else top

    def spec(self) -> NetSpec:
        return parse_prototxt("\n".join(self._text))
