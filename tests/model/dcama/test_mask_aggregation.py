"""DCAMA's attention and position encoding against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model.dcama.mask_aggregation import MaskAggregation, attended_mask, position_encoding

CHANNELS, GRID, SHOTS, BATCH = 16, (3, 2), 2, 2


def _block() -> MaskAggregation:
    torch.manual_seed(0)
    block = MaskAggregation(CHANNELS).eval()
    assert torch.equal(block.query.weight, block.key.weight) and torch.equal(block.query.bias, block.key.bias)
    torch.nn.init.normal_(block.key.weight, std=0.3)
    return block


def _features() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    mask = torch.randint(0, 2, (BATCH, SHOTS, 1, *GRID)).float()
    return torch.randn(BATCH, CHANNELS, *GRID), torch.randn(BATCH * SHOTS, CHANNELS, *GRID), mask


def test_positions_are_sinusoids_over_the_flat_index() -> None:
    table = position_encoding(6, 5, torch.device("cpu")).numpy()
    for p in range(5):
        for i in range(3):
            rate = 10000 ** (-2 * i / 6)
            assert table[p, 2 * i] == pytest.approx(math.sin(p * rate), abs=1e-6)
            assert table[p, 2 * i + 1] == pytest.approx(math.cos(p * rate), abs=1e-6)


@torch.no_grad()
def test_soft_masks_equal_the_definition_for_every_episode_of_a_batch() -> None:
    block, (query, support, mask) = _block(), _features()
    given = block([query], [support], mask)[:, 0].flatten(1).numpy()
    table = position_encoding(CHANNELS, 6, query.device)
    for b in range(BATCH):
        q = block.query(query[b].flatten(1).T + table).numpy().astype(np.float64)
        shots = support.unflatten(0, (BATCH, SHOTS))[b]
        k = np.concatenate([block.key(s.flatten(1).T + table).numpy() for s in shots]).astype(np.float64)
        value, width = mask[b].flatten().numpy(), CHANNELS // 8
        for i in range(6):
            heads = []
            for h in range(8):
                part = slice(h * width, (h + 1) * width)
                score = np.exp(k[:, part] @ q[i, part] / math.sqrt(width))
                heads.append((score / score.sum()) @ value)
            assert given[b, i] == pytest.approx(np.mean(heads), abs=1e-5)


@torch.no_grad()
def test_empty_masks_give_zero_and_full_ones_one() -> None:
    block, (query, support, mask) = _block(), _features()
    assert (block([query], [support], torch.zeros_like(mask)) == 0).all()
    torch.testing.assert_close(block([query], [support], torch.ones_like(mask)), torch.ones(BATCH, 1, *GRID))


def test_attention_in_pieces_equals_attention_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, which a CPU's fused kernel does not take; its least share keeps all but everything."""
    monkeypatch.setattr("model.dcama.mask_aggregation.MAX_SCORES", 1)
    found = []
    for dropout in (0.0, 1e-12):
        torch.manual_seed(2)
        query, key = (torch.randn(1, 8, n, 4, requires_grad=True) for n in (5, 7))
        value = torch.rand(1, 7)
        out = attended_mask(query, key, value, dropout)
        out.square().sum().backward()
        found.append((out.detach(), query.grad, key.grad))
    for whole, pieces in zip(*found):
        torch.testing.assert_close(whole, pieces, atol=1e-5, rtol=1e-4)
