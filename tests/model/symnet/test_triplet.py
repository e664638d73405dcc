"""The triplet losses equal a slow loop over positions, and leave out episodes that show only one kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from model.symnet.query_prototypes import QueryPrototypes
from model.symnet.triplet import query_triplet, support_triplet
from tests.model.small import rectangle_mask

MARGIN, EPS = 0.5, 1e-6


def _unit(x: np.ndarray) -> np.ndarray:
    return x / max(np.linalg.norm(x), 1e-12)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a - b + EPS) ** 2).sum()))


def _slow_support(anchor: Tensor, feature: Tensor, mask: Tensor) -> float:
    anchors, features, masks = (x.detach().double().numpy() for x in (anchor, feature, mask))
    shots, height, width = features.shape[1], *features.shape[-2:]
    image_height, image_width = masks.shape[-2:]
    per_shot = []
    for k in range(shots):
        losses = []
        for b in range(len(anchors)):
            positive, negative = [], []
            for i in range(height):
                for j in range(width):
                    inside = masks[b, k, 0, i * image_height // height, j * image_width // width] == 1
                    (positive if inside else negative).append(_unit(features[b, k, :, i, j]))
            if positive and negative:
                own = _unit(anchors[b])
                farthest = max(_distance(own, p) for p in positive)
                losses.append(max(0.0, MARGIN + farthest - _distance(own, np.mean(negative, axis=0))))
        per_shot.append(np.mean(losses) if losses else 0.0)
    return float(np.mean(per_shot))


def _masks(*kinds: str, image: tuple[int, int] = (33, 33)) -> Tensor:
    made = {
        "part": rectangle_mask(*image, slice(4, 25), slice(10, 30)),
        "other": rectangle_mask(*image, slice(0, 12), slice(0, 33)),
        "none": torch.zeros(1, *image),
        "all": torch.ones(1, *image),
    }
    return torch.stack([made[kind] for kind in kinds])


@pytest.mark.parametrize("grid, image", [((5, 5), (33, 33)), ((4, 7), (35, 41))])
def test_support_loss_equals_the_slow_loop(grid: tuple[int, int], image: tuple[int, int]) -> None:
    torch.manual_seed(0)
    anchor, feature = torch.randn(3, 6), torch.randn(3, 2, 6, *grid)
    mask = _masks("part", "other", "other", "other", "part", "part", image=image).unflatten(0, (3, 2))
    slow = _slow_support(anchor, feature, mask)
    assert slow > 0
    assert support_triplet(anchor, feature, mask).item() == pytest.approx(slow, abs=1e-5)


def test_episodes_without_both_kinds_are_left_out_shot_by_shot() -> None:
    torch.manual_seed(1)
    anchor, feature = torch.randn(3, 6), torch.randn(3, 2, 6, 5, 5)
    mask = _masks("part", "all", "none", "none", "all", "part").unflatten(0, (3, 2))
    given = support_triplet(anchor, feature, mask)
    assert given.item() == pytest.approx(_slow_support(anchor, feature, mask), abs=1e-5)
    first = support_triplet(anchor[:1], feature[:1, :1], mask[:1, :1])
    second = support_triplet(anchor[2:], feature[2:, 1:], mask[2:, 1:])
    assert given.item() == pytest.approx((first.item() + second.item()) / 2, abs=1e-6)


def test_support_loss_is_zero_where_no_episode_shows_both_kinds() -> None:
    anchor = torch.randn(2, 6, requires_grad=True)
    loss = support_triplet(anchor, torch.randn(2, 1, 6, 5, 5), _masks("none", "all").unsqueeze(1))
    assert loss.item() == 0
    loss.backward()
    assert (anchor.grad == 0).all()


def test_support_loss_is_zero_once_the_margin_is_kept() -> None:
    mask = rectangle_mask(33, 33, slice(0, 33), slice(0, 16))[None, None]
    direction = torch.tensor([1.0, 0.0])
    inside = torch.nn.functional.interpolate(mask[0], size=(5, 5), mode="nearest")
    feature = (direction.view(1, 2, 1, 1) * (2 * inside - 1))[None]
    assert support_triplet(direction[None], feature, mask).item() == 0
    swapped = support_triplet(-direction[None], feature, mask).item()
    assert swapped == pytest.approx(MARGIN + 2, abs=1e-4)


def test_negatives_are_averaged_without_normalising_their_mean() -> None:
    mask = rectangle_mask(33, 33, slice(0, 33), slice(0, 16))[None, None]
    feature = torch.zeros(1, 1, 2, 2, 2)
    feature[0, 0, 0, :, 0] = 5.0  # inside: the anchor's direction, whatever its length
    feature[0, 0, :, 0, 1] = torch.tensor([0.0, 3.0])
    feature[0, 0, :, 1, 1] = torch.tensor([0.0, -0.1])  # outside: opposite directions, their mean is the origin
    loss = support_triplet(torch.tensor([[2.0, 0.0]]), feature, mask)
    assert loss.item() == 0  # 0.5 + 0 - 1
    feature[0, 0, :, 1, 1] = torch.tensor([1.0, 0.0])
    loss = support_triplet(torch.tensor([[2.0, 0.0]]), feature, mask)  # negative mean (0.5, 0.5)
    assert loss.item() == pytest.approx(max(0.0, 0.5 - 0.5**0.5), abs=1e-4)
    feature[0, 0, :, 0, 1] = torch.tensor([3.0, 4.0])  # mean (0.8, 0.4)
    loss = support_triplet(torch.tensor([[2.0, 0.0]]), feature, mask)
    assert loss.item() == pytest.approx(0.5 - (0.2**2 + 0.4**2) ** 0.5, abs=1e-4)


def test_query_loss_equals_the_slow_loop() -> None:
    torch.manual_seed(2)
    anchor, unused, positive, negative = torch.randn(4, 5, 6).unbind()
    losses = []
    for a, p, n in zip(anchor.double().numpy(), positive.double().numpy(), negative.double().numpy()):
        losses.append(max(0.0, MARGIN + _distance(_unit(a), _unit(p)) - _distance(_unit(a), _unit(n))))
    assert any(x > 0 for x in losses)
    given = query_triplet(anchor, QueryPrototypes(unused, positive, negative))
    assert given.item() == pytest.approx(np.mean(losses), abs=1e-5)
    assert query_triplet(anchor, QueryPrototypes(unused, anchor, -anchor)).item() == 0


def test_gradients_are_finite_and_reach_anchor_and_features() -> None:
    torch.manual_seed(3)
    anchor, feature = torch.randn(2, 6), torch.randn(2, 1, 6, 5, 5)
    feature[:, :, :, 2, 2] = 0  # as after a ReLU that is zero everywhere
    feature[0, 0, :, 3, 3] = anchor[0]
    anchor, feature = anchor.requires_grad_(), feature.requires_grad_()
    loss = support_triplet(anchor, feature, _masks("part", "other").unsqueeze(1))
    loss = loss + query_triplet(anchor, QueryPrototypes(anchor, anchor, feature.mean((1, 3, 4))))
    loss.backward()
    for x in (anchor, feature):
        assert x.grad.isfinite().all()
        assert x.grad.abs().sum() > 0


def test_losses_are_computed_in_float32_under_autocast() -> None:
    torch.manual_seed(4)
    anchor, feature, mask = torch.randn(2, 6), torch.randn(2, 1, 6, 5, 5), _masks("part", "other").unsqueeze(1)
    prototypes = QueryPrototypes(*torch.randn(3, 2, 6).unbind())
    with torch.autocast("cpu", torch.bfloat16):
        low = support_triplet(anchor, feature, mask), query_triplet(anchor, prototypes)
    assert low == (support_triplet(anchor, feature, mask), query_triplet(anchor, prototypes))
