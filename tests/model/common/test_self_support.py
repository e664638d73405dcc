"""Self-support against its definition, position by position; the second step's short cut changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.common.self_support import SelfSupport, Similarity

CHANNELS, GRID = 6, (5, 4)


def _drawn(seed: int, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    return torch.randn(batch, CHANNELS, *GRID), 3 * torch.randn(batch, 2, *GRID)


def _by_definition(feature: np.ndarray, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return SSFP (C,), SSBP (C,) and ASBP (L, C) of one image, in float64."""
    f = feature.reshape(CHANNELS, -1).T.astype(np.float64)
    p = np.exp(logits.reshape(2, -1).astype(np.float64))
    p = p / p.sum(0)
    sets = []
    for channel, threshold in ((1, 0.7), (0, 0.6)):
        chosen = np.flatnonzero(p[channel] > threshold)
        sets.append(chosen if len(chosen) else np.argsort(-p[channel], kind="stable")[:12])
    asbp = np.zeros_like(f)
    for i in range(len(f)):
        cosines = [f[i] @ f[j] / (np.linalg.norm(f[i]) * np.linalg.norm(f[j])) for j in sets[1]]
        weight = np.exp(2 * np.array(cosines))
        asbp[i] = (weight / weight.sum()) @ f[sets[1]]
    return f[sets[0]].mean(0), f[sets[1]].mean(0), asbp


@pytest.mark.parametrize("shift", [0.0, 8.0, -8.0])  # both sets filled; no sure foreground; no sure background
def test_a_step_equals_the_definition(shift: float) -> None:
    feature, logits = _drawn(1)
    logits[:, 0] += shift
    own = SelfSupport()(feature, logits)
    for b in range(len(feature)):
        fg, bg, adaptive = _by_definition(feature[b].numpy(), logits[b].numpy())
        np.testing.assert_allclose(own.foreground[b], fg, atol=1e-5)
        np.testing.assert_allclose(own.background[b], bg, atol=1e-5)
        np.testing.assert_allclose(own.adaptive[b].flatten(1).T, adaptive, atol=1e-5)


@pytest.mark.parametrize("change", [0.0, 0.5, 5.0])  # none, few and many positions enter and leave
def test_a_step_that_starts_from_another_gives_the_same_and_the_same_gradient(change: float) -> None:
    feature, logits = _drawn(2)
    step, gradients, found = SelfSupport(), [], []
    later = logits + change * torch.randn_like(logits)
    for known in (False, True):
        f = feature.clone().requires_grad_()
        before = step(f, logits) if known else None
        own = step(f, later, before)
        own.adaptive.square().sum().backward()
        gradients.append(f.grad)
        found.append(own.adaptive.detach())
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4, rtol=1e-4)


def test_an_empty_prototype_is_like_nothing() -> None:
    feature, _ = _drawn(3)
    zero = torch.zeros(2, CHANNELS, requires_grad=True)
    logits = Similarity()(feature, zero, feature)
    assert (logits[:, 1] == 0).all()
    torch.testing.assert_close(logits[:, 0], torch.full_like(logits[:, 0], 10.0))
    logits.sum().backward()
    assert zero.grad.isfinite().all()
