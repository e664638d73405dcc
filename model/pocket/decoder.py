"""The decoder: a correction of the match on its own grid, then one for the outlines on an earlier stage's grid."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.parts.layers import two_convolutions
from model.pocket.comparison import Compared
from model.pocket.levels import Levels
from model.tensors.memory_format import memory_format_of
from model.tensors.ops import resize

WIDTH = 64
FINE_WIDTH = 32
DILATIONS = (1, 2, 4)  # of the residual blocks
COSINE_GAIN = 3.0  # brings cosines to the spread of the other inputs
LOGIT_GAIN = 1 / 3  # brings logits to it
SMALL = 1e-3  # standard deviation of the weights of corrections at the start


class Residual(nn.Module):
    """Two convolutions, the first one dilated, whose result is added: relu(x + conv(relu(conv(x))))."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.wide = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.narrow = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return F.relu(x + self.narrow(F.relu(self.wide(x))))


class Decoder(nn.Module):
    """From a comparison to logits; both corrections are nearly 0 at the start: training starts from the match.

    Arguments are channels: of the cosines, of further maps, of the encoder's levels, and of the stage for outlines.
    """

    def __init__(self, maps: int, extra: int, joint: int, fine: int):
        super().__init__()
        self.project_query = nn.Conv2d(joint, WIDTH, 1)
        self.project_object = nn.Conv2d(joint, WIDTH, 1)
        gather = nn.Conv2d(maps + 2 + extra + 2 * WIDTH, 2 * WIDTH, 1)
        self.mix = nn.Sequential(gather, nn.ReLU(), nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1), nn.ReLU())
        self.residual = nn.Sequential(*(Residual(WIDTH, dilation) for dilation in DILATIONS))
        self.correct = _small(nn.Conv2d(WIDTH, 1, 1))
        self.project_fine = nn.Conv2d(fine, FINE_WIDTH, 1)
        self.project_coarse = nn.Conv2d(WIDTH + 1, FINE_WIDTH, 1)
        self.refine = nn.Sequential(*two_convolutions(2 * FINE_WIDTH, FINE_WIDTH, FINE_WIDTH), nn.ReLU())
        self.outline = _small(nn.Conv2d(FINE_WIDTH, 1, 1))

    def forward(
        self, compared: Compared, extra_behw: Tensor, query: Levels, object_bc: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the corrected match (B, 1, h, w), and that with outlines on the grid of ``query.fine``, float32.

        ``extra_behw`` are further maps of the query, ``object_bc`` is the mean of ``Levels.joint`` over supports'
        objects.
        """
        feature = self.project_query(query.joint)
        of_object = feature * self.project_object(object_bc[:, :, None, None])
        guess, second = compared.guess * LOGIT_GAIN, compared.second * LOGIT_GAIN
        inputs = torch.cat([compared.maps * COSINE_GAIN, guess, second, extra_behw, feature, of_object], dim=1)
        x = self.residual(self.mix(inputs.contiguous(memory_format=memory_format_of(query.joint))))
        coarse = compared.match + self.correct(x).float()

        size = query.fine.shape[-2:]
        with_logits = torch.cat([x, coarse.to(x.dtype) * LOGIT_GAIN], dim=1)
        above = resize(self.project_coarse(with_logits), size)
        y = self.refine(F.relu(torch.cat([above, self.project_fine(query.fine)], dim=1)))
        fine = resize(coarse, size) + self.outline(y).float()
        return coarse, fine


def _small(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.normal_(conv.weight, std=SMALL)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
