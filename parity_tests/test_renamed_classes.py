"""Classes under their former names: for one release they are there still, and say what they are called now."""

from __future__ import annotations

from importlib import import_module

import pytest

RENAMED = {
    "weights.Input": "InputRecipe",
    "weights.Patience": "RetryPolicy",
    "weights.download.Job": "TransferJob",
    "weights.records.Input": "InputRecipe",
    "fcn_port.evaluation.Plan": "EvaluationPlan",
    "fcn_port.evaluation.Task": "ScoringTask",
    "fcn_port.nets.parts.Concat": "ConcatChannels",
    "fcn_port.nets.parts.Convolution": "Conv",
    "fcn_port.nets.parts.Crop": "CropLike",
    "fcn_port.nets.parts.LRN": "ResponseNorm",
    "fcn_port.nets.parts.Scale": "ChannelScale",
    "fcn_port.nets.parts.Upsample": "BilinearUpsample",
    "fcn_port.training.Plan": "TrainingPlan",
    "fcn_port.training.Task": "TrainingTask",
}


@pytest.mark.parametrize("old", RENAMED)
def test_a_former_name_gives_the_class_and_a_warning(old: str) -> None:
    package, _, name = old.rpartition(".")
    module = import_module(package)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {package}.{RENAMED[old]}"):
        found = getattr(module, name)
    assert found is getattr(module, RENAMED[old]) and found.__name__ == RENAMED[old]
    assert name not in dir(module) and RENAMED[old] in dir(module)


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="'weights' has no attribute 'Impatience'"):
        import_module("weights").Impatience  # noqa: B018
