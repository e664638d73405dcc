"""HSNet's vote, its sizes with VGG-16, and its weight files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.encoders.weights import load_encoder
from model.hsnet.hsnet import EncoderSettings, HSNetSettings
from model.hsnet.vgg import PlainVGGEncoder
from model.hsnet.voting import vote
from model.mismatch import Mismatch
from tests.model.varied import bare_encoder
from tests.skip_init import skip_init


def _logits(pred: torch.Tensor) -> torch.Tensor:
    """Return logits (B, K, 2, H, W) of any confidence with these predictions."""
    margin = (2 * pred.float() - 1) * (torch.rand(pred.shape) * 30 + 1e-3)
    return torch.stack([torch.zeros_like(margin), margin], dim=2)


def test_made_up_predictions_vote_as_measured(shared: Path) -> None:
    torch.manual_seed(0)
    with np.load(shared / "parity/hsnet/voting.npz") as stored:
        each, want = (torch.from_numpy(stored[name]) for name in ("shot_pred", "pred"))
    logits, votes = vote(_logits(each))
    assert torch.equal(votes, each.long().sum(1))
    assert torch.equal(logits.argmax(1), want.long())


@pytest.mark.parametrize(("largest", "needed"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_half_of_the_images_largest_vote_decides(largest: int, needed: int) -> None:
    pred = torch.zeros(1, 5, 1, largest + 1, dtype=torch.uint8)
    for pixel in range(largest + 1):
        pred[0, :pixel, 0, pixel] = 1
    logits, votes = vote(_logits(pred))
    assert votes[0, 0].tolist() == list(range(largest + 1))
    assert logits.argmax(1)[0, 0].tolist() == [int(v >= needed) for v in range(largest + 1)]
    foreground = logits.softmax(1)[0, 1, 0]
    assert (foreground.diff() > 0).all()  # more votes, more probability


def test_more_votes_win_over_more_confidence() -> None:
    logits = torch.zeros(1, 3, 2, 1, 2)
    logits[0, :, 1, 0, 0] = torch.tensor([40.0, -1e-2, -1e-2])  # one sure shot
    logits[0, :, 1, 0, 1] = 1e-2  # three that hardly are
    assert vote(logits)[0].argmax(1)[0, 0].tolist() == [0, 1]


@pytest.mark.parametrize(("size", "fits"), [(400, True), (144, True), (280, False), (31, False)])
def test_vgg_refuses_sizes_at_which_its_levels_differ(size: int, fits: bool) -> None:
    problem = HSNetSettings(EncoderSettings(backbone="vgg16")).problem(size)
    assert (problem is None) == fits and HSNetSettings().problem(size) is None
    if problem is not None:
        key, message = problem
        assert key == "encoder" and "nearest sizes: " in message


def test_vgg_gives_raw_convolutions_and_the_last_pool() -> None:
    with skip_init():
        encoder = PlainVGGEncoder().eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    image = torch.randn(1, 3, 65, 65)
    with torch.no_grad():
        maps = encoder(image, intermediate=True).intermediate
        layers = [layer for i in range(5) for layer in encoder.stage(i)]
        x, raw = image, []
        for layer in layers:
            x = torch.relu(x) if isinstance(layer, torch.nn.ReLU) else layer(x)
            raw.append(x)
    for level, positions in {2: (17, 19, 21), 3: (24, 26, 28), 4: (30,)}.items():
        assert len(maps[level]) == len(positions) == encoder.intermediate_counts[level]
        assert all(torch.equal(a, raw[i]) for a, i in zip(maps[level], positions))
    assert [maps[level][0].shape[-1] for level in (2, 3, 4)] == [8, 4, 2]


def test_vgg_takes_torchvisions_names_and_refuses_weights_with_batch_norm() -> None:
    with torch.device("meta"):
        encoder = PlainVGGEncoder()
    names = encoder.own_names(
        {f"features.{i}.weight": torch.empty(0) for i in (0, 7, 17, 28)} | {"classifier.0.bias": 1}
    )
    assert set(names) == {"layer0.0.weight", "layer1.2.weight", "layer3.0.weight", "layer4.4.weight"}
    with pytest.raises(Mismatch, match="not weights of this encoder"):
        load_encoder(encoder, bare_encoder("vgg16", "plain").state_dict(), partial=False)
