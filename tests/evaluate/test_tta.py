"""Several views of an episode by one network: the input of each pass, its inverse, and the average."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.contract import FewShotModel, Task
from model.episode import Episode, Output
from util.evaluate.tta import TestTimeAugmentation, TtaView

SIDE = 9


class Bright(FewShotModel):
    """A toy whose foreground is where red is bright, as far as column ``columns``; it keeps the sizes it saw."""

    def __init__(self, columns: float = 1.0):
        super().__init__(None, Task(1, 1, SIDE, 0))
        self.columns, self.saw = columns, []

    def forward(self, episode: Episode) -> Output:
        red = episode.query[:, 0].clone()  # (B, H, W)
        self.saw.append(tuple(red.shape[-2:]))
        red[..., round(self.columns * red.shape[-1]) :] = -1
        logits = torch.stack([torch.zeros_like(red), red], dim=1)
        base = torch.cat([logits, 2 * logits[:, 1:]], dim=1)
        return Output(logits, base, maps={"red": red})


def drawn(query: Tensor) -> Episode:
    """Return one episode of a query (1, 3, H, W), which is its own support."""
    label, number = torch.zeros(query.shape[0], *query.shape[-2:], dtype=torch.uint8), torch.zeros(1).long()
    return Episode(query, label, query[:, None], label[:, None], number + 1, number, number)


@pytest.fixture
def query() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def test_a_flip_changes_nothing_for_a_network_that_does_not_mind(query: Tensor) -> None:
    network = Bright()
    plain, output = network(drawn(query)), TestTimeAugmentation([network], [1.0], True, False)(drawn(query))
    for ours, own in ((output.logits, plain.logits), (output.base_logits, plain.base_logits)):
        assert torch.allclose(ours.exp(), own.softmax(1), atol=1e-6) and torch.equal(ours.argmax(1), own.argmax(1))
    assert network.saw == [(SIDE, SIDE)] * 3 and torch.equal(output.maps["red"], plain.maps["red"])


def test_a_flip_is_undone_before_averaging(query: Tensor) -> None:
    """A network that uses the left half alone predicts each half in one of two passes, averaged with background."""
    left = 4 / SIDE
    output = TestTimeAugmentation([Bright(left)], [1.0], True, False)(drawn(query))
    seen, unseen = query[:, 0].sigmoid(), torch.tensor(-1.0).sigmoid()
    expected = (seen + unseen) / 2
    expected[..., 4] = unseen  # the middle is in neither half
    assert torch.allclose(output.logits.exp()[:, 1], expected, atol=1e-6)


def test_scales_are_seen_and_brought_back() -> None:
    """Each network sees its own size, mirrored too; sides are aligned, so no pixel of a ramp is shifted."""
    ramp = torch.linspace(0, 1, SIDE).expand(1, 3, SIDE, SIDE)
    networks = [Bright(), Bright(), Bright()]
    output = TestTimeAugmentation(networks, [1.0, 17 / SIDE, 5 / SIDE], True, False)(drawn(ramp))
    assert [network.saw for network in networks] == [[(side, side)] * 2 for side in (9, 17, 5)]
    assert torch.allclose(output.logits.exp()[:, 1], ramp[:, 0].sigmoid(), atol=2e-3)


def test_probabilities_may_be_nought_and_stay_finite(query: Tensor) -> None:
    output = TestTimeAugmentation([Bright()], [1.0], True, False)(drawn(1000 * query))
    assert output.logits.isfinite().all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_labels_lie_on_the_grid_of_the_images(mirrored: bool) -> None:
    """At twice the density every other pixel is one of the original, of image and label alike."""
    label = torch.randint(0, 2, (1, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    tta_view = TtaView(17 / SIDE, mirrored)
    expected = label.flip(-1) if mirrored else label
    assert torch.equal(tta_view.label(label)[..., ::2, ::2], expected)
    image = tta_view.image(label.expand(1, 3, SIDE, SIDE))
    assert image.dtype == torch.float32 and torch.equal(image[:, :1, ::2, ::2], expected.float())
