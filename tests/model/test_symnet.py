"""Sym-Net's ideas where golden and published numbers do not reach: its steps beside plain loops from the paper's
formulas in float64, hard triplets without object or background, prototypes of empty sets, weights of losses.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.linalg import norm
from torch import Tensor
from torch.nn import functional as F

from model.symnet.losses import query_triplet, support_triplet
from model.symnet.steps import (
    PooledCorrelation,
    TextAlignment,
    pooled_directions,
    query_prototypes,
    self_activation_priors,
)
from model.tensors.mask import Mask
from model.tensors.ops import foreground_mask
from tests.model.small import BASE_CLASSES, drawn_episode, small_model, without_dropout

GRID = (5, 6)
SIDES = (30, 38)  # of labels, whose objects cover some cells of the grid in part
CHANNELS, BATCH = 7, 2
CLOSE = {"atol": 2e-5, "rtol": 1e-4}
draws = pytest.mark.parametrize(("seed", "shots"), [(0, 1), (1, 2), (2, 3)])


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


def drawn_labels(seed: int, count: int) -> Tensor:
    """Return labels of rectangles over a band of ignored pixels, (count, *SIDES); the last but one has no object."""
    random = np.random.default_rng(seed)
    labels = torch.zeros(count, *SIDES, dtype=torch.uint8)
    for number, label in enumerate(labels):
        top, left = random.integers(0, 9, 2)
        bottom, right = random.integers(20, 29, 2)
        label[top:bottom, left:right] = number != count - 2
        label[bottom - 3 : bottom, left:right] = 255
    return labels


def on_grid(label_nhw: Tensor, grid: tuple[int, ...] = GRID) -> np.ndarray:
    """Return the object's share at each position of a grid, (n, h, w)."""
    mask = foreground_mask(label_nhw).double()
    return F.interpolate(mask, grid, mode="bilinear", align_corners=True)[:, 0].numpy()


def last(x: Tensor) -> np.ndarray:
    """Return maps (..., C, h, w) as float64 with the channels last, so that a position has one index."""
    return np.moveaxis(x.detach().double().numpy(), -3, -1)


def positions() -> Iterator[tuple[int, ...]]:
    return np.ndindex(*GRID)


def assert_close(given: Tensor, want: np.ndarray) -> None:
    np.testing.assert_allclose(given.detach().double().numpy(), want, **CLOSE)


def clamped_cosine(q: np.ndarray, s: np.ndarray) -> float:
    return max(0.0, q @ s / ((norm(q) + 1e-5) * (norm(s) + 1e-5)))


def plain_pooled(query_hwc: np.ndarray, support_hwc: np.ndarray, mask_hw: np.ndarray) -> np.ndarray:
    """The mean of the clamped cosines over the support's positions that lie entirely inside the object."""
    inside = [j for j in positions() if mask_hw[j] > 1 - 1e-6]
    out = np.zeros(GRID)
    for i in positions():
        out[i] = sum(clamped_cosine(query_hwc[i], support_hwc[j]) for j in inside) / max(len(inside), 1)
    return out


@draws
def test_the_pooled_correlation(seed: int, shots: int) -> None:
    head = PooledCorrelation({2: 1, 3: 2})
    query = drawn(seed, BATCH, CHANNELS, *GRID)
    groups, want = [], []
    for shot in range(shots):
        other, support = drawn(10 * seed + shot + 1, 2, BATCH, CHANNELS, *GRID)
        label = drawn_labels(seed + shot, BATCH)
        groups.append(head.object_maps([(2, other), (3, other), (3, support)], Mask(label)))
        want.append([plain_pooled(*each) for each in zip(last(query), last(support), on_grid(label))])
    shots_of_map = [group.block(3, number=1) for group in groups]
    given = head(query, shots_of_map)
    assert_close(given[:, 0], np.mean(want, axis=0))
    assert not given[0].any() and given[1].any()
    of_one_query = head(query[1:], [shot.part(slice(1, 2)) for shot in shots_of_map])  # by convolutions
    assert_close(of_one_query, given[1:])
    squeezed = head.squeeze({2: [query], 3: [given, given + 1]})
    assert torch.equal(squeezed[3], torch.cat([given, given + 1], dim=1)) and head.out_counts == {2: 1, 3: 2}


def plain_pooling(x_hwc: np.ndarray, kernel: tuple[int, int]) -> np.ndarray:
    """The mean around each position, with zeros beyond the edges, (L, C)."""
    height, width = kernel
    padded = np.pad(x_hwc, ((height // 2, height // 2), (width // 2, width // 2), (0, 0)))
    return np.array([padded[y : y + height, x : x + width].sum((0, 1)) / (height * width) for y, x in positions()])


def plain_prior(query_hwc: np.ndarray, support_hwc: np.ndarray, mask_hw: np.ndarray) -> np.ndarray:
    """The similarity of each query position to all of a support's, from 0 to 1; the mean of three kernels."""
    priors = []
    for kernel in ((5, 5), (7, 1), (1, 7)):
        support = plain_pooling(support_hwc * mask_hw[..., None], kernel)
        means = []
        for q in plain_pooling(query_hwc, kernel):
            means.append(np.mean([q @ s / (norm(q) * norm(s) + 1e-7) * norm(q) for s in support]))
        priors.append((np.array(means) - min(means)) / (max(means) - min(means) + 1e-7))
    return np.mean(priors, axis=0).reshape(GRID)


@draws
def test_the_prior_of_each_shot(seed: int, shots: int) -> None:
    query = drawn(seed, BATCH, CHANNELS, *GRID)
    directions, want = [], []
    for shot in range(shots):
        support = drawn(10 * seed + shot + 1, BATCH, CHANNELS, *GRID)
        label = drawn_labels(seed + shot, BATCH)
        directions.append(pooled_directions(support, Mask(label)))
        want.append([plain_prior(*each) for each in zip(last(query), last(support), on_grid(label))])
    given = self_activation_priors(query, torch.stack(directions, dim=1))
    assert_close(given, np.moveaxis(want, 0, 1))
    assert not given[0].any() and (given[1].amax((1, 2)) > 0.5).all()


def plain_alignment(step: TextAlignment, x_chw: Tensor, text: Tensor, prototype: Tensor) -> np.ndarray:
    """The prototype and what the class name and it find in a map: softmax over positions of q U k, of a sum of k."""
    key, question, bilinear, project, bias = (
        weight.detach().double().numpy().squeeze()
        for weight in (step.key.weight, step.query.weight, step.bilinear, *step.project.parameters())
    )
    x, t, p = (value.detach().double().numpy() for value in (x_chw, text, prototype))
    keys = [key @ x[:, y, x_] for y, x_ in np.ndindex(*x.shape[1:])]
    q = question @ np.concatenate([t, p])
    weights = np.exp([q @ bilinear @ k for k in keys])
    found = sum(weight * k for weight, k in zip(weights / weights.sum(), keys))
    return p + project @ found + bias


def test_the_hybrid_prototype_is_of_supports_and_query_each_aligned_with_the_class_name() -> None:
    network = small_model("symnet", 2)
    episode = drawn_episode("symnet", 2, BATCH)
    features, weights, decoded = list[Tensor](), list[Tensor](), list[Tensor]()
    network.project_support.register_forward_hook(lambda module, given, feature: features.append(feature))
    network.shot_weights.register_forward_hook(lambda module, given, weight: weights.append(weight))
    network.decoder.register_forward_pre_hook(lambda module, given: decoded.extend(given))
    network(episode)
    query, prototype, _, prior = decoded
    support = torch.cat(features).view(2, BATCH, *query.shape[1:])  # shot after shot
    for number, text in enumerate(episode.text):
        aligned = []
        masks = on_grid(episode.support_label[number], query.shape[-2:])
        for feature, mask in zip(support[:, number], torch.from_numpy(masks)):
            on_object = feature * mask
            aligned.append(plain_alignment(network.align, on_object, text, on_object.sum((1, 2)) / (mask.sum() + 5e-4)))
        values = prior[number].flatten()
        is_object = values > 0.7 if (values > 0.7).any() else values >= values.sort().values[-12]
        foreground = query[number].flatten(1)[:, is_object].mean(1)
        of_query = plain_alignment(network.align, query[number] * prior[number], text, foreground)
        of_supports = np.average(aligned, axis=0, weights=weights[0][number].detach().numpy())
        assert_close(prototype[number], (of_supports + of_query) / 2)


def test_the_class_that_plays_a_novel_one_suppresses_nothing() -> None:
    network = small_model("symnet", 1)
    episode = drawn_episode("symnet", 1, BATCH)
    maps = drawn(0, BATCH, 2, *GRID), drawn(1, BATCH, BASE_CLASSES + 1, *GRID), drawn(2, BATCH)
    finals = []
    for training, spared in ((True, None), (False, episode.base_id), (False, None)):
        output = network.train(training).corrected(*maps, replace(episode, spared_class=spared))
        finals.append(output.logits)
    in_training, spared, plain = finals
    assert torch.equal(spared, in_training) and not torch.equal(spared, plain)


def unit(x: np.ndarray) -> np.ndarray:
    return x / norm(x)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return norm(a - b + 1e-6)


def plain_support_triplet(anchor: np.ndarray, feature_hwc: np.ndarray, label_hw: Tensor) -> float | None:
    """The farthest position of the object beside the mean of all others; None: there are not both."""
    inside, outside = [], []
    for y, x in positions():
        is_object = label_hw[y * SIDES[0] // GRID[0], x * SIDES[1] // GRID[1]] == 1
        (inside if is_object else outside).append(unit(feature_hwc[y, x]))
    if not inside or not outside:
        return None
    farthest = max(distance(unit(anchor), feature) for feature in inside)
    return max(0.0, 0.5 + farthest - distance(unit(anchor), np.mean(outside, axis=0)))


@draws
@pytest.mark.parametrize("pull", [0, 4])  # of the features to the anchor: with a strong one the loss is 0 in part
def test_the_triplet_of_hard_support_positions(seed: int, shots: int, pull: float) -> None:
    episodes = 3  # of which one has no object, and one nothing else in its last shot
    anchor = drawn(seed, episodes, CHANNELS)
    feature = drawn(seed + 5, episodes, shots, CHANNELS, *GRID)
    labels = torch.stack([drawn_labels(seed + shot, episodes) for shot in range(shots)], dim=1)
    labels[2, -1] = 1
    is_object = torch.from_numpy(on_grid(labels.flatten(0, 1)) > 0).view(episodes, shots, 1, *GRID)
    feature = feature + pull * is_object * anchor[:, None, :, None, None]
    of_shots = []
    for shot in range(shots):
        of_episodes = zip(anchor.double().numpy(), last(feature[:, shot]), labels[:, shot])
        losses = [loss for loss in (plain_support_triplet(*each) for each in of_episodes) if loss is not None]
        of_shots.append(np.mean(losses))
    given = support_triplet(anchor, feature, foreground_mask(labels))
    assert_close(given, np.mean(of_shots))
    without_objects = torch.zeros_like(labels)
    assert support_triplet(anchor, feature, foreground_mask(without_objects)) == 0


def test_the_triplet_of_the_query() -> None:
    vectors = drawn(0, 3, 4, CHANNELS)  # anchor, positive and negative of each episode
    vectors[1, :2] = vectors[0, :2]  # whose loss is 0, as the negative is far
    want = []
    for anchor, positive, negative in vectors.double().transpose(0, 1).numpy():
        near, far = distance(unit(anchor), unit(positive)), distance(unit(anchor), unit(negative))
        want.append(max(0.0, 0.5 + near - far))
    assert min(want) == 0 < max(want)
    assert_close(query_triplet(*vectors), np.mean(want))


SETS = ("foreground", "ambiguous", "background")


@pytest.mark.parametrize(
    "empty, low, high", [("foreground", 0, 0.6), ("ambiguous", 0.56, 0.9), ("background", 0.41, 1), (None, 0, 1)]
)
def test_query_prototypes_are_means_by_the_prior_and_an_empty_set_takes_twelve_positions(
    empty: str | None, low: float, high: float
) -> None:
    values = np.random.default_rng(1).permutation(np.linspace(low, high, 36)).astype(np.float32)
    order = np.argsort(-values)
    by_rank = {"foreground": order[:12], "ambiguous": order[12:24], "background": order[-12:]}
    chosen = (values > 0.7, (values > 0.4) & (values < 0.55), values < 0.4)
    found = [np.flatnonzero(x) if x.any() else by_rank[name] for name, x in zip(SETS, chosen)]
    assert not chosen[SETS.index(empty)].any() if empty else all(x.any() for x in chosen)
    feature = drawn(0, 1, 4, 6, 6)
    given = query_prototypes(feature, torch.from_numpy(values).view(1, 1, 6, 6))
    for name, places in zip(SETS, found):
        assert_close(getattr(given, name)[0], feature.double().view(4, -1).numpy()[:, places].mean(1))


def test_every_loss_but_the_main_one_has_the_auxiliary_weight() -> None:
    of_weights = []
    for weight in (1.0, 0.25):
        network = small_model("symnet", 1, aux_weight=weight).train()
        without_dropout(network)
        of_weights.append(network(drawn_episode("symnet", 1, 2)).losses)
    plain, weighted = of_weights
    assert set(plain) == {"main", "meta", "base", "inner", "triplet"} and min(plain.values()) > 0
    for name, loss in plain.items():
        assert weighted[name].item() == pytest.approx(loss.item() * (1 if name == "main" else 0.25), rel=1e-4), name
