"""The maps that a method reads of images: outputs of the encoder's stages, and those of the blocks inside them.

Shape letters: n images, C channels, h w grid, H W image.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from model.encoders.encoder import Encoder
from model.parts.base_learner import BaseLearner
from model.tensors.memory_format import with_gradient_in_own_format
from model.tensors.ops import resize
from model.wants import HIGH, LOW, MID

Block = tuple[int, Tensor]  # stage, and the map (n, C, h, w) of a block inside it


class Passing:
    """The block maps of images that pass the encoder: each is yielded once, as soon as it exists, and not stored."""

    def __init__(self, encoder_steps: Iterator[Block]):
        self._coming = encoder_steps
        self._waiting = deque[Block]()  # maps that ``finish`` computed before they were asked for

    def __iter__(self) -> "Passing":
        return self

    def __next__(self) -> Block:
        return self._waiting.popleft() if self._waiting else next(self._coming)

    def finish(self) -> None:
        """Let the images pass the rest of the encoder."""
        self._waiting.extend(self._coming)


class Maps:
    """The maps of n images: ``maps[stage]``, the output of a stage (n, C, h, w), and those of the blocks inside."""

    def __init__(
        self,
        stages: dict[int, Tensor],
        blocks: Sequence[Block] | Passing = (),
        images: Tensor | None = None,
        base_learner: BaseLearner | None = None,
        pixels: Tensor | None = None,
    ):
        self._stages = stages  # of ``Passing`` blocks those that the images have passed so far
        self._blocks = blocks
        self.images: Any = images  # normalised, (n, 3, H, W); None where they are of a feature cache
        self._base_learner = base_learner
        self._pixels: Any = pixels  # of the images, RGB 0..255

    def images_for(self, encoder: Encoder) -> Tensor:
        """Return the images as another encoder of the method takes them, normalised by its own mean, (n, 3, H, W)."""
        assert self._pixels is not None, "these are maps of changed images"
        return encoder.normalise(self._pixels)

    @cached_property
    def base(self) -> Tensor:
        """The map h5 of the base learner, (n, 512, h, w); computed once, for all classes."""
        assert self._base_learner is not None, "declare it: Wants(base_learner=True)"
        return self._base_learner.hidden(self[HIGH])

    def blocks(self) -> Iterator[Block]:
        """Yield each block's map (n, C, h, w) with its stage, as soon as it exists; they come once.

        They are not changed: a test keeps those of the last query.
        """
        assert isinstance(self._blocks, Passing) or self._blocks, "declare them: Wants(blocks=True)"
        yield from self._blocks

    def __getitem__(self, stage: int) -> Tensor:
        if stage not in self._stages and isinstance(self._blocks, Passing):
            self._blocks.finish()
        assert stage in self._stages, f"declare it: Wants(stages=(..., {stage}))"
        x = self._stages[stage]
        return with_gradient_in_own_format(x) if x.requires_grad else x

    def __len__(self) -> int:
        return len(next(iter(self._stages.values())))

    @property
    def nbytes(self) -> int:
        """The size of its tensors in bytes, of stages and the base learner."""
        of_base = [] if self._base_learner is None else [self.base]
        return sum(x.nbytes for x in (*self._stages.values(), *of_base))

    def rows(self, which: slice) -> "Maps":
        """Return the maps of some of the images, of stages alone."""
        images = None if self.images is None else self.images[which]
        pixels = None if self._pixels is None else self._pixels[which]
        stages = {stage: x[which] for stage, x in self._stages.items()}
        return Maps(stages, images=images, base_learner=self._base_learner, pixels=pixels)

    @staticmethod
    def join(parts: "Sequence[Maps]") -> "Maps":
        """Return the maps of several images, each of which can be read again."""
        first = parts[0]
        if len(parts) == 1:
            return first
        stages = {stage: torch.cat([part._stages[stage] for part in parts]) for stage in first._stages}
        of_blocks = zip(*(part._blocks for part in parts), strict=True)
        blocks = [(same[0][0], torch.cat([x for _, x in same])) for same in of_blocks]
        images = torch.cat([part.images for part in parts])
        pixels = torch.cat([part._pixels for part in parts])
        out = Maps(stages, blocks, images, first._base_learner, pixels)
        if first._base_learner is not None:
            out.base = torch.cat([part.base for part in parts])
        return out


def mid_features(maps: Maps, low_first: bool = False) -> Tensor:
    """Return [f3; f2] on f3's grid, or [f2; f3], as published weights of SCCAN and HMNet read them."""
    features = [maps[MID], low_features(maps)]
    return torch.cat(features[::-1] if low_first else features, dim=1)


def low_features(maps: Maps) -> Tensor:
    """Return f2 on f3's grid, as published also for Gram matrices; VGG's f2 is finer."""
    return resize(maps[LOW], maps[MID].shape[-2:])
