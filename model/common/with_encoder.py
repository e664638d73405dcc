"""The image encoder of a method: its starting weights, an episode's way through it, and features kept for reuse."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model.common.fixed_shapes import Objects, computed_together, groups_of
from model.common.layers import projection
from model.common.ops import resize
from model.contract import FewShotModel, ModelSettings, ParamGroup, Task
from model.encoders.encoder import DILATIONS, ENCODER_STRIDE, LAST_STAGE, USUAL, Encoder, EncoderVariant
from model.encoders.features import Features
from model.encoders.layouts import describe, encoder_part, load_encoder
from model.encoders.registry import ANY_GRIDS, ONE_GRID, problem_of, spec_of
from model.encoders.resnet import ResNetEncoder
from model.encoders.settings import EncoderSettings, Learn, build_encoder
from model.encoders.vgg import VGGEncoder
from model.episode import Episode, EpisodeOfOriginalSizes

LOW, MID, HIGH = 2, 3, 4  # encoder stages whose features the methods read: f2, f3, f4

Shot = tuple[Tensor, Tensor]  # features (B, C, h, w) and labels (B, H, W)
GiveOf = Callable[[int, int, Tensor], None]  # receives (stage, number of the first image, their intermediate feature)


@dataclass
class WithEncoderSettings(ModelSettings):
    """Settings that every model with an encoder has."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)


class WithEncoder(FewShotModel):
    """A model with one image encoder, ``self.encoder``, that starts from weights of the known layouts.

    ``variant`` and ``last_stage`` say which; a subclass builds its other parts, then calls ``freeze``.
    Images whose features the episode brings along do not pass through the encoder again: supports with
    ``Episode.shots`` (all B * K, or K that all queries share), queries with ``Episode.cached_query``.
    """

    families: ClassVar[tuple[type[Encoder], ...]] = (ResNetEncoder, VGGEncoder)  # that it takes, beside timm's
    variant: ClassVar[EncoderVariant] = USUAL  # changes to the encoder
    last_stage = LAST_STAGE  # of the encoder
    grids: ClassVar[str] = ANY_GRIDS  # that it needs (``registry.py``)
    stride: ClassVar[int] = ENCODER_STRIDE  # output stride where none is set
    size_rule = (ENCODER_STRIDE, 1)
    encoder_learns: ClassVar[Learn | None] = None  # what learns of it where ``encoder.learn`` is null; None: nothing
    head_group: ClassVar[str] = "head"  # name of the parameters beside the encoder
    reads_intermediate: bool = False  # whether ``forward`` also reads the encoder's intermediate features
    settings: Any  # a WithEncoderSettings

    def __init__(self, settings: WithEncoderSettings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder, self.last_stage, self.variant)

    def support_input(self, support: Tensor, support_label: Tensor) -> Tensor:
        """Return the encoder's input for supports (..., 3, H, W); here their labels (..., H, W) have no influence."""
        return self.encoder.normalise(support)

    def encode_both(self, episode: Episode) -> tuple[Features, Features]:
        """Return the features of B queries and of their B * K supports."""
        batch, shots = episode.support.shape[:2]
        if episode.shots is not None:
            support = _joined(episode.shots)
            return self.encode_query(episode), support.repeat(batch * shots // len(support))
        supports = self.support_input(episode.support, episode.support_label).flatten(0, 1)
        if episode.cached_query is None:
            both = self.encode_images(torch.cat([self.encoder.normalise(episode.query), supports]))
            return both.rows(slice(None, batch)), both.rows(slice(batch, None))
        return self.encode_query(episode), self.encode_images(supports)

    def encode_query(self, episode: Episode, give: GiveOf | None = None) -> Features:
        """Return the features of the B queries alone; ``give`` gets the intermediate ones."""
        if episode.cached_query is not None:
            return _joined(episode.cached_query, give)
        return self.encode_images(self.encoder.normalise(episode.query), give)

    def takes_one_call(self, episode: Episode) -> bool:
        """Return whether queries and supports are encoded in one call: where none is cached, and not on a CPU."""
        cached = episode.cached_query is not None or episode.shots is not None
        return computed_together(episode.query) and not cached

    def encode_in_one_call(self, episode: Episode, give: GiveOf | None = None) -> tuple[Features, Features]:
        """Return the features of B queries and of K B supports, shot after shot; ``give`` gets both at once."""
        supports = self.support_input(episode.support, episode.support_label).transpose(0, 1).flatten(0, 1)
        both = self.encode_images(torch.cat([self.encoder.normalise(episode.query), supports]), give)
        batch = len(episode.query)
        return both.rows(slice(None, batch)), both.rows(slice(batch, None))

    def encode_in_groups(self, episode: Episode) -> tuple[Features, Iterator[tuple[slice, Features]]]:
        """Return the features of the queries, and those of one group of shots after the other, with the group.

        The supports of a group come shot after shot.
        """
        if self.takes_one_call(episode):
            with self.encoder_grad():
                query, support = self.encode_in_one_call(episode)
            return query, iter([(slice(0, episode.support.shape[1]), support)])

        def shots() -> Iterator[tuple[slice, Features]]:
            for group in self.shot_groups(episode):
                with self.encoder_grad():
                    support = self.encode_shots(episode, group)
                yield group, support

        with self.encoder_grad():
            return self.encode_query(episode), shots()

    def shot_groups(self, episode: Episode) -> list[slice]:
        """Return the shots that are encoded in one call: one on a CPU or where features are cached, else all."""
        shots = episode.support.shape[1]
        if episode.shots is not None:
            return [slice(k, k + 1) for k in range(shots)]
        return groups_of(shots, episode.query)

    def encode_shots(
        self, episode: Episode, group: slice, give: GiveOf | None = None, objects: Objects | None = None
    ) -> Features:
        """Return the features of a group of n shots, whose ``objects`` may be known: (n B, ...), shot after shot.

        ``give`` gets the intermediate ones: of n B images, or of one that all queries share.
        """
        batch, shots = episode.support.shape[:2]
        if episode.shots is not None:
            images_of_cache: list[Features] = []
            for part in episode.shots:
                images_of_cache += [part.rows(slice(i, i + 1)) for i in range(len(part))]  # views
            features = _joined(images_of_cache[group.start :: shots], give)
            return features.repeat(batch // len(features))
        images = episode.support[:, group].transpose(0, 1).flatten(0, 1)
        labels = episode.support_label[:, group].transpose(0, 1).flatten(0, 1)
        return self.encode_supports(images, labels, give, objects)

    def encode_supports(
        self, support_b3hw: Tensor, label_bhw: Tensor, give: GiveOf | None = None, objects: Objects | None = None
    ) -> Features:
        """Return the features of B supports; ``give`` gets the intermediate ones."""
        return self.encode_images(self.support_input(support_b3hw, label_bhw), give)

    def encode_each(self, episode: Episode, read: Callable[[Features], Tensor]) -> tuple[Tensor, list[Shot]]:
        """Return what ``read`` takes of the queries (B, C, h, w), and of every shot with its labels (B, H, W).

        Images of different sizes are encoded one by one.
        """
        if isinstance(episode, EpisodeOfOriginalSizes):
            query = self.encode_query(episode)
            supports = episode.shots
            if not supports:
                pairs = zip(episode.support, episode.support_label)
                supports = [self.encode_supports(image, label) for image, label in pairs]
            return read(query), list(zip(map(read, supports), episode.support_label))
        query, together = self.encode_both(episode)
        support = read(together).unflatten(0, episode.support.shape[:2])  # (B, K, C, h, w)
        return read(query), list(zip(support.unbind(1), episode.support_label.unbind(1)))

    def encode_images(self, image_b3hw: Tensor, give: GiveOf | None = None) -> Features:
        """Return the features of images; a CPU encodes them one by one, which takes less memory and no more time."""
        together = torch.is_grad_enabled() or computed_together(image_b3hw)
        parts = [image_b3hw] if together else image_b3hw.split(1)

        def encoded(first: int) -> Features:
            if give is None:
                return self.encoder(parts[first], self.reads_intermediate)
            return self.encoder(parts[first], lambda stage, maps: give(stage, first, maps))

        return Features.collect(map(encoded, range(len(parts))), len(parts))

    def projections(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the projections of ``mid_features`` of queries and of supports."""
        channels = self.encoder.channels[MID] + self.encoder.channels[LOW]
        return projection(channels), projection(channels)

    @property
    def learn(self) -> Learn | None:
        """The parts of the encoder that learn in the meta stage, as the settings name them or the method."""
        return self.settings.encoder.learn or self.encoder_learns

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the parts of the encoder that do not learn in the meta stage."""
        learn = self.learn
        yield from [self.encoder] if learn is None else self.encoder.frozen_beside(learn.parts, learn.depthwise)

    def param_groups(self) -> list[ParamGroup]:
        """Return all parts beside the encoder, with one learning rate, and the encoder's that learn."""
        groups = [ParamGroup(self.head_group, self.beside_encoder()), *self.encoder_group()]
        return [group for group in groups if group.params]

    def encoder_group(self) -> list[ParamGroup]:
        """Return the parameters of the encoder that learn, with their learning-rate factor; none: no group."""
        parameters = [p for p in self.encoder.parameters() if p.requires_grad]
        return [ParamGroup("encoder", parameters, self.learn.lr_factor)] if self.learn and parameters else []

    def beside_encoder(self) -> list[nn.Parameter]:
        """Return the learnable parameters of all parts but the encoder."""
        inside = {id(p) for p in self.encoder.parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in inside]

    def encoder_grad(self) -> AbstractContextManager[Any]:
        """Return the context of the encoder's pass: without a graph unless a part of the encoder learns."""
        # set_grad_enabled already acts when it is made
        return nullcontext() if self.encoder_has_gradients() else torch.no_grad()

    def encoder_has_gradients(self) -> bool:
        """Return whether a part of the encoder learns."""
        return any(p.requires_grad for p in self.encoder.parameters())

    @classmethod
    def encoder_problem(cls, encoder: EncoderSettings) -> tuple[str, str] | None:
        """Return (key, what is wrong and how to fix it) if the method does not take an encoder, or not this stride."""
        problem = problem_of(encoder.backbone, cls.families, cls.grids)
        if problem is None and cls.grids == ONE_GRID and encoder.output_stride == max(DILATIONS):
            return "output_stride", f"= {encoder.output_stride}: {cls.title} needs {ONE_GRID}; take 8 or 16"
        return (
            encoder.problem()
            if problem is None
            else ("backbone", f"= {encoder.backbone!r} does not go with {cls.title}: {problem}")
        )

    @classmethod
    def rule(cls, settings: Any) -> tuple[int, int]:
        """Return (step, rest) of the image sides: the encoder's rule where it has one, else the method's."""
        return settings.encoder.size_rule(cls.stride) or cls.size_rule

    @classmethod
    def takes_any_size(cls, settings: Any) -> bool:
        """Return whether method and encoder both take images of any height and width."""
        return cls.any_size and spec_of(settings.encoder.backbone).any_size

    @torch.no_grad()
    def cache_support(self, support: Tensor, support_label: Tensor) -> Features:
        """Return the features of K supports."""
        return self.encode_supports(support.flatten(0, 1), support_label.flatten(0, 1))

    @torch.no_grad()
    def cache_query(self, query: Tensor) -> Features:
        """Return the features of a query."""
        return self.encode_images(self.encoder.normalise(query))

    def load_encoder(self, state: dict[str, Tensor], partial: bool) -> list[str]:
        """Fill the encoder from an ImageNet file, or from the encoder within a checkpoint of ours."""
        return load_encoder(self.encoder, encoder_part(state), partial)

    def describe_weights(self, state: dict[str, Tensor]) -> str:
        """Return the encoder of a state dict in words."""
        return describe(state, self.settings.encoder.backbone)


def _joined(parts: Sequence[Features], give: GiveOf | None = None) -> Features:
    """Return the cached features of several images as those of one batch; ``give`` gets the intermediate ones."""
    if give is None:
        return Features.join(parts)
    for part, end in zip(parts, accumulate(map(len, parts))):
        for stage, maps in part.intermediate.items():
            for x in maps:
                give(stage, end - len(part), x)
    return Features.join([Features(part.stage, {}) for part in parts])


def in_one_call(shots: list[Shot]) -> list[Shot]:
    """Return shots of one size as one, shot after shot, where they are computed together; else as they are."""
    first, first_label = shots[0]
    is_one_size = all(x.shape == first.shape and label.shape == first_label.shape for x, label in shots)
    if len(shots) == 1 or not is_one_size or not computed_together(first):
        return shots
    features, labels = zip(*shots)
    return [(torch.cat(features), torch.cat(labels))]


def mid_features(maps: Any) -> Tensor:
    """Return [f3; f2] on f3's grid."""
    stage = maps.stage if isinstance(maps, Features) else maps
    f3 = stage[MID]
    return torch.cat([f3, resize(stage[LOW], f3.shape[-2:])], dim=1)


def low_features(maps: Any) -> Tensor:
    """Return f2 on f3's grid, as published also for Gram matrices; VGG's f2 is finer."""
    return resize(maps[LOW], maps[MID].shape[-2:])


def on_one_grid(features: Features) -> Features:
    """Return features whose f2 is on f3's grid, as published also for BAM's Gram matrices; VGG's f2 is finer."""
    features.stage[LOW] = resize(features.stage[LOW], features.stage[MID].shape[-2:])
    return features
