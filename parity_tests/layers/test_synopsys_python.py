"""Synopsys' Python layers Eltwise and Reshape, worked in loops from python/eltwise.py and python/reshape.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from converters import NetError
from converters.net.layer import Layer
from parity_tests.layers.test_layers import make, run, values

BY_HAND = {
    0: lambda a, b: a * b,
    1: lambda a, b: 2 * a - 3 * b,
    2: max,
    3: lambda a, b: a / b,
    4: min,
}


def _python(name: str, settings: str = "", bottoms: int = 2) -> Layer:
    text = f'python_param {{ module: "m" layer: "{name}" param_str: "{settings}" }}'
    return make("Python", text, bottoms=bottoms)


def _at(x: torch.Tensor, place: tuple[int, ...]) -> float:
    """The number that is at a place of the top, axes aligned at the end, axes of size 1 spread."""
    own = place[len(place) - x.ndim :]
    return float(x[tuple(min(i, size - 1) for i, size in zip(own, x.shape, strict=True))])


@pytest.mark.parametrize("operation", range(5))
@pytest.mark.parametrize("shapes", [((2, 3, 4), (4,)), ((3,), (2, 3)), ((2, 3), (2, 3)), ((2, 1), (2, 3)), ((2,), ())])
def test_eltwise_spreads_the_smaller(operation: int, shapes: tuple[tuple[int, ...], ...]) -> None:
    a, b = (values(name, *shape) for name, shape in zip("ab", shapes, strict=True))
    top = run(_python("Eltwise", f"{{'operation': {operation}, 'coeff': [2, -3]}}"), a, b)[0]
    for place in np.ndindex(top.shape):
        expected = BY_HAND[operation](_at(a, place), _at(b, place))
        assert top[place] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_eltwise_refuses_what_the_source_cannot_assign() -> None:
    layer = _python("Eltwise", "{'operation': 0}")
    for a, b in (((1, 3), (3, 1)), ((2, 3), (2, 4)), ((5,), (2, 1))):
        with pytest.raises(ValueError, match="do not spread"):
            layer.top_shapes([a, b])
    with pytest.raises(NetError, match="operation is 7"):
        _python("Eltwise", "{'operation': 7}")
    with pytest.raises(NetError, match="expected two numbers"):
        _python("Eltwise", "{'operation': 1, 'coeff': [1]}")


def test_reshape_takes_its_shape_from_numbers() -> None:
    x = values("x", 2, 6)
    assert np.array_equal(run(_python("Reshape"), x, torch.tensor([2.0, 6.0]))[0], x.numpy())
    (other,) = _python("Reshape").forward((x, torch.tensor([3.0, 4.0])), ())
    assert np.array_equal(other.numpy(), x.numpy().ravel().reshape(3, 4))
    with pytest.raises(ValueError, match="only they tell"):
        _python("Reshape").top_shapes([(2, 6), (3,)])
