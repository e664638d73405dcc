"""Blocks of timm with frozen norms folded into their convolutions (``folded_conv.py``)."""

from timm.layers import BatchNormAct2d, Conv2dSame
from timm.models import _efficientnet_blocks as blocks
from torch import nn

from model.encoders.folded_conv import FoldedConv, FoldedConvSame, NormAfterFolded, place_norm

# Blocks of timm's EfficientNets and MobileNets, with their pairs of a convolution and the norm after it.
PAIRS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    blocks.ConvBnAct: (("conv", "bn1"),),
    blocks.EdgeResidual: (("conv_exp", "bn1"), ("conv_pwl", "bn2")),
    blocks.DepthwiseSeparableConv: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    blocks.InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}
STEM = ("conv_stem", "bn1")


def fold_frozen_norms(net: nn.Module) -> None:
    """Let known blocks of timm compute convolution and norm together while the norm is frozen; names stay."""
    blocks_of_net = [module for module in net.modules() if type(module) in PAIRS]
    for block in blocks_of_net:
        for names in PAIRS[type(block)]:
            _fold_pair(block, *names)
    if blocks_of_net and all(hasattr(net, name) for name in STEM):
        _fold_pair(net, *STEM)


def _fold_pair(block: nn.Module, conv_name: str, norm_name: str) -> None:
    """Let a convolution of a block compute the norm after it, if both are of known kinds."""
    kinds: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: FoldedConv, Conv2dSame: FoldedConvSame}
    conv = getattr(block, conv_name)
    norm = getattr(block, norm_name)
    if type(conv) in kinds and type(norm) is BatchNormAct2d and norm.track_running_stats:
        conv.__class__ = kinds[type(conv)]
        norm.__class__ = NormAfterFolded  # type: ignore[assignment]
        place_norm(conv, norm)
