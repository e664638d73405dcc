"""HSNet's vote, its sizes with VGG-16, and its weight files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.encoders.layouts import load_encoder
from model.encoders.settings import EncoderSettings
from model.encoders.vgg import VGGEncoder
from model.hsnet.hsnet import HSNetSettings, vote
from model.mismatch import Mismatch
from tests.model.varied import bare_encoder


def test_made_up_predictions_vote_as_measured(shared: Path) -> None:
    torch.manual_seed(0)
    with np.load(shared / "parity/hsnet/voting.npz") as stored:
        each, want = (torch.from_numpy(stored[name]) for name in ("shot_pred", "pred"))
    margin = (2 * each.float() - 1) * (torch.rand(each.shape) * 30 + 1e-3)  # of any confidence
    logits, votes = vote(torch.stack([torch.zeros_like(margin), margin], dim=2))
    assert torch.equal(votes, each.long().sum(1))
    assert torch.equal(logits.argmax(1), want.long())


@pytest.mark.parametrize(("size", "fits"), [(400, True), (144, True), (280, False), (31, False)])
def test_vgg_refuses_sizes_at_which_its_levels_differ(size: int, fits: bool) -> None:
    problem = HSNetSettings(EncoderSettings(backbone="vgg16")).problem(size)
    assert (problem is None) == fits and HSNetSettings().problem(size) is None
    if problem is not None:
        key, message = problem
        assert key == "encoder" and "nearest size: " in message


def test_vgg_takes_torchvisions_names_and_refuses_weights_with_batch_norm() -> None:
    with torch.device("meta"):
        encoder = VGGEncoder(batch_norm=False)
    names = encoder.own_names(
        {f"features.{i}.weight": torch.empty(0) for i in (0, 7, 17, 28)} | {"classifier.0.bias": 1}
    )
    assert set(names) == {"layer0.0.weight", "layer1.2.weight", "layer3.0.weight", "layer4.4.weight"}
    with pytest.raises(Mismatch, match="not weights of this encoder"):
        load_encoder(encoder, bare_encoder("vgg16", "plain").state_dict(), partial=False)
