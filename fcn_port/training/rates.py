"""Caffe's learning rate policies (sgd_solver.cpp, GetLearningRate).

fixed      base_lr
step       base_lr gamma^floor(t / stepsize)
exp        base_lr gamma^t
inv        base_lr (1 + gamma t)^-power
multistep  base_lr gamma^k, where k counts the stepvalues that were reached
poly       base_lr (1 - t / max_iter)^power
sigmoid    base_lr / (1 + exp(-gamma (t - stepsize)))
"""

from __future__ import annotations

import math

import numpy as np

from converters.errors import CaffeFormatError
from converters.formats import SolverSpec

LARGEST = float(np.finfo(np.float32).max)
"""Of a rate: Caffe's numbers are float32."""


def learning_rate(spec: SolverSpec, iteration: int, *, current_step: int = 0) -> tuple[float, int]:
    """The rate of the update `iteration`, counted from 0, and Caffe's `current_step` after it.

    `current_step` is the one that the update before it gave; only `multistep` reads it, which moves on by at most one
    step in each update. Raises CaffeFormatError, a ValueError, where the policy gives no number that float32 holds, as
    `poly` after its max_iter.
    """
    base, gamma, t = spec.base_lr, spec.gamma, iteration
    if spec.lr_policy == "step":
        current_step = t // spec.stepsize
        rate = base * _power(gamma, current_step)
    elif spec.lr_policy == "multistep":
        if current_step < len(spec.stepvalue) and t >= spec.stepvalue[current_step]:
            current_step += 1
        rate = base * _power(gamma, current_step)
    elif spec.lr_policy == "exp":
        rate = base * _power(gamma, t)
    elif spec.lr_policy == "inv":
        rate = base * _power(1 + gamma * t, -spec.power)
    elif spec.lr_policy == "poly":
        rate = base * _power(1 - t / spec.max_iter, spec.power)
    elif spec.lr_policy == "sigmoid":
        rate = base * _sigmoid(gamma * (t - spec.stepsize))
    else:
        rate = base
    if not abs(rate) <= LARGEST:
        raise CaffeFormatError(
            f"lr_policy '{spec.lr_policy}' gives no learning rate at iteration {iteration}: {rate:g}",
            path=spec.path,
            hint="base_lr, gamma and power make a number that float32 holds, at each iteration until max_iter",
        )
    return rate, current_step


def _power(base: float, exponent: float) -> float:
    """base^exponent as C++ has it: infinite or NaN where Python would raise or turn complex."""
    with np.errstate(all="ignore"):
        return float(np.float64(base) ** np.float64(exponent))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0
