"""The meaning of a net's outputs: scores, labels, probabilities, a map of values, or classes of the whole image.

It follows from the layer that makes an output and from its shape, and is decided here for `segment`, `see`, `classify`,
`predict`, `evaluate` and `report` alike:

    ArgMax over the channels                        labels, taken as they are
    Threshold of one channel                        labels 0 and 1
    Sigmoid                                         independent probabilities, one for each channel
    one channel of anything else                    a map of values
    several channels, one position for the image    classes of the image
    several channels, after Softmax over them       scores that are probabilities
    several channels of anything else               scores, the largest of which is the label
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from converters.errors import CaffeFormatError, NetError
from converters.net import CoordMap, LayerSpec, NetSpec, Shape, infer_shapes, layer_map

from ..any_net import AnyNet, spec_of

Kind = Literal["scores", "probabilities", "independent", "labels", "map", "classes"]

CARRIERS = frozenset(("Split", "Reshape", "Flatten", "Squeeze", "Crop", "Dropout", "Slice", "Interp", "ResizeBilinear"))
"""Types of layers that pass values on: what their bottom is, their top is."""
BOUNDED = frozenset(("Sigmoid", "Threshold", "Softmax"))
"""Types whose values are from 0 to 1."""


@dataclass(frozen=True)
class OutputMeaning:
    """The meaning of one output: its kind, the type of layer that makes it ("" if unknown), and its channels.

    `kind` "scores" are of classes, at each pixel, "probabilities" are scores that add up to 1, "independent" ones each
    say how likely their own class is; "labels" are numbers of classes; a "map" is one value at a pixel, `classes` are
    of the image as a whole. `bounded` values are from 0 to 1.
    """

    kind: Kind
    layer: str
    channels: int

    @property
    def bounded(self) -> bool:
        return self.layer in BOUNDED

    @property
    def labels(self) -> int | None:
        """The number of labels that it tells apart; None where it does not say."""
        if self.kind == "independent":
            return self.channels + 1
        return self.channels if self.kind in ("scores", "probabilities") else None

    @property
    def said(self) -> str:
        """The meaning in words, after "its output is"."""
        return {
            "scores": f"scores of {self.channels} classes",
            "probabilities": f"probabilities of {self.channels} classes",
            "independent": f"{self.channels} independent probabilities",
            "labels": "labels",
            "map": "a map of values, which are no classes",
            "classes": f"scores of {self.channels} classes for the image as a whole, none for its pixels",
        }[self.kind]


@dataclass(frozen=True, eq=False)
class NetOutputs:
    """The outputs of a net before it has run: by name the layer that makes each, its shape at the net's own input, and
    where its positions lie in the image; each only where the definition says so.
    """

    makers: Mapping[str, LayerSpec] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    maps: Mapping[str, CoordMap] = field(default_factory=dict)

    @property
    def expected(self) -> dict[str, OutputMeaning]:
        """The meanings at the net's own input, of those outputs that have one."""
        found = {}
        for name, shape in self.shapes.items():
            try:
                found[name] = self.meaning(name, shape)
            except NetError:
                continue
        return found

    def meaning(self, name: str, shape: Sequence[int]) -> OutputMeaning:
        """The meaning of an output that came out with `shape` (n, c), (n, c, 1, 1) or (n, c, h, w).

        NetError for any other shape.
        """
        maker = self.makers.get(name)
        layer = "" if maker is None else maker.type
        image = self._of_the_image(name, shape)
        if (not image and len(shape) != 4) or len(shape) < 2 or min(shape) < 1:
            raise NetError(
                f"its output{f' {name!r}' if name else ''} is {tuple(shape)}: neither scores nor labels of pixels or "
                "images",
                hint="run it as a module: net(x)",
            )
        channels = int(shape[1]) if layer != "ArgMax" or not image else int(shape[2])
        return OutputMeaning(self._kind(maker, channels, image=image), layer, channels)

    def _kind(self, maker: LayerSpec | None, channels: int, *, image: bool) -> Kind:
        if image:
            return "classes"
        layer = "" if maker is None else maker.type
        if maker is not None and layer == "ArgMax":
            return "map" if maker.message.argmax_param.out_max_val else "labels"
        if layer == "Threshold":
            return "labels" if channels == 1 else "map"
        if layer == "Sigmoid":
            return "independent"
        if channels == 1:
            return "map"
        if maker is not None and layer == "Softmax" and maker.message.softmax_param.axis in (1, -3):
            return "probabilities"
        return "scores"

    def _of_the_image(self, name: str, shape: Sequence[int]) -> bool:
        """True where an output has one position for the whole image, and has so for images of the net's own size."""
        maker, own = self.makers.get(name), self.shapes.get(name, shape)
        if maker is not None and maker.type == "ArgMax" and not maker.message.argmax_param.HasField("axis"):
            return len(shape) > 2
        return all(tuple(each[2:]) in ((), (1, 1)) for each in (shape, own))


def outputs_of(net: AnyNet) -> NetOutputs:
    """The outputs of a net, as far as its definition tells; empty for a module of which no layers are known."""
    try:
        spec = spec_of(net)
    except (ValueError, NotImplementedError):  # a module of one's own, or layers that Caffe does not have
        return NetOutputs()
    names = spec.outputs
    makers, maps = _makers(spec), _maps(spec)
    try:
        shapes = infer_shapes(spec)
    except (CaffeFormatError, ValueError, NotImplementedError):
        shapes = {}
    known = ({name: found[name] for name in names if name in found} for found in (makers, shapes, maps))
    made, sized, placed = (_with_only(each) for each in known)  # type: ignore[arg-type]
    return NetOutputs(made, sized, placed)  # type: ignore[arg-type]


def names_images(net: AnyNet) -> bool:
    """True for a net whose outputs are all of the image as a whole."""
    return {each.kind for each in outputs_of(net).expected.values()} == {"classes"}


def _with_only(found: dict[str, object]) -> dict[str, object]:
    """The same with the only output under "", too: a net gives it without a name."""
    return {"": next(iter(found.values())), **found} if len(found) == 1 else found


def _makers(spec: NetSpec) -> dict[str, LayerSpec]:
    """The layer that gives each blob its meaning: the one that makes it, or made what it was cut or shaped from."""
    found: dict[str, LayerSpec] = {}
    for layer in spec.layers:
        passed = found.get(layer.bottoms[0]) if layer.bottoms and layer.type in CARRIERS else None
        for top in layer.tops:
            found[top] = passed or layer
    return found


def _maps(spec: NetSpec) -> dict[str, CoordMap]:
    """The place of each blob's positions in the net's first input; only of blobs that have one."""
    found = {name: CoordMap() for name in list(spec.inputs)[:1]}
    for layer in spec.layers:
        if layer.type == "Input":
            continue
        own = layer_map(layer)
        before = found.get(layer.bottoms[0]) if layer.bottoms else None
        for top in layer.tops:
            found.pop(top, None)
            if own is not None and before is not None:
                found[top] = own.after(before)
    return found
