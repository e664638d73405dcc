"""Linear classifiers of cells, and the regression that fits them."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class LinearHead(NamedTuple):
    """A linear map of features to the logits of N classes: ``weight`` (N, C), ``bias`` (N,)."""

    weight: Tensor
    bias: Tensor

    def logits(self, x_bchw: Tensor) -> Tensor:
        """Return the logits of each cell, (B, N, h, w)."""
        return F.conv2d(x_bchw, self.weight[:, :, None, None], self.bias)


def logistic(x_nc: Tensor, y_nt: Tensor, rows: int, *, penalty: float, steps: int, tolerance: float) -> LinearHead:
    """Return the logistic regression (rows, C) of least cross entropy plus penalty / 2 times the squared weights.

    It begins at 0, computed as x is with parameters in float64; L-BFGS ends at the largest entry of the gradient below
    ``tolerance``. ``y`` has each target's share of a cell, times the cell's weight. With t - 1 rows the first logit is
    0.
    """
    from scipy.optimize import minimize

    channels = x_nc.shape[1]
    shape = (rows, channels + 1)
    weight_n1 = y_nt.sum(1, keepdim=True)

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = torch.from_numpy(flat).view(shape).split([channels, 1], 1)
        logits = torch.addmm(bias[:, 0].to(x_nc), x_nc, weight.T.to(x_nc))
        log_probability = F.pad(logits, (y_nt.shape[1] - rows, 0)).log_softmax(1)
        entropy = (y_nt * log_probability).sum(dtype=torch.float64)
        loss = penalty / 2 * weight.square().sum() - entropy
        probability = log_probability.exp()
        error = (probability * weight_n1 - y_nt)[:, -rows:]
        of_weight = (error.T @ x_nc).double() + penalty * weight
        of_bias = error.sum(0).double()
        gradient = torch.cat([of_weight, of_bias[:, None]], 1)
        return float(loss), gradient.numpy().ravel()

    options = {"maxiter": steps, "ftol": 0, "gtol": tolerance}
    start = np.zeros(rows * (channels + 1))
    fitted = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    weight, bias = torch.from_numpy(fitted.x).view(shape).split([channels, 1], 1)
    return LinearHead(weight, bias[:, 0])
