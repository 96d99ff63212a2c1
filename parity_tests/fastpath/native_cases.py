"""Steps of every kernel for native_driver.c, which runs them without Python: `make test-native-sanitized` and others.

The plan makes them, as for any net, for a processor with registers of any length; so the driver sees how work is
divided and how much scratch there is for it, too. PyTorch is not imported, and no library loaded.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np

from converters.formats import parse_prototxt
from converters.net import infer_blobs
from converters.passes import prepare
from fcn_port.fastpath.flow import merge, read, state_key
from fcn_port.fastpath.native import build, division, steps
from fcn_port.fastpath.native.packing import _wide
from fcn_port.fastpath.native.steps import KINDS, NativeStep
from fcn_port.fastpath.points import FORMS
from fcn_port.fastpath.program import self_check
from fcn_port.fastpath.program.program import ArenaPlan
from fcn_port.fastpath.program.task import NativeTask
from fcn_port.fastpath.program.weights import PackedWeights

PACKING = ("product", "sparse", "amx", "strassen_1", "strassen_2", *FORMS)


@dataclass(frozen=True)
class Registers:
    """Stands for the compiled library of a processor: what the plan asks it about its registers; it packs nothing."""

    panels: int
    rows: int
    wide: int
    tiles: bool = False
    """Of AMX; the driver leaves their cases out where the processor that runs it has none."""

    def has_tiles(self) -> bool:
        return self.tiles

    def lanes(self) -> int:
        return self.wide

    def panel(self) -> int:
        return self.panels

    def most_rows(self) -> int:
        return self.rows

    def first_cache(self) -> int:
        return 32 << 10

    def run(self) -> None:
        raise AssertionError("nothing runs here")

    def __getattr__(self, name: str) -> object:
        if not name.startswith("pack_"):
            raise AttributeError(name)
        return lambda *_: None


AVX512, AVX2 = Registers(32, 12, 16, tiles=True), Registers(16, 6, 8)
SSE, NEON = Registers(8, 6, 4), Registers(16, 6, 4)


def net(channels: int, layers: str, *, size: str = "9, 7", images: int = 1) -> str:
    shape = f"dim: [{images}, {channels}, {size}]"
    return f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }} {layers}'


def convolution(settings: str, behind: str = "") -> str:
    layer = f'layer {{ name: "y" type: "Convolution" bottom: "x" top: "y" convolution_param {{ {settings} }} }}'
    return f"{layer} {behind % settings if '%' in behind else behind}"


def of_type(name: str, settings: str = "") -> str:
    return f'layer {{ name: "y" type: "{name}" bottom: "x" top: "y" {settings} }}'


RELU = 'layer { name: "r" type: "ReLU" bottom: "y" top: "y" }'
PRELU = 'layer { name: "r" type: "PReLU" bottom: "y" top: "y" }'
CLIP = 'layer { name: "r" type: "Clip" bottom: "y" top: "y" clip_param { min: -0.2 max: 0.3 } }'
LEAKY = 'layer { name: "r" type: "ReLU" bottom: "y" top: "y" relu_param { negative_slope: 0.1 } }'
SUM = """layer { name: "b" type: "Convolution" bottom: "x" top: "b" convolution_param { %s } }
layer { name: "s" type: "Eltwise" bottom: "b" bottom: "y" top: "s" }
layer { name: "t" type: "ReLU" bottom: "s" top: "s" }
"""
VOLUME = """input: "x" input_shape { dim: [1, 20, 5, 6, 7] }
layer { name: "y" type: "NdConvolution" bottom: "x" top: "y" convolution_param { num_output: 37
    kernel_shape { dim: [3, 3, 3] } pad_shape { dim: [1, 1, 1] } stride_shape { dim: [1, 1, 1] } } }
layer { name: "z" type: "Pooling3D" bottom: "y" top: "z"
    pooling_param { kernel_size: 2 kernel_depth: 2 stride: 2 temporal_stride: 2 } }
"""
PLACES = """layer { name: "y" type: "Pooling" bottom: "x" top: "y" top: "z"
    pooling_param { kernel_h: 3 kernel_w: 4 stride: 2 pad_h: 1 pad_w: 2 } }"""
NETS = (
    self_check._NET,
    *(net(64, convolution("num_output: 136 kernel_size: 1", behind)) for behind in (RELU, SUM, CLIP, LEAKY, PRELU)),
    net(128, convolution("num_output: 37 kernel_size: 1 bias_term: false")),
    net(300, convolution("num_output: 70 kernel_size: 1", RELU), size="17, 19", images=2),
    net(1024, convolution("num_output: 192 kernel_size: 1", RELU), size="5, 6"),  # threads divide its kernels
    net(64, convolution("num_output: 70 kernel_size: 1 stride: 2 pad: 1", PRELU), images=2),
    net(64, convolution("num_output: 70 kernel_h: 3 kernel_w: 2 pad: 2 stride_h: 1 stride_w: 2 dilation: 2", SUM)),
    net(128, convolution("num_output: 64 kernel_size: 3 pad: 1 group: 2", RELU)),
    net(96, convolution("num_output: 48 kernel_size: 3 pad: 1 group: 24", PRELU)),
    *(net(24, convolution("num_output: 40 kernel_size: 3 pad: 1", end), images=2) for end in (SUM, PRELU)),
    net(24, convolution("num_output: 40 kernel_size: 3 pad: 2 dilation: 2 dilation: 3", SUM), size="13, 8"),
    net(36, convolution("num_output: 37 kernel_size: 7 pad: 7 dilation: 2", SUM), size="16, 9", images=2),
    *(net(96, convolution(f"num_output: 33 kernel_size: {n} pad: 3", SUM), size="9, 6", images=2) for n in (3, 5, 7)),
    net(96, convolution("num_output: 33 kernel_size: 3 pad: 2 dilation: 2", RELU), size="13, 7", images=2),
    *(net(9, convolution("num_output: 33 kernel_size: 3 pad: 1", RELU), size=s) for s in ("1, 5", "4, 3", "6, 1")),
    net(3, convolution("num_output: 4 kernel_size: 1"), images=2),
    net(40, convolution("num_output: 70 kernel_size: 1 pad_b: 2 pad_r: 1", RELU), images=2),
    *(net(3, convolution(f"num_output: 20 kernel_size: {n} pad: 2 stride: 2", RELU), size="13, 40") for n in (3, 7)),
    net(3, convolution("num_output: 20 kernel_size: 3 stride_h: 1 stride_w: 2", RELU), size="4, 40"),
    net(3, convolution("num_output: 20 kernel_size: 3 pad: 1", RELU), size="4, 12"),
    *(net(64, convolution(f"num_output: 40 kernel_size: {side} pad: {side // 2}", RELU)) for side in (5, 7)),
    *(
        net(channels, convolution(f"num_output: {channels} group: {channels} kernel_size: 3 {rest}", end), size=size)
        for channels, rest, end, size in (
            (16, "pad: 1", "", "7, 7"), (33, "pad: 1 stride: 2", RELU, "6, 2"), (16, "pad: 4 stride: 2", SUM, "3, 4"),
            (32, "pad: 4 stride: 3", RELU, "1, 5"), (32, "pad: 1", RELU, "2, 1"),
            (20, "pad: 2 dilation: 2", SUM, "9, 14"),
            (33, "pad: 1", SUM, "5, 6"), (32, "pad: 1 stride_h: 1 stride_w: 2", RELU, "5, 6"),
            *((32, f"pad_h: 2 pad_w: 0 stride: {stride}", "", "5, 6") for stride in (1, 2)),
            *((32, "pad: 1", end, "6, 5") for end in (CLIP, LEAKY, PRELU)),
        )
    ),
    *(
        net(6, of_type("Deconvolution", f"convolution_param {{ {settings} }}"), size="5, 4")
        for settings in (
            "kernel_size: 4 stride: 2 num_output: 5", "kernel_size: 4 stride: 2 pad: 1 num_output: 6 group: 6",
            "kernel_h: 6 kernel_w: 12 stride_h: 2 stride_w: 6 pad_h: 1 pad_w: 7 num_output: 6 group: 6",
            "kernel_size: 1 stride: 3 num_output: 33", "kernel_size: 4 stride: 2 pad: 1 num_output: 6 group: 3",
            "kernel_h: 6 kernel_w: 12 stride_h: 2 stride_w: 6 pad_h: 1 pad_w: 5 num_output: 6 group: 6",
            "kernel_h: 2 kernel_w: 32 stride_h: 1 stride_w: 16 pad_w: 9 num_output: 6 group: 6",
        )
    ),
    net(  # more windows than outputs
        6, of_type("Deconvolution", "convolution_param { kernel_size: 2 stride: 2 pad_w: 4 num_output: 5 }"),
        size="4, 27",
    ),
    *(
        net(37, of_type("Pooling", f"pooling_param {{ {settings} }}"), images=2)
        for settings in (
            "kernel_size: 3 stride: 2 pad: 1", "kernel_size: 3 stride: 2 pad: 1 pool: AVE", "global_pooling: true",
            "kernel_size: 3 pad: 2", "kernel_size: 2 stride: 2 pad: 1",
            "kernel_h: 1 kernel_w: 3 stride_h: 3 stride_w: 2 pad_w: 1", "kernel_h: 4 kernel_w: 2 stride: 2",
            "global_pooling: true pool: AVE", "kernel_size: 4 stride: 2 pad_type: 1 pool: AVE_EXC_PAD",
            "kernel_size: 3 stride: 2 pad_b: 2 pad_l: 1 pool: AVE",
            "kernel_h: 3 kernel_w: 4", "kernel_size: 4 stride: 3 pad: 1 pool: AVE",
        )
    ),
    *(
        net(channels, layer) for channels in (3, 16, 32, 37)
        for layer in (
            of_type("Softmax"), of_type("ArgMax", "argmax_param { axis: 1 }"),
            of_type("ArgMax", "argmax_param { axis: 1 out_max_val: true }"),
        )
    ),
    *(
        net(20, of_type(name, settings))
        for name, settings in (
            ("ELU", ""), ("Sigmoid", ""), ("TanH", ""), ("ReLU6", ""), ("Clip", "clip_param { min: -0.5 max: 2 }"),
            ("PReLU", ""), ("ReLU", "relu_param { negative_slope: 0.1 }"), ("Scale", "scale_param { bias_term: true }"),
            ("Swish", ""), ("HardSigmoid", ""), ("HardSwish", ""), ("Mish", ""), ("AbsVal", ""), ("Softmax", ""),
            ("LRN", "lrn_param { local_size: 3 alpha: 0.5 }"), ("LRN", "lrn_param { local_size: 5 beta: 0.5 }"),
            ("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
            ("Normalize", ""), ("Normalize", "norm_param { across_spatial: false channel_shared: false }"),
            ("BatchNorm", "batch_norm_param { use_global_stats: false }"), ("MVN", "mvn_param { eps: 0.01 }"),
            ("BN", "bn_param { bn_mode: LEARN }"),
        )
    ),
    *(net(n, of_type("MVN", "mvn_param { eps: 0.01 }"), images=2) for n in (1, 16, 33)),
    VOLUME,
    net(20, PLACES, images=2),
    *(
        net(21, of_type("ELU") + f"""
        layer {{ name: "z" type: "Eltwise" bottom: "x" bottom: "y" top: "z" eltwise_param {{ {settings} }} }}
        layer {{ name: "w" type: "Concat" bottom: "x" bottom: "y" bottom: "z" top: "w" }}""")
        for settings in ("operation: SUM coeff: [1, -2]", "operation: PROD", "operation: MAX")
    ),
)  # fmt: skip

TANH = 'layer { name: "t" type: "TanH" bottom: "y" top: "y" }'
LONG_ROWS = (
    net(20, of_type("InnerProduct", "inner_product_param { num_output: 70 }") + PRELU, size="3, 5", images=16),
    net(256, convolution("num_output: 37 kernel_size: 1", SUM), size="4, 7"),
    *(net(64, convolution(f"num_output: {count} kernel_size: 3 pad: 1 stride: 2", RELU)) for count in (40, 132)),
    net(300, convolution("num_output: 70 kernel_size: 1 bias_term: false", TANH), size="5, 4", images=2),
)  # fmt: skip


def cases(registers: Registers, *, threads: Sequence[int] = (1, 3)) -> list[bytes]:
    """The cases as native_driver.c reads them, each kind of them once."""
    with ExitStack() as stack:
        for module in (build, division, steps):
            stack.enter_context(patch.object(module, "library", lambda: registers))
        found = {_case(task, count) for text in NETS for count in threads for task in _tasks(text, count)}
        stack.enter_context(patch.object(division, "SHARED_BYTES", 0))  # as where kernels are very many
        stack.enter_context(patch.object(division, "SHARED_BLOCK", 4))
        found |= {_case(task, 3) for text in NETS[9:15] for task in _tasks(text, 3)}
        for name, value in (("LEAST_STRETCHED", 0), ("LONG", 200), ("STRETCH", 128), ("MOST_ROWS", 14)):
            stack.enter_context(patch.object(division, name, value))  # as where rows are very long
        found |= {_case(task, count) for text in LONG_ROWS for count in (1, 3) for task in _tasks(text, count)}
    return sorted(found)


def header(registers: Registers) -> str:
    """The cases.h of the driver."""
    kinds = "\n".join(f"#define KIND_{name} {number}" for number, name in enumerate(KINDS))
    names = ", ".join(f'"{name}"' for name in KINDS)
    declared = "\n".join(f"void pack_{name}(const struct unpacked *, int64_t, int, float *);" for name in PACKING)
    calls = " ".join(f"if ((kind) == KIND_{name}) pack_{name}(unpacked, channels, 1, to);" for name in PACKING)
    return f"""{kinds}
#define PANEL_OF_CASES {registers.panels}
#define ROWS_OF_CASES {registers.rows}
static const char *const NAMES[] = {{{names}}};
{declared}
#define PACK(kind, unpacked, channels, to) {calls}
"""


def _tasks(text: str, threads: int) -> Iterator[NativeTask]:
    """The native steps of a net, by each way to compute its convolutions."""
    spec = prepare(parse_prototxt(text))
    flow = merge(read(spec, spec.outputs))
    shapes = infer_blobs(spec)
    state = {
        state_key((layer, at)): np.ones(shape, np.float32) for layer in shapes for at, shape in enumerate(shapes[layer])
    }
    weights = PackedWeights(state)
    for prefer in self_check.TRIED:
        plan = ArenaPlan(flow, spec.inputs, weights, threads=threads, prefer=prefer)
        for task in (*plan.pixels, *(task for each in plan.planned for task in each.tasks or ())):
            yield task
            if task.kind == "upsample":
                yield _to_planes(task)


def _to_planes(task: NativeTask) -> NativeTask:
    """The same step for outputs whose columns, not channels, lie side by side."""
    _, c, h, w = task.y.shape
    y = task.y._replace(strides=(c * h * w, h * w, w, 1))
    return task._replace(y=y, settings=task.settings._replace(group=h * w))


def _case(task: NativeTask, threads: int) -> bytes:
    """A step and what the driver has to know of its memory; places are its own business."""
    offsets = [0] * (1 + max(place.buffer for place in (task.x, task.y, task.z) if place is not None))
    step = NativeStep.from_buffer_copy(task.native(offsets, 0))
    kernels, bias, slopes = (
        0 if each is None else each.size for each in (task.weights.kernels, task.weights.bias, task.weights.slopes)
    )
    for name in ("x", "y", "z"):
        getattr(step, name).at = 0
    step.kernels = step.bias = step.slopes = None
    length = step.in_channels * step.kernel_h * step.kernel_w
    room = _wide(task.kind, step.channels) * length if task.kind in PACKING else 0
    return bytes(step) + struct.pack("<6q", task.phases, kernels, room, bias, slopes, threads)
