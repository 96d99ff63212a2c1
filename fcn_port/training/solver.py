"""Caffe's solvers as a torch.optim.Optimizer, for anybody's loop.

spec = read_solver("solver.prototxt")
solver = CaffeSolver(parameter_groups(net), spec)
for images, labels in batches:
    for part in parts(images, labels):              # iter_size of them; with 1, the batch itself
        softmax_with_loss(net(...), ..., normalization="BATCH_SIZE").backward()
    solver.step()
    solver.zero_grad()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from converters.formats import SolverSpec

from .rates import learning_rate
from .update_rules import RULES


class CaffeSolver(torch.optim.Optimizer):
    """One of Caffe's six solvers: the same weights, step by step, as Caffe 1.0.

    `params` are parameters, or groups with the multipliers `lr_mult` and `decay_mult` (1 by default), such as
    `parameter_groups` gives. Gradients are those of `iter_size` backward passes added up. A step clips them, divides
    them by iter_size, regularises, and applies the rule, in this order (sgd_solver.cpp, ApplyUpdate); as in Caffe, a
    parameter without a gradient counts as having one of zeros, and one whose lr_mult is 0 stays as it is, but for what
    is left of its momentum where it learned before; its gradient is clipped with the others where it is `forced`.
    Afterwards the gradients are the regularised ones that were applied, like Caffe's diffs.

    The learning rate follows the policy of `spec` and `iteration`, the number of updates so far. `rate` is that of the
    last update (of the first one, before it). There is no `lr` in the groups: a torch scheduler would not be obeyed,
    and so is refused.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[dict[str, Any]], spec: SolverSpec) -> None:
        super().__init__(params, {"lr_mult": 1.0, "decay_mult": 1.0, "forced": False})
        self.spec = spec
        self.iteration = 0
        self.current_step = 0
        self.rate, _ = learning_rate(spec, 0)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter; `closure` computes the loss again, as in every optimizer."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.rate, self.current_step = learning_rate(self.spec, self.iteration, current_step=self.current_step)
        scale = self._clip() / self.spec.iter_size
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad if group["lr_mult"] else self._learned(parameter):
                    self._update(parameter, scale, group["lr_mult"], group["decay_mult"])
        self.iteration += 1
        return loss

    def history(self, parameter: Tensor) -> tuple[Tensor, ...]:
        """The history blobs of a parameter, as Caffe keeps them; zeros before its first update."""
        state = self.state[parameter]
        if not state:
            for position in range(RULES[self.spec.type].histories):
                state[f"history{position}"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return tuple(state.values())

    def state_dict(self) -> dict[str, Any]:
        """As in every optimizer, with `iteration` and `current_step`."""
        return {**super().state_dict(), "iteration": self.iteration, "current_step": self.current_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the solver of `state_dict` was."""
        super().load_state_dict(state_dict)
        self.iteration, self.current_step = state_dict["iteration"], state_dict["current_step"]
        self.rate, _ = learning_rate(self.spec, self.iteration, current_step=self.current_step)

    def _learned(self, parameter: Tensor) -> bool:
        """True for a fixed blob that has a history of another time, by which Caffe moves it (ComputeUpdateValue)."""
        if parameter not in self.state:
            return False
        if any(bool(blob.any()) for blob in self.history(parameter)):
            return True
        del self.state[parameter]  # zeros: not looked at again
        return False

    def _update(self, parameter: Tensor, scale: float, lr_mult: float, decay_mult: float) -> None:
        g = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if scale != 1:
            g.mul_(scale)
        decay = self.spec.weight_decay * decay_mult
        if decay:  # in place, as in Caffe: a copy for fc6 would be 411 MB more, at the moment of the most memory
            g.add_(parameter if self.spec.regularization_type == "L2" else parameter.sign(), alpha=decay)
        rule = RULES[self.spec.type]
        parameter.sub_(rule.step(g, self.history(parameter), self.rate * lr_mult, self.spec, self.iteration))

    def _clip(self) -> float:
        """The factor for gradients, so that the norm of them all, undivided, is at most clip_gradients."""
        if self.spec.clip_gradients < 0:
            return 1.0
        gradients = [
            parameter.grad
            for group in self.param_groups
            if group["lr_mult"] or group.get("forced")
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if not gradients:
            return 1.0
        device = gradients[0].device
        norm = float(torch.stack([gradient.norm().to(device) for gradient in gradients]).norm())
        return self.spec.clip_gradients / norm if norm > self.spec.clip_gradients else 1.0
