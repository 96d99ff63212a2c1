"""Live: Caffe's solvers do what golden/solver says."""

from __future__ import annotations

import numpy as np
import pytest

from parity_tests import solving
from parity_tests.goldens import GOLDEN
from parity_tests.oracle.client import Oracle
from parity_tests.oracle.record_solver import solve
from parity_tests.tolerances import tolerance

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("name", solving.CASES)
def test_caffe_solves_the_zoo_as_recorded(oracle: Oracle, name: str) -> None:
    with np.load(GOLDEN / "solver" / "zoo.npz") as arrays:
        recorded = {key: arrays[key] for key in arrays.files if key.startswith(f"{name}/")}
    found = {f"{name}/{key}": array for key, array in solve(oracle, solving.CASES[name]).items()}
    assert found.keys() == recorded.keys()
    for key, expected in recorded.items():
        assert np.linalg.norm(found[key] - expected) <= tolerance("oracle-live") * np.linalg.norm(expected), key
