"""The linear probe: its examples, the minimum of its loss, and the supports that it is fitted to once."""

import pytest
import torch

from model.baselines import probe
from model.baselines.probe import examples_of, fit
from model.episode import IGNORE
from tests.model.small import drawn_episode, small_model

CHANNELS, GRID, CANVAS = 6, (4, 5), (16, 20)


def test_examples_are_shares_of_known_pixels_cell_by_cell_and_shot_by_shot() -> None:
    labels = torch.zeros(2, *CANVAS, dtype=torch.uint8)
    labels[0, :4, :4], labels[0, 4:6, :4], labels[0, 6:8, :2] = 1, 2, IGNORE  # two cells of 4 x 4 pixels
    labels[1] = IGNORE
    maps = torch.randn(2, CHANNELS, *GRID)
    examples = examples_of(list(zip(maps, labels)), 2)
    assert torch.equal(examples.points[:20], maps[0].flatten(1).T) and len(examples.points) == 40
    torch.testing.assert_close(examples.weight[[0, 5, 1, 20]], torch.tensor([1, 0.75, 1, 0]))
    want = torch.tensor([[0, 1, 0], [1 / 3, 0, 2 / 3], [1, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(examples.shares[[0, 5, 1, 20]], want)


def test_an_object_is_no_background_where_its_image_supports_another_class() -> None:
    first, second = (drawn_episode("probe", 2, 1, seed) for seed in (1, 2))
    second.support[:, 0] = first.support[:, 0]
    one, _, two, _ = probe._joint(probe._shots([first, second], 0))
    mine, other = first.support_label[0, 0], second.support_label[0, 0]
    assert (mine == 0)[other == 1].any() and (one[(mine == 0) & (other == 1)] == IGNORE).all()
    for label, own, number in ((one, mine, 1), (two, other, 2)):
        assert torch.equal(label == number, own == 1)
        assert torch.equal(label == 0, (mine != 1) & (other != 1) & (own == 0))


def test_queries_that_share_supports_share_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    network, episode, fits = small_model("probe", 2), drawn_episode("probe", 2, 1), []
    monkeypatch.setattr(probe, "fit", lambda *given: fits.append(0) or fit(*given))
    alone = network(episode).logits
    episode.cached_support = [network.cache_support(episode.support, episode.support_label)]
    for _ in range(2):
        torch.testing.assert_close(network(episode).logits, alone)
    assert len(fits) == 1  # of the supports as images, and of those that were encoded
    episode.support_label = 1 - episode.support_label.clamp(max=1)  # the same images may support another class
    assert not torch.allclose(network(episode).logits, alone) and len(fits) == 2
