"""The learned match: cosines after one self-support step, seen by the decoder, which adds to them."""

from __future__ import annotations

import torch

from model.symnet.extensions.match import Match
from model.symnet.symnet_plus import SymNetPlus
from tests.model.small import drawn_episode, task_of


def _network(self_support: str, shots: int = 1) -> SymNetPlus:
    settings = SymNetPlus.Settings(self_support=self_support)
    settings.encoder.backbone, settings.encoder.stem = "resnet10_narrow", "plain"
    torch.manual_seed(0)
    return SymNetPlus(settings, task_of("symnet", shots)).eval()


def test_guess_is_the_cosine_to_the_weighted_prototypes() -> None:
    torch.manual_seed(0)
    match, weight = Match(8), torch.tensor([[0.25, 0.75]])
    query, support, mask = torch.randn(1, 8, 3, 3), torch.randn(2, 8, 3, 3), (torch.rand(2, 1, 3, 3) > 0.5).float()
    with torch.no_grad():
        prototypes = match.prototypes(support, (mask, 1 - mask))[None]
        guess = match(query, prototypes, weight)["guess"]
        own, others = (match.project(x).flatten(2) for x in (query, support))  # (1, C, L), (2, C, L)
    for channel, inside in enumerate((1 - mask, mask)):
        m = inside.flatten(2)
        prototype = weight[0] @ ((others * m).sum(2) / (m.sum(2) + 5e-4))
        expected = 10 * torch.cosine_similarity(own[0].T, prototype[None])
        torch.testing.assert_close(guess[0, channel].flatten(), expected, atol=1e-5, rtol=0)


def test_the_self_support_step_selects_confident_positions() -> None:
    torch.manual_seed(0)
    match = Match(16)
    kinds = torch.randn(3, 16)  # background, the support's object, and how the query's differs from it
    seen = torch.zeros(6, 6, dtype=torch.long)
    seen[1:4, 2:5] = 1
    support = kinds[seen].permute(2, 0, 1)[None]
    query = torch.stack([kinds[0], kinds[1] + kinds[2]])[seen].permute(2, 0, 1)[None]
    with torch.no_grad():
        mask = seen[None, None].float()
        said = match(query, match.prototypes(support, (mask, 1 - mask))[:, None], torch.ones(1, 1))
    margin = {name: logits.diff(dim=1)[0, 0][seen.bool()].mean() for name, logits in said.items()}
    assert margin["match"] > margin["guess"] > 0  # the query's own prototype is nearer than the support's


def test_the_decoder_adds_to_the_match() -> None:
    network = _network("match", shots=2)
    episode = drawn_episode("symnet", shots=2, batch=2)
    with torch.no_grad():
        before = network(episode)
        network.decoder.head.classify.weight.zero_()
        network.decoder.head.classify.bias.zero_()
        silent = network(episode)
    assert before.extra.keys() == {"guess", "match", "meta"}
    assert not torch.allclose(before.extra["meta"], before.extra["match"])
    torch.testing.assert_close(silent.extra["meta"], silent.extra["match"])
