"""The options --flip, --scales, --resize and --crf: what a net sees of an image, the same in every verb that labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .inspect import SizeParam
from .option_groups import with_options

if TYPE_CHECKING:
    from ..any_net import LoadedNet
    from ..evaluation.predicting import Refinement
    from ..predict.views import Views

_OPTIONS = (
    click.option("--flip", is_flag=True, help="Average the probabilities of the image and of its mirror image."),
    click.option("--scales", metavar="S,S...", help="Average over the image at these sizes, such as 0.75,1,1.25."),
    click.option(
        "--resize", type=SizeParam(), help="Let the net see the image at this size; the answer is at the image's.",
    ),
    click.option("--crf", is_flag=True, help="Refine labels by a dense CRF: like colours nearby get like labels."),
)  # fmt: skip


def refine_options(command: Any) -> Any:
    """The options on a verb."""
    return with_options(command, _OPTIONS)


def views_of(flip: bool, scales: str | None, size: tuple[int, int] | None) -> Views:
    """The views that --flip and --scales ask for; BadParameter for what are no scales."""
    from ..predict.views import Views

    try:
        return Views(flip, (1.0,) if scales is None else tuple(float(part) for part in scales.split(",")), size)
    except ValueError as error:
        said = f"{scales}: expected numbers from above 0 to 16, such as 0.75,1,1.25"
        raise click.BadParameter(said, param_hint="'--scales'") from error


def check_crf(net: LoadedNet, *, wanted: bool) -> None:
    """UsageError for --crf where the net gives nothing that a CRF refines."""
    from ..predict.meaning import outputs_of

    found = list(outputs_of(net).expected.values())
    if wanted and found and not any(each.kind in ("scores", "probabilities") for each in found):
        raise click.UsageError(
            f"--crf refines scores or probabilities of classes; this net's output is {found[0].said}"
        )


def refinement(given: dict[str, Any]) -> Refinement:
    """The refinement that the options ask for; their values are taken out of `given`."""
    from ..evaluation.predicting import Refinement
    from ..predict.dense_crf import DenseCrf

    views = views_of(given.pop("flip"), given.pop("scales"), given.pop("resize"))
    return Refinement(views, DenseCrf() if given.pop("crf") else None)
