"""The statistics of BatchNorm layers of a net that was saved while it was trained: the batch's own, or the stored ones.

Needs a net of one phase. Ensures, with `with_stored_statistics`, that every BatchNorm uses what it stored.
"""

from __future__ import annotations

from ..net.layer import LayerSpec
from ..net.spec import NetSpec

TEXTS = (".prototxt", ".txt", ".pt", ".pbtxt")
"""The endings of files of text: somebody wrote `use_global_stats` there."""


def on_batch_statistics(spec: NetSpec) -> str | None:
    """The warning for a net out of a weights file that says `use_global_stats: false`; None for every other net.

    Caffe would run it on the batch's own statistics, too, but what a snapshot says is how it was trained.
    """
    if spec.path is None or spec.path.lower().endswith(TEXTS):
        return None
    layers = [layer.name for layer in spec.layers if _says_batch(layer)]
    if not layers:
        return None
    who, each = f"{len(layers)} BatchNorm layers, such as '{layers[0]}', say", "each"
    if len(layers) == 1:
        who, each = f"the BatchNorm layer '{layers[0]}' says", "it"
    return (
        f"{who} use_global_stats: false, as the net was trained: "
        f"{each} is run on its batch's own statistics, as in Caffe; --global-stats takes the stored ones, which is "
        "what a net that is run mostly wants (choosing(global_stats=True) in Python)"
    )


def with_stored_statistics(spec: NetSpec) -> NetSpec:
    """The net with `use_global_stats: true` in the BatchNorm layers that say false."""
    return spec.replace_layers(tuple(_stored(layer) if _says_batch(layer) else layer for layer in spec.layers))


def _says_batch(layer: LayerSpec) -> bool:
    param = layer.message.batch_norm_param
    return layer.type == "BatchNorm" and param.HasField("use_global_stats") and not param.use_global_stats


def _stored(layer: LayerSpec) -> LayerSpec:
    message = layer.to_message()
    message.batch_norm_param.use_global_stats = True
    return LayerSpec.from_message(message, extra=layer.extra, line=layer.line)
