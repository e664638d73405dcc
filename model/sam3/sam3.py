"""FSS-SAM3 (arXiv 2604.05433): SAM 3 finds the object in a box around one support in the whole canvas.

Published boxes are of annotated instances; here they are made from the masks. Rectangles and boxes are x, y, width,
height in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from model.contract import Episode, Output, Shot, Task, register
from model.episode import NamedEpisode
from model.kinds.foundation import Foundation, FoundationSettings, as_uint8
from model.mismatch import ModelMismatch
from model.tensors.cells import resize_cells

Rectangle = tuple[int, int, int, int]
NEUTRAL = "visual"  # the word that SAM 3 uses if only the boxes show the object
NEUTRAL_TOKENS = (49406, 7195, 49407)  # the tokens of this word, for folders without a tokenizer
WORDS = 32  # tokens of a prompt
MOST = 5  # supports on a canvas
MEAN = STD = 127.5  # of the network's input
CHUNK = 16  # masks that are resized at a time


@dataclass
class SAM3Settings(FoundationSettings):
    """FSS-SAM3's settings."""

    weights: list[str] = field(default_factory=lambda: ["facebook/sam3"])
    # Text of the prompt. none: the word "visual"; names: the class name (another task; results state it)
    words: Literal["none", "names"] = "none"
    threshold: float = field(default=0.5, metadata={"low": 0, "high": 1})  # least score of an instance
    layout: Literal["vertical", "horizontal"] = "vertical"  # a single support lies above the query, or at its left
    ratio: float = field(
        default=0.6, metadata={"low": 0.1, "high": 0.9}
    )  # share of the canvas that a single support takes
    swap: bool = False  # the query comes first (published on COCO)
    # Place of five supports. horizontal_strip: above the query (as 2 to 4 supports); vertical_strip: at its left
    five: Literal["l_shape", "horizontal_strip", "vertical_strip"] = "l_shape"
    # Share of the canvas's side that two or more supports take
    ratio_of_several: float = field(default=0.3, metadata={"low": 0.1, "high": 0.9})

    @property
    def reads_names(self) -> bool:
        """Whether class names are part of the prompt."""
        return self.words == "names"


@dataclass
class SAM3Shot(Shot):
    """A kept support: its place on the canvas depends on the others."""

    photo: Tensor  # (1, H, W, 3) uint8
    box: Tensor  # of the object, (1, 4) float64


@register("sam3")
class SAM3(Foundation):
    """A canvas of supports and query, boxes as prompts, and the instances that fall on the query. Nothing learns."""

    Settings = SAM3Settings
    title = "FSS-SAM3"
    protocol = "sam3"
    pretrained_parts: ClassVar = {"Sam3Model": 0, "AutoTokenizer": 0}
    licence = "SAM License"
    settings: SAM3Settings

    def __init__(self, settings: SAM3Settings, task: Task, network: nn.Module, tokenizer: Any):
        super().__init__(settings, task, network)
        self.tokenizer = tokenizer  # without its files an empty one
        self.side: int = self.networks[0].config.vision_config.backbone_config.image_size
        self._prompts: dict[str, Tensor] = {}

    def support(self, image_3hw: Tensor, label_hw: Tensor) -> SAM3Shot:
        """Return photo and box of one support."""
        photo = torch.from_numpy(as_uint8(image_3hw))
        box = torch.from_numpy(box_of(label_hw.cpu().numpy()))
        return SAM3Shot(photo[None], box[None])

    def see(self, image_3hw: Tensor) -> np.ndarray:
        """Return a query's pixels, (H, W, 3) uint8."""
        return as_uint8(image_3hw)

    def predict(self, query: np.ndarray, shots: Sequence[SAM3Shot], episode: Episode, item: int) -> Output:
        """Return logits [t - c, c - t] / 2 of the threshold t and the score c of each pixel's best instance.

        More than ``MOST`` supports lie on several canvases, as equally many as can be, whose results are averaged. The
        numbers on presence are SAM 3's, and the best score of an instance in the query.
        """
        device = episode.query.device
        best = torch.zeros(query.shape[:2], device=device)
        presence_features = torch.zeros(2, device=device)
        if shots:
            prompt = self._prompt(episode, item)
            canvases = -(-len(shots) // MOST)
            groups = np.array_split(np.arange(len(shots)), canvases)
            results = [self._on_canvas(query, [shots[i] for i in group], prompt) for group in groups]
            scores, numbers = zip(*results)
            best = torch.stack(scores).mean(0)
            presence_features = torch.stack(numbers).mean(0)
        half = (best - self.settings.threshold) / 2
        logits = torch.stack([-half, half])
        return Output(logits[None], pictures={"score": best[None]}, presence_features=presence_features[None, None])

    def _on_canvas(self, query: np.ndarray, shots: Sequence[SAM3Shot], prompt: Tensor) -> tuple[Tensor, Tensor]:
        """Return c (H, W) of a query and its numbers on presence (2,), by the shots on a canvas."""
        photos = [shot.photo[0].cpu().numpy() for shot in shots]
        boxes = [shot.box[0].cpu().numpy() for shot in shots]
        places = self._places(len(shots))
        canvas = paste([*photos, query], places, self.side)
        boxes_k4 = boxes_on_canvas(boxes, photos, places, self.side)
        scores, presence = self.search(canvas, boxes_k4, prompt, places[-1])
        x, y, w, h = places[-1]  # of the query
        in_query = scores[y : y + h, x : x + w].contiguous()
        part = Image.fromarray(in_query.cpu().numpy())
        whole = np.array(part.resize(query.shape[1::-1], Image.Resampling.NEAREST))
        return torch.from_numpy(whole).to(scores.device), presence

    def _places(self, shots: int) -> list[Rectangle]:
        """Return the rectangles of K supports and, last, of the query on a canvas."""
        settings = self.settings
        if shots == 1:
            return rectangles(shots, self.side, settings.layout, settings.ratio, settings.swap)
        layout = settings.five if shots == MOST else "horizontal_strip"
        return rectangles(shots, self.side, layout, settings.ratio_of_several)

    def _prompt(self, episode: Episode, item: int) -> Tensor:
        """Return ids and mask of the word, (2, 1, ``WORDS``) int64; ModelMismatch: no tokenizer for class names."""
        word = self._word(episode, item) if self.settings.reads_names else NEUTRAL
        if word not in self._prompts:
            ids = self._token_ids(word)
            padding = [0] * (WORDS - len(ids))
            mask = [1] * len(ids)
            self._prompts[word] = torch.tensor([[[*ids, *padding]], [[*mask, *padding]]])
        return self._prompts[word].to(episode.query.device)

    def _word(self, episode: Episode, item: int) -> str:
        """Return the name of an episode's class: its own, or that of the data set; ``NEUTRAL`` for none."""
        if isinstance(episode, NamedEpisode) and episode.name:
            return episode.name
        names = dict(enumerate(self.task.classes, 1))
        return names.get(int(episode.class_id[item]), NEUTRAL)

    def _token_ids(self, word: str) -> list[int]:
        """Return the tokens of a word; ModelMismatch: no tokenizer for class names."""
        ids = self.tokenizer(word, max_length=WORDS, truncation=True)["input_ids"]
        if not {*ids} <= {*self.tokenizer.all_special_ids}:
            return ids
        if word != NEUTRAL:
            where = f"model.weights = {self.settings.weights[0]}"
            raise ModelMismatch(f"{where}: has no tokenizer, which names need; copy its files")
        return [i % self.networks[0].config.text_config.vocab_size for i in NEUTRAL_TOKENS]

    def search(
        self, canvas: np.ndarray, boxes_k4: np.ndarray, prompt: Tensor, query: Rectangle
    ) -> tuple[Tensor, Tensor]:
        """Search a canvas (S, S, 3) uint8 by boxes, centre and size in 0..1, and a prompt, for instances to keep.

        Return the greatest score of those that cover a pixel, (S, S), 0 where none does, and numbers (2,): SAM 3's
        presence, and the greatest score of one at least half of which lies in the query, or 0.
        """
        network = self.networks[0]
        device = prompt.device
        pixels = torch.from_numpy(canvas).to(device).permute(2, 0, 1)
        normalised = pixels[None].float() / STD - MEAN / STD
        vision = network.get_vision_features(normalised)
        for name in ("fpn_hidden_states", "fpn_position_encoding"):
            vision[name] = tuple(maps.float() for maps in vision[name])
        boxes = torch.from_numpy(boxes_k4)[None].to(device)
        labels = torch.ones_like(boxes[..., 0], dtype=torch.int64)
        ids, mask = prompt
        with torch.autocast(device.type, enabled=False):  # the image encoder alone runs in bf16
            out = network(
                vision_embeds=vision,
                input_ids=ids,
                attention_mask=mask,
                input_boxes=boxes,
                input_boxes_labels=labels,
            )
        presence = out.presence_logits.sigmoid().view(())
        scores = out.pred_logits[0].sigmoid() * presence
        kept = (scores > self.settings.threshold).nonzero()[:, 0]
        best, within = draw_instances(out.pred_masks[0][kept], scores[kept], len(canvas), query)
        return best, torch.stack([presence, within])


def paste(photos: Sequence[np.ndarray], places: Sequence[Rectangle], side: int) -> np.ndarray:
    """Return the canvas (S, S, 3) uint8 on which each photo fills its rectangle."""
    canvas = np.zeros((side, side, 3), np.uint8)
    for photo, (x, y, w, h) in zip(photos, places, strict=True):
        small = Image.fromarray(photo).resize((w, h), Image.Resampling.BILINEAR)
        canvas[y : y + h, x : x + w] = np.asarray(small)
    return canvas


def boxes_on_canvas(
    boxes: Sequence[np.ndarray], photos: Sequence[np.ndarray], places: Sequence[Rectangle], side: int
) -> np.ndarray:
    """Return the boxes of K photos on the canvas: centre x, centre y, width, height in 0..1, (K, 4) float32."""
    corner, extent = np.split(np.stack(boxes), 2, axis=1)
    place_corner, place_extent = np.split(np.array(places[: len(boxes)], float), 2, axis=1)
    scale = place_extent / [photo.shape[1::-1] for photo in photos]
    centre = place_corner + (corner + extent / 2) * scale
    on_canvas = np.concatenate([centre, extent * scale], axis=1) / side
    return on_canvas.astype(np.float32)


def draw_instances(logits_nhw: Tensor, scores_n: Tensor, side: int, query: Rectangle) -> tuple[Tensor, Tensor]:
    """Return the greatest score that covers each pixel, (S, S), and that of an instance at least half in the query.

    Both are 0 where no instance is.
    """
    x, y, w, h = query
    best = scores_n.new_zeros(side, side)
    within = scores_n.new_zeros(())
    if not len(scores_n):
        return best, within
    for logits, scores in zip(logits_nhw.split(CHUNK), scores_n.split(CHUNK)):
        masks = resize_cells(logits[None], (side, side))[0] > 0
        covering = masks * scores[:, None, None]
        best = torch.maximum(best, covering.amax(0))
        areas = masks.sum((1, 2))
        inside = masks[:, y : y + h, x : x + w].sum((1, 2))
        in_query = 2 * inside >= areas.clamp(min=1)
        within = torch.maximum(within, (scores * in_query).max())
    return best, within


def rectangles(shots: int, side: int, layout: str, ratio: float, swap: bool = False) -> list[Rectangle]:
    """Return the rectangles of K supports and, last, of the query on a canvas of ``side``.

    Layouts are vertical or horizontal for one support (``swap``: the query first), l_shape (five), horizontal_strip or
    vertical_strip for several; the supports take ``ratio``.
    """
    if layout == "l_shape":
        return _l_shape(side, round(side * ratio))
    if layout in ("vertical", "horizontal"):
        places = _pair(side, int(side * ratio), swap)
    else:
        places = _strip(shots, side, round(side * ratio))
    if layout in ("horizontal", "vertical_strip"):
        places = [(y, x, h, w) for x, y, w, h in places]
    return places


def _l_shape(side: int, a: int) -> list[Rectangle]:
    """Return three supports above and two at the left of the query, ``a`` high and wide."""
    rest = side - a
    w, h = side // 3, rest // 2
    above = [(0, 0, w, a), (w, 0, w, a), (2 * w, 0, side - 2 * w, a)]
    at_left = [(0, a, a, h), (0, a + h, a, rest - h)]
    return [*above, *at_left, (a, a, rest, rest)]


def _pair(side: int, a: int, swap: bool) -> list[Rectangle]:
    """Return a support of height ``a`` above the query, or with ``swap`` below it."""
    rest = side - a
    if swap:
        return [(0, rest, side, a), (0, 0, side, rest)]
    return [(0, 0, side, a), (0, a, side, rest)]


def _strip(shots: int, side: int, a: int) -> list[Rectangle]:
    """Return the supports side by side, of height ``a``, above the query; the last one takes what is left."""
    w = side // shots
    supports = [(i * w, 0, w, a) for i in range(shots - 1)]
    last = (shots - 1) * w
    return [*supports, (last, 0, side - last, a), (0, a, side, side - a)]


def box_of(mask_hw: np.ndarray) -> np.ndarray:
    """Return the box (4,) float64 of the largest 8-connected component of the pixels 1, which there are."""
    is_object = (mask_hw == 1).astype(np.uint8)
    *_, stats, _ = cv2.connectedComponentsWithStats(is_object, connectivity=8)
    components = stats[1:]  # after the background
    largest = components[:, cv2.CC_STAT_AREA].argmax()
    return components[largest, :4].astype(np.float64)
