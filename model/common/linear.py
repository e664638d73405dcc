"""Linear classifiers of cells, and the optimiser that fits them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from torch import Tensor
from torch.nn import functional as F


class Head(NamedTuple):
    """A linear map of features to the logits of N classes: ``weight`` (N, C), ``bias`` (N,)."""

    weight: Tensor
    bias: Tensor

    def logits(self, x_bchw: Tensor) -> Tensor:
        """Return the logits of each cell, (B, N, h, w)."""
        return F.conv2d(x_bchw, self.weight[:, :, None, None], self.bias)


def minimise(
    loss_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, steps: int, tolerance: float
) -> np.ndarray:
    """Return where L-BFGS ends: at the largest entry of the gradient below ``tolerance``, or after so many steps."""
    from scipy.optimize import minimize

    options = {"maxiter": steps, "ftol": 0, "gtol": tolerance}
    return minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
