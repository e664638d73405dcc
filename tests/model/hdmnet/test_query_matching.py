"""Token pyramid and matching against their definitions, token by token."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.hdmnet import query_matching
from model.hdmnet.query_matching import HEADS, QueryMatching, foreground_tokens, match
from model.hdmnet.token_pyramid import CHANNELS, MIN_GRID, SelfAttention, TokenPyramid, to_tokens

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def _slow_match(query: Tensor, key: Tensor, value: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return the same from the whole matrix, softmax over the query's positions, columns outside set to 0."""
    score = 10 * F.normalize(query, dim=3) @ F.normalize(key, dim=3).transpose(2, 3)
    mask = inside[:, None, None]
    correlation = ((score * mask).sum(3) / (mask.sum(3) + 1e-9)).mean(1)
    return (score.softmax(2) * mask) @ value, correlation


def _drawn(length: int = 12, keys: int = 9, batch: int = 2) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    query, key, value = (torch.randn(batch, HEADS, n, 4) for n in (length, keys, keys))
    return query, key, value, (torch.rand(batch, keys) > 0.5).float()


@pytest.mark.parametrize("at_once", [2048, 4])
def test_matching_and_its_gradients_equal_the_whole_matrix(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(query_matching, "MAX_KEYS", at_once)
    *parts, inside = _drawn()
    results = []
    for form in (match, _slow_match):
        own = [p.clone().requires_grad_() for p in parts]
        collected, correlation = form(*own, inside)
        (collected.square().sum() + correlation.square().sum()).backward()
        results.append([collected, correlation, *(p.grad for p in own)])
    for ours, slow in zip(*results):
        torch.testing.assert_close(ours, slow, **CLOSE)


def test_background_tokens_take_no_part_and_every_foreground_token_is_shared_out_once() -> None:
    query, key, value, inside = _drawn()
    collected, _ = match(query, key, torch.ones_like(value), inside)
    torch.testing.assert_close(collected.sum(2)[:, 0, 0], inside.sum(1))
    key[inside[:, None].expand(-1, HEADS, -1) == 0] = 7.0
    again, _ = match(query, key, torch.ones_like(value), inside)
    torch.testing.assert_close(again, collected)


def test_foreground_tokens_are_those_inside_and_the_count_is_the_largest() -> None:
    tokens = torch.arange(10.0).view(2, 5, 1)
    chosen, inside = foreground_tokens(tokens, torch.tensor([[0, 1, 0, 1, 1], [1, 0, 0, 0, 0]]).float())
    assert chosen[0, :, 0].tolist() == [1, 3, 4] and chosen[1, 0, 0] == 5
    assert inside.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert foreground_tokens(tokens, torch.zeros(2, 5))[1].tolist() == [[0], [0]]


def test_shots_are_one_row_and_empty_masks_leave_the_feed_forward() -> None:
    torch.manual_seed(1)
    block = QueryMatching().eval()
    query, support = torch.randn(1, CHANNELS, 3, 4), torch.randn(1, 2, CHANNELS, 3, 4)
    mask = (torch.rand(1, 2, 3, 4) > 0.4).float()
    out, correlation = block(query, support, mask)
    assert out.shape == query.shape and correlation.shape == (1, 3, 4)
    swapped = block(query, support.flip(1), mask.flip(1))
    torch.testing.assert_close(swapped[0], out, **CLOSE)
    twice = block(query, support[:, :1].expand(-1, 2, -1, -1, -1), mask[:, :1].expand(-1, 2, -1, -1))
    torch.testing.assert_close(twice[1], block(query, support[:, :1], mask[:, :1])[1], **CLOSE)
    empty, nothing = block(query, support, torch.zeros_like(mask))
    torch.testing.assert_close(to_tokens(empty), block.feed_forward(to_tokens(query), (3, 4)))
    assert not nothing.any()


@pytest.mark.parametrize("side", [MIN_GRID, 13, 60])
def test_levels_halve_rounding_up(side: int) -> None:
    with torch.no_grad():
        levels = TokenPyramid().eval()(torch.randn(1, CHANNELS, side, side))
    assert [level.shape[-1] for level in levels] == [math.ceil(side / 2**i) for i in range(3)]


def test_the_reduction_drops_the_remainder_at_the_border() -> None:
    torch.manual_seed(2)
    block = SelfAttention(heads=2, reduction=4).eval()
    x = torch.randn(1, CHANNELS, 5, 5)
    changed = x.clone()
    changed[..., 4, :] += 1
    with torch.no_grad():
        first, second = (block(to_tokens(m), (5, 5)) for m in (x, changed))
    torch.testing.assert_close(first[:, :20], second[:, :20])  # the last row is nobody's key
    assert not torch.allclose(first[:, 20:], second[:, 20:])
