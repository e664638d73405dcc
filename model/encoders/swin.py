"""Swin-B as an encoder: torchvision's transformer at the published shape, every block's output a tap.

Window 12 and a fixed 384 x 384 input as in the ImageNet-22k weights that DCAMA starts from (its section on encoders).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer

from model.encoders.encoder import LAST_STAGE, Encoder, Intermediate
from model.encoders.features import Features

SWIN = "swin_b"  # its name in configs
SWIN_SIDE = 384  # pixels; every grid is then a whole number of windows and stage 4 is a single one
PATCH, WINDOW = 4, 12
WIDTH, DEPTHS, HEADS = 128, (2, 2, 18, 2), (4, 8, 16, 32)
# Names in the published weights -> ours, as regular expressions. Their patch merging closes a stage, ours opens none.
SWIN_NAMES = (
    (r"patch_embed\.proj\.(.*)", r"layer0.0.\1"),
    (r"patch_embed\.norm\.(.*)", r"layer0.2.\1"),
    *((rf"layers\.{i}\.blocks\.(\d+)\.mlp\.fc1\.(.*)", rf"layer{i + 1}.\1.mlp.0.\2") for i in range(LAST_STAGE)),
    *((rf"layers\.{i}\.blocks\.(\d+)\.mlp\.fc2\.(.*)", rf"layer{i + 1}.\1.mlp.3.\2") for i in range(LAST_STAGE)),
    *((rf"layers\.{i}\.blocks\.(.*)", rf"layer{i + 1}.\1") for i in range(LAST_STAGE)),
    *((rf"layers\.{i}\.downsample\.(.*)", rf"merge{i + 1}.\1") for i in range(LAST_STAGE - 1)),
)
UNUSED_SWIN = ("norm.", "head.")  # final norm and classifier
GEOMETRY = ("relative_position_index", "attn_mask")  # tensors of files that are computed here


class SwinEncoder(Encoder):
    """Swin-B; stage 0 is the patch embedding, ``merge<i>`` halves the grid after stage i.

    ``intermediate`` says how many of a stage's last blocks are given when taps are asked for; None for all.
    """

    def __init__(self, taps: Mapping[int, int | None]):
        super().__init__()
        net = SwinTransformer([PATCH] * 2, WIDTH, list(DEPTHS), list(HEADS), [WINDOW] * 2, stochastic_depth_prob=0.0)
        self.layer0, *rest = net.features
        for i, blocks in enumerate(rest[::2], 1):
            setattr(self, f"layer{i}", blocks)
        for i, merging in enumerate(rest[1::2], 1):
            setattr(self, f"merge{i}", merging)
        for module in self.modules():  # a constant of the window's geometry, not a weight
            if hasattr(module, GEOMETRY[0]):
                module.register_buffer(GEOMETRY[0], module.relative_position_index, persistent=False)
        self.last_stage = LAST_STAGE
        self.channels = {i: WIDTH * 2 ** (i - 1) for i in range(1, LAST_STAGE + 1)}
        self.intermediate_counts = {i: DEPTHS[i - 1] if n is None else min(n, DEPTHS[i - 1]) for i, n in taps.items()}

    def stages(self) -> list[nn.Module]:
        """Return patch embedding and stages, each with the patch merging that opens it."""
        opened = [nn.ModuleList([getattr(self, f"merge{i - 1}"), getattr(self, f"layer{i}")]) for i in range(2, 5)]
        return [self.layer0, self.layer1, *opened]

    def forward(self, image_b3hw: Tensor, intermediate: Intermediate = False) -> Features:
        """See :class:`Encoder`; maps are (B, C, H, W) views of the transformer's (B, H, W, C)."""
        out = Features({}, {i: [] for i in range(1, LAST_STAGE + 1)})
        give = intermediate if callable(intermediate) else out.add_intermediate
        x = self.layer0(image_b3hw)  # (B, H, W, C)
        for i in range(1, LAST_STAGE + 1):
            if i > 1:
                x = getattr(self, f"merge{i - 1}")(x)
            maps = []
            for block in getattr(self, f"layer{i}"):
                x = block(x)
                maps.append(x.permute(0, 3, 1, 2))
            out.stage[i] = maps[-1]
            for x_i in maps[len(maps) - self.intermediate_counts.get(i, 0) :] if intermediate else ():
                give(i, x_i)
        return out
