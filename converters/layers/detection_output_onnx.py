"""The ONNX form of DetectionOutput: boxes decoded by plain operators, then suppression.

Suppression is NonMaxSuppression and what puts its choice into Caffe's rows; for OpenCV it is a node DetectionOutput.
That one is given boxes that are decoded already (code type CORNER, priors of 0), as its two engines read the other code
types in ways that no file can serve both.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..net.onnx_form import FLOAT, INT64, OPENCV

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..net.layer import Shape
    from ..net.onnx_form import OnnxLayer, OnnxValue, Sizes
    from .boxes import CodeType
    from .detection_heads import Heads, Suppression

_MANY = 1 << 30
"""More than the candidates of any class."""
LOWEST = np.float32(np.finfo(np.float32).min)


class DetectionSettings(Protocol):
    """The settings of a DetectionOutput (detection_output.py) that its form reads."""

    @property
    def heads(self) -> Heads: ...
    @property
    def suppression(self) -> Suppression: ...
    @property
    def code(self) -> CodeType: ...
    @property
    def background(self) -> int: ...
    @property
    def objectness(self) -> float: ...
    @property
    def visualize(self) -> bool: ...
    @property
    def extended(self) -> bool: ...
    @property
    def clip(self) -> bool: ...
    def refinement(self, bottoms: Sequence[Shape], priors: int) -> tuple[bool, bool]: ...


def write_detections(layer: DetectionSettings, out: OnnxLayer) -> None:
    """The detections; raises ExportError where no operator suppresses as the layer does."""
    _check(layer, out)
    if out.target in OPENCV and layer.extended:
        raise out.refuse(
            "OpenCV's DetectionOutput has no column for the place", hint="end the net before it with --outputs"
        )
    boxes, scores = _decoded(layer, out)
    if out.target in OPENCV:
        _opencv(layer, out, boxes, scores)
    else:
        _Rows(layer, out).write(boxes, scores)


def write_decoded(layer: DetectionSettings, out: OnnxLayer, boxes: str, scores: str) -> None:
    """The detections of boxes (n, p, 1, 4) that are decoded already, and scores (n, p, classes)."""
    _check(layer, out)
    if out.target in OPENCV:
        raise out.refuse("OpenCV's DetectionOutput takes priors, and these boxes are decoded already")
    _Rows(layer, out).write(boxes, scores)


def _check(layer: DetectionSettings, out: OnnxLayer) -> None:
    if layer.suppression.eta < 1 and layer.suppression.threshold > 0.5:
        raise out.refuse(
            "eta lessens the threshold of suppression, which no ONNX operator does",
            hint="end the net before it with --outputs, and choose the boxes in your program",
        )
    if set(range(layer.heads.classes)) == {layer.background}:
        raise out.refuse("all classes are the background")


def _decoded(layer: DetectionSettings, out: OnnxLayer) -> tuple[str, str]:
    """The boxes (n, p, l, 4) and scores (n, p, classes) of all priors."""
    heads = layer.heads
    images = _images(out)
    loc, conf = heads.loc_and_conf()
    offsets = _joined(out, [_offsets(heads, out, out.bottoms[index], images) for index in loc], "offsets")
    scores = _joined(out, [_scores(heads, out, out.bottoms[index], images) for index in conf], "scores")
    priors, variances = _prior_blobs(heads, out)
    refined = (False, False)
    if not heads.separate:
        refined = _refined(layer, out)
    if refined[0]:
        arm = out.reshape(out.bottoms[3], [images, -1, 2], part="objectness")
        arm = out.slice(arm, [2], [1], [2], part="objectness")
        easy = out.node("Less", [arm, out.constant("least_objectness", np.float32(layer.objectness))], part="easy")
        nothing = out.constant("nothing", np.eye(1, heads.classes, dtype=np.float32)[None])
        scores = out.node("Where", [easy, nothing, scores], part="scores")
    if refined[1]:
        arm = out.reshape(out.bottoms[4], [images, -1, 1, 4], part="refinement")
        priors = decode_offsets(out, arm, priors, variances, layer.code)
    boxes = decode_offsets(out, offsets, priors, variances, layer.code)
    if layer.clip:
        ends = (out.constant(part, np.float32(value)) for part, value in (("least", 0), ("most", 1)))
        boxes = out.node("Clip", [boxes, *ends], part="boxes")
    return boxes, scores


def _images(out: OnnxLayer) -> Sizes | int:
    """The number of images as Reshape takes it; OpenCV's classic engine has no Shape, and copies the axis (0)."""
    return 0 if out.target in OPENCV else out.size(out.bottoms[0], [0])


def _refined(layer: DetectionSettings, out: OnnxLayer) -> tuple[bool, bool]:
    """As DetectionOutput.refinement; free sizes are taken as 1, as they are alike in all that is compared."""
    shapes = [tuple(1 if size is None else size for size in bottom.shape) for bottom in out.bottoms]
    if any(size is None for bottom in out.bottoms for size in bottom.shape[1:]):
        return len(shapes) > 3 and not layer.visualize and len(shapes[3]) == 2, len(shapes) > 4
    return layer.refinement(shapes, layer.heads.count(shapes))


def _offsets(heads: Heads, out: OnnxLayer, bottom: OnnxValue, images: Sizes | int) -> str:
    classes = heads.box_classes
    if heads.layout == "no_permute":
        ratios = (bottom.shape[1] or 0) // (4 * classes)
        parts = out.reshape(bottom, [images, ratios, classes, 4, -1], part="offsets")
        parts = out.node("Transpose", [parts], part="offsets", perm=[0, 1, 4, 2, 3])
        return out.reshape(parts, [images, -1, classes, 4], part="offsets")
    if heads.layout == "ratio_permute":
        parts = out.reshape(bottom, [images, 1, 4, -1], part="offsets")
        return out.node("Transpose", [parts], part="offsets", perm=[0, 3, 1, 2])
    return out.reshape(bottom, [images, -1, classes, 4], part="offsets")


def _scores(heads: Heads, out: OnnxLayer, bottom: OnnxValue, images: Sizes | int) -> str:
    if heads.layout == "interleaved":
        return out.reshape(bottom, [images, -1, heads.classes], part="scores")
    parts = out.reshape(bottom, [images, heads.classes, -1], part="scores")
    return out.node("Transpose", [parts], part="scores", perm=[0, 2, 1])


def _prior_blobs(heads: Heads, out: OnnxLayer) -> tuple[str, str | None]:
    """Boxes (1, p, 1, 4) and variances (1, p, 1, 4)."""
    bottoms = [out.bottoms[index] for index in heads.prior_bottoms(len(out.bottoms))]
    if heads.image is not None:
        h, w = heads.image
        rows = out.slice(out.reshape(bottoms[0], [-1, 5], part="regions"), [1], [1], [5], part="regions")
        boxes = out.node("Div", [rows, out.constant("image", np.array([w, h, w, h]))], part="prior_boxes")
        return out.reshape(boxes, [1, -1, 1, 4], part="prior_boxes"), None
    found = []
    for channel in range(2 if heads.variances else 1):
        parts = []
        for bottom in bottoms:
            part = out.slice(bottom, [0, 1], [0, channel], [1, channel + 1], part="prior_boxes")
            if heads.layout == "ratio_permute" and len(bottoms) > 1:
                part = out.reshape(part, [4, -1], part="prior_boxes")
                part = out.node("Transpose", [part], part="prior_boxes", perm=[1, 0])
            parts.append(out.reshape(part, [1, -1, 1, 4], part="prior_boxes"))
        found.append(_joined(out, parts, "prior_boxes"))
    if heads.layout != "interleaved" and len(bottoms) == 1:
        found[0] = _by_ratio(heads, out, found[0])
    return found[0], found[1] if len(found) > 1 else None


def _by_ratio(heads: Heads, out: OnnxLayer, priors: str) -> str:
    """The priors [y][x][ratio] of each head as [ratio][y][x]."""
    parts, begin = [], 0
    for head, bottom in enumerate(out.bottoms[heads.separate : 2 * heads.separate]):
        known = tuple(size for size in bottom.shape[1:] if size is not None)
        if len(known) < len(bottom.shape) - 1:
            raise out.refuse("priors of heads that are not permuted need sizes", hint="fix them with --size HxW")
        count = prod(known) // 4 // heads.box_classes
        cells = prod(known[1:]) if heads.layout == "no_permute" else count // heads.ratios[head]
        part = out.slice(priors, [1], [begin], [begin + count], part="prior_boxes")
        part = out.reshape(part, [cells, -1, 4], part="prior_boxes")
        part = out.node("Transpose", [part], part="prior_boxes", perm=[1, 0, 2])
        parts.append(out.reshape(part, [1, -1, 1, 4], part="prior_boxes"))
        begin += count
    return _joined(out, parts, "prior_boxes")


def _joined(out: OnnxLayer, parts: Sequence[str], part: str) -> str:
    return parts[0] if len(parts) == 1 else out.node("Concat", parts, part=part, axis=1)


def decode_offsets(out: OnnxLayer, offsets: str, priors: str, variances: str | None, code: CodeType) -> str:
    """`decode_boxes` of blobs (n, p, l, 4)."""
    if variances is not None:
        offsets = out.node("Mul", [offsets, variances], part="offsets")
    if code == "CORNER":
        return out.node("Add", [priors, offsets], part="boxes")
    low, high = _halves(out, priors)
    size = out.node("Sub", [high, low], part="size")
    if code == "CORNER_SIZE":
        sizes = out.node("Concat", [size, size], part="size", axis=3)
        return out.node("Add", [priors, out.node("Mul", [offsets, sizes], part="offsets")], part="boxes")
    half = out.constant("half", np.float32(0.5))
    shift, growth = _halves(out, offsets)
    middle = out.node("Mul", [out.node("Add", [low, high], part="middle"), half], part="middle")
    centre = out.node("Add", [out.node("Mul", [shift, size], part="shift"), middle], part="centre")
    grown = out.node("Mul", [out.node("Exp", [growth], part="growth"), size], part="growth")
    extent = out.node("Mul", [grown, half], part="extent")
    ends = [out.node(op, [centre, extent], part="corner") for op in ("Sub", "Add")]
    return out.node("Concat", ends, part="boxes", axis=3)


def _halves(out: OnnxLayer, value: str) -> tuple[str, str]:
    return (out.slice(value, [3], [0], [2], part="low"), out.slice(value, [3], [2], [4], part="high"))


def _opencv(layer: DetectionSettings, out: OnnxLayer, boxes: str, scores: str) -> None:
    """OpenCV's own layer; without a keep_top_k it writes beyond its memory.

    Boxes come decoded, as corners from priors at the origin: of code_type OpenCV 5's new engine takes numbers only, and
    its classic one, like OpenCV 4, words only; but both take the word CORNER.
    """
    how, heads = layer.suppression, layer.heads
    if 0 in (how.top_k, how.keep_top_k):
        raise out.refuse(
            "a top_k or keep_top_k of 0 keeps nothing, and OpenCV takes it for all", hint="give a number above 0, or -1"
        )
    shapes = [tuple(size or 0 for size in bottom.shape) for bottom in out.bottoms]
    known = 0 not in {size for shape in shapes for size in shape[1:]}
    if not known and how.keep_top_k < 0:
        raise out.refuse("OpenCV's DetectionOutput needs keep_top_k, or sizes", hint="fix them with --size HxW")
    count = heads.count([(1, *shape[1:]) for shape in shapes]) if known else _MANY
    if known:
        origin = out.constant("origin", np.zeros((1, 1, 4 * count), np.float32))
    else:
        priors, _ = _prior_blobs(heads, out)
        nothing = out.node("Mul", [priors, out.constant("nought", np.float32(0))], part="nought")
        origin = out.reshape(nothing, [1, 1, -1], part="origin")
    out.top(
        "DetectionOutput",
        [out.reshape(boxes, [0, -1], part="flat_boxes"), out.reshape(scores, [0, -1], part="flat_scores"), origin],
        num_classes=heads.classes,
        share_location=int(heads.box_classes == 1),
        background_label_id=layer.background if layer.background >= 0 else heads.classes,
        nms_threshold=how.threshold,
        top_k=how.top_k if how.top_k > -1 else count,
        keep_top_k=how.keep_top_k if how.keep_top_k > -1 else count * heads.classes,
        confidence_threshold=float(LOWEST) if how.score_threshold is None else how.score_threshold,
        code_type="CORNER",
        variance_encoded_in_target=1,
    )


class _Rows:
    """Caffe's rows by standard operators: c classes that are not the background, k candidates of each."""

    def __init__(self, layer: DetectionSettings, out: OnnxLayer) -> None:
        self.layer, self.out = layer, out
        self.labels = [label for label in range(layer.heads.classes) if label != layer.background]
        self.images = out.size(out.bottoms[0], [0])
        self.pairs = self.images * len(self.labels)

    def write(self, boxes: str, scores: str) -> None:
        out = self.out
        scores, index = self._candidates(scores)
        boxes = self._their_boxes(boxes, index)
        mask = self._suppressed(boxes, scores)
        flat = out.reshape(scores, [self.images, -1], part="candidate_scores")
        mask = self._best(mask, flat)
        place = out.node("Transpose", [out.node("NonZero", [mask], part="places")], part="places", perm=[1, 0])
        image, candidate = (
            out.node("Gather", [place, out.constant("column", [axis])], part="column", axis=1) for axis in (0, 1)
        )
        # A top_k of 0 leaves no candidate of any class to divide by, and none to be divided.
        each = out.node("Max", [self._each(scores), out.constant("one_candidate", [1])], part="each")
        label = out.node("Div", [candidate, each], part="class")
        label = out.node("Gather", [out.constant("classes", np.array(self.labels, np.float32)), label], part="class")
        score = out.reshape(out.node("GatherND", [flat, place], part="score"), [-1, 1], part="score")
        box = out.node("GatherND", [out.reshape(boxes, [self.images, -1, 4], part="flat"), place], part="box")
        columns = [out.node("Cast", [image], part="image", to=FLOAT), label, score, box]
        if self.layer.extended:
            columns += self._cells(
                out.node("GatherND", [out.reshape(index, [self.images, -1], part="prior_boxes"), place], part="prior")
            )
        rows = out.node("Concat", columns, part="rows", axis=1)
        width = 10 if self.layer.extended else 7
        rows = out.node("Concat", [rows, self._if_none(place, width)], part="all_rows", axis=0)
        out.reshape(rows, [1, 1, -1, width])

    def _candidates(self, scores: str) -> tuple[str, str]:
        """Scores (n, c, k), the best first, and the priors (n, c, k) that they are of."""
        out, top_k = self.out, self.layer.suppression.top_k
        scores = out.node("Transpose", [scores], part="by_class", perm=[0, 2, 1])
        scores = out.node("Gather", [scores, out.constant("foreground", self.labels)], part="by_class", axis=1)
        count = self._each(scores)
        best, priors = out.node_of_several(
            "TopK", [scores, count if top_k < 0 else self._smaller(count, top_k)], ["best", "best_priors"], axis=2
        )
        return best, priors

    def _each(self, scores: str) -> str:
        """The number of candidates of each class, an int64 vector of one."""
        shape = self.out.node("Shape", [scores], part="shape")
        return self.out.slice(shape, [0], [2], [3], part="count")

    def _smaller(self, count: str, most: int) -> str:
        return self.out.node("Min", [count, self.out.constant("most", [most])], part="count")

    def _their_boxes(self, boxes: str, index: str) -> str:
        """The candidates' boxes (n, c, k, 4)."""
        out, shared = self.out, self.layer.heads.box_classes == 1
        boxes = out.node("Transpose", [boxes], part="boxes_by_class", perm=[0, 2, 1, 3])
        if shared:
            dims = out.sizes([1, len(self.labels), 1, 1])
            boxes = out.node("Expand", [boxes, dims], part="boxes_by_class")
        else:
            boxes = out.node("Gather", [boxes, out.constant("own", self.labels)], part="boxes_by_class", axis=1)
        index = out.node("Unsqueeze", [index, out.constant("last", [3])], part="prior_boxes")
        index = out.node("Expand", [index, out.sizes([1, 1, 1, 4])], part="prior_boxes")
        return out.node("GatherElements", [boxes, index], part="candidate_boxes", axis=2)

    def _suppressed(self, boxes: str, scores: str) -> str:
        """1 for each candidate that stays, (n, c * k)."""
        out, how = self.out, self.layer.suppression
        if self.layer.code != "CENTER_SIZE":  # Caffe's box of no area overlaps with none; the operator turns it round
            low, high = _halves(out, boxes)
            boxes = out.node("Concat", [low, out.node("Max", [low, high], part="high")], part="upright", axis=3)
        chosen = out.node(
            "NonMaxSuppression",
            [
                out.reshape(boxes, [self.pairs, -1, 4], part="nms_boxes"),
                out.reshape(scores, [self.pairs, 1, -1], part="nms_scores"),
                out.constant("most_of_class", [2**30]),
                out.constant("overlap", np.array([min(how.threshold, 1)], np.float32)),
                None
                if how.score_threshold is None
                else out.constant("least_score", np.array([how.score_threshold], np.float32)),
            ],
            part="chosen",
        )
        place = out.node("Gather", [chosen, out.constant("columns", [0, 2])], part="chosen", axis=1)
        zeros = out.reshape(scores, [self.pairs, -1], part="zeros")
        zeros = self._filled(out.node("Shape", [zeros], part="shape"), 0)
        count = out.slice(out.node("Shape", [place], part="shape"), [0], [0], [1], part="count")
        mask = out.node("ScatterND", [zeros, place, self._filled(count, 1)], part="mask")
        return out.reshape(mask, [self.images, -1], part="mask")

    def _filled(self, shape: str, value: float) -> str:
        filling = self.out.constant("filling", np.array([value], np.float32))
        return self.out.node("Expand", [filling, shape], part="filled")

    def _best(self, mask: str, scores: str) -> str:
        """The mask of the `keep_top_k` best of each image."""
        out, most = self.out, self.layer.suppression.keep_top_k
        if most < 0:
            return mask
        lowest = out.constant("lowest", LOWEST)
        stays = out.node("Greater", [mask, out.constant("none", np.float32(0))], part="stays")
        ranked = out.node("Where", [stays, scores, lowest], part="ranked")
        shape = out.node("Shape", [mask], part="shape")
        count = self._smaller(out.slice(shape, [0], [1], [2], part="count"), most)
        best, place = out.node_of_several("TopK", [ranked, count], ["best_scores", "best_places"], axis=1)
        found = out.node("Cast", [out.node("Greater", [best, lowest], part="found")], part="found", to=FLOAT)
        return out.node("ScatterElements", [self._filled(shape, 0), place, found], part="mask", axis=1)

    def _if_none(self, place: str, width: int) -> str:
        """A row (image, -1, -1 ...) for each image where nothing is found, else no row."""
        out = self.out
        count = out.slice(out.node("Shape", [place], part="shape"), [0], [0], [1], part="count")
        none = out.node("Equal", [count, out.constant("zero", [0])], part="none")
        none = out.node("Cast", [none], part="none", to=INT64)
        ends = [out.constant(part, np.int64(value)) for part, value in (("first", 0), ("step", 1))]
        scalar = out.reshape(self.images, [], part="images")
        images = out.node("Range", [ends[0], scalar, ends[1]], part="images")
        images = out.reshape(out.node("Cast", [images], part="images", to=FLOAT), [-1, 1], part="images")
        rest = out.node("Expand", [out.constant("minus", np.full((1, width - 1), -1.0)), out.sizes([self.images, 1])],
                        part="rest")  # fmt: skip
        rows = out.node("Concat", [images, rest], part="empty_rows", axis=1)
        last = out.node("Mul", [none, self.images], part="last")
        return out.node("Slice", [rows, out.constant("begin", [0]), last, out.constant("axis", [0])], part="if_none")

    def _cells(self, prior: str) -> list[str]:
        """The columns anchor, x and y."""
        out, bottom = self.out, self.out.bottoms[0]
        anchors = out.constant("anchors", [(bottom.shape[3] or 0) // 4])
        width = out.size(bottom, [2])
        prior = out.reshape(prior, [-1, 1], part="prior")
        cell = out.node("Div", [prior, anchors], part="cell")
        found = [
            out.node("Mod", [prior, anchors], part="anchor"),
            out.node("Mod", [cell, width], part="x"),
            out.node("Div", [cell, width], part="y"),
        ]
        return [out.node("Cast", [column], part="column", to=FLOAT) for column in found]
