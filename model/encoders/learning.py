"""The parts of an encoder that learn, and the others, which are frozen."""

from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.encoders.encoder import Encoder
from model.mismatch import ModelMismatch


def frozen_beside(encoder: Encoder, parts: Sequence[str], depthwise: bool = True) -> Iterator[nn.Module]:
    """Yield modules that together hold what does not learn: all outside some parts, and inside these the batch norms.

    Unless ``depthwise``, depthwise kernels inside them do not learn either.

    Parts are stages by number, such as ``4``, or modules by name, such as ``net.blocks.11``; ModelMismatch for an
    unknown one.
    """
    learning: set[int] = set()
    for part in parts:
        learning |= {id(p) for p in _part(encoder, part).parameters()}
    for module in encoder.modules():
        learns = any(id(p) in learning for p in module.parameters())
        is_excluded = is_depthwise(module) and not depthwise
        if isinstance(module, _BatchNorm) or not learns or is_excluded:
            yield module
        else:
            yield from _others_of(module, learning)


def _others_of(module: nn.Module, learning: set[int]) -> Iterator[nn.Module]:
    """Yield a new module with those parameters of a module itself, not of its children, that do not learn."""
    frozen = nn.Module()
    for name, parameter in module.named_parameters(recurse=False):
        if id(parameter) not in learning:
            frozen.register_parameter(name, parameter)
    if next(frozen.parameters(), None) is not None:
        yield frozen


def _part(encoder: Encoder, name: str) -> nn.Module:
    """Return a part of an encoder by its name."""
    stages = {str(i): stage for i, stage in enumerate(encoder.stages())}
    parts = stages | {module_name: module for module_name, module in encoder.named_modules() if module_name}
    if name not in parts:
        children = [child for child, _ in encoder.named_children()]
        known = ", ".join([*stages, *children])
        raise ModelMismatch(f"model.encoder.learn.parts: the encoder has no part '{name}'; it has {known}")
    return parts[name]


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a module is a convolution that keeps channels apart."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
