"""Small nets of the layers that nets of images are made of, put together at random, by seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import torch

from converters import CaffeNet
from converters.formats import parse_prototxt

INTERP = "zoom_factor: 2", "shrink_factor: 2", "height: 11 width: 13", "height: 7 width: 30 pad_end: -1"


@dataclass
class _Draft:
    """A net in the making; `blobs` are those there are, with channels, and a number that is equal for equal sizes."""

    r: random.Random
    text: list[str] = field(default_factory=list)
    blobs: list[tuple[str, int, int]] = field(default_factory=list)

    def layer(self, kind: str, bottoms: list[str], *, params: str = "", in_place: bool = False) -> str:
        name = f"{kind.lower()}{len(self.text)}"
        top = bottoms[0] if in_place else name
        below = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.text.append(f'layer {{ name: "{name}" type: "{kind}" {below} top: "{top}" {params} }}')
        return top

    def neurons(self, x: str) -> str:
        for _ in range(self.r.randrange(4)):
            in_place = self.r.random() < 0.7
            kind, params = self.r.choice(
                [
                    ("BatchNorm", ""), ("Scale", "scale_param { bias_term: true }"), ("Scale", ""), ("Bias", ""),
                    ("ReLU", ""), ("ReLU", "relu_param { negative_slope: 0.1 }"), ("PReLU", ""), ("Dropout", ""),
                    ("PReLU", "prelu_param { channel_shared: true }"), ("ELU", ""), ("Sigmoid", ""),
                    ("TanH", ""), ("ReLU6", ""), ("Swish", ""), ("HardSwish", ""), ("HardSigmoid", ""), ("AbsVal", ""),
                    ("Mish", ""), ("HardTanH", ""),
                    ("Power", "power_param { scale: 0.5 shift: 1 }"), ("LRN", "lrn_param { local_size: 3 }"),
                    ("LRN", "lrn_param { local_size: 5 beta: 0.5 alpha: 0.1 }"),
                    ("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
                    ("Normalize", ""), ("Normalize", "norm_param { across_spatial: false channel_shared: false }"),
                    ("BatchNorm", "batch_norm_param { use_global_stats: false eps: 0.1 }"),
                    ("MVN", "mvn_param { eps: 0.1 }"),
                    ("Scale", "scale_param { num_axes: 0 }"),
                ]
            )  # fmt: skip
            x = self.layer(kind, [x], params=params, in_place=in_place)
        return x

    def convolution(self, x: str, channels: int, *, stride: int = 1, features: int | None = None) -> tuple[str, int]:
        r = self.r
        kernel = r.choice([1, 1, 3, 3, 3, 5, 7])
        dilation = r.choice([1, 1, 1, 2])
        features = features or r.choice([3, 8, 16, 20, 32, 33, 48])
        group = 1
        if r.random() < 0.2:
            group = features = channels
        elif r.random() < 0.3:
            group = r.choice([count for count in range(1, 49) if channels % count == features % count == 0])
        pad = dilation * (kernel // 2)
        settings = f"num_output: {features} kernel_size: {kernel} stride: {stride} dilation: {dilation} "
        if stride > 1 or kernel * dilation == 1 or r.random() < 0.8:
            settings += f"pad: {pad}"
        else:  # as in Synopsys' fork, whose SAME does not count the dilation
            before = r.randrange(2 * pad + 1)
            own = f"pad_t: {before} pad_b: {2 * pad - before} pad_l: {2 * pad - before} pad_r: {before}"
            settings += r.choice([own, "pad_type: 1"])
        settings += f" group: {group} bias_term: {r.choice(['true', 'false'])}"
        return self.neurons(self.layer("Convolution", [x], params=f"convolution_param {{ {settings} }}")), features

    def turned(self, x: str, channels: int) -> tuple[str, int]:
        """Something done with the axes in another order, and back."""
        r = self.r
        if r.random() < 0.5:
            turned = self.layer("Permute", [x], params="permute_param { order: [0, 1, 3, 2] }")
            top, channels = self.convolution(turned, channels)
            return self.layer("Permute", [top], params="permute_param { order: [0, 1, 3, 2] }"), channels
        last = self.layer("Permute", [x], params="permute_param { order: [0, 2, 3, 1] }")
        flat = self.layer("Flatten", [last], params="flatten_param { axis: 1 end_axis: 2 }")
        kind, params = r.choice([("Softmax", "softmax_param { axis: -1 }"), ("TanH", ""), ("ReLU", ""), ("Swish", "")])
        rows = self.layer(kind, [flat], params=params)  # an output of three axes, often of two such rows
        if r.random() < 0.5:
            self.layer("Concat", [rows, self.layer("ELU", [flat])])
        top = self.layer(kind, [last], params=params)
        settings = f"axis: {r.choice([-1, 3])} {r.choice(['', 'bias_term: true'])}"
        top = self.layer("Scale", [top], params=f"scale_param {{ {settings} }}")
        top = self.layer("Bias", [top], params="bias_param { axis: 3 }", in_place=r.random() < 0.5)
        top = self.layer(r.choice(["Eltwise", "Mul"]), [top, last])
        mean = self.layer("Pooling", [x], params="pooling_param { pool: AVE global_pooling: true }")
        mean = self.layer("Permute", [mean], params="permute_param { order: [0, 2, 3, 1] }")
        top = self.layer("Mul", [top, self.layer("Bias", [mean], params="bias_param { axis: 3 }")])
        return self.layer("Permute", [top], params="permute_param { order: [0, 3, 1, 2] }"), channels

    def gated(self, x: str, channels: int) -> str:
        """Channels times a number each that a mean of all pixels says, as in SENet, or two blobs put together."""
        r = self.r
        kind = r.choice(["Scale", "Axpy", "Mul", "Add", "Sub", "Maximum", "Bias"])
        params = {"Scale": "scale_param { axis: 0 }", "Bias": "bias_param { axis: 0 }"}.get(kind, "")
        if r.random() < 0.3:
            other, _ = self.convolution(x, channels, features=channels)
            return self.neurons(self.layer("Mul" if kind == "Axpy" else kind, [x, other], params=params))
        gate = self.layer("Pooling", [x], params="pooling_param { pool: AVE global_pooling: true }")
        has_axes = kind not in ("Scale", "Bias")  # whose second bottom is (n, c)
        if r.random() < 0.5:
            gate, _ = self.convolution(gate, channels, features=channels)
            gate = gate if has_axes else self.layer("Flatten", [gate])
        else:
            gate = self.layer("InnerProduct", [gate], params=f"inner_product_param {{ num_output: {channels} }}")
            if has_axes:
                gate = self.layer("Reshape", [gate], params="reshape_param { shape { dim: [0, -1, 1, 1] } }")
        gate = self.layer(r.choice(["Sigmoid", "HardSigmoid"]), [gate], in_place=True)
        bottoms = {"Axpy": [gate, x, x], "Sub": r.sample([x, gate], 2)}.get(kind, [x, gate])
        return self.neurons(self.layer(kind, bottoms, params=params))

    def grow(self) -> None:
        """One more piece of net, over blobs that there are."""
        r = self.r
        x, channels, scale = r.choice(self.blobs[-4:])
        same = [blob for blob in self.blobs if blob[2] == scale]
        kind = r.randrange(10)
        if kind == 0:
            method = r.choice(["MAX", "AVE"])
            kernel, stride, pad = r.choice([(2, 2, 0), (3, 2, 0), (3, 2, 1), (3, 1, 1)])
            settings = f"pool: {method} kernel_size: {kernel} stride: {stride} "
            settings += r.choice([f"pad: {pad}"] * 3 + ["pad_type: 1"]) if stride > 1 or pad else ""
            if "pad_type" in settings:
                settings = settings.replace("AVE", r.choice(["AVE", "AVE_EXC_PAD"]))
            top = self.layer("Pooling", [x], params=f"pooling_param {{ {settings} }}")
            # of another size than all others, unless its stride is 1
            self.blobs.append((top, channels, scale if stride == 1 else len(self.text) + 100))
        elif kind == 1:
            parts = [r.choice(same) for _ in range(r.randrange(2, 4))]
            top = self.layer("Concat", [part[0] for part in parts])
            self.blobs.append((top, sum(part[1] for part in parts), scale))
        elif kind == 2:
            other, _ = self.convolution(x, channels, features=channels)
            settings = r.choice(
                [
                    "",
                    "eltwise_param { coeff: 1 coeff: -0.5 }",
                    "eltwise_param { operation: MAX }",
                    "eltwise_param { operation: PROD }",
                ]
            )
            top = self.layer("Eltwise", r.sample([x, other], 2), params=settings)
            self.blobs.append((self.neurons(top), channels, scale))
        elif kind == 3 and channels >= 4:
            names = [f"slice{len(self.text)}_{i}" for i in range(2)]
            tops = " ".join(f'top: "{name}"' for name in names)
            cut = f"slice_param {{ slice_point: {channels // 3} }}"
            self.text.append(f'layer {{ name: "{names[0]}" type: "Slice" bottom: "{x}" {tops} {cut} }}')
            self.blobs += [(names[0], channels // 3, scale), (names[1], channels - channels // 3, scale)]
        elif kind == 4:
            self.blobs.append((*self.turned(x, channels), scale))
        elif kind == 5:
            self.blobs.append((self.gated(x, channels), channels, scale))
        elif kind == 6:
            top = self.layer("Interp", [x], params=f"interp_param {{ {r.choice(INTERP)} }}")
            self.blobs.append((self.neurons(top), channels, len(self.text) + 100))
        else:
            stride = 2 if r.random() < 0.15 else 1
            top, features = self.convolution(x, channels, stride=stride)
            self.blobs.append((top, features, scale if stride == 1 else len(self.text) + 100))


def random_net(seed: int, *, pieces: int = 10) -> CaffeNet:
    """A net of two inputs `a` and `b`, its weights drawn, in eval mode, without gradients."""
    r = random.Random(seed)
    draft = _Draft(r)
    for name, channels in (("a", 3), ("b", 20)):
        shape = f"dim: [1, {channels}, 24, 24]"
        draft.text.append(
            f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {shape} }} }} }}'
        )
        draft.blobs.append((name, channels, 0))
    for _ in range(pieces):
        draft.grow()
    if r.random() < 0.5:
        whole = draft.layer("Pooling", [draft.blobs[-1][0]], params="pooling_param { pool: AVE global_pooling: true }")
        inner = draft.layer("InnerProduct", [whole], params="inner_product_param { num_output: 7 }")
        draft.layer("Softmax", [draft.layer("PReLU", [inner], in_place=True)])
    return filled(CaffeNet(parse_prototxt("\n".join(draft.text))), seed)


def filled(net: CaffeNet, seed: int = 0) -> CaffeNet:
    """The net with weights that are drawn, positive where a variance or a factor is wanted."""
    generator = torch.Generator().manual_seed(seed)
    for key, blob in net.requires_grad_(False).state_dict().items():
        layer = net.spec.layer(key.rpartition(".")[0])
        values = torch.randn(blob.shape, generator=generator)
        if blob.ndim > 1:
            values *= (2 / blob[0].numel()) ** 0.5
        elif layer.type == "BatchNorm":
            values = values.abs() / 2 + 0.5
        blob.copy_(values)
    return net
