"""Small nets built like the famous ones that people load with OpenCV: their layers and wiring, with few channels.

`prototxt(name)` is the text of one of `NETS`; `weights(name)` draws its blobs with a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

import converters
from converters.net import infer_blobs
from converters.passes import prepare

CROP = "crop_param { axis: 2 offset: 33 }"
LAST = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
LRN = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
NO_BIAS = MappingProxyType({"bias_term": "false"})


class Text:
    """A prototxt in the making: every call adds a layer and gives the name of its top."""

    def __init__(self, name: str, data: str = "data", shape: tuple[int, ...] = (1, 3, 64, 64)) -> None:
        dims = " ".join(f"dim: {size}" for size in shape)
        self.lines = [f'name: "{name}"', f'layer {{ name: "{data}" type: "Input" top: "{data}" ']
        self.lines[-1] += f"input_param {{ shape {{ {dims} }} }} }}"

    def layer(
        self, type_: str, name: str, *bottoms: str, top: str | None = None, param: str = "", tops: str = ""
    ) -> str:
        below = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        top = name if top is None else top
        self.lines.append(f'layer {{ name: "{name}" type: "{type_}" {below} top: "{top}" {tops} {param} }}')
        return top

    def conv(self, name: str, bottom: str, out: int, kernel: int = 3, **settings: object) -> str:
        given = {"num_output": out, "kernel_size": kernel, "pad": kernel // 2, **settings}
        words = " ".join(f"{key}: {value}" for key, value in given.items())
        return self.layer("Convolution", name, bottom, param=f"convolution_param {{ {words} }}")

    def relu(self, name: str, blob: str) -> str:
        return self.layer("ReLU", name, blob, top=blob)

    def pool(
        self, name: str, bottom: str, kind: str = "MAX", kernel: int = 2, stride: int = 2, **settings: object
    ) -> str:
        words = " ".join(f"{key}: {value}" for key, value in settings.items())
        param = f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride} {words} }}"
        return self.layer("Pooling", name, bottom, param=param)

    def normal(self, name: str, blob: str) -> str:
        """BatchNorm and Scale in place, as ResNet and MobileNet have them."""
        self.layer("BatchNorm", f"{name}/bn", blob, top=blob)
        return self.layer("Scale", f"{name}/scale", blob, top=blob, param="scale_param { bias_term: true }")

    def concat(self, name: str, *bottoms: str, axis: int = 1) -> str:
        return self.layer("Concat", name, *bottoms, param=f"concat_param {{ axis: {axis} }}")

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


def _hed() -> Text:
    """HED: side outputs, upsampled and cropped to the image (hed_pretrained_bsds)."""
    t = Text("hed-like")
    x, sides = "data", []
    for stage, channels in enumerate((6, 8, 8), 1):
        x = t.relu(f"relu{stage}_1", t.conv(f"conv{stage}_1", x, channels, pad=35 if stage == 1 else 1))
        side = t.conv(f"score-dsn{stage}", x, 1, 1)
        if stage > 1:
            factor = 2 ** (stage - 1)
            param = f"convolution_param {{ num_output: 1 kernel_size: {2 * factor} stride: {factor} }}"
            side = t.layer("Deconvolution", f"upsample_{factor}", side, param=param)
        crop = t.layer(
            "Crop", f"crop{stage}", side, "data", top=f"upscore-dsn{stage}", param="crop_param { axis: 2 offset: 33 }"
        )
        sides.append(t.layer("Sigmoid", f"sigmoid-dsn{stage}", crop))
        x = t.pool(f"pool{stage}", x)
    t.layer("Sigmoid", "sigmoid-fuse", t.conv("new-score-weighting", t.concat("concat-upscore", *sides), 1, 1))
    return t


def _segnet() -> Text:
    """SegNet: poolings that remember places, Upsample by them, BN with merged statistics."""
    t = Text("segnet-like")
    x = "data"
    for stage, channels in enumerate((6, 8), 1):
        x = t.conv(f"conv{stage}_1", x, channels)
        x = t.layer("BN", f"conv{stage}_1_bn", x, top=x, param="bn_param { bn_mode: INFERENCE }")
        x = t.relu(f"relu{stage}_1", x)
        param = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        x = t.layer("Pooling", f"pool{stage}", x, param=param, tops=f'top: "pool{stage}_mask"')
    for stage, channels in ((2, 6), (1, 4)):
        x = t.layer("Upsample", f"upsample{stage}", x, f"pool{stage}_mask", param="upsample_param { scale: 2 }")
        x = t.conv(f"conv{stage}_1_D", x, channels)
    t.layer("Softmax", "prob", x)
    return t


def _enet() -> Text:
    """ENet: a first block of a convolution beside a pooling, bottlenecks with PReLU, dilation and narrow kernels."""
    t = Text("enet-like")
    first = t.conv("conv0_1", "data", 5, 3, stride=2)
    x = t.concat("concat0_1", first, t.pool("pool0_1", "data"))
    x = t.layer("PReLU", "prelu0_1", t.layer("BN", "bn0_1", x, param="bn_param { bn_mode: INFERENCE }"))
    param = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
    pooled = t.layer("Pooling", "pool1_0", x, param=param, tops='top: "pool1_0_mask"')
    narrow = t.conv("conv1_0_1", t.conv("conv1_0_0", x, 4, 2, stride=2, pad=0), 4, 3, pad=2, dilation=2)
    tall = "convolution_param { num_output: 8 kernel_h: 5 kernel_w: 1 pad_h: 2 pad_w: 0 }"
    narrow = t.layer("Dropout", "drop1_0", t.layer("Convolution", "conv1_0_2", narrow, param=tall))
    x = t.layer("PReLU", "prelu1_0", t.layer("Eltwise", "eltwise1_0", narrow, pooled))
    x = t.layer("Upsample", "upsample4_0", x, "pool1_0_mask", param="upsample_param { scale: 2 }")
    t.layer("Deconvolution", "deconv6_0", x, param="convolution_param { num_output: 4 kernel_size: 2 stride: 2 }")
    return t


def _resnet() -> Text:
    """ResNet: a pooling that rounds up, residual blocks of BatchNorm, Scale and Eltwise, a global mean."""
    t = Text("resnet-like", shape=(1, 3, 65, 65))
    x = t.relu("conv1_relu", t.normal("conv1", t.conv("conv1", "data", 8, 7, stride=2, **NO_BIAS)))
    x = t.pool("pool1", x, kernel=3)
    for stage, stride in ((2, 1), (3, 2)):
        short = t.normal(f"res{stage}a_branch1", t.conv(f"res{stage}a_branch1", x, 8, 1, stride=stride, **NO_BIAS))
        y = t.relu(f"res{stage}a_relu", t.normal(f"res{stage}a", t.conv(f"res{stage}a_2a", x, 8, 3, stride=stride)))
        x = t.relu(f"res{stage}_relu", t.layer("Eltwise", f"res{stage}", short, t.conv(f"res{stage}a_2b", y, 8)))
    x = t.layer("Pooling", "pool5", x, param="pooling_param { pool: AVE global_pooling: true }")
    t.layer("Softmax", "prob", t.layer("InnerProduct", "fc", x, param="inner_product_param { num_output: 10 }"))
    return t


def _ssd(t: Text, sources: list[tuple[str, int]], classes: int, *, clip: bool) -> None:
    """The heads of SSD on `sources` (blob, min_size): offsets, scores and priors, joined, and the detections."""
    joined: dict[str, list[str]] = {"loc": [], "conf": [], "priorbox": []}
    for blob, least in sources:
        stem = f"{blob}_mbox"
        for kind, each in (("loc", 4), ("conf", classes)):
            x = t.conv(f"{stem}_{kind}", blob, 4 * each)
            x = t.layer("Permute", f"{stem}_{kind}_perm", x, param=LAST)
            joined[kind].append(t.layer("Flatten", f"{stem}_{kind}_flat", x, param="flatten_param { axis: 1 }"))
        param = f"""prior_box_param {{ min_size: {least} max_size: {2 * least} aspect_ratio: 2 flip: true clip: false
            variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5 }}"""
        joined["priorbox"].append(t.layer("PriorBox", f"{stem}_priorbox", blob, "data", param=param))
    loc, conf = (t.concat(f"mbox_{kind}", *joined[kind]) for kind in ("loc", "conf"))
    priors = t.concat("mbox_priorbox", *joined["priorbox"], axis=2)
    shape = f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {classes} }} }}"
    conf = t.layer("Reshape", "mbox_conf_reshape", conf, param=shape)
    conf = t.layer("Softmax", "mbox_conf_softmax", conf, param="softmax_param { axis: 2 }")
    conf = t.layer("Flatten", "mbox_conf_flatten", conf, param="flatten_param { axis: 1 }")
    param = f"""detection_output_param {{ num_classes: {classes} share_location: true background_label_id: 0
        nms_param {{ nms_threshold: 0.45 top_k: 100 }} code_type: CENTER_SIZE keep_top_k: 50
        confidence_threshold: 0.25 {"clip: true" if clip else ""} }}"""
    t.layer("DetectionOutput", "detection_out", loc, conf, priors, param=param)


def _mobilenet_ssd() -> Text:
    """MobileNet-SSD: a convolution for each channel and one across, and SSD's heads."""
    t = Text("mobilenet-ssd-like", shape=(1, 3, 96, 96))
    x = t.relu("conv0/relu", t.normal("conv0", t.conv("conv0", "data", 8, 3, stride=2, **NO_BIAS)))
    for number, stride in ((1, 2), (2, 2), (3, 2)):
        x = t.conv(f"conv{number}/dw", x, 8, 3, stride=stride, group=8, **NO_BIAS)
        x = t.relu(f"conv{number}/dw/relu", t.normal(f"conv{number}/dw", x))
        x = t.relu(f"conv{number}/relu", t.normal(f"conv{number}", t.conv(f"conv{number}", x, 8, 1, **NO_BIAS)))
    _ssd(t, [("conv2", 20), ("conv3", 40)], 3, clip=False)
    return t


def _res10() -> Text:
    """The face detector of OpenCV's samples: BatchNorm on the image, Normalize, SSD's heads that clip."""
    t = Text("res10-like", shape=(1, 3, 96, 96))
    x = t.layer("BatchNorm", "data_bn", "data")
    x = t.layer("Scale", "data_scale", x, top=x, param="scale_param { bias_term: true }")
    x = t.relu("conv1_relu", t.normal("conv1", t.conv("conv1_h", x, 8, 7, stride=2, **NO_BIAS)))
    x = t.relu("conv2_relu", t.conv("conv2_h", t.pool("conv1_pool", x, kernel=3), 8, 3, stride=2))
    param = 'norm_param { across_spatial: false channel_shared: false scale_filler { type: "constant" value: 20 } }'
    first = t.layer("Normalize", "conv4_3_norm", x, param=param)
    second = t.relu("conv6_relu", t.conv("fc7", x, 8, 3, stride=2))
    _ssd(t, [(first, 16), (second, 40)], 2, clip=True)
    return t


def _openpose() -> Text:
    """OpenPose: two branches in stages, each fed with both and the features."""
    t = Text("openpose-like", data="image")
    x = t.relu("relu1_1", t.conv("conv1_1", "image", 8))
    x = features = t.relu("relu4_4_CPM", t.conv("conv4_4_CPM", t.pool("pool1_stage1", x), 8))
    for stage in (1, 2):
        ends = []
        for branch, channels in ((1, 6), (2, 4)):
            y = t.relu(f"relu1_stage{stage}_L{branch}", t.conv(f"Mconv1_stage{stage}_L{branch}", x, 8, 7))
            ends.append(t.conv(f"Mconv5_stage{stage}_L{branch}", y, channels, 1))
        x = t.concat(f"concat_stage{stage + 1}", *ends, *([features] if stage == 1 else []))
    return t


def _googlenet() -> Text:
    """GoogLeNet: normalization across channels, an inception block, a mean over what is left."""
    t = Text("googlenet-like", shape=(1, 3, 67, 67))
    x = t.relu("conv1/relu", t.conv("conv1/7x7_s2", "data", 8, 7, stride=2))
    x = t.layer(
        "LRN",
        "pool1/norm1",
        t.pool("pool1/3x3_s2", x, kernel=3),
        param=LRN,
    )
    branches = [
        t.conv("inception/1x1", x, 4, 1),
        t.conv("inception/3x3", t.relu("inception/relu", t.conv("inception/3x3_reduce", x, 4, 1)), 4),
        t.conv("inception/5x5", t.conv("inception/5x5_reduce", x, 4, 1), 4, 5),
        t.conv("inception/pool_proj", t.pool("inception/pool", x, kernel=3, stride=1, pad=1), 4, 1),
    ]
    x = t.pool(
        "pool5", t.pool("pool4", t.concat("inception/output", *branches), kernel=3), kind="AVE", kernel=3, stride=3
    )
    x = t.layer("Dropout", "pool5/drop", x, top=x)
    t.layer(
        "Softmax", "prob", t.layer("InnerProduct", "loss3/classifier", x, param="inner_product_param { num_output: 7 }")
    )
    return t


def _ages() -> Text:
    """The nets for age and gender: CaffeNet's kind, with fully connected layers that fix the size."""
    t = Text("age-like", shape=(1, 3, 51, 51))
    x = t.relu("relu1", t.conv("conv1", "data", 8, 7, stride=4, pad=0))
    x = t.layer("LRN", "norm1", t.pool("pool1", x, kernel=3), param=LRN)
    x = t.layer("InnerProduct", "fc6", x, param="inner_product_param { num_output: 12 }")
    x = t.layer("Dropout", "drop6", t.relu("relu6", x), top=x)
    t.layer("Softmax", "prob", t.layer("InnerProduct", "fc8", x, param="inner_product_param { num_output: 8 }"))
    return t


def _colours() -> Text:
    """Colourisation: dilation, a deconvolution, and the two layers that programs give weights at run time."""
    t = Text("colours-like", data="data_l", shape=(1, 1, 56, 56))
    x = t.normal("conv1_2norm", t.relu("relu1_2", t.conv("bw_conv1_1", "data_l", 8, 3, stride=2)))
    x = t.relu("relu5_1", t.conv("conv5_1", x, 8, 3, pad=2, dilation=2))
    x = t.layer(
        "Deconvolution", "conv8_1", x, param="convolution_param { num_output: 8 kernel_size: 4 stride: 2 pad: 1 }"
    )
    x = t.layer("Scale", "conv8_313_rh", t.conv("conv8_313", x, 13, 1), param="scale_param { bias_term: false }")
    t.conv("class8_ab", t.layer("Softmax", "class8_313_rh", x), 2, 1, **NO_BIAS)
    return t


NETS: Mapping[str, Callable[[], Text]] = MappingProxyType(
    {
        "hed": _hed,
        "segnet": _segnet,
        "enet": _enet,
        "resnet": _resnet,
        "mobilenet-ssd": _mobilenet_ssd,
        "res10": _res10,
        "openpose": _openpose,
        "googlenet": _googlenet,
        "ages": _ages,
        "colours": _colours,
    }
)
"""Every net by name."""


def prototxt(name: str) -> str:
    """The text of a net."""
    return str(NETS[name]())


def write(name: str, folder: Path) -> tuple[Path, Path]:
    """The net's prototxt and a caffemodel with weights drawn with a seed, as files in `folder`."""
    text, model = folder / f"{name}.prototxt", folder / f"{name}.caffemodel"
    text.write_text(prototxt(name), encoding="utf-8")
    spec = converters.read_prototxt(text)
    converters.write_caffemodel(converters.CaffeModel(spec, weights(name)), model)
    return text, model


def weights(name: str) -> dict[str, tuple[np.ndarray, ...]]:
    """Kernels as He et al. would draw them, vectors around 1; a BatchNorm's last blob counts its statistics."""
    random = np.random.default_rng(sum(map(ord, name)))
    spec = prepare(converters.parse_prototxt(prototxt(name)))
    types = {layer.name: layer.type for layer in spec.layers}
    found = {}
    for layer, shapes in infer_blobs(spec).items():
        blobs = []
        for position, shape in enumerate(shapes):
            if len(shape) > 1 and types[layer] not in ("BN", "PReLU"):
                blob = random.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
            elif types[layer] == "BatchNorm":
                blob = (
                    np.ones(shape) if position == 2 else random.uniform(0.5, 1.5, shape) * (40 if position == 1 else 1)
                )
            else:
                blob = random.uniform(0.5, 1.5, shape) * (0.2 if types[layer] == "PReLU" else 1)
            blobs.append(blob.astype(np.float32))
        found[layer] = tuple(blobs)
    return found
