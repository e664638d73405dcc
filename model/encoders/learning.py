"""Partial learning: which modules of an encoder stay frozen when stages or modules of it learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.encoders.encoder import Encoder
from model.mismatch import Mismatch


def frozen_beside(encoder: Encoder, parts: Sequence[str], depthwise: bool = True) -> Iterator[nn.Module]:
    """Yield modules that together hold all of an encoder but some parts; batch norms of these parts are frozen too.

    Args:
        parts: stages by number, such as ``4``, or modules by name, such as ``net.blocks.11``.
        depthwise: whether depthwise convolutions of these parts learn.

    Raises:
        Mismatch: the encoder has no such part.
    """
    learning = {id(p) for part in parts for p in _module(encoder, part).parameters()}
    for module in encoder.modules():
        own = [p for p in module.parameters() if id(p) in learning]
        if isinstance(module, _BatchNorm) or not own or (is_depthwise(module) and not depthwise):
            yield module
        elif rest := [(n, p) for n, p in module.named_parameters(recurse=False) if id(p) not in learning]:
            alone = nn.Module()  # parameters of a module that also holds a learning part
            for name, parameter in rest:
                alone.register_parameter(name, parameter)
            yield alone


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a module is a convolution that keeps channels apart."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


def _module(encoder: Encoder, part: str) -> nn.Module:
    if part.isdecimal():
        stages = encoder.stages()
        if int(part) < len(stages):
            return stages[int(part)]
        raise Mismatch(f"model.encoder.learn.parts: {part} is not a stage; the encoder has stages 0..{len(stages) - 1}")
    try:
        return encoder.get_submodule(part)
    except AttributeError:
        names = ", ".join(name for name, _ in encoder.named_children())
        raise Mismatch(f"model.encoder.learn.parts: the encoder has no module '{part}'; it has {names}") from None
