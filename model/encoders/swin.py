"""Swin-B as an encoder: torchvision's transformer at the published shape; every block's output is intermediate.

Window 12 and a fixed 384 x 384 input as in the ImageNet-22k weights that DCAMA starts from (its section on encoders).
"""

import re
from collections.abc import Iterator

from torch import Tensor, nn

from model.encoders.encoder import Encoder
from model.encoders.registry import register_encoder
from model.encoders.variant import LAST_STAGE, EncoderVariant

SWIN_SIDE = 384  # pixels; every grid is then a whole number of windows and stage 4 is a single one
PATCH, WINDOW = 4, 12
WIDTH, DEPTHS, HEADS = 128, (2, 2, 18, 2), (4, 8, 16, 32)
# Names in the published weights -> ours, as regular expressions. Their patch merging is a part of a stage.
SWIN_NAMES = [(r"patch_embed\.proj\.(.*)", r"layer0.0.\1"), (r"patch_embed\.norm\.(.*)", r"layer0.2.\1")]
for _i in range(LAST_STAGE):
    _theirs, _ours = rf"layers\.{_i}", f"layer{_i + 1}"
    SWIN_NAMES.append((rf"{_theirs}\.blocks\.(\d+)\.mlp\.fc1\.(.*)", rf"{_ours}.\1.mlp.0.\2"))
    SWIN_NAMES.append((rf"{_theirs}\.blocks\.(\d+)\.mlp\.fc2\.(.*)", rf"{_ours}.\1.mlp.3.\2"))
    SWIN_NAMES.append((rf"{_theirs}\.blocks\.(.*)", rf"{_ours}.\1"))
    SWIN_NAMES.append((rf"{_theirs}\.downsample\.(.*)", rf"merge{_i + 1}.\1"))
CLASSIFIER = ("norm.", "head.")  # prefixes of the final norm and the classifier, which the encoder does not use
GEOMETRY = ("relative_position_index", "attn_mask")  # tensors of files that are computed here


@register_encoder("swin_b", "Swin-B", any_size=False, sides_by_stride=True, sides=(SWIN_SIDE,))
class SwinEncoder(Encoder):
    """Swin-B; stage 0 is the patch embedding, ``merge<i>`` halves the grid after stage i."""

    def __init__(self, backbone: str, stem: str, last_stage: int, variant: EncoderVariant):
        from torchvision.models.swin_transformer import SwinTransformer  # takes seconds

        super().__init__()
        net = SwinTransformer([PATCH] * 2, WIDTH, list(DEPTHS), list(HEADS), [WINDOW] * 2, stochastic_depth_prob=0.0)
        self.layer0, *rest = net.features
        for i, blocks in enumerate(rest[::2], 1):
            setattr(self, f"layer{i}", blocks)
        for i, merging in enumerate(rest[1::2], 1):
            setattr(self, f"merge{i}", merging)
        for module in self.modules():  # a constant of the window's geometry, not a weight
            if isinstance(index := getattr(module, GEOMETRY[0], None), Tensor):
                module.register_buffer(GEOMETRY[0], index, persistent=False)
        self.last_stage = LAST_STAGE
        self.channels = {i + 1: WIDTH << i for i in range(LAST_STAGE)}
        self.intermediate_counts = {i: variant.count(i, DEPTHS[i - 1]) for i in variant.intermediate}

    def stages(self) -> list[nn.Module]:
        """Return patch embedding and stages, each with the patch merging that opens it."""
        parts: list[nn.Module] = [self.stage(0), self.stage(1)]
        for i in range(2, LAST_STAGE + 1):
            merging = getattr(self, f"merge{i - 1}")
            parts.append(nn.ModuleList([merging, self.stage(i)]))
        return parts

    def steps(self, out: dict[int, Tensor], x: Tensor, intermediate: bool) -> Iterator[tuple[int, Tensor]]:
        """See :class:`Encoder`; maps are (B, C, H, W) views of the transformer's (B, H, W, C)."""
        x = self.stage(0)(x)  # (B, H, W, C)
        for i in range(1, LAST_STAGE + 1):
            x = self._merged(i, x)
            first_given = len(self.stage(i)) - self.intermediate_counts.get(i, 0)
            for position, block in enumerate(self.stage(i)):
                x = block(x)
                if intermediate and position >= first_given:
                    yield i, x.permute(0, 3, 1, 2)
            out[i] = x.permute(0, 3, 1, 2)

    def run_stage(self, i: int, x_bchw: Tensor) -> Tensor:
        """See :class:`Encoder`."""
        if i == 0:
            return self.stage(0)(x_bchw).permute(0, 3, 1, 2)
        return self.stage(i)(self._merged(i, x_bchw.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def _merged(self, i: int, x_bhwc: Tensor) -> Tensor:
        """Return the input of a stage's blocks: after the patch merging that opens it."""
        return x_bhwc if i == 1 else getattr(self, f"merge{i - 1}")(x_bhwc)

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of its authors' file, or of timm's, which counts a merging to the stage it opens."""
        shift = int("layers.3.downsample.norm.weight" in state)
        out = {}
        for name, tensor in state.items():
            if name.startswith(CLASSIFIER) or name.endswith(GEOMETRY):
                continue
            name = re.sub(r"(?<=^layers\.)\d(?=\.downsample)", lambda m: str(int(m[0]) - shift), name)
            pattern, ours = next(((p, o) for p, o in SWIN_NAMES if re.fullmatch(p, name)), ("$^", ""))
            out[re.sub(pattern, ours, name)] = tensor
        return out
