"""HSNet: correlate query and support at many depths, and squeeze the 4D correlations to a mask.

Read ``HSNet.forward`` first; ``correlation.py``, ``squeeze.py``, ``decoder.py`` and ``voting.py`` are its steps.
Source: Min, Kang and Cho, Hypercorrelation Squeeze for Few-Shot Segmentation, ICCV 2021 (arXiv 2104.01538).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from model.common.likeness import likeness, seen_object
from model.common.loss import mask_loss
from model.common.ops import foreground_mask
from model.common.with_encoder import HIGH, LOW, MID, WithEncoder
from model.contract import ModelSettings, Task
from model.encoders.encoder import Encoder, EncoderVariant
from model.encoders.features import Features
from model.encoders.resnet import ResNetEncoder
from model.encoders.settings import BareEncoderSettings, build_encoder, encoder_of
from model.encoders.vgg import VGGEncoder
from model.encoders.weights import from_torchvision
from model.episode import Episode, Output
from model.hsnet.correlation import unit
from model.hsnet.decoder import Decoder
from model.hsnet.published import LAYOUT
from model.hsnet.squeeze import STRIDES, HypercorrelationSqueeze
from model.hsnet.voting import vote
from model.registry import register

VGG = "vgg16"  # in configs and, without batch norm, in torchvision
ENCODER = EncoderVariant(dilation={})  # torchvision's ResNet without dilation
VGG_STRIDES = {LOW: 8, MID: 16, HIGH: 32}  # of its levels; pools round down
MAX_SIDE = 1024  # pixels up to which a legal image side is searched for


@dataclass
class EncoderSettings(BareEncoderSettings):
    """The encoder: a ResNet with a plain stem, VGG-16 without batch norm, or a pyramid of timm."""

    default_stride: ClassVar[int] = 32
    backbone: str = encoder_of(ResNetEncoder, VGGEncoder, pyramid=True)

    def build(self) -> Encoder:
        """Return the encoder with random weights."""
        return VGGEncoder(batch_norm=False) if self.backbone == VGG else build_encoder(self, variant=ENCODER)


@dataclass
class HSNetSettings(ModelSettings):
    """HSNet's own settings; ``config/model/hsnet.yaml`` explains them."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if VGG's levels squeeze to different grids; a ResNet's never do."""
        if self.encoder.backbone != VGG or _vgg_takes(size):
            return None
        legal = [side for side in range(MAX_SIDE) if _vgg_takes(side)]
        nearest = sorted(sorted(legal, key=lambda side: abs(side - size))[:2])
        what = f"squeezes its three levels to different grids at data.size {size}"
        return "encoder", f"= {VGG} {what}; nearest sizes: {', '.join(map(str, nearest))}"


def _vgg_takes(size: int) -> bool:
    """Return whether the supports of all of VGG's levels are squeezed to the same side, at least 1."""
    sides = set()
    for level, stride in VGG_STRIDES.items():
        side = size // stride
        for step in STRIDES[level]:
            side = -(-side // step)
        sides.add(side)
    return len(sides) == 1 and 0 not in sides


@register("hsnet")
class HSNet(WithEncoder):
    """Hypercorrelation squeeze. Weights serve any number of shots: each shot predicts alone, and they vote."""

    Settings = HSNetSettings
    title = "HSNet"
    published = LAYOUT
    reads_intermediate = True
    shots_share_weights = True
    settings: HSNetSettings

    def __init__(self, settings: HSNetSettings, task: Task):
        super().__init__(settings, task)
        self.encoder = settings.encoder.build()
        self.squeeze = HypercorrelationSqueeze(self.encoder.intermediate_counts)
        self.decoder = Decoder()
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, S, S) and in training the cross-entropy ``main`` of every shot's own logits.

        With K > 1 the logits express the vote (``voting.py``) and the map ``votes`` shows its share of the K shots.
        """
        shots = episode.support.shape[1]
        mask = foreground_mask(episode.support_label)  # M_k, (B, K, 1, S, S)
        with self.encoder_grad():
            query = {level: [unit(x) for x in maps] for level, maps in _intermediate(self.encode_query(episode))}

        pairs = [self._one_shot(episode, k, query, mask[:, k]) for k in range(shots)]
        each, objects = zip(*pairs)  # K of (B, 2, S, S) and of (B, C + 3)
        logits, maps = each[0], {}
        if shots > 1:
            logits, votes = vote(torch.stack(each, dim=1))
            maps["votes"] = votes / shots
        output = Output(logits, maps=maps)
        if self.training:  # pixels to ignore count as background in the target, as in the supports
            target = (episode.query_label == 1).repeat(shots, 1, 1)
            output.losses = {"main": mask_loss(torch.cat(each), target)}
        else:
            output.evidence = likeness(query[HIGH][-1], torch.stack(objects, dim=1))
        return output

    def _one_shot(
        self, episode: Episode, k: int, query: dict[int, list[Tensor]], mask_b1ss: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the logits by one support, (B, 2, S, S) float32, and its object, (B, C + 3).

        One shot is encoded at a time: the encoder's features of K shots take the memory of one.
        """
        with self.encoder_grad():
            support = dict(_intermediate(self.encode_shot(episode, k)))
            object_bc = seen_object(support[HIGH][-1], mask_b1ss)
        return self.decoder(self.squeeze(query, support, mask_b1ss), episode.query.shape[-2:]).float(), object_bc

    # --- for the engine ----------------------------------------------------------------------------------------------

    def download_encoder(self, name: str) -> dict[str, Tensor]:
        """Return torchvision's ImageNet weights of the encoder."""
        plain = self.settings.encoder.backbone == VGG
        return from_torchvision(VGG) if plain else super().download_encoder(name)


def _intermediate(features: Features) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield level -> intermediate features; the outputs of the stages are released."""
    features.stage.clear()
    while features.intermediate:
        yield features.intermediate.popitem()
