"""The kinds of nets that find objects in one image at a time, and in words why another net does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from converters.errors import NetError
from converters.net import NetSpec
from weights.records import InputRecipe

from ..any_net import AnyNet, LoadedNet, takes_arrays
from .feeding import INFO
from .grid import fills_grid, from_grid
from .raw import Raw
from .refined import from_refined, refines_regions
from .regions import OFFSETS, POOLINGS, SCORES, from_regions, regions_of, scores_regions
from .rows import TYPES
from .ssh import from_ssh, is_ssh
from .text_lines import finds_text, from_text
from .votes import clusters_votes, from_votes

if TYPE_CHECKING:
    from ..nets import Net


@dataclass(frozen=True)
class Head:
    """A kind of net: `tells` it by its definition; `find` gives its objects; `names` are its classes, () if its own."""

    tells: Callable[[NetSpec], bool]
    find: Callable[[Net, np.ndarray, InputRecipe], Iterator[Raw]]
    names: tuple[str, ...] = ()


RPN = frozenset({"rois", "rpn_rois"})
"""The blobs that regions are called."""
HEADS = (
    Head(scores_regions, from_regions),
    Head(refines_regions, from_refined),
    Head(is_ssh, from_ssh, ("background", "face")),
    Head(finds_text, from_text, ("background", "text")),
    Head(clusters_votes, from_votes),
    Head(fills_grid, from_grid),
)


def head_of(spec: NetSpec) -> Head | None:
    """The kind that a net is of, None where it is of none."""
    return next((head for head in HEADS if head.tells(spec)), None)


def refusal(spec: NetSpec) -> NetError:
    """The error for a net that finds no objects: what is missing, and what to do."""
    problem, hint = _missing(spec) or (
        "this net finds no objects: it ends neither in rows of detections nor in regions with scores, as SSD, YOLO, "
        "Faster R-CNN, R-FCN, Cascade R-CNN, MS-CNN, SSH and CTPN do",
        "give the heads of a YOLO their anchors (--anchors, detection.with_anchors), and MTCNN's nets all three; "
        "segment takes nets that label pixels, classify those that name images",
    )
    return NetError(problem, path=spec.path, hint=hint)


def runs_a_definition(net: AnyNet) -> TypeGuard[LoadedNet]:
    """True for a net that was made from a definition, in whatever way it is run: none that is written by hand."""
    if takes_arrays(net):
        return True
    from converters.execution import CaffeNet

    from ..nets.net import unwrapped

    return isinstance(unwrapped(net), CaffeNet)


def refuse_unfinished(net: AnyNet) -> None:
    """NetError for a net that would find objects were it whole, and whose outputs mean nothing by themselves."""
    if not runs_a_definition(net):
        return
    spec = net.spec
    found = None if head_of(spec) else _missing(spec)
    if found is not None:
        raise NetError(found[0], path=spec.path, hint=found[1])


def _missing(spec: NetSpec) -> tuple[str, str] | None:
    """The part that a detector lacks, and the way to it; None for a net that is nothing like one."""
    types = {layer.type for layer in spec.layers}
    if types & TYPES:
        return None
    made = {top for layer in spec.layers if layer.type != "Input" for top in layer.tops}
    if spec.layers and spec.layers[-1].type == "Region":
        return (
            "this net ends in a Region layer and does not say its anchors, so that its boxes have no size",
            "give them: --anchors 1.32,1.73,..., in Python detection.with_anchors(net, [1.32, 1.73, ...])",
        )
    if types & {"PriorBox", "PriorBoxClustered"}:
        return (
            "this net ends in SSD's offsets, scores and priors, without the DetectionOutput that makes boxes of them",
            "take the project's deploy.prototxt with the same weights",
        )
    outside = [name for name, shape in spec.inputs.items() if shape[1:] in ((4,), (5,)) or name in ("rois", "boxes")]
    if outside:
        return (
            f"this net scores the regions that it is given as its input '{outside[0]}', and proposes none itself",
            "run it as a module, net(...), with regions from elsewhere; detect takes nets that propose their own",
        )
    unproposed = {"rpn_cls_score", "rpn_bbox_pred"} <= made and regions_of(spec) is None and not made & RPN
    if types & {"BoxOutput", "BoxGroupOutput"} or unproposed:
        return (
            "this net is the one that is trained: what makes boxes of its last blobs is missing",
            "take the project's net for tests, such as mscnn_deploy.prototxt or test.prototxt, with the same weights",
        )
    if (types & POOLINGS and OFFSETS in made) or {"rfcn_cls", "rfcn_bbox"} <= made:
        missing = [name for name, there in (
            (f"the input '{INFO}'", INFO in spec.inputs), (f"the blob '{SCORES}'", SCORES in made),
            (f"the blob '{OFFSETS}'", OFFSETS in made), ("regions", regions_of(spec) is not None),
        ) if not there]  # fmt: skip
        if missing:
            return (
                f"this net scores regions, and of what Faster R-CNN ends in {' and '.join(missing)} is missing",
                "take the project's net for tests, test.prototxt, with the same weights",
            )
    if INFO in spec.inputs and made & RPN:
        return (
            "this net proposes regions and does not say what they show",
            "run it as a module, net(...), and give the regions to the net that scores them",
        )
    return None
