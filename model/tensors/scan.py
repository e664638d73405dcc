"""The selective scan of state-space models, exact and without a kernel of its own: in blocks of steps.

h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t with h_0 = 0, and y_t = sum_n C_t h_t. Only states and their gradients go
step by step; all else is computed for a block of steps together, in the cache. States between blocks are kept for the
backward pass. A GPU passes a sequence in lanes side by side: first from 0, for what each adds, then from true states.
Shape letters: R sequences, L tokens, D channels, N numbers of a channel's state, T steps, C lanes.
Source: Gu and Dao, Mamba: Linear-Time Sequence Modeling with Selective State Spaces (arXiv 2312.00752).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from model.tensors.ops import joined

AT_ONCE, AT_ONCE_ON_GPU = 2**26, 2**28  # values of all states of the sequences that are computed together
ONE_LANE = ("cpu",)  # devices that pass a sequence in one lane; to a GPU few values are as long as many


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
    zero = torch.zeros_like(x.a)
    return scan_of(Sequences, list(vars(x).values()), recap or Recap(zero, zero, windows=1))


def scan_of(make: Callable[..., Sequences], inputs: Sequence[Tensor], recap: Recap) -> tuple[Tensor, Tensor]:
    """Return the scan of ``make(*inputs)``; the backward pass keeps the inputs alone and makes the sequences again."""
    y, last = _Scan.apply(make, recap.windows, recap.decay, recap.state, *inputs)
    return y, last


class _Steps:
    """A tensor of all states of a block, (T, R, C, N, D), and its steps."""

    def __init__(self, everything: Tensor):
        self.all, self.each = everything, everything.unbind()


class _Rows:
    """Some sequences that are computed together, lane beside lane: step t of all C lanes is (R, C, ...)."""

    def __init__(self, x: Sequences, recap: Recap, one_lane: bool):
        tokens = x.u.shape[1]
        window = tokens // recap.windows
        of_window = max(round(window / math.sqrt(tokens)), 1)
        self.parts, self.of_part = (1, 1) if one_lane else (recap.windows, of_window)
        self.tokens = tokens // self.parts  # of a part
        self.steps = -(-self.tokens // self.of_part)
        self.starts = range(0, self.steps, min(window, self.steps))  # of windows, with which blocks begin
        block = (math.isqrt(tokens) + 1) // 2  # so short that its states stay in the cache, so long that few are kept
        edges = sorted({*self.starts, *range(0, self.steps, block), self.steps})
        self.blocks = [slice(first, stop) for first, stop in pairwise(edges)]
        self.first = (slice(None), slice(None, None, self.of_part))  # of the lanes, those that begin windows
        self.u, self.delta, self.b, self.c = (self.cut(of_tokens) for of_tokens in (x.u, x.delta, x.b, x.c))
        of_rows = (x.a, recap.decay, recap.state)
        self.a, self.recap_decay, self.recap_state = (x.unsqueeze(1).contiguous() for x in of_rows)  # (R, 1, N, D)
        self.a_of_2 = self.a / math.log(2)  # a CPU computes powers of 2 in a third of the time of those of e
        self.lanes = self.parts * self.of_part
        self.zero = zero = self.a.new_zeros(len(self.a), self.lanes, *self.a.shape[2:])  # (R, C, N, D)
        self.room = defaultdict[str, _Steps](lambda: _Steps(zero.new_empty(block + 1, *zero.shape)))  # of each block

    def cut(self, x_rlc: Tensor) -> Tensor:
        """Return (T, R, C, ...); lanes at the end of a window are filled up with 0, which leave states as they are."""
        parts = x_rlc.unflatten(1, (self.parts, self.tokens))
        if missing := self.of_part * self.steps - self.tokens:
            parts = F.pad(parts, (0, 0, 0, missing))
        return parts.unflatten(2, (self.of_part, self.steps)).flatten(1, 2).permute(2, 0, 1, 3)

    def join(self, x_trcd: Tensor) -> Tensor:
        """Return (R, L, ...), the inverse of ``cut``."""
        lanes = x_trcd.permute(1, 2, 0, 3).unflatten(1, (self.parts, self.of_part))
        return lanes.flatten(2, 3)[:, :, : self.tokens].flatten(1, 2)

    def decay(self, steps: slice) -> _Steps:
        """Return exp(Delta A) of a block, (T, R, C, N, D)."""
        decay = self.room["decay"]
        torch.mul(self.delta[steps].unsqueeze(3), self.a_of_2, out=decay.all[: steps.stop - steps.start]).exp2_()
        return decay

    def states(self, steps: slice, decay: _Steps, before: Tensor) -> Tensor:
        """Return the state before a block, with the recap, and those after its steps, (T + 1, R, C, N, D)."""
        states = self.room["states"]
        states.each[0].copy_(before)
        if steps.start in self.starts:
            states.each[0][self.first].mul_(self.recap_decay).add_(self.recap_state)
        added = self.delta[steps] * self.u[steps]
        torch.mul(self.b[steps].unsqueeze(4), added.unsqueeze(3), out=states.all[1 : len(added) + 1])
        for t in range(len(added)):
            states.each[t + 1].addcmul_(decay.each[t], states.each[t])
        return states.all[: len(added) + 1]

    def of_states(self, steps: slice, decay: _Steps, of_y: Tensor, of_end: Tensor) -> Tensor:
        """Return the gradients of the states after a block's steps, (T, R, C, N, D), from that of its end."""
        out = self.room["of_states"]
        last = steps.stop - steps.start - 1
        torch.mul(self.c[steps].unsqueeze(4), of_y[steps].unsqueeze(3), out=out.all[: last + 1])[last].add_(of_end)
        for t in reversed(range(last)):
            out.each[t].addcmul_(decay.each[t + 1], out.each[t + 1])
        return out.all[: last + 1]

    def begins(self) -> Tensor:
        """Return the states with which the lanes begin, (R, C, N, D)."""
        adds = self.zero
        for steps in self.blocks:
            adds = self.states(steps, self.decay(steps), adds)[-1].clone()
        return self._before_lanes(self.zero[:, 0], adds, range(self.lanes))

    def of_ends(self, of_y: Tensor, of_last: Tensor) -> Tensor:
        """Return the gradients of the states with which the lanes end, (R, C, N, D)."""
        adds = self.zero
        for steps in reversed(self.blocks):
            decay = self.decay(steps)
            adds = decay.each[0] * self.of_states(steps, decay, of_y, adds)[0]
        adds[self.first].mul_(self.recap_decay)
        return self._before_lanes(of_last, adds, reversed(range(self.lanes)))

    def _before_lanes(self, x_rnd: Tensor, adds: Tensor, order: Iterable[int]) -> Tensor:
        """Return the state that reaches each lane, (R, C, N, D); a lane passes on a part of it and adds to it."""
        decay = torch.exp(self.delta.sum(0).unsqueeze(2) * self.a)
        decay[self.first] *= self.recap_decay
        before = torch.empty_like(adds)
        for lane in order:
            before[:, lane] = x_rnd
            x_rnd = decay[:, lane] * x_rnd + adds[:, lane]
        return before


def _forward(rows: _Rows, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return y (R, L, D), the last state (R, N, D) and the states before blocks (R, blocks, C, N, D)."""
    y = torch.empty_like(rows.u)
    state = rows.begins() if rows.lanes > 1 else rows.zero
    before = [state]
    for steps in rows.blocks:
        states = rows.states(steps, rows.decay(steps), state)
        y[steps] = torch.matmul(rows.c[steps].unsqueeze(3), states[1:]).squeeze(3)
        state = states[-1].clone()
        if keep:
            before.append(state)
    return rows.join(y), state[:, -1], torch.stack(before, dim=1)


def _backward(rows: _Rows, before: Tensor, of_y: Tensor, of_last: Tensor) -> list[Tensor]:
    """Return the gradients of the sequences' tensors and of the recap's decay and state."""
    of_y = rows.cut(of_y)
    of_u, of_delta, of_b, of_c = (torch.empty_like(x) for x in (rows.u, rows.delta, rows.b, rows.c))
    of_a, of_decay, of_state = (torch.zeros_like(rows.a) for _ in range(3))
    of_end = rows.of_ends(of_y, of_last) if rows.lanes > 1 else of_last.unsqueeze(1)
    for number, steps in reversed(list(enumerate(rows.blocks))):
        decay = rows.decay(steps)
        states = rows.states(steps, decay, before[:, number])
        of_states = rows.of_states(steps, decay, of_y, of_end)
        u, delta = rows.u[steps], rows.delta[steps]
        of_c[steps] = torch.matmul(of_y[steps].unsqueeze(3), states[1:].transpose(3, 4)).squeeze(3)
        of_b[steps] = torch.matmul((delta * u).unsqueeze(3), of_states.transpose(3, 4)).squeeze(3)
        of_added = torch.matmul(rows.b[steps].unsqueeze(3), of_states).squeeze(3)
        of_exponent = decay.all[: len(of_states)].mul_(of_states)
        of_end = of_exponent[0].clone()  # as long as it is the gradient of the states before
        of_exponent *= states[:-1]
        of_u[steps] = of_added * delta
        of_delta[steps] = of_added * u + torch.mul(of_exponent, rows.a, out=of_states).sum(3)
        of_a += of_exponent.mul_(delta.unsqueeze(3)).sum((0, 2)).unsqueeze(1)
        if steps.start in rows.starts:
            of_begin = of_end[rows.first]
            of_state += of_begin.sum(1, keepdim=True)
            of_decay += (of_begin * before[:, number][rows.first]).sum(1, keepdim=True)
            of_begin *= rows.recap_decay
    of_u, of_delta, of_b, of_c = (rows.join(part) for part in (of_u, of_delta, of_b, of_c))
    return [of_u, of_delta, of_a[:, 0], of_b, of_c, of_decay[:, 0], of_state[:, 0]]


def _groups(windows: int, one_lane: bool, *tensors: Tensor) -> Iterator[tuple[_Rows, Sequence[Tensor]]]:
    """Yield sequences and recaps, as many at a time as there is room for, and the same rows of the other tensors."""
    u, _, a, *_ = tensors
    count = max((AT_ONCE if u.is_cpu else AT_ONCE_ON_GPU) // (u.shape[1] * a[0].numel()), 1)
    for group in zip(*(tensor.split(count) for tensor in tensors), strict=True):
        yield _Rows(Sequences(*group[:5]), Recap(group[5], group[6], windows), one_lane), group[7:]


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, make: Callable[..., Sequences], windows: int, *given: Tensor) -> tuple[Tensor, Tensor]:
        decay, state, *inputs = given
        ctx.make, ctx.way = make, (windows, state.device.type in ONE_LANE)
        groups = _groups(*ctx.way, *vars(make(*inputs)).values(), decay, state)
        parts = [_forward(rows, any(ctx.needs_input_grad)) for rows, _ in groups]
        y, last, before = (joined(of_rows) for of_rows in zip(*parts, strict=True))
        ctx.save_for_backward(before, *given)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        before, decay, state, *inputs = ctx.saved_tensors
        inputs = [x.detach().requires_grad_() for x in inputs]
        with torch.enable_grad():
            made = list(vars(ctx.make(*inputs)).values())
        groups = _groups(*ctx.way, *(x.detach() for x in made), decay, state, before, *gradients)
        parts = [_backward(rows, *of_rows) for rows, of_rows in groups]
        *of_made, of_decay, of_state = (joined(of_rows) for of_rows in zip(*parts, strict=True))
        return None, None, of_decay, of_state, *torch.autograd.grad(made, inputs, of_made)
