"""The net of a training, its losses and its inputs, as recipe or prototxt, data set and a person's changes say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from weights.catalogue import releases
from weights.records import Preprocessing

from ..data.frequencies import median_frequency_weights
from ..data.inputs import inputs_of
from ..data.records import DataSet
from ..nets import NETS, Widths, recognise
from ..surgery import StateDict
from .changes import NO_CHANGES, Changes
from .choices import Multiplier
from .data_layer import LayerReading
from .errors import TrainingError
from .losses import LossChoice, chosen
from .multipliers import parameter_groups
from .recipe import Recipe
from .source import TrainingSource
from .task import TrainingTask, task_for, task_of
from .transforms import Variation, reading_of, transforms_of, variation_in


def net_and_losses(
    source: TrainingSource, data: DataSet, *, changes: Changes = NO_CHANGES, weights: Sequence[StateDict] = ()
) -> TrainingTask:
    """The net and its losses; `weights` are those that it is to begin with.

    Raises TrainingError where a recipe's net or a chosen loss does not fit.
    """
    normalization = changes.normalization or source.gathering.normalization
    if source.net is not None:
        task = task_of(source.net)
        if changes.normalization is not None:
            if named := [loss.name for loss in task.losses if loss.by_images]:
                raise TrainingError(
                    f"--normalization: loss '{named[0]}' is one that Caffe divides by the images, whatever is asked for"
                )
            task = replace(task, losses=tuple(replace(loss, normalization=normalization) for loss in task.losses))
    else:
        assert source.recipe is not None
        net = _build(source.recipe, data, weights)
        ignored = source.recipe.ignore_label
        task = task_for(net, list(data.classes), normalization=normalization, ignore_label=ignored)
    return replace(task, losses=chosen(task.losses, _loss_choice(source, data, changes)))


def _loss_choice(source: TrainingSource, data: DataSet, changes: Changes) -> LossChoice:
    """The loss that a person chose, else that of the recipe."""
    recipe = source.recipe
    weights: tuple[float, ...] | str = changes.class_weights or ()
    if changes.class_weights is None and recipe is not None:
        weights = "median" if recipe.median_frequency else recipe.class_weights
    if weights == "median":
        if len(data.classes) != 1:
            raise TrainingError(f"class weights are for one labelling; {data.title} has {len(data.classes)}")
        weights = median_frequency_weights(data)
    gamma = changes.gamma
    if gamma is None and recipe is not None and changes.loss in (None, recipe.loss):
        gamma = recipe.gamma  # which is of the recipe's own loss
    return LossChoice(
        name=changes.loss or (recipe.loss if recipe is not None else None),
        class_weights=tuple(float(value) for value in weights),
        gamma=gamma,
        balanced=changes.balance,
    )


def _build(recipe: Recipe, data: DataSet, weights: Sequence[StateDict]) -> nn.Module:
    """The hand-written net for the classes of the data set: the recipe's, or the one that the first weights are of."""
    if recipe.net not in NETS:
        raise TrainingError(f"recipe {recipe.name}: there is no net '{recipe.net}'; known: {', '.join(NETS)}")
    make, number = NETS[recipe.net].make, NETS[recipe.net].num_classes
    settings: dict[str, Any] = {}
    if recipe.net_of_init and len(weights) == 1:
        shapes = {key: tuple(value.shape) for key, value in weights[0].items()}
        if (known := recognise(shapes)) is not None:
            make, settings = type(known), type(known).settings_of(shapes)
            number = settings["num_classes"]
    heads = {head: len(names) for head, names in data.classes.items()}
    several = isinstance(number, Mapping)
    wanted = {head.removeprefix("score_"): count for head, count in heads.items()}
    if several != (set(heads) != {"score"}) or (several and set(wanted) != set(number)):  # type: ignore[arg-type]
        raise TrainingError(f"net {recipe.net} does not score what {data.title} is labelled for: {', '.join(heads)}")
    settings["num_classes"] = wanted if several else heads["score"]
    if recipe.widths:
        if len(recipe.widths) != len(Widths()):
            raise TrainingError(f"recipe {recipe.name}: widths are those of {', '.join(Widths._fields)}")
        settings["widths"] = Widths(*recipe.widths)
    try:
        net = make(**settings)
    except TypeError as error:
        raise TrainingError(f"recipe {recipe.name}: net {recipe.net} has no widths to choose") from error
    if recipe.dropout is not None:
        for layer in net.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = recipe.dropout
    return net


def groups_of(task: TrainingTask, patterns: Mapping[str, Mapping[Multiplier, float]]) -> list[dict[str, Any]]:
    """The groups of the solver; blobs that do not learn need no gradients."""
    groups = parameter_groups(task.net, task.spec)
    for pattern, multipliers in patterns.items():
        chosen = [group for group in groups if fnmatchcase(group["name"], pattern)]
        if not chosen:
            raise TrainingError(f"multipliers: the net has no blob '{pattern}'")
        for group in chosen:
            group.update({str(name): value for name, value in multipliers.items()})
    for group in groups:
        group["params"][0].requires_grad_(group["lr_mult"] != 0 or group["forced"])
    return groups


def preprocessing_for(source: TrainingSource, task: TrainingTask, data: DataSet, changes: Changes) -> Preprocessing:
    """The ways to make the net's inputs: as a person says, as its data layer says, as the data set says."""
    return changes.inputs.applied(_preprocessing(source, task, data))


def _preprocessing(source: TrainingSource, task: TrainingTask, data: DataSet) -> Preprocessing:
    """The ways to make the net's inputs: as for the release of that name, else by the names of its inputs."""
    release = releases().get(source.recipe.net) if source.recipe is not None else None
    known = data.recipes
    wanted = () if release is None or release.preprocessing is None else release.preprocessing.inputs
    if wanted and all(each.kind in known for each in wanted):
        return Preprocessing(tuple(replace(known[each.kind], name=each.name) for each in wanted))
    found = inputs_of(data, task.net.inputs)  # type: ignore[arg-type]
    said = {} if source.net is None else transforms_of(source.net)
    return Preprocessing(tuple(said[each.name].recipe(each) if each.name in said else each for each in found.inputs))


def reading_for(source: TrainingSource, task: TrainingTask, changes: Changes) -> LayerReading:
    """The rest of what a net's data layer does; a mean or a size that a person gave stands in for the layer's."""
    found = LayerReading() if source.net is None else reading_of(transforms_of(source.net), task.inputs)
    return LayerReading(
        found.size if changes.resize is None else None, found.means if changes.inputs.mean is None else {}
    )


def variation_of(source: TrainingSource, changes: Changes, inputs: Collection[str]) -> Variation:
    """The crops, mirrors and scales of images: as a person says, else as the layers of these inputs or the recipe."""
    found = Variation()
    if source.recipe is not None:
        found = Variation(source.recipe.crop, source.recipe.mirror, source.recipe.scales)
    elif source.net is not None:
        found = variation_in(transforms_of(source.net), inputs)
    return Variation(
        crop=found.crop if changes.crop is None else changes.crop,
        mirror=found.mirror if changes.mirror is None else changes.mirror,
        scales=changes.scales or found.scales,
        size=changes.resize,
    )
