"""FSS-SAM3 (arXiv 2604.05433): SAM 3 finds the object in a box around one support in the whole canvas.

Published boxes are of annotated instances; here they are made from the masks. The functions at the end have the
geometry of the canvas; rectangles and boxes are x, y, width, height in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from model.common.foundation import Foundation, FoundationSettings, as_uint8
from model.common.ops import resize_cells
from model.contract import Episode, Output, Task, register
from model.episode import NamedEpisode
from model.mismatch import Mismatch

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


class Found(NamedTuple):
    """What SAM 3 finds on a canvas, of Q instances."""

    scores: Tensor  # (Q,) float32
    presence: Tensor  # () float32
    kept: Tensor  # (Q,) bool
    logits: Tensor  # (Q, 4g, 4g) float32
    best: Tensor  # (S, S) float32: greatest score of the kept instances that cover a pixel, 0 where none does
    within: Tensor  # () float32: greatest score of a kept instance at least half of which lies in the query; or 0


@register("sam3")
class SAM3(Foundation):
    """A canvas of supports and query, boxes as prompts, and the instances that fall on the query. Nothing learns."""

    Settings = SAM3Settings
    title = "FSS-SAM3"
    brings: ClassVar = {"Sam3Model": 0, "AutoTokenizer": 0}
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
        best, evidence = (torch.stack(kind) for kind in zip(*each))
        half = (best - self.settings.threshold) / 2
        return Output(torch.stack([-half, half], 1), maps={"score": best}, evidence=evidence[:, None])

    def _segment(self, episode: Episode, item: int) -> tuple[Tensor, Tensor]:
        """Return c (H, W) of a query and its evidence (2,): presence, and the best score of an instance mostly in it.

        More than ``MOST`` supports lie on several canvases, as equally many as can be, whose results are averaged.
        """
        query, device, own = as_uint8(episode.query[item]), episode.query.device, self.settings
        marked = [(as_uint8(image), box_of(label.cpu().numpy())) for image, label in episode.shots(item)]
        shots = [(photo, box) for photo, box in marked if box is not None]
        if not shots:
            self.say_that_no_object_is_shown()
            return torch.zeros(query.shape[:2], device=device), torch.zeros(2, device=device)
        best, evidence, prompt = [], [], self._prompt(episode, item)
        for group in np.array_split(np.arange(len(shots)), -(-len(shots) // MOST)):
            photos, boxes = zip(*(shots[i] for i in group))
            shape = (own.layout, own.ratio, own.swap) if len(group) == 1 else ("horizontal_strip", own.ratio_of_several)
            if len(group) == MOST:
                shape = own.five, own.ratio_of_several
            places = rectangles(len(group), self.side, *shape)
            placed = on_canvas(np.stack(boxes), photos, places[:-1], self.side)
            found = self.search(paste([*photos, query], places, self.side), placed, prompt, places[-1])
            part = cut_out(found.best.cpu().numpy(), places[-1], query.shape[:2])
            best.append(torch.from_numpy(part).to(device))
            evidence.append(torch.stack([found.presence, found.within]))
        return torch.stack(best).mean(0), torch.stack(evidence).mean(0)

    def _prompt(self, episode: Episode, item: int) -> Tensor:
        """Return token ids and mask of the word, (2, 1, ``WORDS``) int64; Mismatch if class names lack a tokenizer."""
        word = NEUTRAL
        if self.settings.reads_names:
            known = dict(enumerate(self.task.classes, 1)).get(int(episode.class_id[item]), NEUTRAL)
            word = (episode.name if isinstance(episode, NamedEpisode) else None) or known
        if word not in self._prompts:
            ids = self.tokenizer(word, max_length=WORDS, truncation=True)["input_ids"]
            if {*ids} <= {*self.tokenizer.all_special_ids}:
                if word != NEUTRAL:
                    where = f"model.weights = {self.settings.weights[0]}"
                    raise Mismatch(f"{where}: has no tokenizer, which names need; copy its files")
                ids = [i % self.networks[0].config.text_config.vocab_size for i in NEUTRAL_TOKENS]
            rest = [0] * (WORDS - len(ids))
            self._prompts[word] = torch.tensor([[[*ids, *rest]], [[1] * len(ids) + rest]])
        return self._prompts[word].to(episode.query.device)

    def search(self, canvas: np.ndarray, boxes_k4: np.ndarray, prompt: Tensor, query: Rectangle) -> Found:
        """Return what SAM 3 finds on a canvas (S, S, 3) uint8 by boxes, centre and size in 0..1, and a prompt."""
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
        return Found(scores, presence, kept, logits, best, within)


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


def paste(photos: Sequence[np.ndarray], places: Sequence[Rectangle], side: int) -> np.ndarray:
    """Return the canvas (S, S, 3) uint8 of photos (H, W, 3) uint8, each stretched to its rectangle, averaging."""
    out = np.zeros((side, side, 3), np.uint8)
    for photo, (x, y, w, h) in zip(photos, places, strict=True):
        out[y : y + h, x : x + w] = np.asarray(Image.fromarray(photo).resize((w, h), Image.Resampling.BILINEAR))
    return out


def box_of(mask_hw: np.ndarray) -> np.ndarray | None:
    """Return the box (4,) float64 of the largest 8-connected component of the pixels 1; None for an empty mask."""
    *_, stats, _ = cv2.connectedComponentsWithStats((mask_hw == 1).astype(np.uint8), connectivity=8)
    objects = stats[1:]  # after the background
    return objects[objects[:, cv2.CC_STAT_AREA].argmax(), :4].astype(np.float64) if len(objects) else None


def on_canvas(boxes_k4: np.ndarray, photos: Sequence[np.ndarray], places: Sequence[Rectangle], side: int) -> np.ndarray:
    """Return the boxes of K supports on the canvas: centre x, centre y, width, height in 0..1, (K, 4) float32."""
    low, extent, at = boxes_k4[:, :2], boxes_k4[:, 2:], np.array(places, float)
    scale = at[:, 2:] / [photo.shape[1::-1] for photo in photos]
    return (np.concatenate([at[:, :2] + (low + extent / 2) * scale, extent * scale], 1) / side).astype(np.float32)


def cut_out(map_ss: np.ndarray, place: Rectangle, size: tuple[int, int]) -> np.ndarray:
    """Return a rectangle of a map (S, S) float32 at a photo's size (H, W), nearest pixels."""
    x, y, w, h = place
    part = Image.fromarray(np.ascontiguousarray(map_ss[y : y + h, x : x + w]))
    return np.array(part.resize(size[::-1], Image.Resampling.NEAREST))
