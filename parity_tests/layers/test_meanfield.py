"""CRF-RNN's mean field against the source's steps written out, point by point, with a dict for its hash table."""

from __future__ import annotations

from math import exp, sqrt

import numpy as np
import pytest
import torch

from converters import NetError
from converters.layers.lattice import lattice
from parity_tests.layers.test_layers import make, run, values

F = np.float32


class ByHand:
    """modified_permutohedral.cpp, init and seqCompute, for one point after the other."""

    def __init__(self, features: np.ndarray) -> None:
        self.count, d = features.shape
        self.d = d
        points = np.concatenate([features, np.zeros((-self.count % 4, d))]).astype(F)
        canonical = [[r if j <= d - r else r - (d + 1) for j in range(d + 1)] for r in range(d + 1)]
        scale = [F(1 / sqrt((i + 2) * (i + 1)) * sqrt(2 / 3) * (d + 1)) for i in range(d)]
        self.table: dict[tuple, int] = {}
        self.corners: list[list[tuple[int, float]]] = []
        for point in points:
            elevated, total = [F(0)] * (d + 1), F(0)
            for j in range(d, 0, -1):
                part = point[j - 1] * scale[j - 1]
                elevated[j] = total - F(j) * part
                total += part
            elevated[0] = total
            rounded = [int(np.rint(value / F(d + 1))) for value in elevated]
            zero, rank = [each * (d + 1) for each in rounded], [0] * (d + 1)
            for i in range(d):
                for j in range(i + 1, d + 1):
                    rank[i if elevated[i] - zero[i] < elevated[j] - zero[j] else j] += 1
            for i in range(d + 1):
                rank[i] += sum(rounded)
                move = (d + 1) * ((rank[i] < 0) - (rank[i] > d))
                rank[i], zero[i] = rank[i] + move, zero[i] + move
            share = [F(0)] * (d + 2)
            for i in range(d + 1):
                value = (elevated[i] - zero[i]) / F(d + 1)
                share[d - rank[i]] += value
                share[d - rank[i] + 1] -= value
            share[0] += 1 + share[d + 1]
            keys = [tuple(zero[i] + canonical[r][rank[i]] for i in range(d)) for r in range(d + 1)]
            self.corners.append([(self.table.setdefault(key, len(self.table)), share[r]) for r, key in enumerate(keys)])

    def filter(self, values_: np.ndarray) -> np.ndarray:
        on = np.zeros((len(self.table), values_.shape[1]))
        for corners, value in zip(self.corners, values_, strict=False):
            for vertex, share in corners:
                on[vertex] += share * value
        for axis in range(self.d + 1):
            after = on.copy()
            for key, vertex in self.table.items():
                for sign in (1, -1):
                    other = [k - sign for k in key]
                    if axis < self.d:
                        other[axis] = key[axis] + sign * self.d
                    if tuple(other) in self.table:
                        after[vertex] += 0.5 * on[self.table[tuple(other)]]
            on = after
        alpha = 1 / (1 + 2**-self.d)
        return np.array([sum(share * on[v] for v, share in corners) * alpha for corners in self.corners[: self.count]])


@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize("count", [7, 24])
def test_the_lattice_filters_as_the_source_does(d: int, count: int) -> None:
    features, x = values("features", count, d) * 2, values("x", count, 3)
    expected = ByHand(features.numpy()).filter(x.numpy())
    np.testing.assert_allclose(lattice(features).filter(x).numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("apart", [500, 2000, 20_000])
def test_points_far_apart(apart: int) -> None:
    """As of an image of 16 bits where a theta is meant for 8: what numbered vertices ran over, first in silence."""
    features, x = values("features", 24, 5) * 2, values("x", 24, 3)
    features[::2] += torch.tensor([0, 0, apart, -apart, apart])
    expected = ByHand(features.numpy()).filter(x.numpy())
    np.testing.assert_allclose(lattice(features).filter(x).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_filter_is_close_to_a_gaussian() -> None:
    """What the lattice is for: exp(-|a - b|^2 / 2) between points, normalized."""
    features = values("features", 60, 2)
    ours = lattice(features).filter(torch.eye(60)).numpy()
    exact = np.array([[exp(-float((a - b).square().sum()) / 2) for b in features] for a in features])
    ours, exact = (matrix / matrix.sum(1, keepdims=True) for matrix in (ours, exact))
    assert np.corrcoef(ours.ravel(), exact.ravel())[0, 1] > 0.97


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(0))
    return e / e.sum(0)


def test_mean_field() -> None:
    """multi_stage_meanfield.cpp and meanfield_iteration.cpp, Forward_cpu."""
    c, h, w = 3, 5, 6
    unary, begin, image = values("u", 1, c, h, w), values("b", 1, c, h, w), values("i", 1, 3, h, w) * 4
    blobs = tuple(values(name, 1, 1, c, c) for name in "sbc")
    settings = "num_iterations: 3 theta_alpha: 2.5 theta_beta: 3 theta_gamma: 1.5"
    layer = make("MultiStageMeanfield", f"multi_stage_meanfield_param {{ {settings} }}", bottoms=3)
    places = np.array([(x, y) for y in range(h) for x in range(w)], F)
    colours = image.numpy()[0].reshape(3, -1).T
    filters = [ByHand(places / F(1.5)), ByHand(np.concatenate([places / F(2.5), colours / F(3)], 1))]
    norms = [1 / (each.filter(np.ones((h * w, 1))) + 1e-20) for each in filters]
    now, fixed = begin.numpy()[0].reshape(c, -1), unary.numpy()[0].reshape(c, -1)
    s, b, compatibility = (blob.numpy()[0, 0] for blob in blobs)
    for _ in range(3):
        likely = softmax(now).T
        message = s @ (filters[0].filter(likely) * norms[0]).T + b @ (filters[1].filter(likely) * norms[1]).T
        now = fixed - compatibility @ message
    top = run(layer, unary, begin, image, blobs=blobs)[0]
    np.testing.assert_allclose(top.reshape(c, -1), now, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("settings", ["num_iterations: 1", "num_iterations: 5 theta_beta: 0"])
def test_refusals(settings: str) -> None:
    with pytest.raises(NetError, match="num_iterations"):
        make("MultiStageMeanfield", f"multi_stage_meanfield_param {{ {settings} }}", bottoms=3)
