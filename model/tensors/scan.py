"""The selective scan of state-space models, exact and without a kernel of its own: chunks of a sequence in two passes.

h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t with h_0 = 0, and y_t = sum_n C_t h_t. The chunks are passed together,
first each from a state of 0, which gives what it adds to the state, then from the state with which it truly begins. The
backward pass keeps the latter alone. Only of some sequences at a time a tensor has the size of all states.
Shape letters: R sequences, W windows, L tokens of them all, D channels, N numbers of a channel's state, T steps.
Source: Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces (arXiv 2312.00752).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model.tensors.ops import joined

AT_ONCE, AT_ONCE_ON_GPU = 2**22, 2**28  # values of the states of all tokens that are computed together


@dataclass(frozen=True)
class Recap:
    """The states that a sequence sees before each of its windows: h <- decay h + state."""

    decay: Tensor  # (R, N, D)
    state: Tensor  # (R, N, D)
    windows: int


@dataclass(frozen=True)
class Sequences:
    """R sequences and what the scan reads of each token."""

    u: Tensor  # (R, L, D)
    delta: Tensor  # (R, L, D), positive
    a: Tensor  # (R, N, D), negative
    b: Tensor  # (R, L, N)
    c: Tensor  # (R, L, N)


def scan(x: Sequences, recap: Recap | None = None) -> tuple[Tensor, Tensor]:
    """Return y (R, L, D) and the last state (R, N, D), in the type of the sequences; all inputs have gradients."""
    if recap is None:
        recap = Recap(torch.zeros_like(x.a), torch.zeros_like(x.a), windows=1)  # the whole sequence begins with 0
    y, last = _Scan.apply(*_tensors(x, recap), recap.windows)
    return y, last


class _Chunks:
    """The tokens of some sequences, chunk beside chunk: step t of all C chunks is (R, C, ...)."""

    def __init__(self, tokens: int, windows: int):
        self.tokens, self.windows = tokens, windows
        self.window = tokens // windows
        self.of_window = max(round(self.window / math.sqrt(tokens)), 1)  # chunks, near the square root in length
        self.steps = -(-self.window // self.of_window)
        self.count = windows * self.of_window

    def cut(self, x_rlc: Tensor) -> Tensor:
        """Return (T, R, C, ...); chunks at the end of a window are filled up with 0, which leave states as they are."""
        windows = x_rlc.unflatten(1, (self.windows, self.window))
        filled = F.pad(windows, (0, 0, 0, self.of_window * self.steps - self.window))
        chunks = filled.unflatten(2, (self.of_window, self.steps)).flatten(1, 2)
        return chunks.permute(2, 0, 1, 3).contiguous()

    def join(self, x_trcd: Tensor) -> Tensor:
        """Return (R, L, ...), the inverse of ``cut``."""
        chunks = x_trcd.permute(1, 2, 0, 3).unflatten(1, (self.windows, self.of_window))
        return chunks.flatten(2, 3)[:, :, : self.window].flatten(1, 2)

    def begins_window(self, chunk: int) -> bool:
        return chunk % self.of_window == 0


def _outer(of_state_rcn: Tensor, of_channel_rcd: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors whose product is (R, C, N, D)."""
    return of_state_rcn.unsqueeze(3), of_channel_rcd.unsqueeze(2)


def _sum_over_state(of_state_rcn: Tensor, x_rcnd: Tensor) -> Tensor:
    """Return sum_n w_n x_n, (R, C, D)."""
    return torch.matmul(of_state_rcn.unsqueeze(2), x_rcnd).squeeze(2)


def _sum_over_channels(x_rcnd: Tensor, of_channel_rcd: Tensor) -> Tensor:
    """Return sum_d x_d w_d, (R, C, N)."""
    return torch.matmul(x_rcnd, of_channel_rcd.unsqueeze(3)).squeeze(3)


class _Room:
    """Memory for tensors of all states, which the sequences that are computed after each other share."""

    def __init__(self) -> None:
        self._rooms: dict[str, Tensor] = {}

    def empty(self, name: str, like: Tensor, *shape: int) -> Tensor:
        """Return an uninitialised tensor, in the memory of the last one of this name."""
        size = math.prod(shape)
        if name not in self._rooms:
            self._rooms[name] = like.new_empty(size)
        return self._rooms[name][:size].view(shape)


def _decays(delta: Tensor, a_rnd: Tensor, room: _Room) -> Tensor:
    """Return exp(Delta A), (T, R, C, N, D), from Delta (T, R, C, D)."""
    out = room.empty("decay", delta, *delta.shape[:-1], *a_rnd.shape[1:])
    return torch.mul(delta.unsqueeze(-2), a_rnd.unsqueeze(1), out=out).exp_()


def _forward(x: Sequences, recap: Recap, room: _Room) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (R, L, D), the last state (R, N, D) and the states with which chunks begin (R, C, N, D)."""
    chunks = _Chunks(x.u.shape[1], recap.windows)
    delta, b, c = (chunks.cut(of_tokens) for of_tokens in (x.delta, x.b, x.c))
    added = delta * chunks.cut(x.u)
    decay = _decays(delta, x.a, room)
    end = torch.zeros_like(decay[0])
    for t in range(chunks.steps):
        end.mul_(decay[t]).addcmul_(*_outer(b[t], added[t]))

    whole_decay = torch.exp(delta.sum(0).unsqueeze(2) * x.a.unsqueeze(1))
    begin = torch.empty_like(end)
    last = torch.zeros_like(x.a)
    for chunk in range(chunks.count):
        if chunks.begins_window(chunk):
            last = recap.decay * last + recap.state
        begin[:, chunk] = last
        last = whole_decay[:, chunk] * last + end[:, chunk]

    state = end.copy_(begin)
    y = torch.empty_like(added)
    for t in range(chunks.steps):
        state.mul_(decay[t]).addcmul_(*_outer(b[t], added[t]))
        y[t] = _sum_over_state(c[t], state)
    return chunks.join(y), last, begin


def _backward(x: Sequences, recap: Recap, begin: Tensor, of_outputs: Sequence[Tensor], room: _Room) -> list[Tensor]:
    """Return the gradients of ``_tensors`` from those of y and of the last state."""
    of_y, of_last = of_outputs
    chunks = _Chunks(x.u.shape[1], recap.windows)
    u, delta, b, c, of_y = (chunks.cut(of_tokens) for of_tokens in (x.u, x.delta, x.b, x.c, of_y))
    added = delta * u
    decay = _decays(delta, x.a, room)

    # All states again, and what of y reaches the state with which a chunk begins.
    states = room.empty("states", begin, chunks.steps + 1, *begin.shape)
    states[0] = begin
    whole_decay = torch.ones_like(begin)
    reaches = torch.zeros_like(begin)
    buffer = torch.empty_like(begin)
    for t in range(chunks.steps):
        torch.mul(states[t], decay[t], out=states[t + 1]).addcmul_(*_outer(b[t], added[t]))
        whole_decay.mul_(decay[t])
        torch.mul(*_outer(c[t], of_y[t]), out=buffer)
        reaches.addcmul_(whole_decay, buffer)

    # The gradient of the state with which each chunk ends, from the last chunk to the first.
    of_end = torch.empty_like(begin)
    of_decay, of_state = torch.zeros_like(x.a), torch.zeros_like(x.a)
    of_previous = of_last
    for chunk in reversed(range(chunks.count)):
        of_end[:, chunk] = of_previous
        of_previous = whole_decay[:, chunk] * of_previous + reaches[:, chunk]
        if chunks.begins_window(chunk):
            of_state += of_previous
            if chunk > 0:
                of_decay += of_previous * states[-1][:, chunk - 1]
            of_previous = recap.decay * of_previous

    # Token by token, from the last of each chunk to the first.
    of_h = of_end
    of_added, of_delta = torch.empty_like(added), torch.empty_like(delta)
    of_b, of_c = torch.empty_like(b), torch.empty_like(c)
    of_a = torch.zeros_like(begin)
    for t in reversed(range(chunks.steps)):
        of_h.addcmul_(*_outer(c[t], of_y[t]))
        of_c[t] = _sum_over_channels(states[t + 1], of_y[t])
        of_b[t] = _sum_over_channels(of_h, added[t])
        of_added[t] = _sum_over_state(b[t], of_h)
        of_h.mul_(decay[t])
        of_exponent = torch.mul(of_h, states[t], out=states[t + 1])
        of_a.addcmul_(of_exponent, delta[t].unsqueeze(2))
        of_delta[t] = torch.mul(of_exponent, x.a.unsqueeze(1), out=buffer).sum(2)
    of_delta.addcmul_(of_added, u)
    of_tokens = [chunks.join(part) for part in (of_added * delta, of_delta, of_b, of_c)]
    return [*of_tokens, of_a.sum(1), of_decay, of_state]


def _tensors(x: Sequences, recap: Recap) -> list[Tensor]:
    return [x.u, x.delta, x.b, x.c, x.a, recap.decay, recap.state]


def _rows(tensors: Sequence[Tensor], windows: int) -> Iterator[tuple[Sequences, Recap]]:
    """Yield the sequences and their recaps, as many at a time as there is room for."""
    u, a = tensors[0], tensors[4]
    states = u.shape[1] * a[0].numel()
    count = max((AT_ONCE if u.is_cpu else AT_ONCE_ON_GPU) // states, 1)
    for u, delta, b, c, a, decay, state in zip(*(x.split(count) for x in tensors), strict=True):
        yield Sequences(u, delta, a, b, c), Recap(decay, state, windows)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *tensors, ctx.windows = inputs
        room = _Room()
        parts = [_forward(x, recap, room) for x, recap in _rows(tensors, ctx.windows)]
        y, last, begin = (joined(of_rows) for of_rows in zip(*parts, strict=True))
        ctx.save_for_backward(*tensors, begin)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        *tensors, begin = ctx.saved_tensors
        room = _Room()
        parts = []
        first = 0
        for x, recap in _rows(tensors, ctx.windows):
            rows = slice(first, first + len(x.u))
            of_outputs = [x[rows] for x in gradients]
            parts.append(_backward(x, recap, begin[rows], of_outputs, room))
            first = rows.stop
        return *(joined(of_rows) for of_rows in zip(*parts, strict=True)), None
