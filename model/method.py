"""Base class of methods with an encoder: a subclass writes ``support`` and ``predict``; this file runs the encoder.

A subclass declares which maps it reads (``Wants``), makes a ``Shot`` of supports, and predicts queries from their maps
and K shots. How the images pass the encoder is decided here:

- Images are normalised, and supports are masked.
- On a CPU supports come before the queries, shot by shot, which takes less memory and no more time. On a GPU all pass
  the encoder in one call. If the encoder's batch norms follow the batches, queries come first, then shot by shot.
- Supports whose shots are known do not pass the encoder again.

Shape letters: B episodes, K shots, n supports, C channels, H W grid, S image side.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from model.checked import refuse
from model.contract import FewShotMethod, ParamGroup, Task, Trainable, competing, learnable
from model.encoders.encoder import Features
from model.encoders.learning import frozen_beside
from model.encoders.registry import spec_of
from model.encoders.settings import EncoderSettings, Learn, build_encoder
from model.encoders.variant import ENCODER_STRIDE
from model.episode import Batch, Episode, EpisodeOfOriginalSizes, Output, Shot, Supports
from model.maps import Maps as Maps  # for methods, which import what they read of an encoder from here
from model.maps import Passing
from model.maps import low_features as low_features
from model.maps import mid_features as mid_features
from model.parts.base_learner import BaseLearner
from model.parts.base_stage import BaseStage
from model.parts.presence import presence_features, support_summary
from model.tensors.batching import computed_together, in_groups
from model.tensors.mask import Mask
from model.tensors.ops import by_shot, joined
from model.wants import HIGH as HIGH
from model.wants import IMAGE as IMAGE
from model.wants import LOW as LOW
from model.wants import MID as MID
from model.wants import ONE_GRID as ONE_GRID
from model.wants import PYRAMID as PYRAMID
from model.wants import Wants as Wants
from model.wants import problem_of, stride_problem


class Method(FewShotMethod, ABC):
    """A method as its paper tells it, over one image encoder: ``support`` and ``predict``.

    A subclass builds its other parts. Where it ``wants`` a base learner, encoder and base learner come from a base
    stage and are frozen.
    """

    wants: Wants = Wants()
    size_rule = (ENCODER_STRIDE, 1)
    # The encoder's parts that learn if ``encoder.learn`` is null; None: none
    encoder_learns: ClassVar[Learn | None] = None
    presence_of_maps: ClassVar[bool] = True  # False: the method computes its own presence features, or none
    rest_group: ClassVar[str] = "head"  # the name of the group of parameters that are in no other
    settings: Any  # a WithEncoderSettings
    # Set by a training with fixed views (``meta_stage.views``): keep(images, mask, encode) returns stored features, or
    # calls encode(images, mask) and stores them. None: every image is encoded anew
    feature_cache: Callable[[Tensor, Mask | None, Callable[[Tensor, Mask | None], Features]], Features] | None = None

    def __init__(self, settings: Any, task: Task):
        super().__init__(settings, task)
        self.wants = self.wants_with(settings)
        self.last_stage = max(self.wants.stages)
        self.encoder = build_encoder(settings.encoder, self.last_stage, self.wants.variant)
        if self.wants.base_learner:
            self.base_learner = BaseLearner(self.encoder.channels[HIGH], task.base_classes)

    @abstractmethod
    def support(self, maps: Maps, mask: Mask) -> Any:
        """Return the ``Shot`` of n supports from their maps and masks; in training with what the losses read."""

    @abstractmethod
    def predict(self, maps: Maps, shots: Sequence[Any], episode: Episode) -> Output:
        """Return the output for B queries from their maps and K shots, of B supports each; in training with losses."""

    def predict_classes(self, maps: Maps, shots: Sequence[Sequence[Any]], episodes: Sequence[Episode]) -> Output:
        """Return the output for n classes that compete, from the maps of their queries and the K shots of each.

        This is the rule for methods of one class: see ``FewShotMethod.forward_classes``.
        """
        of_classes = zip(shots, episodes, strict=True)
        return competing([self.predict(maps, shots_of_class, episode) for shots_of_class, episode in of_classes])

    def forward(self, episode: Episode) -> Output:
        """Return the output for B episodes of one class."""
        if self._fits_one_call(episode):
            maps, shots = self._query_and_supports_in_one_call(episode)
        elif self.encoder.follows_batch:  # in this order its running statistics are those of published trainings
            maps = self._maps_of_queries(episode)
            shots = self._shots_of(episode)
        else:
            shots = self._shots_of(episode)
            maps = self._maps_of_queries(episode)
        return self._with_presence(self.predict(maps, shots, episode), maps, [shots])

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for n classes, an episode each with the same B queries, which are encoded once."""
        if len(episodes) == 1:
            return self(episodes[0])
        shots = [self._shots_of(episode) for episode in episodes]
        maps = self._maps_of_queries(episodes[0], blocks_again=True)
        return self._with_presence(self.predict_classes(maps, shots, episodes), maps, shots)

    # The passes of the encoder.

    @torch.no_grad()
    def encode_supports(
        self,
        image_n3hw: Tensor,
        label_nhw: Tensor,
        maps: Sequence[Maps] | None = None,
        modalities: Mapping[str, Tensor] | None = None,
    ) -> list[Any]:
        """Return the shot of each of n supports, for ``Episode.shots``; a CPU encodes one after the other.

        ``maps`` are the supports' maps from ``encode_queries``, with ``supports_enter_as_queries``.
        """
        supports = Supports(image_n3hw, label_nhw, {**(modalities or {})})
        if maps is not None:
            each = zip(maps, supports.split(1), strict=True)
            return [self._finish_shot(own, Mask(support.label, support.modalities)) for own, support in each]
        size = len(image_n3hw) if computed_together(image_n3hw) else 1
        shots: list[Shot] = []
        for together in supports.split(size):
            shots += self._make_shot(together).split(1)
        return [shot.each(torch.clone) for shot in shots] if size > 1 else shots  # each with memory of its own

    @torch.no_grad()
    def encode_queries(self, image_n3hw: Tensor) -> list[Any]:
        """Return the maps of each of n queries, for ``Episode.maps``; they are encoded one after the other."""
        return [self._read(image, blocks_again=True) for image in image_n3hw.split(1)]

    @property
    def supports_enter_as_queries(self) -> bool:
        """Whether the maps of an image are the same for a query and for a support."""
        return not self.wants.blocks and self.wants.masked_after is None

    def _maps_of_queries(self, episode: Episode, blocks_again: bool = False) -> Maps:
        """Return the maps of the queries: those that the episode brings along, else anew."""
        return Maps.join(episode.maps) if episode.maps else self._read(episode.query, blocks_again=blocks_again)

    def _shots_of(self, episode: Episode) -> list[Shot]:
        """Return the K shots of B episodes: those that the episode brings along, else of its supports."""
        batch = len(episode.query)
        supports = episode.supports
        if episode.shots is not None:
            return given_shots(episode.shots, len(supports), batch)
        is_one_size = not isinstance(episode, EpisodeOfOriginalSizes)
        if is_one_size and computed_together(episode.query) and not self.encoder.follows_batch:
            return self._make_shot(Supports.join(supports)).split(batch)
        return [self._make_shot(shot) for shot in supports]

    def _fits_one_call(self, episode: Episode) -> bool:
        """Return whether queries and supports pass the encoder in one call."""
        is_kept = episode.shots is not None or episode.maps is not None
        if is_kept or isinstance(episode, EpisodeOfOriginalSizes):
            return False
        return self.supports_enter_as_queries and computed_together(episode.query)

    def _query_and_supports_in_one_call(self, episode: Episode) -> tuple[Maps, list[Shot]]:
        """Return the maps of the queries and the K shots, of one call of the encoder."""
        batch = len(episode.query)
        supports = Supports.join(episode.supports)
        both = self._read(torch.cat([episode.query, supports.image]))
        shot = self._finish_shot(both.rows(slice(batch, None)), Mask(supports.label, supports.modalities))
        return both.rows(slice(batch)), shot.split(batch)

    def _make_shot(self, supports: Supports) -> Shot:
        """Return the shot of supports from their images."""
        mask = Mask(supports.label, supports.modalities)
        maps = self._read(supports.image, mask if self.wants.masked_after is not None else None)
        return self._finish_shot(maps, mask)

    def _finish_shot(self, maps: Maps, mask: Mask) -> Shot:
        """Return the shot of supports from their maps, with the summary of the objects for the presence score."""
        shot = self.support(maps, mask)
        if not isinstance(shot, Shot):
            refuse(self, f"support returned a {type(shot).__name__}; return a Shot, a @dataclass of tensors")
        if self.presence_of_maps and not self.training:
            shot.presence = support_summary(maps[self.last_stage], mask.foreground)
        return shot

    def _with_presence(self, output: Output, maps: Maps, shots: Sequence[Sequence[Shot]]) -> Output:
        """Return an output for n classes with the numbers of their presence scores, from the K shots of each."""
        if self.training or not self.presence_of_maps:
            return output
        features = []
        for shots_of_class in shots:
            summary_bkc = torch.stack([shot.presence for shot in shots_of_class if shot.presence is not None], dim=1)
            features.append(presence_features(maps[self.last_stage], summary_bkc))
        return replace(output, presence_features=torch.cat(features, dim=1))

    def _read(self, image_n3hw: Tensor, mask: Mask | None = None, blocks_again: bool = False) -> Maps:
        """Return the maps of queries, or of supports with their mask.

        ``blocks_again``: block maps are stored, so that they can be read several times.
        """
        if self.feature_cache is not None and self.training:
            kept = self.feature_cache(
                image_n3hw, mask, lambda images, mask: self._encode_masked(self.encoder.normalise(images), mask)
            )
            blocks = [(stage, x) for stage, maps in kept.intermediate.items() for x in maps]
            return Maps(kept.stage, blocks, base_learner=self._read_base_learner, pixels=image_n3hw)
        return self.read_normalised(self.encoder.normalise(image_n3hw), mask, blocks_again, pixels=image_n3hw)

    def read_normalised(
        self,
        normalised_n3hw: Tensor,
        mask: Mask | None = None,
        blocks_again: bool = False,
        pixels: Tensor | None = None,
    ) -> Maps:
        """Return the maps of images that are already normalised, such as changed ``maps.images``; see ``_read``."""
        if not self.wants.blocks:
            every = self._encode_masked(normalised_n3hw, mask).stage
            stages = {stage: every[stage] for stage in self.wants.stages}
            return Maps(stages, (), normalised_n3hw, self._read_base_learner, pixels)
        stages = {}
        blocks = Passing(self.encoder.steps(stages, normalised_n3hw, intermediate=True))
        return Maps(stages, [*blocks] if blocks_again else blocks, normalised_n3hw, self._read_base_learner, pixels)

    @property
    def _read_base_learner(self) -> Any:
        """The base learner whose map is read; None: none is."""
        return self.base_learner if self.wants.base_learner else None

    def _encode_masked(self, normalised_n3hw: Tensor, mask: Mask | None) -> Features:
        """Return the features of queries (mask None), or of supports, masked after ``wants.masked_after``."""
        stage = self.wants.masked_after
        if mask is None or stage is None:
            return self._encode(normalised_n3hw)
        if stage == IMAGE:
            return self._encode(normalised_n3hw * mask.foreground)
        features = self.encoder.forward_masked(normalised_n3hw, mask, stage)
        last = features.stage[stage + 1]
        is_object = mask.on(last.shape[-2:]) > 0
        features.stage[stage + 1] = last * is_object  # beside it, the values depend on the other supports
        return features

    def _encode(self, normalised_n3hw: Tensor) -> Features:
        """Return the features of images; a CPU encodes them one by one, which takes less memory and no more time."""
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in self.encoder.parameters())
        as_batch = learns or self.encoder.follows_batch or computed_together(normalised_n3hw)
        if len(normalised_n3hw) == 1 or as_batch:
            return self.encoder(normalised_n3hw, self.wants.blocks)
        return Features.join([self.encoder(image, self.wants.blocks) for image in normalised_n3hw.split(1)])

    # Declarations: which encoder fits, what learns, the base stage.

    @classmethod
    def wants_with(cls, settings: Any) -> Wants:
        """Return what the method wants of its encoder with these settings."""
        return cls.wants

    @classmethod
    def encoder_problem(cls, settings: Any) -> tuple[str, str] | None:
        """See :class:`FewShotMethod`."""
        encoder: EncoderSettings = settings.encoder
        wants = cls.wants_with(settings)
        problem = problem_of(encoder.backbone, wants, cls.title)
        if problem is not None:
            return "backbone", f"= {encoder.backbone!r}: {problem}"
        problem = stride_problem(encoder.output_stride, wants, wants.spec(encoder.backbone))
        return None if problem is None else ("output_stride", problem)

    @classmethod
    def rule(cls, settings: Any) -> tuple[int, int]:
        """Return (step, rest) of the image sides: the encoder's rule where it has one, else the method's."""
        return settings.encoder.size_rule(cls.wants_with(settings).variant.output_stride) or cls.size_rule

    @classmethod
    def takes_any_size(cls, settings: Any) -> bool:
        """Return whether method and encoder both take images of any height and width."""
        return cls.any_size and spec_of(settings.encoder.backbone).any_size

    @classmethod
    def encoder_changes(cls, settings: Any) -> bool:
        """See :class:`FewShotMethod`."""
        learn = settings.encoder.learn or cls.encoder_learns
        return bool(learn and learn.parts)

    @property
    def learn(self) -> Learn | None:
        """The encoder's parts that learn in the meta stage, by the settings or else the method."""
        return self.settings.encoder.learn or self.encoder_learns

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the parts of the encoder that do not learn in the meta stage, and the base learner."""
        learn = self.learn
        yield from [self.encoder] if learn is None else frozen_beside(self.encoder, learn.parts, learn.depthwise)
        if self.wants.base_learner:
            yield self.base_learner

    def own_groups(self) -> list[ParamGroup]:
        """Return the groups of parts that learn with a rate or an optimiser of their own; by default none."""
        return []

    def param_groups(self) -> list[ParamGroup]:
        """Return the parts that learn: all that no other group has, ``own_groups``, and the encoder's."""
        groups = self.own_groups()
        if self.learn is not None:
            groups.append(ParamGroup("encoder", learnable(self.encoder), self.learn.lr_factor))
        apart = {id(p) for group in groups for p in group.params}
        rest = ParamGroup(self.rest_group, [p for p in learnable(self) if id(p) not in apart])
        return [group for group in (rest, *groups) if group.params]

    @classmethod
    def has_base_stage(cls) -> bool:
        """Return whether a base-learner stage precedes the meta stage."""
        return cls.wants.base_learner

    def base_stage(self) -> Trainable:
        """Return encoder and base learner as an ordinary segmentation network, which shares their tensors."""
        base = self.settings.base
        return BaseStage(self.encoder, self.base_learner, base.frozen_stages, base.head_lr_factor)


AnyBatch = TypeVar("AnyBatch", bound=Batch)


def of_each_shot(compute: Callable[[AnyBatch], Tensor], shots: Sequence[AnyBatch], batch: int) -> Tensor:
    """Return what ``compute`` returns for each of K shots of B supports by itself, (B, K, ...).

    It gets n supports and returns (n, ...): those of one shot on a CPU, on a GPU those of all shots, shot after shot.
    """
    groups = in_groups(shots, join=type(shots[0]).join, beside=shots[0].tensors()[0])
    results = [compute(shot) for shot in groups]
    return by_shot(joined(results), batch)


def given_shots(kept: Sequence[Shot], count: int, batch: int) -> list[Shot]:
    """Return the K shots of B episodes from those of single supports: B * K, or K that all episodes share."""
    if len(kept) == count:
        repeated = [shot.each(lambda x: x.expand(batch, *x.shape[1:])) for shot in kept]
        for shot, original in zip(repeated, kept, strict=True):
            shot.original = original
        return repeated
    return [Shot.join(kept[k::count]) for k in range(count)]
