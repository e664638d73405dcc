"""The second look: its prior is one self-support step from the first, and the decoder's weights are the same."""

from __future__ import annotations

import torch

from model.symnet.extensions.refinement import Refinement
from model.symnet.symnet import SymNet
from tests.model.small import drawn_episode, task_of


def _network(refine: bool, shots: int = 1) -> SymNet:
    settings = SymNet.Settings(self_support="second_look" if refine else "none")
    settings.encoder.backbone, settings.encoder.stem = "resnet18", "plain"
    torch.manual_seed(0)
    return SymNet(settings, task_of("symnet", shots)).eval()


def test_prior_of_a_sure_first_look_follows_its_features() -> None:
    torch.manual_seed(0)
    kinds = torch.randn(2, 16)  # what background and object look like
    seen = torch.zeros(6, 6, dtype=torch.long)
    seen[1:4, 2:5] = 1
    query = kinds[seen].permute(2, 0, 1)[None] + 0.01 * torch.randn(1, 16, 6, 6)
    meta = torch.stack([1 - seen, seen])[None].float() * 10
    meta[:, :, 1, 2] = torch.tensor([3.0, 0.0])  # one position of the object missed
    mask = seen[None, None].float()
    prior = Refinement()(meta, query, query, mask, torch.ones(1, 1))
    assert prior.shape == (1, 1, 6, 6) and not prior.requires_grad
    assert ((prior[0, 0] > 0.5) == seen.bool()).all()  # the missed one is found again


def test_prior_is_the_written_formula() -> None:
    torch.manual_seed(0)
    query, support, meta = torch.randn(1, 8, 3, 3), torch.randn(2, 8, 3, 3), torch.randn(1, 2, 3, 3)
    mask, weight = (torch.rand(2, 1, 3, 3) > 0.5).float(), torch.tensor([[0.25, 0.75]])
    meta[0, :, 0, 0], meta[0, :, 2, 2] = torch.tensor([0.0, 4.0]), torch.tensor([4.0, 0.0])
    f, guess = query[0].flatten(1).T, meta[0].softmax(0).flatten(1)  # (L, C), (2, L)
    own_fg, sure_bg = f[guess[1] > 0.7].mean(0), f[guess[0] > 0.6]
    unit = torch.nn.functional.normalize
    adaptive = (2 * unit(f, dim=1) @ unit(sure_bg, dim=1).T).softmax(1) @ sure_bg  # (L, C)
    each = (support * mask).sum((2, 3)) / (mask.sum((2, 3)) + 5e-4)
    fg = (weight[0] @ each + own_fg) / 2
    bg = 0.3 * sure_bg.mean(0) + 0.7 * adaptive
    cosines = torch.stack([torch.cosine_similarity(f, x if x.ndim == 2 else x[None]) for x in (bg, fg)])
    expected = (10 * cosines).softmax(0)[1].view(1, 1, 3, 3)
    torch.testing.assert_close(Refinement()(meta, query, support, mask, weight), expected, atol=1e-5, rtol=0)


def test_the_second_look_has_no_parameters_and_the_first_is_reported() -> None:
    plain, refined = _network(False, 2), _network(True, 2)
    assert plain.state_dict().keys() == refined.state_dict().keys()
    episode = drawn_episode("symnet", shots=2, batch=2)
    with torch.no_grad():
        before, after = plain(episode), refined(episode)
    assert torch.equal(after.extra["first"], before.extra["meta"])
    assert not torch.equal(after.extra["meta"], before.extra["meta"])
    assert after.maps.keys() == {"prior", "refined prior"}


def test_both_looks_teach_the_decoder() -> None:
    network = _network(True).train()
    seen = []
    network.decoder.head.register_full_backward_hook(lambda *args: seen.append(args[2][0].abs().sum().item()))
    sum(network(drawn_episode("symnet", shots=1, batch=2)).losses.values()).backward()
    assert len(seen) == 2 and min(seen) > 0
