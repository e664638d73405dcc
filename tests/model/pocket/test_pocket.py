"""Pocket: its comparison by definition, the roles that pairs exchange, and where its training starts."""

import torch
from torch.nn import functional as F

from model.pocket.comparison import GAIN, RIDGE, probe, shares
from model.pocket.levels import Levels
from model.pocket.pocket import JUDGES
from tests.model.small import drawn_episode, small_model

WIDTHS, SIDE = (5, 7), 4


def drawn_levels(batch: int) -> Levels:
    maps = [F.normalize(torch.randn(batch, width, SIDE, SIDE), dim=1) for width in WIDTHS]
    unused = torch.zeros(batch, 1, SIDE, SIDE)
    return Levels(maps, torch.cat(maps, dim=1), unused, unused)


def test_shares_lie_where_the_encoders_cells_lie() -> None:
    mask = torch.zeros(1, 1, 33, 33)
    mask[:, :, 12:21, 12:21] = 1  # around the pixel that cell (2, 2) of five is centred on
    found = shares(mask, (5, 5))[0]
    assert found[2, 2] == 1 and torch.equal(found, found.flip(0, 1)) and found[0].sum() == 0
    torch.testing.assert_close(found[1, 2], torch.tensor(1 / 9))  # one of the nine rows around that cell


def test_an_object_that_fills_a_support_leaves_the_others_background() -> None:
    torch.manual_seed(6)
    query, supports = drawn_levels(1), [drawn_levels(1) for _ in range(2)]
    inside = (torch.rand(1, 2, SIDE, SIDE) > 0.6).float()
    inside[:, 1] = 1
    outside = 1 - inside
    found = probe(query, supports, inside, outside)
    x = torch.cat([torch.cat([u[0].flatten(1) for u in s.unit]).T for s in supports])
    means = [mask / mask.sum((2, 3), keepdim=True).clamp(min=1) for mask in (inside, outside)]
    o, b = (m.flatten() / m.sum() for m in means)
    centre = (o @ x + b @ x) / 2
    matrix = ((x - centre).T * (o + b) / 2) @ (x - centre) + RIDGE * torch.eye(x.shape[1])
    direction = torch.linalg.solve(matrix, (o @ x - b @ x) / 2)
    seen = torch.cat([u[0].flatten(1) for u in query.unit]).T
    torch.testing.assert_close(found.flatten(), GAIN * (seen - centre) @ direction, atol=1e-2, rtol=1e-3)


def test_a_decoder_that_fails_on_the_support_itself_is_not_used() -> None:
    network, episode = small_model("pocket", 1), drawn_episode("pocket", 1, 1)
    bias = network.decoder.outline.bias
    with torch.no_grad():
        before = network(episode)
        assert not torch.allclose(before.logits, before.extra["match"])
        bias.fill_(-50)  # background everywhere
        output = network(episode)
    assert (output.logits.argmax(1) == output.extra["match"].argmax(1)).float().mean() > 0.9
    assert output.logits.argmax(1).any()


def test_several_supports_say_whether_the_decoder_is_used() -> None:
    network, episode = small_model("pocket", 3), drawn_episode("pocket", 2, 3)
    with torch.no_grad():
        network.decoder.outline.bias.fill_(-50)  # background everywhere
        assert network(episode).logits.argmax(1).any()
        network._decoder_helps = lambda *_: torch.tensor(True)
        assert not network(episode).logits.argmax(1).any()
        asked = list[int]()
        network._decoder_helps = lambda supports, *_: torch.tensor(asked.append(len(supports)) is None)
        network(drawn_episode("pocket", JUDGES + 1, 3))
    assert asked == [JUDGES]
