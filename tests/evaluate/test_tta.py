"""Several views of an episode by one network: the input of each pass, its inverse, and the average."""

import torch
from torch import Tensor

from model.contract import FewShotModel, Task
from model.episode import Episode, Output
from util.evaluate.tta import TestTimeAugmentation

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


def test_a_flip_is_undone_before_averaging() -> None:
    """A network that uses the left half alone predicts each half in one of two passes, averaged with background."""
    left, query = 4 / SIDE, torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    network = Bright(left)
    plain, output = network(drawn(query)), TestTimeAugmentation([network], [1.0], True, False)(drawn(query))
    assert torch.equal(output.maps["red"], plain.maps["red"]) and output.base_logits.shape == plain.base_logits.shape
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
