"""SCCAN: the query's windows attend to themselves and to the support's most similar window. Read ``SCCAN.forward``.

A frozen encoder, a prior without parameters (the paper's pseudo mask aggregation), fusion with the support prototype,
self-calibrated cross attention (with its patch alignment, ``attention.py``), a decoder of one scale. The pseudo mask is
P_i = sum_j softmax_j(cos(q_i, s_j)) m_j; one softmax weighs a query window's own tokens by q k / sqrt(d) and those of
the aligned support window by cos(q, k).
Source: Xu et al., Self-Calibrated Cross Attention Network for Few-Shot Segmentation, ICCV 2023 (arXiv 2308.09294).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from model.common.layers import WIDTH, ASPPDecoder, Fusion
from model.common.loss import dice, image_mean, mask_loss
from model.common.ops import (
    by_shot,
    foreground_mask,
    in_float32,
    joined,
    logits_at,
    masked_mean,
    mean_over_shots,
    min_max,
    resize,
)
from model.common.presence import presence_features, support_summary
from model.common.published import ASPP_DECODER, PROJECTIONS, Layout
from model.common.with_encoder import HIGH, LOW, MID, WithEncoder, WithEncoderSettings
from model.contract import Episode, Output, ParamGroup, Task, register
from model.encoders.encoder import EncoderVariant
from model.encoders.features import Features
from model.encoders.resnet import ResNetEncoder
from model.sccan.attention import WINDOW, CalibratedBlock, SelfCalibratedAttention

EPS = 1e-7
MAX_SCORES = 2**21  # attention scores held at a time
BLOCK = r"transformer\.layers\.0\.blocks\.(\d+)\."  # in published names
ENCODER_NAMES = (  # published, and ours
    *((rf"backbone\.body\.conv{i + 1}\.(.*)", rf"encoder.layer0.{3 * i}.\1") for i in range(3)),
    *((rf"backbone\.body\.bn{i + 1}\.(.*)", rf"encoder.layer0.{3 * i + 1}.\1") for i in range(3)),
    (r"backbone\.body\.(layer[1-4]\..*)", r"encoder.\1"),
)


def _branch_names(branch: str) -> list[tuple[str, str]]:
    """Return the renames of a block's attention and MLP, of the query or of the support."""
    attention, mlp = rf"{BLOCK}attn_{branch[0]}", rf"{BLOCK}mlp_{branch[0]}"
    block = r"attend.blocks.\1"
    return [
        (rf"{attention}\.q\.(.*)", rf"{block}.attend_{branch}.query.\2"),
        (rf"{attention}\.kv\.(.*)", rf"{block}.attend_{branch}.key_value.\2"),
        (rf"{attention}\.proj\.(.*)", rf"{block}.attend_{branch}.project.\2"),
        (rf"{mlp}\.fc1\.(.*)", rf"{block}.mlp_{branch}.0.\2"),
        (rf"{mlp}\.fc2\.(.*)", rf"{block}.mlp_{branch}.2.\2"),
    ]


LAYOUT = Layout(
    "SCCAN",
    ("down_supp.0.weight", "init_merge_supp.0.weight", "transformer.norm0.weight", "ASPP_meta.layer6_0.0.weight"),
    (
        *(*PROJECTIONS, *ASPP_DECODER, *ENCODER_NAMES),
        (r"init_merge_query\.0\.(.*)", r"fuse_query.conv.\1"),
        (r"init_merge_supp\.0\.(.*)", r"fuse_support.conv.\1"),
        (rf"{BLOCK}(norm[12]\..*)", r"attend.blocks.\1.\2"),
        *(*_branch_names("query"), *_branch_names("support")),
        (r"transformer\.norm0\.(.*)", r"attend.norm.\1"),
    ),
)


@dataclass
class SCCANSettings(WithEncoderSettings):
    """SCCAN's own settings; ``config/model/sccan.yaml`` explains them."""

    grid: int = field(default=64, metadata={"low": WINDOW})
    blocks: int = field(default=8, metadata={"low": 1})

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if windows do not fill the grid; None if they do."""
        if self.grid % WINDOW:
            below = self.grid // WINDOW * WINDOW
            return "grid", f"= {self.grid} is not a multiple of {WINDOW}; nearest: {below}, {below + WINDOW}"
        return None


@register("sccan")
class SCCAN(WithEncoder):
    """Self-calibrated cross attention. Shots are averaged before it; each costs an encoder pass and a prior."""

    Settings = SCCANSettings
    title = "SCCAN"
    families = (ResNetEncoder,)
    # Dilation as in torchvision: a stage's first block has the dilation of the stage before it.
    variant = EncoderVariant(first_block_dilated=False)
    published = LAYOUT
    settings: SCCANSettings

    def __init__(self, settings: SCCANSettings, task: Task):
        super().__init__(settings, task)
        self.project_query, self.project_support = self.projections()
        self.fuse_query = Fusion()
        self.fuse_support = Fusion()
        self.attend = SelfCalibratedAttention(WIDTH, settings.blocks)
        self.decoder = ASPPDecoder(WIDTH)
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, S, S) and in training the Dice loss ``main``."""
        # Features X_q (B, 256, G, G) and f4 (B, C, h, w) of the query and of the supports, whose shots are averaged by
        # position; the encoder is frozen.
        query, groups = self.encode_in_groups(episode)
        query_feature, query_f4 = self._projected(query, self.project_query)
        labels = episode.support_label.transpose(0, 1)  # (K, B, S, S)
        shots = [self._shots(support, labels[group].flatten(0, 1), query_f4) for group, support in groups]
        *maps, summaries = (joined(parts, dim=1) for parts in zip(*shots))
        support_feature, prototype, mask, prior = map(mean_over_shots, maps)  # X_s, p, m, P

        # Fuse, attend, decode.
        query_map = self.fuse_query(query_feature, prototype, prior)  # F_q, (B, 256, G, G)
        support_map = self.fuse_support(support_feature, prototype, mask)  # F_s
        attended = self.attend(query_map, support_map, mask)
        logits = logits_at(self.decoder(attended), episode.query.shape[-2:])

        output = Output(logits, maps={"prior": prior[:, 0]})
        if self.training:
            output.losses = {"main": mask_loss(logits, episode.query_label, dice_loss)}
        else:
            output.presence_features = presence_features(query_f4, summaries)
        return output

    def _shots(self, support: Features, label_nss: Tensor, query_f4: Tensor) -> list[Tensor]:
        """Return what is read of a group of n shots.

        That is X_k m_k (B, n, 256, G, G), p_k (B, n, 256), m_k and prior (B, n, 1, G, G), and the summary for the
        presence (B, n, C + 3).
        """
        batch = len(query_f4)
        feature, support_f4 = self._projected(support, self.project_support)
        image_mask = foreground_mask(label_nss)
        mask = resize(image_mask, feature.shape[-2:])
        shots = len(mask) // batch
        prior = pseudo_mask(joined([query_f4] * shots), support_f4, mask)
        masked_feature = feature * mask
        prototype = masked_mean(feature, mask)
        summary = support_summary(support_f4, image_mask)
        return [by_shot(part, batch) for part in (masked_feature, prototype, mask, prior, summary)]

    def _projected(self, features: Features, project: nn.Module) -> tuple[Tensor, Tensor]:
        """Return [f2; f3] projected and resized to the working grid, and f4; ``features`` is emptied to free memory."""
        stages = features.stage
        low, mid = stages.pop(LOW), stages.pop(MID)
        x = project(torch.cat([resize(low, mid.shape[-2:]), mid], dim=1))
        return resize(x, (self.settings.grid, self.settings.grid)), stages.pop(HIGH)

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder, and the parts of the last block that exist only for checkpoints."""
        yield from super().frozen()
        last = cast(CalibratedBlock, self.attend.blocks[-1])
        yield from (last.attend_support, last.mlp_support)

    def param_groups(self) -> list[ParamGroup]:
        """Return two groups for two optimisers: convolutions, and attention with its norms."""
        attention = {id(p): p for p in self.attend.parameters() if p.requires_grad}
        others = [p for p in self.beside_encoder() if id(p) not in attention]
        attention_group = ParamGroup("attention", [*attention.values()], optimizer="attention")
        return [ParamGroup("convolutions", others), attention_group, *self.encoder_group()]


def dice_loss(logits_b2hw: Tensor, label_bhw: Tensor) -> Tensor:
    """Return the mean over images of the Dice losses of both classes, summed."""
    return image_mean(dice(logits_b2hw, label_bhw).sum(1))


@torch.no_grad()
@in_float32
def pseudo_mask(query_f4_bchw: Tensor, support_f4_bchw: Tensor, mask_b1gg: Tensor) -> Tensor:
    """Return the prior of one shot, (B, 1, G, G): an attention-weighted mean of its mask, stretched to 0..1.

    The attention of a query position is softmax(cos(q, k)) over all positions of the support. It is nearly uniform and
    the result close to the mean of the mask; the stretching makes it a prior: 0 everywhere where the mask is empty,
    rounding errors where it is 1 everywhere, as published. The query's features stay on their own grid, the support's
    are resized to the mask's. Some queries at a time are processed, so that the whole matrix never exists.
    """
    size, grid = query_f4_bchw.shape[-2:], mask_b1gg.shape[-2:]
    query_blc = query_f4_bchw.flatten(2).transpose(1, 2)
    key_bcm = resize(support_f4_bchw, grid).flatten(2)
    value_bm1 = mask_b1gg.flatten(2).transpose(1, 2)
    key_length = torch.linalg.vector_norm(key_bcm, dim=1, keepdim=True)  # (B, 1, M)
    batch, positions = len(query_blc), key_bcm.shape[2]
    rows = max(MAX_SCORES // (batch * positions), 1)
    means = []
    for query in query_blc.split(rows, dim=1):
        cosine = torch.bmm(query, key_bcm)
        query_length = torch.linalg.vector_norm(query, dim=2, keepdim=True)
        cosine /= query_length * key_length + EPS
        means.append(torch.bmm(cosine.softmax(2), value_bm1))
    mean_bl = torch.cat(means, dim=1).squeeze(2)
    prior_bhw = min_max(mean_bl, EPS).unflatten(1, size)
    return resize(prior_bhw.unsqueeze(1), grid)
