"""FSS-SAM3 (arXiv 2604.05433): SAM 3 finds the object in a box around one support in the whole canvas.

``canvas.py`` has the geometry. Published boxes are of annotated instances; here they are made from the masks.
"""

import logging
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.foundation import Foundation, FoundationSettings, as_uint8, tokens
from model.contract import Task
from model.episode import Episode, NamedEpisode, Output
from model.mismatch import Mismatch
from model.registry import register
from model.sam3 import canvas as c

log = logging.getLogger("symnet")

NEUTRAL = "visual"  # SAM 3's own word where the boxes alone say what is meant
NEUTRAL_TOKENS = (49406, 7195, 49407)  # of that word, for folders without a tokenizer
WORDS = 32  # tokens of a prompt
MEAN = STD = 127.5  # of the network's input
CHUNK = 16  # masks that are resized at a time


@dataclass
class SAM3Settings(FoundationSettings):
    """FSS-SAM3's settings; ``config/model/sam3.yaml`` explains them."""

    weights: list[str] = field(default_factory=lambda: ["facebook/sam3"])
    pretraining: str | None = "SA-Co"
    words: Literal["none", "names"] = "none"
    threshold: float = field(default=0.5, metadata={"low": 0, "high": 1})
    layout: Literal["vertical", "horizontal"] = "vertical"
    ratio: float = field(default=0.6, metadata={"low": 0.1, "high": 0.9})
    swap: bool = False
    five: Literal["l_shape", "horizontal_strip", "vertical_strip"] = "l_shape"
    ratio_of_several: float = field(default=0.3, metadata={"low": 0.1, "high": 0.9})

    @property
    def reads_names(self) -> bool:
        """Whether class names are part of the prompt."""
        return self.words == "names"


class Found(NamedTuple):
    """What SAM 3 finds on a canvas, of Q instances."""

    scores: Tensor  # (Q,) float32
    presence: Tensor  # () float32
    kept: Tensor  # (Q,) bool
    logits: Tensor  # (Q, 4g, 4g) float32
    surest: Tensor  # (S, S) float32: greatest score of the kept instances that cover a pixel, 0 where none does
    areas: Tensor  # (Q, 2): pixels of each kept instance, on the canvas and within the query; 0 for others


@register("sam3")
class SAM3(Foundation):
    """A canvas of supports and query, boxes as prompts, and the instances that fall on the query. Nothing learns."""

    Settings = SAM3Settings
    title = "FSS-SAM3"
    kinds = ("Sam3Model",)
    licence = "SAM License"
    shots_in_order = True
    never_compiled = ("forward",)
    cannot_export = "the instances that SAM 3 finds depend on the photos"
    settings: SAM3Settings

    def __init__(self, settings: SAM3Settings, task: Task, networks: list[nn.Module] | None = None):
        super().__init__(settings, task, networks)
        self.side: int = self.networks[0].config.vision_config.backbone_config.image_size
        self._tokens: dict[str, Tensor] = {}

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return logits [t - c, c - t] / 2 of the threshold t and the surest instance c of each pixel."""
        each = [self._segment(episode, item) for item in range(len(episode.query))]
        surest, evidence = (torch.stack(kind) for kind in zip(*each))
        half = (surest - self.settings.threshold) / 2
        return Output(torch.stack([-half, half], 1), maps={"surest": surest}, evidence=evidence[:, None])

    def _segment(self, episode: Episode, item: int) -> tuple[Tensor, Tensor]:
        """Return c (H, W) of a query, and its evidence (2,): presence, and the surest instance mostly in the query."""
        query, shots = as_uint8(episode.query[item]), []
        for image, label in episode.shots(item):
            if (box := c.box_of(label.cpu().numpy())) is not None:
                shots.append((as_uint8(image), box))
        device = episode.query.device
        if not shots:
            log.info("%s: no support shows a pixel of the object; the prediction is background", self.title)
            return torch.zeros(query.shape[:2], device=device), torch.zeros(2, device=device)
        surest, evidence = [], []
        prompt = self._prompt(self._word(episode, item))
        for group in c.groups(len(shots)):
            photos, boxes = zip(*(shots[i] for i in group))
            places = self._places(len(photos))
            pasted = c.paste([*photos, query], places, self.side)
            found = self.search(
                pasted, c.on_canvas(np.stack(boxes), photos, places[:-1], self.side), prompt, places[-1]
            )
            part = c.cut_out(found.surest.cpu().numpy(), places[-1], query.shape[:2])
            surest.append(torch.from_numpy(part.copy()).to(device))
            inside = 2 * found.areas[:, 1] >= found.areas[:, 0].clamp(min=1)
            evidence.append(torch.stack([found.presence, (found.scores * inside).max()]))
        return torch.stack(surest).mean(0), torch.stack(evidence).mean(0)

    def _places(self, shots: int) -> list[c.Rectangle]:
        """Return the rectangles of so many supports and of the query, by the settings."""
        own = self.settings
        if shots == 1:
            return c.rectangles(shots, self.side, own.layout, own.ratio, own.swap)
        layout = own.five if shots == c.PUBLISHED_SEVERAL else "horizontal_strip"
        return c.rectangles(shots, self.side, layout, own.ratio_of_several, False)

    def _word(self, episode: Episode, item: int) -> str:
        """Return the word of the prompt: the class name where the settings ask for it and it is known."""
        if not self.settings.reads_names:
            return NEUTRAL
        known = dict(enumerate(self.task.classes, 1))
        given = episode.name if isinstance(episode, NamedEpisode) else None
        return given or known.get(int(episode.class_id[item]), NEUTRAL)

    def _prompt(self, word: str) -> Tensor:
        """Return token ids and attention mask of a word, (2, 1, ``WORDS``) int64.

        Raises:
            Mismatch: the network comes without a tokenizer, and the word is not ``NEUTRAL``.
        """
        if word not in self._tokens:
            own = tokens(self.settings.weights[0], word, WORDS)
            if own is None and word != NEUTRAL:
                raise Mismatch(
                    f"model.words = names: {self.settings.weights[0]} holds no tokenizer; copy its files there"
                )
            if own is None:
                ids = [
                    i % self.networks[0].config.text_config.vocab_size for i in NEUTRAL_TOKENS
                ]  # all, but in small ones
                rest = [0] * (WORDS - len(ids))
                own = [*ids, *rest], [*(1 for _ in ids), *rest]
            self._tokens[word] = torch.tensor(own)[:, None]
        return self._tokens[word].to(next(self.networks[0].parameters()).device)

    def search(self, canvas: np.ndarray, boxes_k4: np.ndarray, prompt: Tensor, query: c.Rectangle) -> Found:
        """Return what SAM 3 finds on a canvas (S, S, 3) uint8.

        Args:
            boxes_k4: centre and size in 0..1, float32.
            prompt: token ids and attention mask, (2, 1, ``WORDS``).
            query: the query's rectangle.
        """
        device = prompt.device
        pixels = torch.from_numpy(canvas).to(device).permute(2, 0, 1)[None].float() / STD - MEAN / STD
        boxes = torch.from_numpy(boxes_k4)[None].to(device)
        ones = torch.ones(boxes.shape[:2], dtype=torch.int64, device=device)
        seen = self.networks[0].get_vision_features(pixels)
        for name in ("fpn_hidden_states", "fpn_position_encoding"):
            seen[name] = tuple(maps.float() for maps in seen[name])
        text = {"input_ids": prompt[0], "attention_mask": prompt[1]}
        with torch.autocast(device.type, enabled=False):  # the image encoder alone runs in bf16
            out = self.networks[0](vision_embeds=seen, **text, input_boxes=boxes, input_boxes_labels=ones)
        presence, logits = out.presence_logits.sigmoid().view(()), out.pred_masks[0]
        scores = out.pred_logits[0].sigmoid() * presence
        kept, side = scores > self.settings.threshold, len(canvas)
        surest, areas = torch.zeros(side, side, device=device), torch.zeros(len(scores), 2, device=device)
        x, y, width, height = query
        for which in kept.nonzero()[:, 0].split(CHUNK) if kept.any() else ():
            masks = F.interpolate(logits[which][None], (side, side), mode="bilinear", align_corners=False)[0] > 0
            surest = torch.maximum(surest, (masks * scores[which, None, None]).amax(0))
            areas[which, 0] = masks.sum((1, 2)).float()
            areas[which, 1] = masks[:, y : y + height, x : x + width].sum((1, 2)).float()
        return Found(scores, presence, kept, logits, surest, areas)
