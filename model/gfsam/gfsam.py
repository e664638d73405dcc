"""GF-SAM (Zhang et al., NeurIPS 2024, arXiv 2410.06964): SAM's masks of points that DINOv2 finds, chosen by a graph.

``graph.py`` has the arithmetic, with the published quirks; the images are squeezed to SAM's square.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from model.common.foundation import Foundation, FoundationSettings, as_uint8
from model.common.ops import on_cells, resize, resize_cells
from model.common.training_free import mask_on_grid, unit
from model.contract import Episode, Output, Task, register
from model.encoders.features import Features
from model.gfsam.graph import MASKS_AT_ONCE, Maps, judge, points_of, similarity_maps

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet's RGB
POINTS_AT_ONCE = 64


@dataclass
class GFSAMSettings(FoundationSettings):
    """GF-SAM's settings; ``config/model/gfsam.yaml`` explains them."""

    weights: list[str] = field(default_factory=lambda: ["facebook/sam-vit-huge", "facebook/dinov2-large"])
    pretraining: str | None = "LVD-142M, SA-1B"


@register("gfsam")
class GFSAM(Foundation):
    """Points that resemble the supports, a mask of SAM for each, and a graph that chooses. Nothing learns."""

    Settings = GFSAMSettings
    title = "GF-SAM"
    pretrained_parts: ClassVar = {"SamModel": 0, "Dinov2Model": 1}
    licence = "apache-2.0"
    never_compiled = ("forward",)
    cannot_export = "the points and masks that it compares depend on the photos"

    def __init__(self, settings: GFSAMSettings, task: Task, *networks: nn.Module):
        super().__init__(settings, task, *networks)
        sam, dino = (network.config for network in self.networks)
        self.side: int = sam.vision_config.image_size
        self.dino_side: int = dino.image_size
        self.grid = self.dino_side // dino.patch_size

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return logits [a - 1/2] of the mask a, resized, against the background's [1/2 - a]."""
        parts = episode.cached_query or [self.cache_query(image[None]) for image in episode.query]
        queries = [(part, place) for part in parts for place in range(len(part))]
        answers = []
        for item, (query, place) in enumerate(queries):
            image = episode.query[item]
            supports = self._supports(episode, item)
            if not supports:
                self.say_that_no_object_is_shown()
                zeros = query.stage[0].new_zeros
                answers.append((zeros(image.shape[1:]), zeros(self.grid, self.grid), zeros(2)))
                continue
            maps, mask = self.answer(query, place, image, supports)
            share = resize_cells(mask[None, None].float(), image.shape[1:])[0, 0]
            filtered = maps.filtered.unflatten(0, (self.grid, self.grid))
            answers.append((share, filtered, self._presence_features(maps, mask)))
        share, filtered, presence_features = (torch.stack(x) for x in zip(*answers))
        logits = torch.stack([0.5 - share, share - 0.5], 1)
        return Output(logits, maps={"filtered": filtered}, presence_features=presence_features[:, None])

    def _supports(self, episode: Episode, item: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return what ``similarity_maps`` reads of the supports of a query that show the object."""
        shots = episode.supports_of(item)
        cached = [features for part in episode.shots or () for features in part.stage[0]]
        if len(cached) > len(shots):  # of each query; else all share them
            cached = cached[item * len(shots) :][: len(shots)]
        features = cached or [self.see(image) for image, _ in shots]
        supports = []
        for features_nc, (_, label) in zip(features, shots):
            if (label == 1).any():
                of_object, rest = self._weights(label)
                supports.append((features_nc, of_object, rest))
        return supports

    def _presence_features(self, maps: Maps, mask_ss: Tensor) -> Tensor:
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

    def answer(
        self, query: Features, place: int, image: Tensor, supports: Sequence[tuple[Tensor, Tensor, Tensor]]
    ) -> tuple[Maps, Tensor]:
        """Return maps and mask (S, S) of a query's image (3, H, W); ``supports``: see ``similarity_maps``."""
        features = query.stage[0][place]
        with torch.autocast(image.device.type, enabled=False):
            maps = similarity_maps(features, supports)
            points = points_of(maps.filtered, self.grid)
        if not len(points):
            return maps, torch.zeros(self.side, self.side, dtype=torch.bool, device=image.device)
        key = f"sam {place}"
        if key not in query.derived:
            pixels = _normalised(self._squeezed(image))
            query.derived[key] = self.networks[0].get_image_embeddings(pixels[None])
        prompts = points * self.side // self.grid  # the patch's top left corner, as published
        masks = self._masks_of_points(query.derived[key], prompts.float())
        with torch.autocast(image.device.type, enabled=False):
            return maps, judge(masks, points, maps, features).mask

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

    def see(self, image_3hw: Tensor) -> Tensor:
        """Return the features F' (n, C) of an image, RGB in 0..255: DINOv2's patches before its last norm."""
        pixels = resize_cells(self._squeezed(image_3hw)[None], (self.dino_side, self.dino_side))
        states = self.networks[1](_normalised(pixels), output_hidden_states=True).hidden_states[-1]
        return unit(states[0, 1:], dim=0)  # every channel divided by its length over the patches

    def _squeezed(self, image_3hw: Tensor) -> Tensor:
        """Return an image at SAM's square, averaging, (3, S, S) float32 of whole numbers."""
        image = Image.fromarray(as_uint8(image_3hw))
        small = image.resize((self.side, self.side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).float().to(image_3hw.device)

    @torch.no_grad()
    def cache_query(self, query: Tensor) -> Features:
        """Return F' of queries; SAM's embeddings join it (``derived``) when they are needed."""
        return Features({0: torch.stack([self.see(image) for image in query])}, {})

    def cache_support(self, support: Tensor, support_label: Tensor) -> Features:
        """Return F' of K supports, whatever their labels."""
        return self.cache_query(support.flatten(0, 1))


def _normalised(pixels: Tensor) -> Tensor:
    """Return RGB in 0..255 (..., 3, H, W) with ImageNet's mean and deviation removed."""
    mean, std = (pixels.new_tensor(x)[:, None, None] for x in (MEAN, STD))
    return (pixels - mean) / std
