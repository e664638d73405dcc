"""FSS-SAM3 (arXiv 2604.05433): SAM 3 finds the object in a box around one support in the whole canvas.

Published boxes are of annotated instances; here they are made from the masks. Rectangles and boxes are x, y, width,
height in pixels.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from model.common.foundation import Foundation, FoundationSettings, as_uint8
from model.common.ops import resize_cells
from model.contract import Episode, Output, Task, register
from model.episode import NamedEpisode
from model.mismatch import ModelMismatch

Rectangle = tuple[int, int, int, int]
NEUTRAL = "visual"  # SAM 3's own word where the boxes alone say what is meant
NEUTRAL_TOKENS = (49406, 7195, 49407)  # of that word, for folders without a tokenizer
WORDS = 32  # tokens of a prompt
MOST = 5  # supports on a canvas
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


@register("sam3")
class SAM3(Foundation):
    """A canvas of supports and query, boxes as prompts, and the instances that fall on the query. Nothing learns."""

    Settings = SAM3Settings
    title = "FSS-SAM3"
    replays = False  # steps depend on values
    pretrained_parts: ClassVar = {"Sam3Model": 0, "AutoTokenizer": 0}
    licence = "SAM License"
    shots_in_order = True
    never_compiled = ("forward",)
    cannot_export = "the instances that SAM 3 finds depend on the photos"
    settings: SAM3Settings

    def __init__(self, settings: SAM3Settings, task: Task, network: nn.Module, tokenizer: Any):
        super().__init__(settings, task, network)
        self.tokenizer = tokenizer  # without its files an empty one
        self.side: int = self.networks[0].config.vision_config.backbone_config.image_size
        self._prompts: dict[str, Tensor] = {}

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return logits [t - c, c - t] / 2 of the threshold t and the score c of each pixel's best instance."""
        each = [self._segment(episode, item) for item in range(len(episode.query))]
        best, presence_features = (torch.stack(kind) for kind in zip(*each))
        half = (best - self.settings.threshold) / 2
        return Output(torch.stack([-half, half], 1), maps={"score": best}, presence_features=presence_features[:, None])

    def _segment(self, episode: Episode, item: int) -> tuple[Tensor, Tensor]:
        """Return c (H, W) of a query and its presence features (2,): presence, best score of an instance in it.

        More than ``MOST`` supports lie on several canvases, as equally many as can be, whose results are averaged.
        """
        query, device, own = as_uint8(episode.query[item]), episode.query.device, self.settings
        marked = [(as_uint8(image), box_of(label.cpu().numpy())) for image, label in episode.shots(item)]
        shots = [(photo, box) for photo, box in marked if box is not None]
        if not shots:
            self.say_that_no_object_is_shown()
            return torch.zeros(query.shape[:2], device=device), torch.zeros(2, device=device)
        best, presence_features, prompt = [], [], self._prompt(episode, item)
        for group in np.array_split(np.arange(len(shots)), -(-len(shots) // MOST)):
            photos, boxes = zip(*(shots[i] for i in group))
            shape = (own.layout, own.ratio, own.swap) if len(group) == 1 else ("horizontal_strip", own.ratio_of_several)
            if len(group) == MOST:
                shape = own.five, own.ratio_of_several
            places = rectangles(len(group), self.side, *shape)
            canvas = np.zeros((self.side, self.side, 3), np.uint8)
            for photo, (x, y, w, h) in zip((*photos, query), places, strict=True):  # each fills its rectangle
                small = Image.fromarray(photo).resize((w, h), Image.Resampling.BILINEAR)
                canvas[y : y + h, x : x + w] = np.asarray(small)
            # The boxes on the canvas: centre x, centre y, width, height in 0..1, (K, 4).
            (low, extent), at = np.split(np.stack(boxes), 2, 1), np.array(places[:-1], float)
            scale = at[:, 2:] / [photo.shape[1::-1] for photo in photos]
            placed = np.concatenate([at[:, :2] + (low + extent / 2) * scale, extent * scale], 1) / self.side
            found, sure = self.search(canvas, placed.astype(np.float32), prompt, places[-1])
            part = Image.fromarray(found[y : y + h, x : x + w].contiguous().cpu().numpy())  # the query is the last
            whole = np.array(part.resize(query.shape[1::-1], Image.Resampling.NEAREST))
            best.append(torch.from_numpy(whole).to(device))
            presence_features.append(sure)
        return torch.stack(best).mean(0), torch.stack(presence_features).mean(0)

    def _prompt(self, episode: Episode, item: int) -> Tensor:
        """Return ids and mask of the word, (2, 1, ``WORDS``) int64; ModelMismatch: no tokenizer for class names."""
        word = NEUTRAL
        if self.settings.reads_names:
            known = dict(enumerate(self.task.classes, 1)).get(int(episode.class_id[item]), NEUTRAL)
            word = (episode.name if isinstance(episode, NamedEpisode) else None) or known
        if word not in self._prompts:
            ids = self.tokenizer(word, max_length=WORDS, truncation=True)["input_ids"]
            if {*ids} <= {*self.tokenizer.all_special_ids}:
                if word != NEUTRAL:
                    where = f"model.weights = {self.settings.weights[0]}"
                    raise ModelMismatch(f"{where}: has no tokenizer, which names need; copy its files")
                ids = [i % self.networks[0].config.text_config.vocab_size for i in NEUTRAL_TOKENS]
            rest = [0] * (WORDS - len(ids))
            self._prompts[word] = torch.tensor([[[*ids, *rest]], [[1] * len(ids) + rest]])
        return self._prompts[word].to(episode.query.device)

    def search(
        self, canvas: np.ndarray, boxes_k4: np.ndarray, prompt: Tensor, query: Rectangle
    ) -> tuple[Tensor, Tensor]:
        """Search a canvas (S, S, 3) uint8 by boxes, centre and size in 0..1, and a prompt, for instances to keep.

        Return the greatest score of those that cover a pixel, (S, S), 0 where none does, and numbers (2,): SAM 3's
        presence, and the greatest score of one at least half of which lies in the query, or 0.
        """
        network, device, side = self.networks[0], prompt.device, len(canvas)
        pixels = torch.from_numpy(canvas).to(device).permute(2, 0, 1)[None].float() / STD - MEAN / STD
        seen = network.get_vision_features(pixels)
        for name in ("fpn_hidden_states", "fpn_position_encoding"):
            seen[name] = tuple(maps.float() for maps in seen[name])
        boxes = torch.from_numpy(boxes_k4)[None].to(device)
        given = {"input_boxes": boxes, "input_boxes_labels": torch.ones_like(boxes[..., 0], dtype=torch.int64)}
        with torch.autocast(device.type, enabled=False):  # the image encoder alone runs in bf16
            out = network(vision_embeds=seen, input_ids=prompt[0], attention_mask=prompt[1], **given)
        presence, logits = out.presence_logits.sigmoid().view(()), out.pred_masks[0]
        scores = out.pred_logits[0].sigmoid() * presence
        kept, (x, y, w, h) = scores > self.settings.threshold, query
        best, within = torch.zeros(side, side, device=device), torch.zeros((), device=device)
        for which in kept.nonzero()[:, 0].split(CHUNK) if kept.any() else ():
            masks = resize_cells(logits[which][None], (side, side))[0] > 0
            best = torch.maximum(best, (masks * scores[which, None, None]).amax(0))
            areas, inside = masks.sum((1, 2)), masks[:, y : y + h, x : x + w].sum((1, 2))
            within = torch.maximum(within, (scores[which] * (2 * inside >= areas.clamp(min=1))).max())
        return best, torch.stack([presence, within])


def rectangles(shots: int, side: int, layout: str, ratio: float, swap: bool = False) -> list[Rectangle]:
    """Return the rectangles of K supports and, last, of the query on a canvas of ``side``.

    Layouts are vertical or horizontal for one support (``swap``: the query first), l_shape (five), horizontal_strip or
    vertical_strip for several; the supports take ``ratio``.
    """
    a = int(side * ratio) if layout in ("vertical", "horizontal") else round(side * ratio)
    rest, u = side - a, side // shots
    if layout == "l_shape":
        w, h = side // 3, rest // 2
        top = [(0, 0, w, a), (w, 0, w, a), (2 * w, 0, side - 2 * w, a)]
        return [*top, (0, a, a, h), (0, a + h, a, rest - h), (a, a, rest, rest)]
    if layout in ("vertical", "horizontal"):
        places = [(0, rest, side, a), (0, 0, side, rest)] if swap else [(0, 0, side, a), (0, a, side, rest)]
    else:
        places = [(i * u, 0, u if i < shots - 1 else side - u * i, a) for i in range(shots)] + [(0, a, side, rest)]
    return places if layout in ("vertical", "horizontal_strip") else [(y, x, h, w) for x, y, w, h in places]


def box_of(mask_hw: np.ndarray) -> np.ndarray | None:
    """Return the box (4,) float64 of the largest 8-connected component of the pixels 1; None for an empty mask."""
    *_, stats, _ = cv2.connectedComponentsWithStats((mask_hw == 1).astype(np.uint8), connectivity=8)
    objects = stats[1:]  # after the background
    return objects[objects[:, cv2.CC_STAT_AREA].argmax(), :4].astype(np.float64) if len(objects) else None
