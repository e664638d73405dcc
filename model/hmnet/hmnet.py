"""HMNet: state-space blocks carry the support's state through the query's map, with recaps so that it is not forgotten.

Read ``HMNet.support`` and ``HMNet.predict``.

SCCAN's frame (projections, mean of the shots, blocks on a working grid, ASPP, Dice loss) with BAM's base learner and
ensemble, and a prior by foreground and background prototypes. The blocks (``blocks.py``) scan h_t = exp(Delta_t A)
h_{t-1} + Delta_t B_t u_t, y_t = C_t h_t + D u_t: self blocks query and support apart, mix blocks the query's windows,
each after the support ("support recapped"), and single tokens of it from the support's state ("query intercepted").
Source: Xu et al., Hybrid Mamba for Few-Shot Segmentation, NeurIPS 2024.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from model.contract import Episode, Output, ParamGroup, Shot, Task, learnable, register
from model.hmnet.blocks import SIDE, HybridBlock, HybridBlocks, OfSupport
from model.hmnet.published import LAYOUT
from model.kinds.with_base_learner import WithBaseLearner
from model.method import HIGH, ONE_GRID, Maps, Wants, low_features, mid_features
from model.parts.aspp import ASPPDecoder, Fusion
from model.parts.base_learner import Ensemble, gram
from model.parts.base_stage import WithBaseSettings
from model.parts.layers import WIDTH
from model.parts.loss import dice_loss, mask_loss
from model.parts.once import once_for
from model.tensors.mask import Mask
from model.tensors.ops import in_float32, masked_mean, mean_over_shots, min_max, resize
from model.tensors.windows import uneven_grid

EPS = 1e-7
SHARPENED = 10.0  # factor of the prior among the query's inputs
GRID, LARGE_GRID, LARGE_SIDE = 64, 80, 474  # of images below this side, and from it on


@dataclass
class HMNetSettings(WithBaseSettings):
    """HMNet's own settings."""

    # Side of the grid of blocks and decoder, a multiple of 4; null: 64 for images up to 473 pixels, else 80
    grid: int | None = field(default=None, metadata={"low": SIDE})
    blocks: int = field(default=8, metadata={"low": 2})  # self and mix blocks in turn; an even number

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if windows do not fill the grid; None if they do."""
        return None if self.grid is None else uneven_grid(self.grid, SIDE)


@dataclass
class HMNetShot(Shot):
    """Values of n supports, maps on the working grid."""

    gram: Tensor  # G_k of the scene, (n, C, C)
    feature: Tensor  # X_k m_k, (n, 256, G, G)
    prototype: Tensor  # p_k, (n, 256)
    mask: Tensor  # m_k, (n, 1, G, G)
    f4: Tensor  # prototypes of object and background in the high-level features, (n, 2, C)
    h5: Tensor  # the same in the base learner's map, (n, 2, 512)


@register("hmnet")
class HMNet(WithBaseLearner):
    """The published method. Shots are averaged before the blocks, and the support's part serves all its queries."""

    Settings = HMNetSettings
    title = "HMNet"
    protocol = "hmnet"
    published = LAYOUT
    wants = Wants(base_learner=True, grids=ONE_GRID)
    size_rule = (1, 0)
    weighs_in_shot_order = False  # published weights follow the rank of a distance and are applied by position
    settings: HMNetSettings

    def __init__(self, settings: HMNetSettings, task: Task):
        super().__init__(settings, task)
        self.fuse_query = Fusion(maps=2)
        self.fuse_support = Fusion()
        self.scan = HybridBlocks(WIDTH, settings.blocks)
        self.decoder = ASPPDecoder(WIDTH)
        self.ensemble = Ensemble()

    def support(self, maps: Maps, mask: Mask) -> HMNetShot:
        """Return scene, masked features, mask and prototypes of n supports."""
        grid = self._grid(mask.label.shape[-1])
        feature = resize(self.project_support(mid_features(maps, low_first=True)), grid)  # X_k, (n, 256, G, G)
        small_mask = mask.on(grid)
        return HMNetShot(
            gram=gram(low_features(maps)),
            feature=feature * small_mask,
            prototype=masked_mean(feature, small_mask),
            mask=small_mask,
            f4=prototypes(maps[HIGH], small_mask),
            h5=prototypes(maps.base, small_mask),
        )

    def predict(self, maps: Maps, shots: Sequence[HMNetShot], episode: Episode) -> Output:
        """Return final, base and (in ``extra``) ``meta`` logits (B, 2 or N + 1, S, S), and in training the losses."""
        grid = self._grid(episode.query.shape[-1])

        # The base learner, the distance of the scenes, and the prior.
        base_logits = self.base_logits(resize(maps.base, grid))  # (B, N + 1, G, G)
        scene, _ = self.shot_weights_by_scene(low_features(maps), shots)  # e, (B,)
        f4 = torch.stack([shot.f4 for shot in shots], dim=1)  # (B, K, 2, C)
        h5 = torch.stack([shot.h5 for shot in shots], dim=1)
        prior = prior_of(Likeness.of(maps[HIGH], f4, grid), Likeness.of(maps.base, h5, grid))  # (B, 2, G, G)

        # Fuse, scan, decode.
        of_support = once_for([shots], lambda shots: self._of_support(shots[0]))
        prototype = mean_over_shots(torch.stack([shot.prototype for shot in shots], dim=1))  # p, (B, 256)
        feature = resize(self.project_query(mid_features(maps, low_first=True)), grid)  # X_q, (B, 256, G, G)
        query_map = self.fuse_query(feature, prototype, SHARPENED * prior)  # F_q
        meta = self.decoder(self._scanned(query_map, of_support))

        # Correct the prediction by the base learner's.
        output = self.ensemble_with_base(meta, base_logits, scene, episode)
        output.pictures = {"prior": prior[:, 0], "difference": prior[:, 1]}
        if self.training:
            output.losses = {
                "main": mask_loss(output.logits, episode.query_label),
                "dice": mask_loss(output.extra["meta"], episode.query_label, dice_loss),
            }
            output.image_losses = ("dice",)
        return output

    def _of_support(self, shots: Sequence[HMNetShot]) -> list[OfSupport | None]:
        """Return what queries need in each block of the shots' mean."""
        feature = mean_over_shots(torch.stack([shot.feature for shot in shots], dim=1))  # X_s, (B, 256, G, G)
        prototype = mean_over_shots(torch.stack([shot.prototype for shot in shots], dim=1))  # p, (B, 256)
        mask = mean_over_shots(torch.stack([shot.mask for shot in shots], dim=1))  # m, (B, 1, G, G)
        return self.scan.of_support(self.fuse_support(feature, prototype, mask))  # of F_s

    def _scanned(self, query_map: Tensor, of_support: list[OfSupport | None]) -> Tensor:
        """Return the query's map after the blocks, (B, 256, G, G)."""
        return self.scan(query_map, of_support)

    def _grid(self, side: int) -> tuple[int, int]:
        """Return the working grid (G, G) of images of this side."""
        grid = self.settings.grid or (GRID if side < LARGE_SIDE else LARGE_GRID)
        return grid, grid

    def frozen(self) -> Iterator[nn.Module]:
        """Yield encoder and base learner, and the parts of the last block that exist only for checkpoints."""
        yield from super().frozen()
        support = cast(HybridBlock, self.scan.blocks[-1]).support
        yield from (support.leave, support.mlp)

    def own_groups(self) -> list[ParamGroup]:
        """Return the two groups of optimisers of their own: the blocks, and their norms that have no weight decay."""
        blocks = cast(Iterable[HybridBlock], self.scan.blocks)
        norms = learnable(self.scan.norm, *(block.core_norm for block in blocks))
        apart = {id(p) for p in norms}
        others = [p for p in learnable(self.scan) if id(p) not in apart]
        return [ParamGroup("blocks", others, optimizer="blocks"), ParamGroup("norms", norms, optimizer="norms")]


@torch.no_grad()
@in_float32
def prototypes(x_nchw: Tensor, mask_n1gg: Tensor) -> Tensor:
    """Return the means of a map on the mask's grid over object and background, (n, 2, C); 255 is background."""
    on_grid = resize(x_nchw, mask_n1gg.shape[-2:])
    return torch.stack([masked_mean(on_grid, mask_n1gg), masked_mean(on_grid, 1 - mask_n1gg)], dim=1)


@dataclass(frozen=True)
class Likeness:
    """How much a query's positions are like the K objects and their backgrounds, in one map of features."""

    cosine: Tensor  # the greatest with the object, (B, K)
    object: Tensor  # FG, (B, K, G, G), in 0..1
    difference: Tensor  # D = max(FG - BG, 0), (B, K, G, G)

    @classmethod
    @torch.no_grad()
    @in_float32
    def of(cls, query_bchw: Tensor, prototypes_bk2c: Tensor, grid: Sequence[int]) -> "Likeness":
        """Return the likeness of a query's map, on the working grid."""
        query = query_bchw.flatten(2)
        prototype = prototypes_bk2c.flatten(1, 2)  # (B, 2 K, C)
        lengths = prototype.norm(dim=2).unsqueeze(2) * query.norm(dim=1).unsqueeze(1)
        cosine = prototype @ query / (lengths + EPS)  # (B, 2 K, L)
        stretched = resize(min_max(cosine, EPS).unflatten(2, query_bchw.shape[-2:]), grid)
        foreground, background = stretched.unflatten(1, (-1, 2)).unbind(2)
        greatest = cosine.unflatten(1, (-1, 2))[:, :, 0].amax(2)
        return cls(greatest, foreground, (foreground - background).clamp(min=0))


def prior_of(f4: Likeness, h5: Likeness) -> Tensor:
    """Return the means over the shots of FG and D, (B, 2, G, G), of each shot by the map that shows it better."""
    h5_has_more = f4.cosine < h5.cosine  # (B, K)
    h5_differs_more = f4.difference.amax((2, 3)) < h5.difference.amax((2, 3))
    foreground = torch.where(h5_has_more[:, :, None, None], h5.object, f4.object)
    difference = torch.where(h5_differs_more[:, :, None, None], h5.difference, f4.difference)
    return torch.stack([mean_over_shots(foreground), mean_over_shots(difference)], dim=1)
