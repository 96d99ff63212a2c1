"""A dense CRF over the labels of an image: neighbours and pixels of like colour get like labels.

Mean field inference as CRF-RNN does it, by the project's own MultiStageMeanfield (converters/layers/meanfield.py),
which gives what that layer gives in Caffe. Its filters are those of the permutohedral lattice, an approximation of
Gaussians that Kraehenbuehl and Koltun's program uses too; it normalizes after filtering, theirs by default on both
sides. The settings are CRF-RNN's (torrvision/crfasrnn, TVG_CRFRNN_new_deploy.prototxt, inference1, and its spatial and
bilateral weights before training).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from converters.errors import NetError
from converters.layers import find_layer
from converters.lazy import import_or_say

from .meaning import OutputMeaning
from .reading import ReadOutput
from .views import probabilities

if TYPE_CHECKING:
    from torch import Tensor

_LEAST = 1e-10
"""The least probability, so that its logarithm is a number."""


@dataclass(frozen=True)
class DenseCrf:
    """The settings: steps; deviations of the bilateral filter in pixels (alpha) and in colour of 255 (beta), and of
    the spatial one in pixels (gamma); the weights of both.
    """

    iterations: int = 10
    alpha: float = 160.0
    beta: float = 3.0
    gamma: float = 3.0
    bilateral: float = 5.0
    spatial: float = 3.0

    def refined(self, read: ReadOutput, pixels: np.ndarray) -> ReadOutput:
        """The marginals of the CRF for scores or probabilities of an image (h, w, 3) uint8; others stay as they are."""
        if read.meaning.kind not in ("scores", "probabilities"):
            if read.meaning.kind == "labels":
                raise NetError("the net gives labels and no scores, which a CRF begins with")
            return read
        torch = import_or_say("torch", "a dense CRF")
        meaning, p = probabilities(read)
        marginals = torch.softmax(self.infer(torch.as_tensor(p).float().clamp(min=_LEAST).log(), pixels), 0)
        return ReadOutput(OutputMeaning("probabilities", "Softmax", meaning.channels), marginals, read.coarse)

    def infer(self, unary: Tensor, pixels: np.ndarray) -> Tensor:
        """The unnormalized logarithms (classes, h, w) after the last step; `unary` are those before the first."""
        import torch

        kind: Any = find_layer("MultiStageMeanfield")
        layer = kind(self.iterations, self.alpha, self.beta, self.gamma)
        one = torch.eye(len(unary), device=unary.device)
        image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float().to(unary.device)
        with torch.inference_mode():
            weights = (self.spatial * one, self.bilateral * one, -one)  # -1: different labels cost, as Potts has it
            (found,) = layer.forward((unary[None], unary[None], image), weights)
        values: Tensor = found[0]
        return values
