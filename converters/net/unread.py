"""The one rule for fields that BVLC Caffe does not have: harmless, honoured, or an error; in text and binary alike.

Honoured is what the layer's class looks at when it reads its settings (reading.py). Harmless is what the table below
has, with its reason, and what is no part of the layer's own messages: a layer of Caffe reads those that it looks at, or
the one that is called after its type, and what else stands beside them is another type's or the framework's
(quantization_param). Anything else could change a number, so a layer that is run does not pass over it. What is
harmless to a net that is run may not be to one that is trained: `of_training` says so, and there it is an error, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from typing import NamedTuple

from ..errors import NetError
from ..schema import LayerParameter


class Harmless(NamedTuple):
    """Fields whose path fits `pattern`: what they say, and so why no number depends on them.

    Where `values` are given only these are harmless, in small letters. Those `of_training` change what a net learns.
    """

    pattern: str
    reason: str
    values: tuple[str, ...] = ()
    of_training: bool = False


def _of_training(pattern: str, reason: str) -> Harmless:
    return Harmless(pattern, reason, of_training=True)


HARMLESS = (
    Harmless("*engine", "the library that computes it: MKL2017, MKLDNN, DNNL (Intel's fork), ..."),
    Harmless("*cudnn*", "how cuDNN computes it (NVCaffe)"),
    Harmless("convolution_param.conv_algorithm", "how MKL-DNN computes it (Intel's fork)"),
    Harmless("*workspace*", "the memory that cuDNN may take"),
    Harmless("*mem_*", "which blobs share memory"),
    Harmless("*_filler", "how the weights begin in training; those of a file replace it"),
    Harmless("*.filler", "how the weights begin in training; those of a file replace it"),
    *(
        Harmless(f"denseblock_param.{name}", "where, in which memory and how its training computes (DenseNet's fork)")
        for name in ("gpuIdx", "BC_ultra_space_efficient", "workspace_MB", "*_Filler")
    ),
    *(
        Harmless(f"denseblock_param.{name}", "nothing: no layer reads it (DenseNet's fork)")
        for name in ("pad_h", "pad_w", "conv_*Stride", "filter_H", "filter_W")
    ),
    Harmless("inner_distance_param.bias_term", "nothing: no layer reads it (NormFace's fork)"),
    _of_training("param.*", "how the solver treats the weights"),
    _of_training("*lr_mult*", "how the solver treats the weights"),
    _of_training("*decay_mult*", "how the solver treats the weights"),
    _of_training("loss_param.*", "how a loss is counted"),
    Harmless("inner_product_param.normalize", "off", ("false", "0")),
    Harmless("include.*", "which nets have the layer"),
    Harmless("enable.solver", "which nets have the layer (vsubhashini/caffe, before include and exclude)"),
    Harmless("enable.phase", "which nets have the layer (vsubhashini/caffe, before include and exclude)", ("test",)),
    Harmless("strict_dim", "whether shapes of files are checked (BVLC of 2014)"),
    Harmless("forward_type", "the precision of activations (NVCaffe); here it is that of the net"),
    Harmless("backward_type", "the precision of gradients (NVCaffe)"),
    Harmless("exclude.*", "which nets have the layer"),
    Harmless("transform_param.*", "what data layers do with an image"),
    Harmless("*data_param.*", "where a data layer reads"),
    _of_training("bn_param.frozen", "whether training changes it (PSPNet's fork)"),
    _of_training("bn_param.momentum", "how training gathers the statistics (PSPNet's fork)"),
    _of_training("bn_param.icnet", "how training gathers the statistics (ICNet's fork)"),
    _of_training("batch_norm_param.*_momentum", "how training gathers the statistics"),
    _of_training("normalize_param.bp_norm", "which gradients are computed (NormFace's fork)"),
    _of_training("mergecrop_param.backward", "which gradients are computed (naibaf7's fork)"),
    _of_training("channel_scale_param.do_backward_*", "which gradients are computed (NormFace's fork)"),
    Harmless("channel_scale_param.init_global_scale", "how the scale begins in training (NormFace's fork)"),
    _of_training("*.force_backward", "which gradients are computed"),
    Harmless("*.save_output_param*", "where results are written (SSD, Cascade R-CNN)"),
    Harmless("*.label_map_file", "the names of the classes"),
    _of_training("decode_bbox_param.gt_iou_thr", "which boxes training leaves out (Cascade R-CNN)"),
    Harmless("detection_output_param.visualize*", "what is drawn (SSD)"),
    Harmless("detection_output_param.save_file", "where what is drawn is written (SSD)"),
    Harmless("detection_output_param.input_*", "what boxes in pixels are parts of; others are parts already (Intel)"),
    Harmless("detection_output_param.background_label_id", "none", ("-1",)),
    _of_training("lstm_param.clipping_threshold", "how large a gradient may be (junhyukoh/caffe-lstm)"),
    Harmless("convolution3d_param.filter_group", "in how many steps it is computed (C3D)"),
    Harmless("prior_box_param.flip", "off", ("false", "0")),
    Harmless("augmentation_param.write_*", "what is written to disk (FlowNet's fork)"),
    *(
        _of_training(f"augmentation_param.{name}", "changes drawn at random, in training alone (FlowNet's fork)")
        for name in (
            *("mirror", "translate*", "rotate", "zoom", "squeeze", "gamma", "brightness", "contrast", "color", "noise"),
            *("lmult_*", "sat_*", "col_*", "ladd_*", "fog_*", "motion_blur_*", "shadow_*", "chromatic_eigvec"),
            *("max_multiplier", "mode", "bottomwidth", "bottomheight", "num"),
        )
    ),
    Harmless("debug*", "what is printed"),
    _of_training("cconvolution_param.*", "how training prunes the weights (NHZlX/Auto_pruning)"),
    _of_training("cinner_product_param.*", "how training prunes the weights (NHZlX/Auto_pruning)"),
    _of_training("scale_filter_param.*", "the noise of training (training_toolbox_caffe)"),
    Harmless("multi_stage_meanfield_param.threshold", "nothing: no layer reads it (CRF-RNN)"),
    Harmless("multi_stage_meanfield_param.*_weight", "nothing: the weights are blobs (CRF-RNN)"),
    Harmless("eltwise_param.coeff_blob", "off: the coefficients are those of the text", ("false", "0")),
    Harmless("pooling_param.dilation*", "1 changes nothing", ("1",)),
    Harmless("softmax_param.temperature", "1 changes nothing", ("1", "1.0")),
    Harmless("interp_param.align_corners", "corners are mapped on corners, as in Interp always", ("true", "1")),
    Harmless("upsample_param.mode", "values are repeated, as in Upsample always", ("nearest",)),
    Harmless("*.output_pad", "0 changes nothing", ("0",)),
    Harmless("*.output_padding", "0 changes nothing", ("0",)),
)
"""Fields on which no number of a forward pass depends."""


def refuse_unread(
    fields: Iterable[tuple[str, object]], reads: Collection[str], *, where: str, kind: str, training: bool = False
) -> None:
    """Raise NetError for a field of a fork that a layer's class has not looked at and that is not harmless.

    `fields` are the layer's with their paths and values, `reads` what its class looked at (reading.py). In `training`
    those are not harmless either that say how a net learns.
    """
    for path, value in fields:
        if path in reads or f"{path.partition('.')[0]}.*" in reads:
            continue
        if training and (reason := _reason_in_training(path, value)):
            raise NetError(
                f"field '{path[:80]}' is unknown to BVLC Caffe and says {reason}, which training here does not know",
                where=where,
                hint="is its name mistyped? Where the net may learn without it, take it out",
            )
        if not is_harmless(path, value) and not _is_beside(path, kind, reads):
            raise NetError(_said(path, value), where=where, hint=_hint(path, kind))


def is_harmless(path: str, value: object) -> bool:
    """True where the table has the field, its path without indices, with this value."""
    return any(_fits(row, path, value) for row in HARMLESS)


def _reason_in_training(path: str, value: object) -> str | None:
    """The reason of a row that a field fits and that is of training; None where there is none."""
    return next((row.reason for row in HARMLESS if row.of_training and _fits(row, path, value)), None)


def _fits(row: Harmless, path: str, value: object) -> bool:
    shown = str(value).lower()
    return fnmatchcase(path, row.pattern) and shown in (row.values or (shown,))


def _is_beside(path: str, kind: str, reads: Collection[str]) -> bool:
    """True where the field is in no message of Caffe's, none that the class reads and none called after its type."""
    own = path.partition(".")[0]
    if own in LayerParameter.DESCRIPTOR.fields_by_name or own == "enable":
        return False
    if own in {read.partition(".")[0] for read in reads}:
        return False
    return own.removesuffix("_param").replace("_", "") != kind.rpartition(":")[2].lower()


def _said(path: str, value: object) -> str:
    shown = "" if isinstance(value, (tuple, bytes)) else f" ({str(value)[:40]})"
    known = _values(path)
    if known:
        return f"field '{path[:80]}' has a value{shown} unknown to BVLC Caffe and not understood here"
    return f"field '{path[:80]}'{shown} is unknown to BVLC Caffe and not understood here"


def _hint(path: str, kind: str) -> str:
    if "#" in path:
        return "a binary file has no names for it: give the net's prototxt as well, with --prototxt"
    known = _values(path)
    if known:
        return f"Caffe's values: {', '.join(known)}"
    return (
        f"it may change what {kind} computes; where it does not, take the field out, else add the fork's layer "
        f'with @register_layer("{kind}"), whose parse reads it by name'
    )


def _values(path: str) -> list[str]:
    """The names of the values of an enum of Caffe's own at `path` in a layer; none where there is no such enum."""
    descriptor = LayerParameter.DESCRIPTOR
    *messages, leaf = path.split(".")
    for name in messages:
        field = descriptor.fields_by_name.get(name)
        if field is None or field.message_type is None:
            return []
        descriptor = field.message_type
    field = descriptor.fields_by_name.get(leaf)
    return [] if field is None or field.enum_type is None else [value.name for value in field.enum_type.values]
