"""GF-SAM (Zhang et al., NeurIPS 2024, arXiv 2410.06964): SAM's masks of points that DINOv2 finds, chosen by a graph.

``graph.py`` has the arithmetic, with the published quirks; the images are squeezed to SAM's square.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from model.contract import Episode, Output, Shot, Task, register
from model.gfsam.graph import MASKS_AT_ONCE, SimilarityMaps, judge, mean_patches, points_of, similarity_maps
from model.kinds.foundation import Foundation, FoundationSettings, as_uint8
from model.kinds.training_free import mask_on_grid, unit
from model.tensors.cells import on_cells, resize_cells
from model.tensors.ops import resize

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet's RGB
POINTS_AT_ONCE = 64


@dataclass
class GFSAMSettings(FoundationSettings):
    """GF-SAM's settings."""

    weights: list[str] = field(default_factory=lambda: ["facebook/sam-vit-huge", "facebook/dinov2-large"])


@dataclass
class GFSAMShot(Shot):
    """The kept patches of a support: those that see its object, and one that does not, if any."""

    patches: Tensor  # (1, m, C)
    shares: Tensor  # of the object in them, (1, m)
    means: Tensor  # ``mean_patches`` of object and background, (1, 2, C)


@register("gfsam")
class GFSAM(Foundation):
    """Points that resemble the supports, a mask of SAM for each, and a graph that chooses. Nothing learns."""

    Settings = GFSAMSettings
    title = "GF-SAM"
    protocol = "hsnet"
    pretrained_parts: ClassVar = {"SamModel": 0, "Dinov2Model": 1}
    licence = "apache-2.0"

    def __init__(self, settings: GFSAMSettings, task: Task, *networks: nn.Module):
        super().__init__(settings, task, *networks)
        sam, dino = (network.config for network in self.networks)
        self.side: int = sam.vision_config.image_size
        self.dino_side: int = dino.image_size
        self.grid = self.dino_side // dino.patch_size

    def support(self, image_3hw: Tensor, label_hw: Tensor) -> GFSAMShot:
        """Return the patches of one support, and their means over object and background."""
        patches = self.patches(image_3hw)
        of_object, rest = self._weights(label_hw)
        means = mean_patches(torch.stack([of_object, rest]), patches)
        sees_object = of_object > 0
        kept = torch.cat([sees_object.nonzero(), (~sees_object).nonzero()[:1]])[:, 0]
        return GFSAMShot(patches[kept][None], of_object[kept][None], means[None])

    def see(self, image_3hw: Tensor) -> "Query":
        """Return what is seen of a query, whatever its supports."""
        return Query(self, image_3hw)

    def predict(self, query: "Query", shots: Sequence[GFSAMShot], episode: Episode, item: int) -> Output:
        """Return logits [a - 1/2] of the mask a, resized, against the background's [1/2 - a]."""
        size, grid = query.image.shape[1:], (self.grid, self.grid)
        share, filtered, presence_features = (query.patches.new_zeros(x) for x in (size, grid, 2))
        if shots:
            maps, mask = self.answer(query, shots)
            share = resize_cells(mask[None, None].float(), size)[0, 0]
            filtered = maps.filtered.unflatten(0, grid)
            presence_features = self._presence_features(maps, mask)
        logits = torch.stack([0.5 - share, share - 0.5])
        pictures = {"filtered": filtered[None]}
        return Output(logits[None], pictures=pictures, presence_features=presence_features[None, None])

    def _presence_features(self, maps: SimilarityMaps, mask_ss: Tensor) -> Tensor:
        """Return numbers (2,): the largest similarity of a patch, and the mean one within the mask."""
        cells = mask_on_grid(mask_ss, (self.grid, self.grid)).flatten()
        within = maps.pos_mean[cells].mean() if cells.any() else maps.pos_mean.new_zeros(())
        return torch.stack([maps.pos_max.max(), within])

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for several classes; where masks meet, the class wins whose supports its mask resembles."""
        output = super().forward_classes(episodes)
        if len(episodes) > 1 and output.presence_features is not None:
            similarity = output.presence_features[:, :, 1]  # (B, N)
            output.logits[:, 1:] *= similarity[:, :, None, None].clamp(min=torch.finfo(torch.float32).tiny)
        return output

    def answer(self, query: "Query", shots: Sequence[GFSAMShot]) -> tuple[SimilarityMaps, Tensor]:
        """Return maps and mask (S, S) of a query, by at least one shot."""
        device = query.image.device.type
        with torch.autocast(device, enabled=False):
            supports = [(shot.patches[0], shot.shares[0], shot.means[0]) for shot in shots]
            maps = similarity_maps(query.patches, supports)
            points = points_of(maps.filtered, self.grid)
        if not len(points):
            return maps, torch.zeros(self.side, self.side, dtype=torch.bool, device=query.image.device)
        prompts = points * self.side // self.grid  # the patch's top left corner, as published
        masks = self._masks_of_points(query.embeddings, prompts.float())
        with torch.autocast(device, enabled=False):
            return maps, judge(masks, points, maps, query.patches).mask

    def _masks_of_points(self, embeddings: Tensor, prompts_p2: Tensor) -> Tensor:
        """Return SAM's mask of each point, (P, S, S) bool."""
        masks = []
        for points in prompts_p2.split(POINTS_AT_ONCE):
            output = self.networks[0](
                image_embeddings=embeddings,
                input_points=points[None, :, None],
                input_labels=torch.ones_like(points[None, :, :1]).long(),
                multimask_output=False,
            )
            logits = output.pred_masks[0].float()  # (P, 1, h, w)
            for piece in logits.split(MASKS_AT_ONCE):
                masks.append(resize_cells(piece, (self.side, self.side))[:, 0] > 0)
        return torch.cat(masks)

    def _weights(self, label_hw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shares of object and background in each patch of a label, (n,) float32 each."""
        size = (self.grid, self.grid)
        mask = (on_cells(label_hw, (self.side, self.side)) == 1).float()[None]
        of_object, rest = resize(torch.stack([mask, 1 - mask]), size).flatten(1)
        if not of_object.any():  # an object between the patches' centres
            of_object = mask_on_grid(label_hw == 1, size).float().flatten()
        return of_object, rest

    def patches(self, image_3hw: Tensor) -> Tensor:
        """Return the features (n, C) of an image, RGB in 0..255: DINOv2's patches before its last norm, of length 1."""
        pixels = resize_cells(self._squeezed(image_3hw)[None], (self.dino_side, self.dino_side))
        states = self.networks[1](_normalised(pixels), output_hidden_states=True).hidden_states[-1]
        return unit(unit(states[0, 1:], dim=0), dim=1)  # first every channel divided by its length over the patches

    def embeddings(self, image_3hw: Tensor) -> Tensor:
        """Return SAM's embeddings of an image."""
        pixels = _normalised(self._squeezed(image_3hw))
        return self.networks[0].get_image_embeddings(pixels[None])

    def _squeezed(self, image_3hw: Tensor) -> Tensor:
        """Return an image at SAM's square, averaging, (3, S, S) float32 of whole numbers."""
        image = Image.fromarray(as_uint8(image_3hw))
        small = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).float().to(image_3hw.device)


class Query:
    """The views that the networks have of a query (3, H, W); SAM sees it where there are points to ask for."""

    def __init__(self, network: GFSAM, image_3hw: Tensor):
        self._network = network
        self.image = image_3hw
        self.patches = network.patches(image_3hw)

    @cached_property
    def embeddings(self) -> Tensor:
        """SAM's."""
        return self._network.embeddings(self.image)


def _normalised(pixels: Tensor) -> Tensor:
    """Return RGB in 0..255 (..., 3, H, W) with ImageNet's mean and deviation removed."""
    mean, std = (pixels.new_tensor(x)[:, None, None] for x in (MEAN, STD))
    return (pixels - mean) / std
