"""Sym-Net's ideas beside the paper's formulas in float64: the prior, the text's alignment, hard triplets without object
or background, prototypes of empty sets, the correlation; weights of losses.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.linalg import norm
from torch import Tensor
from torch.nn import functional as F

from model.symnet.correlation import PooledCorrelation
from model.symnet.losses import query_triplet, support_triplet
from model.symnet.steps import TextAlignment, pooled_directions, query_prototypes, self_activation_priors
from model.tensors.mask import Mask
from model.tensors.ops import foreground_mask
from tests.model.small import BASE_CLASSES, drawn_episode, small_model, without_dropout

GRID = (5, 6)
SIDES = (30, 38)  # of labels, whose objects cover some cells of the grid in part
CHANNELS, BATCH = 7, 2
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
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


def on_grid(mask_bk1hw: Tensor) -> Tensor:
    """Return the object's share at each position of a grid, (B, K, 1, h, w)."""
    small = F.interpolate(mask_bk1hw.flatten(0, 1), GRID, mode="bilinear", align_corners=True)
    return small.unflatten(0, mask_bk1hw.shape[:2])


def last(x: Tensor) -> np.ndarray:
    """Return maps (..., C, h, w) as float64 with the channels last, so that a position has one index."""
    return np.moveaxis(x.detach().double().numpy(), -3, -1)


def assert_close(given: Tensor, want: np.ndarray) -> None:
    np.testing.assert_allclose(given.detach().double().numpy(), want, **CLOSE)


def test_the_class_that_plays_a_novel_one_suppresses_nothing() -> None:
    network = small_model("symnet", 1)
    episode = drawn_episode("symnet", 1, BATCH)
    maps = drawn(0, BATCH, 2, *GRID), drawn(1, BATCH, BASE_CLASSES + 1, *GRID), drawn(2, BATCH)
    in_training, spared, plain = (
        network.train(training).ensemble_with_base(*maps, replace(episode, spared_class=spared)).logits
        for training, spared in ((True, None), (False, episode.base_id), (False, None))
    )
    assert torch.equal(spared, in_training) and not torch.equal(spared, plain)


def unit(x: np.ndarray) -> np.ndarray:
    return x / norm(x)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return norm(a - b + 1e-6)


def plain_support_triplet(anchor: np.ndarray, feature_hwc: np.ndarray, label_hw: Tensor) -> float | None:
    """The farthest position of the object beside the mean of all others; None: there are not both."""
    inside, outside = [], []
    nearest = F.interpolate(label_hw[None, None], GRID)[0, 0]
    for place in np.ndindex(*GRID):
        (inside if nearest[place] == 1 else outside).append(unit(feature_hwc[place]))
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
    masks = foreground_mask(labels)
    is_object = on_grid(masks) > 0
    feature += pull * is_object * anchor.view(episodes, 1, CHANNELS, 1, 1)
    of_shots = []
    for features, of_shot in zip(last(feature).swapaxes(0, 1), labels.unbind(1)):
        losses = map(plain_support_triplet, anchor.double().numpy(), features, of_shot)
        of_shots.append(np.mean([loss for loss in losses if loss is not None]))
    assert_close(support_triplet(anchor, feature, masks), np.mean(of_shots))
    assert support_triplet(anchor, feature, 0 * masks) == 0


def test_the_triplet_of_the_query() -> None:
    vectors = drawn(0, 3, 4, CHANNELS)  # anchor, positive and negative of each episode
    vectors[1, :2] = vectors[0, :2]  # whose loss is 0, as the negative is far
    want = [
        max(0.0, 0.5 + distance(anchor, positive) - distance(anchor, negative))
        for anchor, positive, negative in zip(*F.normalize(vectors.double(), dim=2).numpy())
    ]
    assert min(want) == 0 < max(want)
    assert_close(query_triplet(*vectors), np.mean(want))


def plain_prior(query_hwc: np.ndarray, support_hwc: np.ndarray) -> np.ndarray:
    """The mean of a position's cosines to all of the masked support, times its length, under three kernels."""
    prior = np.zeros(GRID)
    for rows, columns in ((5, 5), (7, 1), (1, 7)):
        padding = (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)
        windows = [sliding_window_view(np.pad(x, padding), (rows, columns), (0, 1)) for x in (query_hwc, support_hwc)]
        q, s = (x.mean((3, 4)).reshape(-1, CHANNELS) for x in windows)
        lengths = norm(q, axis=1, keepdims=True)
        activation = (q @ s.T / (lengths * norm(s, axis=1) + 1e-7) * lengths).mean(1).reshape(GRID)
        prior += (activation - activation.min()) / (np.ptp(activation) + 1e-7)
    return prior / 3


def test_the_prior_is_that_of_the_papers_matrix_of_cosines() -> None:
    query, support = drawn(0, 1, CHANNELS, *GRID), drawn(1, 1, CHANNELS, *GRID)
    mask = Mask(drawn_labels(3, 2)[1:])
    masked = last(support)[0] * on_grid(mask.foreground[None])[0, 0, 0].double().numpy()[..., None]
    found = self_activation_priors(query, pooled_directions(support, mask)[None])
    assert_close(found[0, 0], plain_prior(last(query)[0], masked))


def test_a_prototype_is_aligned_by_the_papers_bilinear_attention() -> None:
    align = TextAlignment(CHANNELS, 4).eval()
    feature, text, prototype = drawn(0, 1, CHANNELS, *GRID), drawn(1, 1, 4), drawn(2, 1, CHANNELS)
    own = {name: tensor.double().numpy() for name, tensor in align.state_dict().items()}
    keys = own["key.weight"][:, :, 0, 0] @ feature[0].flatten(1).double().numpy()
    question = own["query.weight"] @ torch.cat([text, prototype], 1)[0].double().numpy()
    shares = np.exp(question @ own["bilinear"] @ keys)
    attended = own["project.weight"] @ (keys @ shares / shares.sum()) + own["project.bias"]
    assert_close(align(feature, text, prototype)[0], prototype[0].double().numpy() + attended)


@pytest.mark.parametrize(
    "empty, low, high", [("foreground", 0, 0.6), ("ambiguous", 0.56, 0.9), ("background", 0.41, 1), (None, 0, 1)]
)
def test_query_prototypes_are_means_by_the_prior(empty: str | None, low: float, high: float) -> None:
    values = np.random.default_rng(1).permutation(np.linspace(low, high, 36)).astype(np.float32)
    order = np.argsort(-values)
    by_rank = {"foreground": order[:12], "ambiguous": order[12:24], "background": order[-12:]}
    is_between = (values > 0.4) & (values < 0.55)
    chosen = {"foreground": values > 0.7, "ambiguous": is_between, "background": values < 0.4}
    feature = drawn(0, 1, 4, 36)
    given = query_prototypes(feature.unflatten(2, (6, 6)), torch.from_numpy(values).view(1, 1, 6, 6))
    for name, is_chosen in chosen.items():
        is_empty = not is_chosen.any()
        assert is_empty or name != empty
        assert empty or not is_empty
        places = by_rank[name] if is_empty else is_chosen
        assert_close(getattr(given, name), feature.numpy()[..., places].mean(2))


@pytest.mark.parametrize("positions", [1, 3])
def test_the_correlation_is_the_mean_of_the_objects_positions(positions: int) -> None:
    support, query = drawn(0, 1, CHANNELS, *GRID), drawn(1, 1, CHANNELS, *GRID)
    label = torch.zeros(1, *GRID, dtype=torch.uint8)
    label.view(-1)[:positions] = 1
    head = PooledCorrelation({2: 1})
    of_query = head.of_query([(2, query)], [head.object_maps([(2, support)], Mask(label))])
    on_object = F.normalize(support.flatten(2)[..., :positions], dim=1)
    cosine = torch.einsum("bcj,bci->bji", on_object, F.normalize(query.flatten(2), dim=1))
    assert_close(of_query[2].flatten(), cosine.clamp(min=0).mean(1).flatten().numpy())


def test_every_loss_but_the_main_one_has_the_auxiliary_weight() -> None:
    of_weights = []
    for weight in (1.0, 0.25):
        network = small_model("symnet", 1, aux_weight=weight).train()
        without_dropout(network)
        of_weights.append(network(drawn_episode("symnet", 1, 2)).losses)
    plain, weighted = of_weights
    assert set(plain) == {"main", "meta", "base", "inner", "triplet"}
    assert min(plain.values()) > 0
    for name, loss in plain.items():
        weight = 1 if name == "main" else 0.25
        assert float(weighted[name]) == pytest.approx(weight * float(loss), rel=1e-4), name
