"""The ensemble starts as the meta prediction, leaves out the episode's own base class, and follows its formula."""

from __future__ import annotations

import numpy as np
import torch

from model.bam.ensemble import Ensemble, base_map

BASE_CLASSES = 3


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(0))
    return e / e.sum(0)


def _inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(batch, 2, 4, 5), torch.randn(batch, BASE_CLASSES + 1, 4, 5), torch.rand(batch)


def test_an_untrained_ensemble_returns_the_meta_probabilities() -> None:
    meta, base, scene = _inputs()
    for own in (None, torch.tensor([1, 2, 0])):
        assert torch.equal(Ensemble()(meta, base, scene, own), meta.softmax(1))


def test_base_map_sums_the_base_classes() -> None:
    _, base, _ = _inputs()
    given = base_map(base, None)
    assert given.shape == (3, 1, 4, 5)
    for b in range(3):
        probability = _softmax(base[b].double().numpy())
        np.testing.assert_allclose(given[b, 0].numpy(), 1 - probability[0], atol=1e-6)


def test_base_map_leaves_out_the_own_class_but_not_background() -> None:
    _, base, _ = _inputs()
    own = [3, 0, 1]
    given = base_map(base, torch.tensor(own))
    for b, left_out in enumerate(own):
        probability = _softmax(base[b].double().numpy())
        kept = [c for c in range(1, BASE_CLASSES + 1) if c != left_out]
        np.testing.assert_allclose(given[b, 0].numpy(), probability[kept].sum(0), atol=1e-6)
    assert torch.equal(given[1], base_map(base, None)[1])


def test_output_follows_the_formula_for_any_weights() -> None:
    meta, base, scene = _inputs()
    ensemble, own = Ensemble(), torch.tensor([2, 0, 3])
    with torch.no_grad():
        for conv in (ensemble.scene, ensemble.background):
            conv.weight.normal_()
        given = ensemble(meta, base, scene, own).numpy()
    g, merge = (c.weight.detach().double().flatten().numpy() for c in (ensemble.scene, ensemble.background))
    for b in range(3):
        background, foreground = _softmax(meta[b].double().numpy())
        probability = _softmax(base[b].double().numpy())
        e = scene[b].item()
        claimed = sum(probability[c] for c in range(1, BASE_CLASSES + 1) if c != own[b].item())
        corrected = merge[0] * (g[0] * background + g[1] * e) + merge[1] * claimed
        np.testing.assert_allclose(given[b], [corrected, g[0] * foreground + g[1] * e], atol=1e-5)


def test_ensemble_computes_in_float32_under_autocast() -> None:
    meta, base, scene = _inputs()
    with torch.autocast("cpu", torch.bfloat16):
        low = Ensemble()(meta, base, scene, None)
    assert torch.equal(low, Ensemble()(meta, base, scene, None))
