"""The features that an encoder computes of images: the outputs of its stages and the maps inside them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor


@dataclass
class Features:
    """Features of B images: the outputs of the encoder's stages, and its intermediate features where asked for.

    An intermediate feature is a map before the last ReLU of a residual block, a raw convolution output of VGG, or the
    output of a Swin transformer's block.
    """

    stage: dict[int, Tensor]  # stage -> (B, C, H, W)
    intermediate: dict[int, list[Tensor]]  # stage -> maps (B, C, H, W), in the order of the blocks

    def __len__(self) -> int:
        return len(next(iter(self.stage.values())))

    @property
    def nbytes(self) -> int:
        """Bytes that the maps take."""
        return sum(x.nbytes for x in self.maps())

    @staticmethod
    def join(parts: "Sequence[Features]") -> "Features":
        """Return the features of all parts' images, in dictionaries of their own."""
        maps_of_parts = zip(*(part.maps() for part in parts))
        joint = iter([maps[0] if len(maps) == 1 else torch.cat(maps) for maps in maps_of_parts])
        return parts[0].each(lambda _: next(joint))

    @staticmethod
    def collect(parts: "Iterator[Features]", count: int) -> "Features":
        """Return the features of ``count`` parts of one size, as ``join`` does; one part exists at a time."""
        out = Features({}, {})
        for i, part in enumerate(parts):
            if i == 0:
                out = Features.join([part] * count)  # room for all of them
            else:
                room = out.rows(slice(i * len(part), (i + 1) * len(part)))
                for target, x in zip(room.maps(), part.maps()):
                    target.copy_(x)
            del part  # before the next one is computed
        return out

    def each(self, change: Callable[[Tensor], Tensor]) -> "Features":
        """Return the features that ``change`` makes of each map, in the order of ``maps``, in new dictionaries."""
        stage = {i: change(x) for i, x in self.stage.items()}
        intermediate = {i: list(map(change, maps)) for i, maps in self.intermediate.items()}
        return Features(stage, intermediate)

    def maps(self) -> Iterator[Tensor]:
        """Yield all maps, of the stages and the intermediate ones."""
        return chain(self.stage.values(), *self.intermediate.values())

    def rows(self, which: slice | Tensor) -> "Features":
        """Return the features of some of the images, as views where they are a slice."""
        return self.each(lambda x: x[which])

    def repeat(self, times: int) -> "Features":
        """Return the features of the same images ``times`` times in a row, in dictionaries of their own."""
        return self.each(lambda x: x if times == 1 else x.repeat(times, 1, 1, 1))
