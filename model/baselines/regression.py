"""Logistic regression of cells: the supports as examples with soft targets, fitted by L-BFGS.

A point for each cell, with the share of each class in it as the target; the loss is the cross entropy of all cells and
a penalty on the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from model.episode import IGNORE

LEAST_KNOWN = 1e-6  # share of known pixels that a cell's shares are divided by at least
MAX_ROUNDS = 200  # of L-BFGS
PRECISION = 1e-6  # largest entry of the gradient at which it ends
LEAST_DEVIATION = 1e-6  # of the features, by which they are divided


@dataclass(frozen=True)
class Examples:
    """The cells of all supports, shot-major, then row-major, float32.

    Attributes:
        points: features (n, C).
        shares: of background and classes among a cell's known pixels, (n, N + 1); a row sums to 1, or is 0.
        weight: share of known pixels in a cell, (n,).
    """

    points: Tensor
    shares: Tensor
    weight: Tensor


def examples_of(supports: Sequence[tuple[Tensor, Tensor]], classes: int) -> Examples:
    """Return the cells of at least one support, of features (C, h, w) and a label map (H, W).

    Args:
        classes: N; labels are 0 background, 1..N, 255 unknown.
    """
    parts = [(x.flatten(1).T, *_shares(label, classes, x.shape[-2:])) for x, label in supports]
    points, shares, weight = (torch.cat(kind) for kind in zip(*parts))
    return Examples(points, shares, weight)


def _shares(label_hw: Tensor, classes: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the share of each class in the known part of each cell, (n, N + 1), and that part, (n,)."""
    of_class = torch.stack([label_hw == c for c in range(classes + 1)] + [label_hw != IGNORE]).float()
    *shares, known = F.adaptive_avg_pool2d(of_class, (size[0], size[1])).flatten(1)
    return torch.stack(shares, dim=1) / known.clamp(min=LEAST_KNOWN)[:, None], known


@dataclass(frozen=True)
class Head:
    """A linear map of features to the logits of background and N classes: ``weight`` (N + 1, C), ``bias`` (N + 1,)."""

    weight: Tensor
    bias: Tensor

    def logits(self, x_bchw: Tensor) -> Tensor:
        """Return the logits of each cell, (B, N + 1, h, w)."""
        return F.conv2d(x_bchw, self.weight[:, :, None, None], self.bias)


def fit(examples: Examples, penalty: float) -> Head:
    """Return the head of least mean cross entropy over the cells plus penalty / 2 times the squared weights.

    Background and classes count alike, however many cells show them. The weights of the penalty act on features of mean
    0 and mean square 1; the head has both built in. Without a cell of known pixels it says nothing. All is computed in
    float64 on the CPU, so that the order of the cells does not matter.
    """
    x, shares = examples.points.double().cpu(), _balanced(examples)
    importance = shares.sum(1)
    mean = importance @ x
    deviation = (importance @ (x - mean).square()).mean().sqrt().clamp(min=LEAST_DEVIATION)
    x = (x - mean) / deviation
    outputs, channels = shares.shape[1], x.shape[1]

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = torch.from_numpy(flat).view(outputs, channels + 1)
        weight, bias = parameters[:, :-1], parameters[:, -1]
        log_probability = torch.log_softmax(x @ weight.T + bias, dim=1)
        loss = penalty / 2 * weight.square().sum() - (shares * log_probability).sum()
        error = log_probability.exp() * importance[:, None] - shares  # (n, N + 1)
        gradient = torch.cat([error.T @ x + penalty * weight, error.sum(0)[:, None]], dim=1)
        return float(loss), gradient.numpy().ravel()

    from scipy.optimize import minimize

    start = np.zeros(outputs * (channels + 1))
    options = {"maxiter": MAX_ROUNDS, "ftol": 0, "gtol": PRECISION}
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    parameters = torch.from_numpy(found.x).view(outputs, channels + 1)
    weight = parameters[:, :-1] / deviation
    return Head(*(part.to(examples.points) for part in (weight, parameters[:, -1] - weight @ mean)))


def _balanced(examples: Examples) -> Tensor:
    """Return the weight of each class in each cell, (n, N + 1), of equal sum for all classes that exist, 1 in all."""
    weight = (examples.weight[:, None] * examples.shares).double().cpu()
    total = weight.sum(0)
    weight = weight / total.clamp(min=LEAST_KNOWN)
    return weight / (total > 0).sum().clamp(min=1)
