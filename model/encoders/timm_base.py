"""Base class of encoders around a network with timm's tensor names: timm's own, and those written out here."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from model.encoders.encoder import Encoder
from model.encoders.variant import EncoderVariant

NET = "net."  # prefix of the network's tensors among the encoder's


class TimmEncoderBase(Encoder, ABC):
    """An encoder around ``net``, a network with timm's tensor names; its weights include ``mean`` and ``std``."""

    net: Any
    variant: EncoderVariant
    every_block: dict[int, dict[Any, int]]  # stage -> block on its grid -> channels
    constants = ("mean", "std")

    def blocks_of(self, stage: int) -> list[Any]:
        """Return the blocks that give a stage's intermediate features."""
        widths = self.every_block[stage].items()
        blocks = [block for block, width in widths if self.variant.any_width or width == self.channels[stage]]
        left_out = len(blocks) - self.variant.count(stage, len(blocks))
        return blocks[left_out:]

    def widths(self, stage: int) -> list[int]:
        """See :class:`Encoder`."""
        return [self.every_block[stage][block] for block in self.blocks_of(stage)]

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a file of timm under own names, without layers that are not built."""
        constants = {name: state[name] for name in self.constants if name in state}
        if self.state_dict().keys() & state.keys() > constants.keys():
            return state
        of_network = {name: x for name, x in state.items() if name not in constants}
        return constants | {NET + name: x for name, x in self.of_timm(of_network).items()}

    @abstractmethod
    def of_timm(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of timm's file that ``net`` may have, under timm's names."""

    def foreign(self, names: Iterable[str]) -> list[str]:
        """Return the names, of tensors that this encoder lacks, that belong to a network of timm."""
        return [name for name in names if name.startswith(NET)]
