"""Caffe's update rules: the gradient of a blob in, the step to subtract from it out (solvers/*_solver.cpp).

`g` is the gradient, normalised and regularised; `rate` is lr lr_mult. The history blobs h are zeros at first, are
changed in place, and are the ones that Caffe keeps in a .solverstate. The learning rate is inside the momentum
buffer: PyTorch's own SGD multiplies on the way out, and differs as soon as the rate changes.

    SGD        h = m h + rate g                                             step h
    Nesterov   h' = m h + rate g                                            step (1 + m) h' - m h
    AdaGrad    h = h + g^2                                                  step rate g / (sqrt(h) + delta)
    RMSProp    h = d h + (1 - d) g^2                                        step rate g / (sqrt(h) + delta)
    AdaDelta   h = m h + (1 - m) g^2, u = g sqrt((k + delta) / (h + delta))
               k = m k + (1 - m) u^2                                        step rate u
    Adam       h = m h + (1 - m) g, k = m2 k + (1 - m2) g^2
               c = sqrt(1 - m2^t) / (1 - m^t), t from 1                     step rate c h / (sqrt(k) + delta)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from converters.formats import SolverSpec


class Rule(NamedTuple):
    """An update rule: how many history blobs it keeps for each blob, and the function that gives its step.

    `step(g, history, rate, spec, t)`: `t` counts the updates from 0.
    """

    histories: int
    step: Callable[[Tensor, Sequence[Tensor], float, SolverSpec, int], Tensor]


def sgd(g: Tensor, history: Sequence[Tensor], rate: float, spec: SolverSpec, t: int) -> Tensor:
    (h,) = history
    return h.mul_(spec.momentum).add_(g, alpha=rate)


def nesterov(g: Tensor, history: Sequence[Tensor], rate: float, spec: SolverSpec, t: int) -> Tensor:
    (h,) = history
    step_back = h * -spec.momentum
    h.mul_(spec.momentum).add_(g, alpha=rate)
    return step_back.add_(h, alpha=1 + spec.momentum)


def adagrad(g: Tensor, history: Sequence[Tensor], rate: float, spec: SolverSpec, t: int) -> Tensor:
    (h,) = history
    h.addcmul_(g, g)
    return g.div(h.sqrt().add_(spec.delta)).mul_(rate)


def rmsprop(g: Tensor, history: Sequence[Tensor], rate: float, spec: SolverSpec, t: int) -> Tensor:
    (h,) = history
    h.mul_(spec.rms_decay).addcmul_(g, g, value=1 - spec.rms_decay)
    return g.div(h.sqrt().add_(spec.delta)).mul_(rate)


def adadelta(g: Tensor, history: Sequence[Tensor], rate: float, spec: SolverSpec, t: int) -> Tensor:
    h, k = history
    h.mul_(spec.momentum).addcmul_(g, g, value=1 - spec.momentum)
    u = k.add(spec.delta).div_(h + spec.delta).sqrt_().mul_(g)
    k.mul_(spec.momentum).addcmul_(u, u, value=1 - spec.momentum)
    return u.mul_(rate)


def adam(g: Tensor, history: Sequence[Tensor], rate: float, spec: SolverSpec, t: int) -> Tensor:
    h, k = history
    h.mul_(spec.momentum).add_(g, alpha=1 - spec.momentum)
    k.mul_(spec.momentum2).addcmul_(g, g, value=1 - spec.momentum2)
    correction = math.sqrt(1 - spec.momentum2 ** (t + 1)) / (1 - spec.momentum ** (t + 1))
    return h.div(k.sqrt().add_(spec.delta)).mul_(rate * correction)


RULES: Mapping[str, Rule] = {
    "SGD": Rule(1, sgd),
    "Nesterov": Rule(1, nesterov),
    "AdaGrad": Rule(1, adagrad),
    "RMSProp": Rule(1, rmsprop),
    "AdaDelta": Rule(2, adadelta),
    "Adam": Rule(2, adam),
}
"""By Caffe's `type`."""
