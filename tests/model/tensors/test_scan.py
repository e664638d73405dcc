"""The scan in blocks equals the formula token by token, in outputs and all gradients."""

import pytest
import torch
from torch import Tensor

from model.tensors import scan as scan_module
from model.tensors.scan import Recap, Sequences, scan

ROWS, CHANNELS, STATE = 3, 7, 5
CLOSE = {torch.float64: 1e-13, torch.float32: 1e-6}  # of a tensor's norm


def plain_scan(x: Sequences, recap: Recap | None = None) -> tuple[Tensor, Tensor]:
    """Return what ``scan`` does token by token, as the formula has it."""
    tokens = x.u.shape[1]
    state = torch.zeros_like(x.a)
    out = []
    for t in range(tokens):
        if recap is not None and t % (tokens // recap.windows) == 0:
            state = recap.decay * state + recap.state
        decay = torch.exp(x.delta[:, t, None] * x.a)
        state = decay * state + (x.delta * x.u)[:, t, None] * x.b[:, t, :, None]
        out.append((state * x.c[:, t, :, None]).sum(1))
    return torch.stack(out, dim=1), state


def results(function, tensors: list[Tensor], windows: int) -> list[Tensor]:
    """Return outputs and gradients of all inputs, those of a recap where windows follow one."""
    y, last = function(Sequences(*tensors[:5]), Recap(*tensors[5:], windows) if windows else None)
    of_y = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y).cos()
    of_last = torch.linspace(0, 3, last.numel(), dtype=y.dtype).view_as(last).sin()
    gradients = torch.autograd.grad([y, last], tensors if windows else tensors[:5], [of_y, of_last])
    return [y, last, *gradients]


@pytest.mark.parametrize("one_lane", [("cpu",), ()])
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(
    ("tokens", "windows"),  # 0: without a recap
    [(1, 0), (20, 0), (36, 0), (1, 1), (25, 25), (49, 7), (80, 16), (112, 16)],
)
def test_the_scan_in_blocks_is_the_plain_one(
    tokens: int, windows: int, dtype: torch.dtype, one_lane: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "ONE_LANE", one_lane)
    monkeypatch.setattr(scan_module, "AT_ONCE", 2 * tokens * CHANNELS * STATE)  # two sequences, then one
    torch.manual_seed(0)
    of_token, of_state = (ROWS, tokens), (ROWS, STATE, CHANNELS)
    tensors = [
        torch.randn(*of_token, CHANNELS),
        torch.rand(*of_token, CHANNELS) / 2 + 0.01,
        -3 * torch.rand(of_state) - 0.1,
        torch.randn(*of_token, STATE),
        torch.randn(*of_token, STATE),
        torch.rand(of_state),
        torch.randn(of_state),
    ]
    tensors = [x.to(dtype).requires_grad_() for x in tensors]
    for given, wanted in zip(results(scan, tensors, windows), results(plain_scan, tensors, windows), strict=True):
        assert (given - wanted).norm() <= CLOSE[dtype] * wanted.norm() + CLOSE[dtype]
