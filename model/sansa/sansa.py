"""SANSA (NeurIPS 2025, arXiv 2505.21795): a frozen SAM 2 reads supports and query as one video.

Small adapters in its image encoder learn, so that its memory attention matches meaning in place of looks. Supports
have masks.

Shape letters: n images, S side of SAM's square, g = S / 16 its coarse grid, C channels there, K supports.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.contract import Episode, Output, Shot, Task, register
from model.decides import Decides
from model.kinds.foundation import Foundation, FoundationSettings
from model.mismatch import ModelMismatch
from model.parts.loss import focal, foreground_dice, mask_loss
from model.sansa.published import LAYOUT
from model.tensors.cells import resize_cells
from model.tensors.ops import foreground_mask, normalise

STRIDE = 32  # of SAM's deepest maps
SCALE = 0.1  # of what an adapter adds
CERTAIN = 10.0  # logit of a mask's pixels
POINTERS = 16  # supports that give a pointer at most
NO_POINT = -1  # label of a prompt without a point
IOU_TOKEN, FIRST_MASK_TOKEN = 0, 1  # of the mask decoder
FLAGS = {  # of SAM 2.1's config, which SAM 2.0 has not
    "enable_occlusion_spatial_embedding",
    "enable_temporal_pos_encoding_for_object_pointers",
}


@dataclass
class SANSASettings(FoundationSettings):
    """SANSA's settings."""

    weights: list[str] = field(default_factory=lambda: ["facebook/sam2-hiera-large"])
    # An adapter's width, a share of its block's input width. Code: 0.3 strict, 0.8 generalist
    factor: float = field(default=0.3, metadata={"low": 0.02, "high": 4, "decides": Decides.IDENTITY})
    # Stages of the image encoder, from 0, whose blocks have adapters; code: 2 and 3
    stages: list[int] = field(
        default_factory=lambda: [2, 3], metadata={"low": 0, "high": 3, "length": (1, 4), "decides": Decides.IDENTITY}
    )
    dropout: bool = True  # code: SAM's own, 0.1 in its frozen memory attention, while adapters learn
    # Maps inside the image encoder's blocks are computed again in the backward pass, not kept: less memory, more time
    gradient_checkpointing: bool = field(default=False, metadata={"decides": Decides.NOTHING})


@dataclass
class SANSAShot(Shot):
    """A kept support, without its place among the others, which decides its time code."""

    memory: Tensor  # (n, 64, g, g) float32
    pointer: Tensor  # (n, C) float32


@dataclass
class Features:
    """The output of SAM's image encoder for n images of one size."""

    fine: Tensor  # (n, C / 8, 4 g, 4 g)
    middle: Tensor  # (n, C / 4, 2 g, 2 g)
    coarse: Tensor  # (n, C, g, g)
    position: Tensor  # code of the coarse positions, (n, C, g, g)
    size: tuple[int, int]  # H, W of the images

    def __getitem__(self, number: int) -> "Features":
        """Return the features of one image, n = 1."""
        row = slice(number, number + 1)
        return Features(self.fine[row], self.middle[row], self.coarse[row], self.position[row], self.size)


class Adapter(nn.Module):
    """A bottleneck that learns; it starts as zero, so that the untrained network is SAM 2."""

    def __init__(self, width: int, bottleneck: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, bottleneck)
        self.up = nn.Linear(bottleneck, width)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to a block's value (..., width)."""
        return SCALE * self.up(self.down(self.norm(x)).relu())


class Beside(nn.Module):
    """A block's norm and MLP, and an adapter whose output is added to theirs; it reads the value before the norm."""

    def __init__(self, norm: nn.Module, mlp: nn.Module, adapter: Adapter):
        super().__init__()
        self.norm, self.mlp = norm, mlp
        self.adapter = [adapter]  # in a list, as it is no part of SAM, which is frozen

    def forward(self, x: Tensor) -> Tensor:
        """Return what a block adds to its value x."""
        (adapter,) = self.adapter
        return self.mlp(self.norm(x)) + adapter(x)


class Recomputed(nn.Module):
    """A block whose inner maps are not kept for the backward pass (gradient checkpointing)."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        """Return the block's value."""
        return checkpoint(self.block, x, use_reentrant=False, **options)


def add_adapters(hiera: Any, stages: Sequence[int], factor: float) -> dict[str, Adapter]:
    """Put an adapter into every block of some stages of an image encoder; return them by the blocks' numbers."""
    adapters = {}
    first = 0
    for stage, count in enumerate(hiera.config.blocks_per_stage):
        for number in range(first, first + count) if stage in stages else ():
            block = hiera.blocks[number]
            adapter = Adapter(block.dim_out, int(factor * block.dim))  # published: half as wide where a stage begins
            block.mlp = Beside(block.layer_norm2, block.mlp, adapter)
            block.layer_norm2 = nn.Identity()
            adapters[str(number)] = adapter
        first += count
    return adapters


@register("sansa")
class SANSA(Foundation):
    """Supports are frames with masks, the query is the frame after them. Adapters in SAM 2's image encoder learn.

    The order of the supports matters: the first counts as the video's prompted frame, others by their distance in time.
    """

    Settings = SANSASettings
    title = "SANSA"
    protocol = "matcher"
    learns = True
    shots_share_weights = True
    pretrained_parts: ClassVar = {"Sam2VideoModel": 0}
    licence = "apache-2.0"
    published = LAYOUT
    settings: SANSASettings

    def __init__(self, settings: SANSASettings, task: Task, network: nn.Module):
        super().__init__(settings, task, network)
        self.side = _side_of(network, settings.weights[0])
        self.grid = (self.side // 16, self.side // 16)
        _fit(network, self.side)
        hiera = self.sam.vision_encoder.backbone
        self.adapters = nn.ModuleDict(add_adapters(hiera, settings.stages, settings.factor))
        if settings.gradient_checkpointing:
            hiera.blocks = nn.ModuleList(Recomputed(block) for block in hiera.blocks)

    @property
    def sam(self) -> Any:
        """SAM 2."""
        return self.networks[0]

    # 1. Images

    def see(self, image_3hw: Tensor) -> Features:
        """Return the features of an image, n = 1."""
        return self.features(image_3hw[None])

    def features(self, image_n3hw: Tensor) -> Features:
        """Return the features of n images, RGB in 0..255, squeezed to SAM's square."""
        pixels = self._at(normalise(image_n3hw), self.side)
        vision = self.sam.vision_encoder(pixels, return_dict=True)
        fine, middle, coarse = vision.fpn_hidden_states
        decoder = self.sam.mask_decoder
        size = (image_n3hw.shape[-2], image_n3hw.shape[-1])
        position = vision.fpn_position_encoding[2].expand_as(coarse)
        return Features(decoder.conv_s0(fine), decoder.conv_s1(middle), coarse, position, size)

    @staticmethod
    def _at(x_nchw: Tensor, side: int) -> Tensor:
        """Return maps resized to a square, averaging where they become smaller."""
        return F.interpolate(x_nchw, size=(side, side), mode="bilinear", align_corners=False, antialias=True)

    # 2. Supports

    def support(self, image_3hw: Tensor, label_hw: Tensor) -> SANSAShot:
        """Return memory and pointer of one support."""
        return self.remember(self.see(image_3hw), label_hw[None])

    def remember(self, seen: Features, label_nhw: Tensor) -> SANSAShot:
        """Return memory and pointer of n supports by their labels."""
        mask, low = self.prompt(label_nhw)
        dense = self.sam.mask_downsample(mask)
        tokens, _ = self._attend(seen.coarse, dense)
        pointer = self.sam.object_pointer_proj(tokens[:, FIRST_MASK_TOKEN])
        logits = resize_cells(low, (self.side, self.side))  # published; SAM 2 keeps the sharp ones
        shown = 2 * CERTAIN * logits.sigmoid() - CERTAIN
        memory, _ = self.sam.memory_encoder(seen.coarse, shown)
        return SANSAShot(memory.float(), pointer.float())

    def prompt(self, label_nhw: Tensor) -> tuple[Tensor, Tensor]:
        """Return the masks of labels, (n, 1, S, S) of 0 and 1, and their logits (n, 1, 4 g, 4 g).

        A pixel that the object touches at all is object, as published: it grows where a label is made larger.
        """
        mask = (self._at(foreground_mask(label_nhw), self.side) > 0).float()
        sharp = 2 * CERTAIN * mask - CERTAIN
        return mask, self._at(sharp, 4 * self.grid[0])

    # 3. The query

    def predict(self, query: Features, shots: Sequence[SANSAShot], episode: Episode, item: int) -> Output:
        """Return logits [0, l] of the mask with the largest predicted IoU, resized straight to the image's size.

        The numbers on presence are that IoU, and the mean probability of the mask's pixels.
        """
        if shots:
            low, ious = (x[:, 1:] for x in self.decode(query, self.condition(query, shots)))
            chosen = low.take_along_dim(ious.argmax(1).view(-1, 1, 1, 1), 1)
            object_logits = resize_cells(chosen.float(), query.size)[:, 0]
            presence_features = self._presence_features(object_logits, ious)
        else:  # background; in training a graph with gradients of 0
            object_logits = 0 * query.coarse.float().sum() - query.coarse.new_full((1, *query.size), CERTAIN).float()
            presence_features = torch.zeros_like(object_logits[:, :1, :2])
        logits = torch.stack([torch.zeros_like(object_logits), object_logits], 1)
        return Output(logits, pictures={"probability": object_logits.sigmoid()}, presence_features=presence_features)

    @staticmethod
    def _presence_features(logits_nhw: Tensor, ious_n3: Tensor) -> Tensor:
        """Return numbers (n, 1, 2): the largest predicted IoU, and the mean probability of the mask's pixels."""
        mask = logits_nhw > 0
        total = (logits_nhw.sigmoid() * mask).sum((1, 2))
        mean = total / mask.sum((1, 2)).clamp(min=1)
        return torch.stack([ious_n3.amax(1).float(), mean], 1)[:, None]

    def condition(self, query: Features, shots: Sequence[SANSAShot]) -> Tensor:
        """Return a query's coarse features that have read the supports, (1, C, g, g)."""
        keys, codes, pointers = self._memories(shots)
        attention = self.sam.memory_attention
        tokens, position = (x.flatten(2).permute(2, 0, 1) for x in (query.coarse, query.position))
        with _dropout_in(attention, self.training and self.settings.dropout):
            read = attention(tokens, keys, position, codes, pointers)
        return read.reshape(1, *self.grid, -1).permute(0, 3, 1, 2)

    def _memories(self, shots: Sequence[SANSAShot]) -> tuple[Tensor, Tensor, int]:
        """Return the tokens of K supports, (L, 1, 64), their position codes, and how many tokens are pointers'.

        The first support counts as the prompted frame, the others as the frames before the query.
        """
        times = self.sam.memory_temporal_positional_encoding.flatten(1)  # code of each distance; the last: prompted
        recent = len(times) - 1
        query = len(shots)  # its number among the frames
        memory = shots[0].memory
        place = self.sam.memory_encoder.position_encoding(memory.shape, memory.device, memory.dtype)
        place = place.flatten(2).permute(2, 0, 1)
        keys, codes = [], []
        for number in [0, *range(max(1, query - recent), query)]:
            time = times[recent if number == 0 else query - number - 1]
            keys.append(shots[number].memory.flatten(2).permute(2, 0, 1))
            codes.append(place + time)
        numbers = [0, *range(query - 1, max(1, query - POINTERS + 1) - 1, -1)]
        pointers = torch.cat([shots[number].pointer for number in numbers])
        tokens = pointers.reshape(-1, 1, memory.shape[1])
        return torch.cat([*keys, tokens]), torch.cat([*codes, torch.zeros_like(tokens)]), len(tokens)

    # 4. The mask decoder, without the token of SAM's object score, which takes part in all attention

    def decode(self, seen: Features, image_ncgg: Tensor, dense: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the logits (n, 4, 4 g, 4 g) of masks 0 to 3 of n images, and their predicted IoUs (n, 4).

        Mask 0 is for prompts, ``dense`` (n, 1, 4 g, 4 g); the best of 1 to 3 is for a query.
        """
        decoder = self.sam.mask_decoder
        tokens, image = self._attend(image_ncgg, dense)
        upscaled = decoder.upscale_layer_norm(decoder.upscale_conv1(image) + seen.middle)
        upscaled = decoder.upscale_conv2(F.gelu(upscaled)) + seen.fine
        heads = enumerate(decoder.output_hypernetworks_mlps)
        kernels = torch.stack([head(tokens[:, FIRST_MASK_TOKEN + mask]) for mask, head in heads], 1)
        low = torch.einsum("nmc,nchw->nmhw", kernels, F.gelu(upscaled))
        return low, decoder.iou_prediction_head(tokens[:, IOU_TOKEN])

    def _attend(self, image_ncgg: Tensor, dense: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the decoder's tokens (n, 5 + 2, C) and image (n, C, g, g) after its transformer."""
        n = len(image_ncgg)
        decoder = self.sam.mask_decoder
        point = image_ncgg.new_zeros(n, 1, 1, 2)
        label = torch.full((n, 1, 1), NO_POINT, device=image_ncgg.device)
        sparse, prompt = self.sam.prompt_encoder(point, label, None, dense)
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([own.expand(n, 1, -1, -1), sparse], 2)
        place = self.sam.get_image_wide_positional_embeddings().expand_as(image_ncgg)
        tokens, image = decoder.transformer(tokens, image_ncgg + prompt, place, None)
        return tokens[:, 0], image[:, 0].mT.unflatten(2, self.grid)

    # 5. Training

    def forward(self, episode: Episode) -> Output:
        """Return the output for B queries; in training with losses, and all images pass the encoder in one call."""
        if not self.training:
            return super().forward(episode)
        images = torch.cat([episode.support, episode.query[:, None]], 1)
        count = images.shape[1]
        seen = self.features(images.flatten(0, 1))
        outputs = []
        for item, labels in enumerate(episode.support_label):
            of_item = [seen[item * count + k] for k in range(count)]
            shots = [self.remember(of_item[k], label[None]) for k, label in enumerate(labels) if (label == 1).any()]
            outputs.append(self.predict(of_item[-1], shots, episode, item))
        output = Output.join(outputs)
        rules = {"focal": focal, "dice": foreground_dice}
        losses = {name: mask_loss(output.logits, episode.query_label, rule) for name, rule in rules.items()}
        return replace(output, losses=losses, image_losses=(*losses,))


def _side_of(network: Any, name: str) -> int:
    """Return the side S of a network's square; ModelMismatch: it is not SAM 2.0's."""
    config = network.config
    newer = sorted(flag for flag in FLAGS if getattr(config, flag, True))
    side = config.image_size
    if newer:
        what = f"is SAM 2.1 or another video network ({newer[0]}: true in its config.json)"
        raise ModelMismatch(f"model.weights = {name}: {what}; take SAM 2.0, NET=facebook/sam2-hiera-large")
    if not isinstance(side, int) or side % STRIDE:
        raise ModelMismatch(
            f"model.weights = {name}: image_size = {side} in its config.json is no multiple of {STRIDE}"
        )
    return side


def _fit(network: Any, side: int) -> None:
    """Let all parts of a network be for images of one side, in place."""
    grid = side // 16
    encoder = network.prompt_encoder
    encoder.input_image_size = side
    encoder.image_embedding_size = (grid, grid)
    attention = network.memory_attention
    attention.config.memory_attention_rope_feat_sizes = [grid, grid]
    attention.position_ids = attention.precompute_positions(attention.config)


@contextmanager
def _dropout_in(module: nn.Module, is_on: bool) -> Iterator[None]:
    """Let a frozen module have its dropout inside the block."""
    module.train(is_on)
    try:
        yield
    finally:
        module.eval()
