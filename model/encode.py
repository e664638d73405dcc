"""The only way from images to a method: how images pass the encoder.

A method says which maps it reads (``Wants``), makes a ``Shot`` of supports and predicts queries from their maps and K
shots. All else is decided here: images are normalised; supports are masked; they come before the queries, shot by shot
on a CPU, which takes less memory and no more time, and all in one call on a GPU; where its batch norms follow the
batches, queries come first, then shot by shot; and supports whose shots are there already do not pass it again.

Shape letters: B episodes, K shots, n supports, C channels, H W grid, S image side.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from model.contract import Task, competing
from model.encoders.encoder import Features
from model.encoders.needs import Needs
from model.episode import Episode, EpisodeOfOriginalSizes, Output, Shot
from model.mismatch import ModelMismatch
from model.parts.base_learner import BaseLearner
from model.parts.presence import presence_features, support_summary
from model.parts.with_encoder import HIGH, LOW, MID, WithEncoder
from model.tensors.layouts import with_gradient_in_layout
from model.tensors.mask import Mask, computed_together
from model.tensors.ops import resize

IMAGE = -1  # stands for the image itself among the stages


@dataclass(frozen=True)
class Wants:
    """The maps of the encoder that a method reads."""

    stages: tuple[int, ...] = (LOW, MID, HIGH)  # whose outputs it reads; the encoder ends with the deepest
    blocks: bool = False  # whether it also reads the maps inside the stages
    # Stage whose output, or ``IMAGE``, is masked in supports: the next stage sees the object alone.
    masked_after: int | None = None
    base_learner: bool = False  # whether it reads the map of its base learner, ``maps.base``


# Returns the kept features of images; takes the images, their mask where they are supports, and what encodes them.
KeptMaps = Callable[[Tensor, Mask | None, Callable[[Tensor, Mask | None], Features]], Features]


Change = Callable[[Tensor], Tensor]  # from images to images


class Maps:
    """The maps of n images: ``maps[stage]``, the output of a stage (n, C, h, w), and those of the blocks inside."""

    def __init__(
        self,
        stages: dict[int, Tensor],
        blocks: Iterable[tuple[int, Tensor]] = (),
        base_learner: BaseLearner | None = None,
        method: str = "this method",
    ):
        self._stages = stages
        self._blocks = blocks  # an iterator encodes the images as it goes, and adds to ``stages``
        self._method = method  # which reads them, for messages
        self._base_learner = base_learner
        self._base: Tensor | None = None
        self._is_past = False  # whether blocks came that nobody read
        self._encode_changed: Callable[[Change], Maps] | None = None

    @property
    def base(self) -> Tensor:
        """The map h5 of the base learner, (n, 512, h, w); computed once, for all classes.

        ModelMismatch: the method does not declare it in ``wants``.
        """
        if self._base is None:
            if self._base_learner is None:
                raise self._undeclared("maps.base", "base_learner=True")
            self._base = self._base_learner.hidden(self[HIGH])
        return self._base

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield each block's map (n, C, h, w) with its stage, as soon as it exists.

        They come once, before ``maps[stage]`` is asked for, and are not changed: a test keeps those of the last query.
        ModelMismatch: the method does not declare them in ``wants``.
        """
        assert not self._is_past, "read the blocks before the stages"
        if not isinstance(self._blocks, Iterator) and not self._blocks:
            raise self._undeclared("maps.blocks()", "blocks=True")
        yield from self._blocks

    def __getitem__(self, stage: int) -> Tensor:
        if isinstance(self._blocks, Iterator):
            for _ in self._blocks:
                self._is_past = True  # the rest of the encoder
        if stage not in self._stages:
            raise self._undeclared(f"maps[{stage}]", f"stages=(..., {stage})")
        x = self._stages[stage]
        return with_gradient_in_layout(x) if x.requires_grad else x

    def _undeclared(self, read: str, declared: str) -> ModelMismatch:
        """Return the error of a method that reads what it did not declare, so that it was not computed."""
        has = ", ".join(map(str, self._stages))
        return ModelMismatch(
            f"{self._method} reads {read}, and has stages {has}: declare it in wants: Wants({declared})"
        )

    def __len__(self) -> int:
        return len(next(iter(self._stages.values())))

    @property
    def nbytes(self) -> int:
        """The size of its tensors in bytes, of stages and the base learner."""
        of_base = [] if self._base_learner is None else [self.base]
        return sum(x.nbytes for x in (*self._stages.values(), *of_base))

    def of_changed(self, change: Change) -> "Maps":
        """Return the maps of the images as ``change`` makes them, normalised ones (n, 3, H, W) of normalised ones."""
        assert self._encode_changed is not None  # images of a training whose maps are kept have none
        return self._encode_changed(change)

    def rows(self, which: slice) -> "Maps":
        """Return the maps of some of the images, of stages alone."""
        part = Maps({stage: x[which] for stage, x in self._stages.items()}, (), self._base_learner, self._method)
        encode = self._encode_changed
        if encode is not None:
            part._encode_changed = lambda change: encode(lambda images: change(images[which]))
        return part

    @staticmethod
    def join(parts: "Sequence[Maps]") -> "Maps":
        """Return the maps of several images, each of which can be read again."""
        first = parts[0]
        if len(parts) == 1:
            return first
        stages = {}
        for stage in first._stages:
            stages[stage] = torch.cat([part._stages[stage] for part in parts])
        blocks = []
        for of_parts in zip(*(part._blocks for part in parts), strict=True):
            stage, _ = of_parts[0]
            blocks.append((stage, torch.cat([x for _, x in of_parts])))
        out = Maps(stages, blocks, first._base_learner, first._method)
        if first._base_learner is not None:
            out._base = torch.cat([part.base for part in parts])
        out._encode_changed = lambda change: Maps.join([part.of_changed(change) for part in parts])
        return out


class Method(WithEncoder):
    """A method as its paper tells it: ``support`` and ``predict``."""

    wants: Wants = Wants()
    presence_of_maps: ClassVar[bool] = True  # False: the presence score has the method's own numbers, or none
    kept_maps: KeptMaps | None = None  # of a training whose images come again

    def __init__(self, settings: Any, task: Task):
        self.last_stage = max(self.wants.stages)
        super().__init__(settings, task)

    @classmethod
    def needs(cls, settings: Any) -> Needs:
        """Return what the method needs of an encoder, with these settings: what it ``wants``."""
        stages = cls.wants.stages
        inside = [stage for stage in cls.variant.intermediate if cls.wants.blocks and stage <= max(stages)]
        return Needs(stages, tuple(inside), cls.grids, cls.variant)

    @property
    def supports_enter_as_queries(self) -> bool:
        """Whether the maps of an image are the same for a query and for a support."""
        return not self.wants.blocks and self.wants.masked_after is None

    def support(self, maps: Maps, mask: Mask) -> Any:
        """Return the ``Shot`` of n supports from their maps and masks; in training with what the losses read."""
        raise NotImplementedError

    def predict(self, maps: Maps, shots: Sequence[Any], episode: Episode) -> Output:
        """Return the output for B queries from their maps and K shots, of B supports each; in training with losses."""
        raise NotImplementedError

    def predict_classes(self, maps: Maps, shots: Sequence[Sequence[Any]], episodes: Sequence[Episode]) -> Output:
        """Return the output for n classes that compete, from the maps of their queries and the K shots of each.

        This is the rule for methods of one class: see ``FewShotModel.forward_classes``.
        """
        of_classes = zip(shots, episodes, strict=True)
        return competing([self.predict(maps, shots_of_class, episode) for shots_of_class, episode in of_classes])

    def forward(self, episode: Episode) -> Output:
        """Return the output for B episodes of one class."""
        if self._in_one_call(episode):
            maps, shots = self._encoded_together(episode)
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
        maps = self._maps_of_queries(episodes[0], read_again=True)
        return self._with_presence(self.predict_classes(maps, shots, episodes), maps, shots)

    @torch.no_grad()
    def encode(
        self, image_n3hw: Tensor, label_nhw: Tensor | None = None, maps: "Sequence[Maps] | None" = None
    ) -> list[Any]:
        """Return what may be kept of each of n images, one by one on a CPU.

        It is the shot of a support, for ``Episode.shots``, or without labels the maps of a query, for ``Episode.maps``.
        ``maps`` are those of the supports as queries, where the method reads the same of both.
        """
        if label_nhw is None:
            return [self._maps(image, read_again=True) for image in image_n3hw.split(1)]
        if maps is not None:
            supports = zip(maps, label_nhw.split(1), strict=True)
            return [self._shot_of_maps(own, Mask(label)) for own, label in supports]
        size = len(image_n3hw) if computed_together(image_n3hw) else 1
        shots: list[Shot] = []
        for images, labels in zip(image_n3hw.split(size), label_nhw.split(size), strict=True):
            shots += split(self._shot_of_images(images, Mask(labels)), 1)
        if size > 1:  # each with memory of its own
            return [shot.each(torch.clone) for shot in shots]
        return shots

    def _with_presence(self, output: Output, maps: Maps, shots: Sequence[Sequence[Shot]]) -> Output:
        """Return an output for n classes with the numbers of their presence scores, from the K shots of each."""
        if self.training or not self.presence_of_maps:
            return output
        features = []
        for shots_of_class in shots:
            summary_bkc = torch.stack([shot.presence for shot in shots_of_class if shot.presence is not None], dim=1)
            features.append(presence_features(maps[self.last_stage], summary_bkc))
        return replace(output, presence_features=torch.cat(features, dim=1))

    def _maps_of_queries(self, episode: Episode, read_again: bool = False) -> Maps:
        """Return the maps of the queries: those that the episode brings along, else anew."""
        return Maps.join(episode.maps) if episode.maps else self._maps(episode.query, read_again=read_again)

    def _shots_of(self, episode: Episode) -> list[Shot]:
        """Return the K shots of B episodes: those that the episode brings along, else of its supports."""
        batch = len(episode.query)
        supports = _supports(episode)
        if episode.shots is not None:
            return given_shots(episode.shots, len(supports), batch)
        is_one_size = not isinstance(episode, EpisodeOfOriginalSizes)
        if is_one_size and computed_together(episode.query) and not self.encoder.follows_batch:
            images, labels = (torch.cat(parts) for parts in zip(*supports, strict=True))
            return split(self._shot_of_images(images, Mask(labels)), batch)
        return [self._shot_of_images(image, Mask(label)) for image, label in supports]

    def _in_one_call(self, episode: Episode) -> bool:
        """Return whether queries and supports pass the encoder in one call."""
        is_kept = episode.shots is not None or episode.maps is not None
        if is_kept or isinstance(episode, EpisodeOfOriginalSizes):
            return False
        return self.supports_enter_as_queries and computed_together(episode.query)

    def _encoded_together(self, episode: Episode) -> tuple[Maps, list[Shot]]:
        """Return the maps of the queries and the K shots, of one call of the encoder."""
        batch = len(episode.query)
        supports = _supports(episode)
        images, labels = (torch.cat(parts) for parts in zip(*supports, strict=True))
        both = self._maps(torch.cat([episode.query, images]))
        shot = self._shot_of_maps(both.rows(slice(batch, None)), Mask(labels))
        return both.rows(slice(batch)), split(shot, batch)

    def _maps(self, image_n3hw: Tensor, mask: Mask | None = None, read_again: bool = False) -> Maps:
        """Return the maps of queries, or of supports with their mask; ``read_again``: blocks, too, several times."""
        base_learner = getattr(self, "base_learner", None) if self.wants.base_learner else None
        if self.kept_maps is not None and self.training:
            kept = self.kept_maps(image_n3hw, mask, self._features)
            blocks_kept = [(stage, x) for stage, maps in kept.intermediate.items() for x in maps]
            return Maps(kept.stage, blocks_kept, base_learner, self.title)
        images = self.encoder.normalise(image_n3hw)
        maps = Maps(*self._stages_and_blocks(images, mask, read_again), base_learner, self.title)
        maps._encode_changed = lambda change: Maps(*self._stages_and_blocks(change(images)), method=self.title)
        return maps

    def _stages_and_blocks(
        self, image_n3hw: Tensor, mask: Mask | None = None, read_again: bool = False
    ) -> tuple[dict[int, Tensor], Iterable[tuple[int, Tensor]]]:
        """Return what ``Maps`` has of normalised images."""
        if not self.wants.blocks:
            every = self._encoded(image_n3hw, mask).stage
            return {stage: every[stage] for stage in self.wants.stages}, ()
        stages: dict[int, Tensor] = {}
        blocks: Iterable[tuple[int, Tensor]] = self.encoder.steps(stages, image_n3hw, intermediate=True)
        return stages, [*blocks] if read_again else blocks

    def encode_images(self, image_n3hw: Tensor) -> Features:
        """Return the features of images; a CPU encodes them one by one, which takes less memory and no more time."""
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in self.encoder.parameters())
        as_batch = learns or self.encoder.follows_batch or computed_together(image_n3hw)
        if len(image_n3hw) == 1 or as_batch:
            return self.encoder(image_n3hw, self.wants.blocks)
        return Features.join([self.encoder(image, self.wants.blocks) for image in image_n3hw.split(1)])

    def _features(self, image_n3hw: Tensor, mask: Mask | None) -> Features:
        """Return all maps of queries, or of supports with their mask, at once."""
        return self._encoded(self.encoder.normalise(image_n3hw), mask)

    def _encoded(self, images: Tensor, mask: Mask | None) -> Features:
        """Return all maps of normalised images."""
        stage = self.wants.masked_after
        if mask is None or stage is None:
            return self.encode_images(images)
        if stage == IMAGE:
            return self.encode_images(images * mask.foreground)
        features = self.encoder.forward_masked(images, mask, stage)
        last = features.stage[stage + 1]
        is_object = mask.on(last.shape[-2:]) > 0
        features.stage[stage + 1] = last * is_object  # beside it, the values depend on the other supports
        return features

    def _shot_of_images(self, image_n3hw: Tensor, mask: Mask) -> Shot:
        """Return the shot of supports from their images."""
        return self._shot_of_maps(self._maps(image_n3hw, mask), mask)

    def _shot_of_maps(self, maps: Maps, mask: Mask) -> Shot:
        """Return the shot of supports by their maps, with the summary of the objects for the presence score."""
        shot = self.support(maps, mask)
        if self.presence_of_maps and not self.training:
            shot.presence = support_summary(maps[self.last_stage], mask.foreground)
        return shot


def _supports(episode: Episode) -> list[tuple[Tensor, Tensor]]:
    """Return images (B, 3, H, W) and labels (B, H, W) of the K shots."""
    if isinstance(episode, EpisodeOfOriginalSizes):
        return [*zip(episode.support, episode.support_label, strict=True)]
    return [*zip(episode.support.unbind(1), episode.support_label.unbind(1), strict=True)]


def mid_features(maps: Maps) -> Tensor:
    """Return [f3; f2] on f3's grid."""
    return torch.cat([maps[MID], low_features(maps)], dim=1)


def low_features(maps: Maps) -> Tensor:
    """Return f2 on f3's grid, as published also for Gram matrices; VGG's f2 is finer."""
    grid = maps[MID].shape[-2:]
    return resize(maps[LOW], grid)


AnyShot = TypeVar("AnyShot", bound=Shot)


def joined_on_gpu(shots: Sequence[AnyShot], episode: Episode) -> Sequence[AnyShot]:
    """Return K shots of B supports each: on a CPU as they are, on a GPU as one of K B supports, shot after shot."""
    if computed_together(episode.query):
        return [type(shots[0]).join(shots)]
    return shots


def split(shot: Shot, count: int) -> list[Shot]:
    """Return the shots of ``count`` supports each, one after the other."""
    groups = [slice(first, first + count) for first in range(0, len(shot), count)]
    return [shot.part(group) for group in groups]


def given_shots(kept: Sequence[Shot], shots: int, batch: int) -> list[Shot]:
    """Return the K shots of B episodes from those of single supports: B * K, or K that all episodes share."""
    if len(kept) == shots:
        repeated = [shot.each(lambda x: x.expand(batch, *x.shape[1:])) for shot in kept]
        for shot, original in zip(repeated, kept, strict=True):
            shot.original = original
        return repeated
    return [Shot.join(kept[k::shots]) for k in range(shots)]
