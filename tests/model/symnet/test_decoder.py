"""The decoder equals a slow version of its definition, also at scales that do not divide each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model.symnet.decoder import Decoder, default_scales
from tests.model.small import slow_resize

WIDTH, EXTRA = 4, 3
Weights = dict[str, np.ndarray]


def _conv(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Convolve (C, H, W) with (O, C, k, k), zeros around, no bias."""
    reach = weight.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    out = np.zeros((weight.shape[0], *x.shape[1:]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            window = padded[:, i : i + 2 * reach + 1, j : j + 2 * reach + 1]
            out[:, i, j] = (weight * window).sum((1, 2, 3))
    return out


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _pool(x: np.ndarray, size: int) -> np.ndarray:
    """Adaptive average: cell i covers floor(i H / z) up to ceil((i + 1) H / z)."""
    out = np.zeros((len(x), size, size))
    height, width = x.shape[1:]
    for i in range(size):
        for j in range(size):
            rows = slice(i * height // size, math.ceil((i + 1) * height / size))
            columns = slice(j * width // size, math.ceil((j + 1) * width / size))
            out[:, i, j] = x[:, rows, columns].mean((1, 2))
    return out


def _refine(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    inner = _relu(_conv(x, weights[f"{name}.body.0.weight"]))
    return x + _relu(_conv(inner, weights[f"{name}.body.2.weight"]))


def _head(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    hidden = _relu(_conv(x, weights[f"{name}.conv.weight"]))
    return _conv(hidden, weights[f"{name}.classify.weight"]) + weights[f"{name}.classify.bias"][:, None, None]


def _slow(scales: list[int], weights: Weights, query: np.ndarray, prototype: np.ndarray, *maps: np.ndarray) -> tuple:
    """Return meta logits and auxiliary logits of one image."""
    size = query.shape[1:]
    merged, auxiliary, previous = [], [], None
    for i, z in enumerate(scales):
        spread = np.broadcast_to(prototype[:, None, None], (len(prototype), z, z))
        inputs = [_pool(query, z), spread, *(slow_resize(m, (z, z)) for m in maps)]
        x = _relu(_conv(np.concatenate(inputs), weights[f"enter.{i}.0.weight"]))
        if previous is not None:
            both = np.concatenate([x, slow_resize(previous, (z, z))])
            x = x + _relu(_conv(both, weights[f"descend.{i - 1}.0.weight"]))
        x = _refine(x, weights, f"refine.{i}")
        auxiliary.append(_head(x, weights, f"auxiliary.{i}"))
        previous = slow_resize(x, size)
        merged.append(previous)
    x = _refine(_relu(_conv(np.concatenate(merged), weights["merge.0.weight"])), weights, "refine_merged")
    return _head(x, weights, "head"), auxiliary


def _decoder(scales: list[int]) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(WIDTH, EXTRA, scales).train()
    for module in decoder.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.eval()
    return decoder


@pytest.mark.parametrize("scales", [[13, 8, 5, 3], [8, 6, 4, 3], [8, 4, 2, 1], [7, 5]])
def test_logits_equal_the_slow_version(scales: list[int]) -> None:
    decoder = _decoder(scales)
    weights = {name: p.detach().double().numpy() for name, p in decoder.named_parameters()}
    grid = scales[0]
    inputs = torch.randn(2, WIDTH, grid, grid), torch.randn(2, WIDTH), torch.rand(2, 2, grid, grid)
    inputs = (*inputs, torch.rand(2, 1, grid, grid))
    with torch.no_grad():
        meta, auxiliary = decoder(*inputs)
    assert meta.shape == (2, 2, grid, grid)
    assert [x.shape for x in auxiliary] == [(2, 2, z, z) for z in scales]
    for b in range(2):
        slow_meta, slow_auxiliary = _slow(scales, weights, *(x[b].double().numpy() for x in inputs))
        assert slow_meta.std() > 1e-3
        np.testing.assert_allclose(meta[b].numpy(), slow_meta, atol=1e-5)
        for ours, slow in zip(auxiliary, slow_auxiliary, strict=True):
            np.testing.assert_allclose(ours[b].numpy(), slow, atol=1e-5)


def test_auxiliary_logits_exist_in_training_only() -> None:
    decoder = _decoder([5, 3])
    inputs = torch.randn(1, WIDTH, 5, 5), torch.randn(1, WIDTH), torch.rand(1, EXTRA, 5, 5)
    meta, auxiliary = decoder(*inputs)
    assert len(auxiliary) == 2
    again, none = decoder.eval()(*inputs)
    assert none == []
    torch.testing.assert_close(again, meta)


def test_only_the_last_layers_of_heads_have_biases() -> None:
    biased = {name for name, _ in _decoder([13, 8, 5, 3]).named_parameters() if name.endswith("bias")}
    assert biased == {"head.classify.bias", *(f"auxiliary.{i}.classify.bias" for i in range(4))}


@pytest.mark.parametrize("grid, scales", [(60, [60, 30, 15, 8]), (13, [13, 7, 4, 2]), (5, [5, 3, 2, 1])])
def test_default_scales_halve_the_grid_rounding_up(grid: int, scales: list[int]) -> None:
    assert default_scales(grid) == scales
