"""GF-SAM (Zhang et al., NeurIPS 2024, arXiv 2410.06964): SAM's masks of points that DINOv2 finds, chosen by a graph.

``graph.py`` has the arithmetic, with the published quirks; the images are squeezed to SAM's square.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.foundation import Foundation, FoundationSettings, as_uint8
from model.common.ops import resize_cells
from model.common.training_free import mask_on_grid
from model.contract import Task
from model.episode import CachedFeatures, Episode, Output
from model.gfsam.graph import Maps, Verdict, channel_units, judge, likeness, points_of
from model.registry import register

log = logging.getLogger("symnet")

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet's RGB
POINTS_AT_ONCE = 64
INSIDE = 0.5


@dataclass
class GFSAMSettings(FoundationSettings):
    """GF-SAM's settings; ``config/model/gfsam.yaml`` explains them."""

    weights: list[str] = field(default_factory=lambda: ["facebook/sam-vit-huge", "facebook/dinov2-large"])
    pretraining: str | None = "LVD-142M, SA-1B"


@dataclass
class Seen:
    """What is kept of an image: F' (n, C), and SAM's embedding once the image has been a query."""

    features: Tensor
    embedding: Tensor | None = None


@dataclass
class SeenImages:
    """What is kept of several images."""

    images: list[Seen]

    @property
    def nbytes(self) -> int:
        """Size of its tensors in bytes."""
        return sum(x.nbytes for one in self.images for x in (one.features, one.embedding) if x is not None)


class Answer(NamedTuple):
    """What the method finds in a query: P points in patches, in pixels of the square, their masks' areas."""

    maps: Maps
    points: Tensor
    prompts: Tensor
    areas: Tensor
    verdict: Verdict | None
    mask: Tensor  # (S, S) bool


@register("gfsam")
class GFSAM(Foundation):
    """Points that resemble the supports, a mask of SAM for each, and a graph that chooses. Nothing learns."""

    Settings = GFSAMSettings
    title = "GF-SAM"
    kinds = ("SamModel", "Dinov2Model")
    licence = "apache-2.0"
    never_compiled = ("forward",)
    cannot_export = "the points and masks that it compares depend on the photos"

    def __init__(self, settings: GFSAMSettings, task: Task, networks: list[nn.Module] | None = None):
        super().__init__(settings, task, networks)
        sam, dino = self.networks
        self.side: int = sam.config.vision_config.image_size
        self.dino_side: int = dino.config.image_size
        self.grid = self.dino_side // dino.config.patch_size

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return logits [1/2 - a, a - 1/2] of the mask a, resized."""
        size, logits, maps, evidence = episode.query.shape[-2:], [], [], []
        queries = self._seen(episode.cached_query) or [self.see(image) for image in episode.query]
        supports = self._seen(episode.cached_support)
        for item, query in enumerate(queries):
            shots = episode.shots(item)
            of_item = supports[item * len(shots) :][: len(shots)] or supports  # which all queries share
            pairs = zip(of_item or [self.see(image) for image, _ in shots], (label for _, label in shots))
            answer = self.answer(query, episode.query[item], [(one.features, label) for one, label in pairs])
            share = (
                resize_cells(answer.mask[None, None].float(), size)[0, 0] if answer else query.features.new_zeros(size)
            )
            logits.append(torch.stack([INSIDE - share, share - INSIDE]))
            shape = self.grid, self.grid
            maps.append(answer.maps.filtered.view(shape) if answer else query.features.new_zeros(shape))
            evidence.append(self._evidence(answer, query.features))
        return Output(
            torch.stack(logits), maps={"filtered": torch.stack(maps)}, evidence=torch.stack(evidence)[:, None]
        )

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for several classes; where masks meet, the class wins whose supports its mask resembles."""
        output = super().forward_classes(episodes)
        if len(episodes) > 1 and output.evidence is not None:
            output.logits[:, 1:] *= output.evidence[:, :, 1, None, None].clamp(min=torch.finfo(torch.float32).tiny)
        return output

    def _evidence(self, answer: Answer | None, like: Tensor) -> Tensor:
        """Return numbers (2,) that tell whether the class is there: greatest cosine, and the mask's mean one."""
        if answer is None:
            return like.new_zeros(2)
        cells = mask_on_grid(answer.mask, (self.grid, self.grid)).flatten()
        mean = answer.maps.pos_mean[cells].mean() if cells.any() else like.new_zeros(())
        return torch.stack([answer.maps.pos_max.max(), mean])

    def answer(self, query: Seen, image: Tensor, supports: Sequence[tuple[Tensor, Tensor]]) -> Answer | None:
        """Return the answer for a query and its image (3, H, W); None, and a line in the log, without any object.

        Args:
            supports: features F' and label (H, W) of each; those that show no object are left out.
        """
        shown = [(features, *self._weights(label)) for features, label in supports if (label == 1).any()]
        if not shown:
            log.info("%s: no support shows a pixel of the object; the prediction is background", self.title)
            return None
        with torch.autocast(image.device.type, enabled=False):
            maps = likeness(query.features, shown)
            points = points_of(maps.filtered, self.grid)
        prompts = points * self.side // self.grid  # the patch's top left corner, as published
        if not len(points):
            nothing = torch.zeros(self.side, self.side, dtype=torch.bool, device=image.device)
            return Answer(maps, points, prompts, prompts.new_zeros(0), None, nothing)
        masks = self._masks(query, image, prompts)
        with torch.autocast(image.device.type, enabled=False):
            verdict = judge(masks, points, maps, query.features)
        return Answer(maps, points, prompts, masks.sum((1, 2)), verdict, verdict.mask)

    def _weights(self, label_hw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the shares of object and background in each patch of a label, (n,) float32 each."""
        rows, columns = (torch.arange(self.side, device=label_hw.device) * n // self.side for n in label_hw.shape)
        mask = (label_hw[rows[:, None], columns] == 1).float()[None]
        both = torch.stack([mask, 1 - mask])
        size = self.grid, self.grid
        of_object, rest = F.interpolate(both, size, mode="bilinear", align_corners=True).flatten(1)
        if not of_object.any():  # an object between the patches' centres
            of_object = mask_on_grid(label_hw == 1, size).float().flatten()
        return of_object, rest

    def _masks(self, query: Seen, image: Tensor, prompts_p2: Tensor) -> Tensor:
        """Return SAM's mask of each point (x, y) in pixels, (P, S, S) bool."""
        if query.embedding is None:
            mean, std = (image.new_tensor(x, dtype=torch.float32)[:, None, None] for x in (MEAN, STD))
            query.embedding = self.networks[0].get_image_embeddings(((self.squeezed(image) - mean) / std)[None])
        out = []
        for some in prompts_p2.float().split(POINTS_AT_ONCE):
            points, labels = some[None, :, None], torch.ones(1, len(some), 1, dtype=torch.int64, device=some.device)
            found = self.networks[0](
                image_embeddings=query.embedding, input_points=points, input_labels=labels, multimask_output=False
            )
            for logits in found.pred_masks[0].float().split(POINTS_AT_ONCE // 4):
                size = self.side, self.side
                out.append(F.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0] > 0)
        return torch.cat(out)

    def see(self, image_3hw: Tensor) -> Seen:
        """Return the features F' of an image, RGB in 0..255: DINOv2's patches before its last norm."""
        mean, std = (image_3hw.new_tensor(x, dtype=torch.float32)[:, None, None] for x in (MEAN, STD))
        size = self.dino_side, self.dino_side
        pixels = F.interpolate(self.squeezed(image_3hw)[None], size, mode="bilinear", align_corners=False)
        states = self.networks[1]((pixels - mean) / std, output_hidden_states=True).hidden_states[-1]
        with torch.autocast(image_3hw.device.type, enabled=False):
            return Seen(channel_units(states[0, 1:]))

    def squeezed(self, image_3hw: Tensor) -> Tensor:
        """Return an image at SAM's square, averaging, (3, S, S) float32 of whole numbers."""
        small = Image.fromarray(as_uint8(image_3hw)).resize((self.side, self.side), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1).float().to(image_3hw.device)

    @staticmethod
    def _seen(cached: Sequence[CachedFeatures] | None) -> list[Seen]:
        return [image for part in cached or () if isinstance(part, SeenImages) for image in part.images]

    @torch.no_grad()
    def cache_support(self, support: Tensor, support_label: Tensor) -> SeenImages:
        """Return what is kept of K supports, whatever their labels."""
        return SeenImages([self.see(image) for image in support.flatten(0, 1)])

    @torch.no_grad()
    def cache_query(self, query: Tensor) -> SeenImages:
        """Return what is kept of queries; SAM's embeddings join it when they are needed."""
        return SeenImages([self.see(image) for image in query])
