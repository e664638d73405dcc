"""Pocket: its close-up of small objects, its probe by definition, and when its decoder is used."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.episode import IGNORE
from model.method import HIGH
from model.parts.presence import presence_features, support_summary
from model.pocket.closeup import CONTEXT, MOST, closeup
from model.pocket.comparison import GAIN, RIDGE, probe
from model.pocket.levels import Levels, Views
from model.pocket.pocket import JUDGES, PocketShot
from tests.model.seeded import seeded_model
from tests.model.small import drawn_episode, small_model

SIDE = 101


def boxes(*corners: tuple[int, int, int, int]) -> Tensor:
    """Labels with a box each: first row, last row, first column, last column."""
    label = torch.zeros(len(corners), SIDE, SIDE, dtype=torch.uint8)
    for item, (top, bottom, left, right) in enumerate(corners):
        label[item, top : bottom + 1, left : right + 1] = 1
    return label


HALF = (CONTEXT * 30 - 1) / 2  # of a close-up whose box has a longer side of 30
LEAST_END = SIDE / MOST - 1  # last row of the smallest close-up in a corner


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((41, 59, 30, 59), [50 - HALF, 50 + HALF, 44.5 - HALF, 44.5 + HALF]),  # with its surroundings
        ((0, 3, 97, 100), [0, LEAST_END, SIDE - 1 - LEAST_END, SIDE - 1]),  # in the image, and enlarged so far alone
    ],
)
def test_a_closeup_shows_the_object_with_its_surroundings(
    box: tuple[int, int, int, int], expected: list[float]
) -> None:
    places = torch.stack(torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij"))
    rows, columns = closeup(boxes(box)).of(places[None].float())[0].tolist()
    assert [rows[0][0], rows[-1][0], columns[0][0], columns[0][-1]] == pytest.approx(expected, abs=1e-3)


def test_large_and_absent_objects_have_no_closeup() -> None:
    large, small, absent = (10, 90, 10, 90), (40, 50, 40, 50), (1, 0, 1, 0)
    assert closeup(boxes(large, absent)) is None
    of_large, of_small, of_absent = closeup(boxes(large, small, absent)).label.unbind()
    for label in (of_large, of_absent):
        assert (label == IGNORE).all()
    assert (of_small == 1).any()


def test_a_small_object_beside_it_changes_nothing_for_a_large_one() -> None:
    network, both = small_model("pocket", 1), drawn_episode("pocket", 1, 2)
    both.support_label[:] = 0
    both.support_label[0, 0, 5:-5, 5:-5] = 1
    one = drawn_episode("pocket", 1, 1)
    one.query, one.support, one.support_label = both.query[:1], both.support[:1], both.support_label[:1]
    both.support_label[1, 0, 20:30, 20:30] = 1
    with torch.no_grad():
        alone, beside = network(one).logits, network(both).logits
    torch.testing.assert_close(beside[:1], alone, atol=1e-4, rtol=1e-4)


def test_a_kept_support_serves_alone_among_others_and_for_several_queries() -> None:
    network, episode = small_model("pocket", 1), drawn_episode("pocket", 1, 2)
    episode.support_label[:] = 0
    episode.support_label[0, 0, 5:-5, 5:-5] = 1
    episode.support_label[1, 0, 20:30, 20:30] = 1  # small: with a close-up
    with torch.no_grad():
        want = network(episode).logits
        large, small = network.encode_supports(episode.support[:, 0], episode.support_label[:, 0])
        assert [len(shot.views.objects[0]) for shot in (large, small)] == [1, 2]
        episode.shots = [large, small]
        torch.testing.assert_close(network(episode).logits, want, atol=1e-4, rtol=1e-4)
        two = drawn_episode("pocket", 2, 1)
        two.support, two.support_label = (x.transpose(0, 1) for x in (episode.support, episode.support_label))
        want = network(two).logits
        two.shots = [large, small]
        torch.testing.assert_close(network(two).logits, want, atol=1e-4, rtol=1e-4)


def test_the_decoder_is_judged_once_for_queries_that_share_kept_supports() -> None:
    network, episode = small_model("pocket", 3), drawn_episode("pocket", 3, 1)
    judged = []
    judge = network._decoder_helps
    network._decoder_helps = lambda classes: judged.append(len(classes[0])) or judge(classes)
    with torch.no_grad():
        want = network(episode).logits
        episode.shots = network.encode_supports(episode.support[0], episode.support_label[0])
        for _ in range(2):
            torch.testing.assert_close(network(episode).logits, want, atol=1e-4, rtol=1e-4)
        assert judged == [3, 3]  # of the supports as images, and of those that are kept
        episode.support, episode.support_label = episode.support[:, :2], episode.support_label[:, :2]
        episode.shots = episode.shots[:2]
        network(episode)
    assert judged == [3, 3, 2]


WIDTHS, GRID = (5, 7), 4


def drawn_levels(batch: int) -> Levels:
    maps = [F.normalize(torch.randn(batch, width, GRID, GRID), dim=1) for width in WIDTHS]
    unused = torch.zeros(batch, 1, GRID, GRID)
    return Levels(maps, unused, unused, unused)


def test_an_object_that_fills_a_support_leaves_the_others_background() -> None:
    torch.manual_seed(6)
    query, supports = drawn_levels(1), drawn_levels(2)
    inside = (torch.rand(1, 2, GRID, GRID) > 0.6).float()
    inside[:, 1] = 1
    outside = 1 - inside
    unused = torch.zeros(1, 2, 1)
    found = probe(query, Views([x[None] for x in supports.unit], inside, outside, unused, unused))
    x = torch.cat(supports.unit, dim=1).permute(0, 2, 3, 1).flatten(0, 2)  # a position in a row
    shares = [mask / mask.sum((2, 3), keepdim=True).clamp(min=1) for mask in (inside, outside)]
    weights = torch.stack([share.flatten() / share.sum() for share in shares])
    of_object, of_background = weights @ x
    centre = (of_object + of_background) / 2
    scatter = (x - centre).T * weights.mean(0) @ (x - centre)
    matrix = scatter + RIDGE * torch.eye(len(centre))
    direction = torch.linalg.solve(matrix, (of_object - of_background) / 2)
    want = GAIN * (torch.cat(query.unit, dim=1)[0].flatten(1).T - centre) @ direction
    torch.testing.assert_close(found.flatten(), want, atol=1e-2, rtol=1e-3)


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
        network._decoder_helps = lambda _: torch.tensor([True])
        assert not network(episode).logits.argmax(1).any()
        asked = []

        def helps(classes: list[list[PocketShot]]) -> Tensor:
            (judges,) = classes
            asked.append((len(judges[0]), len(judges)))
            return torch.tensor([True])

        network._decoder_helps = helps
        network(drawn_episode("pocket", JUDGES + 1, 3))
    assert asked == [(3, JUDGES)]


def test_the_presence_score_compares_every_level_of_the_encoder() -> None:
    network, episode = small_model("pocket", 1), drawn_episode("pocket", 1, 2)
    with torch.no_grad():
        found = network(episode).presence_features
        query, support = (  # all levels but the learnt one, side by side
            torch.cat(network.levels(network._read(image), network.base_classes.classify).unit[:-1], dim=1)
            for image in (episode.query, episode.support[:, 0])
        )
        summary = support_summary(support, (episode.support_label == 1).float())
        torch.testing.assert_close(found, presence_features(query, summary[:, None]), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_pocket_reads_the_only_map_of_vggs_last_stage() -> None:
    network = seeded_model("pocket", 1, "vgg16")
    assert network.encoder.intermediate_counts == {HIGH: 1} and len(network.levels.channels) == 2
    assert network(drawn_episode("pocket", 1, 1, size=network.task.size)).logits.isfinite().all()
