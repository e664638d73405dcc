"""HMNet's hybrid state-space blocks: self blocks scan a map alone, mix blocks the query with recaps of the support.

A map is scanned in four directions: by rows, by columns, and both reversed. Shape letters: B episodes, G side of the
working grid, g = G / 4, L tokens, C = 256 channels of a map, D = 512 channels of a scan, N = 16 numbers of a channel's
state.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.tensors.ops import in_float32, resize
from model.tensors.scan import Recap, Sequences, scan, scan_of

DIRECTIONS = 4
EXPAND = 2  # D / C
STATE = 16  # N
RANK = 16  # of the step sizes Delta
SIDE = 4  # windows in a row and in a column of the query's map
STEP_LOW, STEP_HIGH = 0.001, 0.1  # of the initial step sizes
AT_ONCE = 2**16  # so few step sizes that they stay in the cache
HUGE = 1e30  # log(1 + HUGE) is below every x with a greater e^x


@dataclass(frozen=True)
class OfSupport:
    """The part of a support that a query needs in a mix block."""

    decay: Tensor  # of a state, by the recap in each direction, (B, 4, N, D)
    state: Tensor  # after the recap from a state of 0, (B, 4, N, D)

    def of_queries(self, batch: int) -> "OfSupport":
        """Return it for B queries, also where all share one support."""
        return OfSupport(*(x.expand(batch, *x.shape[1:]) for x in (self.decay, self.state)))


def to_sequences(x_bggd: Tensor, side: int = 1) -> Tensor:
    """Return a map's tokens by rows and by columns, (B, 2, L, D), window by window of ``side`` x ``side`` windows."""
    maps = (x_bggd, x_bggd.transpose(1, 2))
    windows = [x.unflatten(2, (side, -1)).unflatten(1, (side, -1)).transpose(2, 3) for x in maps]
    return torch.stack(windows, dim=1).flatten(2, 5)  # from (B, 2, side, side, g, g, D)


def to_map(y_bkld: Tensor, side: int = 1) -> Tensor:
    """Return the sum of both orders' tokens on the map, (B, G, G, D): the inverse of ``to_sequences``."""
    grid = math.isqrt(y_bkld.shape[2]) // side
    windows = y_bkld.unflatten(2, (side, side, grid, grid))
    rows, columns = windows.transpose(3, 4).flatten(4, 5).flatten(2, 3).unbind(1)
    return rows + columns.transpose(1, 2)


def _resized(x_bggd: Tensor, grid: int) -> Tensor:
    """Return a map on another grid, channels last."""
    return resize(x_bggd.permute(0, 3, 1, 2), (grid, grid)).permute(0, 2, 3, 1)


class Core(nn.Module):
    """The scans of one block, whose tensors query and support share; row k of each tensor is that of direction k."""

    def __init__(self, width: int):
        super().__init__()
        self.project = nn.Parameter(torch.empty(DIRECTIONS, RANK + 2 * STATE, width))  # to r, B and C
        self.step = nn.Parameter(torch.empty(DIRECTIONS, width, RANK))  # from r to Delta
        self.step_bias = nn.Parameter(torch.empty(DIRECTIONS, width))
        self.log_decay = nn.Parameter(torch.arange(1.0, STATE + 1).log().repeat(DIRECTIONS * width, 1))  # log(-A)
        self.skip = nn.Parameter(torch.ones(DIRECTIONS * width))  # D
        nn.init.uniform_(self.project, -(width**-0.5), width**-0.5)
        nn.init.uniform_(self.step, -(RANK**-0.5), RANK**-0.5)
        sizes = torch.empty(DIRECTIONS, width).uniform_(math.log(STEP_LOW), math.log(STEP_HIGH)).exp()
        with torch.no_grad():
            self.step_bias.copy_(torch.expm1(sizes).log())  # the inverse of softplus

    @in_float32
    def self_scan(self, x_bggd: Tensor) -> Tensor:
        """Return the sum of the four directions' outputs on the map, (B, G, G, D)."""
        none = x_bggd.new_zeros(2 * len(x_bggd), STATE, x_bggd.shape[3])
        return self._scanned(x_bggd, [Recap(none, none, windows=1)] * 2)

    @in_float32
    def support_scan(self, x_bggd: Tensor) -> tuple[Tensor, OfSupport]:
        """Return the support's outputs, (B, G, G, D), and what queries need of it: the scan of its small map."""
        grid = x_bggd.shape[1]
        small = _resized(x_bggd, grid // SIDE)
        y = self._skip() * small
        decays, states = [], []
        for turn in (0, 1):
            tokens = _sequences_of_map(1, turn, small, *self._weights(2 * turn, 2 * turn + 2))
            outputs, state = scan(tokens)
            y = y + _turned(to_map(outputs.unflatten(0, (-1, 2))), turn)
            decays.append(torch.exp(tokens.a * tokens.delta.sum(1).unsqueeze(1)))
            states.append(state)
        decay, state = (torch.cat([x.unflatten(0, (-1, 2)) for x in of_turns], dim=1) for of_turns in (decays, states))
        return _resized(y, grid), OfSupport(decay, state)

    @in_float32
    def mix_scan(self, x_bggd: Tensor, decay_bknd: Tensor, state_bknd: Tensor) -> Tensor:
        """Return the query's outputs, (B, G, G, D), with a recap of the support before each window."""
        recaps = []
        for decay, state in zip(decay_bknd.chunk(2, dim=1), state_bknd.chunk(2, dim=1), strict=True):
            recaps.append(Recap(decay.flatten(0, 1), state.flatten(0, 1), SIDE**2))
        return self._scanned(x_bggd, recaps, SIDE) + self._crossed(x_bggd, state_bknd)

    def _crossed(self, x_bggd: Tensor, state_bknd: Tensor) -> Tensor:
        """Return what single tokens of the query's small map read from the support's state, (B, G, G, D).

        Each is a window of its own, which begins with the mean state of all directions. The skip is that of the first
        channel, and no gradient enters the state, as published.
        """
        grid = x_bggd.shape[1]
        small = _resized(x_bggd, grid // SIDE).flatten(1, 2)  # (B, L, D)
        state = state_bknd.detach().mean(1)
        tokens = _sequences(small.unsqueeze(1), *self._weights(0, 1))
        recap = Recap(torch.zeros_like(state), state, small.shape[1])
        read, _ = scan(tokens, recap)
        y = read + self.skip[0] * small
        return _resized(y.unflatten(1, (grid // SIDE, -1)), grid)

    def _scanned(self, x_bggd: Tensor, recaps: Sequence[Recap], side: int = 1) -> Tensor:
        """Return the sum of the four directions' outputs on the map, (B, G, G, D); the backward pass keeps it alone."""
        y = self._skip() * x_bggd
        for turn, recap in enumerate(recaps):
            make = partial(_sequences_of_map, side, turn)
            outputs, _ = scan_of(make, [x_bggd, *self._weights(2 * turn, 2 * turn + 2)], recap)
            y += _turned(to_map(outputs.unflatten(0, (-1, 2)), side), turn)
        return y

    def _skip(self) -> Tensor:
        """Return the sum over directions of the share of a token's input in its output, (D,)."""
        return self.skip.view(DIRECTIONS, -1).sum(0)

    def _weights(self, start: int, stop: int) -> list[Tensor]:
        """Return the tensors of some directions."""
        log_decay = self.log_decay.unflatten(0, (DIRECTIONS, -1))
        return [x[start:stop] for x in (self.project, self.step, self.step_bias, log_decay)]


def _turned(x_bggd: Tensor, turn: int) -> Tensor:
    """Return a map as it is (turn 0) or from its last token to its first (1)."""
    return x_bggd.flip((1, 2)) if turn else x_bggd


class _Softplus(torch.autograd.Function):
    """log(1 + e^x), in a third of the time of a CPU's log1p: the logarithm, and a step of Newton's for its rounding."""

    @staticmethod
    def forward(ctx: Any, x_rld: Tensor) -> Tensor:
        ctx.save_for_backward(x_rld)
        out_rld = torch.empty_like(x_rld)
        blocks = (tensor.view(-1).split(AT_ONCE) for tensor in (x_rld, out_rld))
        for x, out in zip(*blocks, strict=True):
            total = torch.exp(x, out=out).clamp_(max=HUGE) + 1
            out.sub_(total - 1).div_(total).add_(total.log_())
            torch.maximum(out, x, out=out)  # x where e^x is huge
        return out_rld

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return ctx.saved_tensors[0].sigmoid().mul_(gradients[0])


@in_float32
def _sequences(u_bkld: Tensor, project: Tensor, step: Tensor, step_bias: Tensor, log_decay: Tensor) -> Sequences:
    """Return B times K sequences with step sizes, and inputs and outputs of the states."""
    projected = u_bkld @ project.transpose(1, 2)
    rank, b, c = projected.split([RANK, STATE, STATE], dim=3)
    raw = (rank @ step.transpose(1, 2)).add_(step_bias.unsqueeze(1))
    decay = -log_decay.exp().transpose(1, 2)
    a = decay.expand(len(u_bkld), *decay.shape)
    delta = _Softplus.apply(raw) if raw.is_cpu else F.softplus(raw)
    return Sequences(*(x.flatten(0, 1) for x in (u_bkld, delta, a, b, c)))


def _sequences_of_map(side: int, turn: int, x_bggd: Tensor, *weights: Tensor) -> Sequences:
    """Return a map's sequences by rows and by columns."""
    return _sequences(to_sequences(_turned(x_bggd, turn), side), *weights)


class Branch(nn.Module):
    """A block's layers that query and support do not share: projections, a depthwise convolution, the MLP."""

    def __init__(self, width: int):
        super().__init__()
        inner = EXPAND * width
        self.enter = nn.Linear(width, 2 * inner, bias=False)  # x, then the gate z
        self.conv = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.leave = nn.Linear(inner, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def entered(self, x_bggc: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scan's input and its gate, (B, G, G, D) each."""
        x, gate = self.enter(x_bggc).chunk(2, dim=3)
        x = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return F.silu(x), gate


class HybridBlock(nn.Module):
    """One block. A self block scans query and support apart; in a mix block the query is scanned with the support.

    The support's branch never sees the query. That of the ``last`` block ends with what the query reads of it.
    """

    def __init__(self, width: int, mixes: bool, last: bool):
        super().__init__()
        self.mixes, self.last = mixes, last
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.query = Branch(width)
        self.support = Branch(width)
        self.core = Core(EXPAND * width)
        self.core_norm = nn.LayerNorm(EXPAND * width)

    def of_support(self, x_bggc: Tensor) -> tuple[Tensor, OfSupport | None]:
        """Return the support's tokens after the block, and what queries need of it."""
        inner, gate = self.support.entered(self.norm1(x_bggc))
        of_support = None
        if self.mixes:
            y, of_support = self.core.support_scan(inner)
        else:
            y = self.core.self_scan(inner)
        return (x_bggc if self.last else self._after(self.support, x_bggc, y, gate)), of_support

    def forward(self, x_bggc: Tensor, of_support: OfSupport | None) -> Tensor:
        """Return the query's tokens after the block, (B, G, G, C) float32."""
        inner, gate = self.query.entered(self.norm1(x_bggc))
        if of_support is None:
            y = self.core.self_scan(inner)
        else:
            y = self.core.mix_scan(inner, of_support.decay, of_support.state)
        return self._after(self.query, x_bggc, y, gate)

    def _after(self, branch: Branch, x_bggc: Tensor, y_bggd: Tensor, gate_bggd: Tensor) -> Tensor:
        """Return tokens plus a block's residual parts, gated scan and MLP, which the backward pass computes again."""

        def made(x_bggc: Tensor, y_bggd: Tensor, gate_bggd: Tensor) -> Tensor:
            x = x_bggc + branch.leave(self.core_norm(y_bggd) * F.silu(gate_bggd))
            return x + branch.mlp(self.norm2(x))

        return checkpoint(made, x_bggc, y_bggd, gate_bggd, use_reentrant=False, preserve_rng_state=False)


class HybridBlocks(nn.Module):
    """The stack of blocks, in which every second one mixes, and the norm after it."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.blocks = nn.ModuleList()
        for i in range(blocks):
            self.blocks.append(HybridBlock(width, mixes=i % 2 == 1, last=i == blocks - 1))
        self.norm = nn.LayerNorm(width)

    def of_support(self, support_bcgg: Tensor) -> list[OfSupport | None]:
        """Return what queries need of a support's map in each block."""
        x = support_bcgg.permute(0, 2, 3, 1).float().contiguous()
        needed = []
        for block in self.blocks:
            x, of_support = cast(HybridBlock, block).of_support(x)
            needed.append(of_support)
        return needed

    def forward(self, query_bcgg: Tensor, of_support: list[OfSupport | None]) -> Tensor:
        """Return the query's map after all blocks and a ReLU, (B, C, G, G) float32."""
        x = query_bcgg.permute(0, 2, 3, 1).float().contiguous()
        for block, needed in zip(self.blocks, of_support, strict=True):
            x = block(x, None if needed is None else needed.of_queries(len(x)))
        return F.relu(self.norm(x)).permute(0, 3, 1, 2)
