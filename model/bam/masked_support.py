"""BAM's support: its features, whose last stage sees the object alone.

Masking enters in front of the encoder's last stage: f4_k = stage 4 of (f3_k m_k). Only f4_k on the object is read
later, so the stage runs on the window that decides it: the object, with the reach of the stage's kernels around it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import resize
from model.common.window import window_around
from model.common.with_encoder import HIGH, LOW, MID
from model.encoders.encoder import Encoder
from model.encoders.features import Features
from model.encoders.resnet import ResNetEncoder, conv_norm, residual
from model.encoders.timm_encoder import TimmEncoder


def masked_features(encoder: Encoder, image_b3ss: Tensor, mask_b1ss: Tensor) -> Features:
    """Return f2 and f3 of normalised supports and f4_k, which is 0 outside the window around the object.

    Args:
        encoder: frozen, in evaluation mode.
        image_b3ss: unmasked images.
        mask_b1ss: 1 on the object.
    """
    if isinstance(encoder, TimmEncoder):
        return encoder.forward_masked(image_b3ss, mask_b1ss, MID)
    out, x = Features({}, {}), image_b3ss
    for i in range(HIGH):
        x = run_stage(encoder, i, x)
        if i in (LOW, MID):
            out.stage[i] = x
    mask = resize(mask_b1ss, x.shape[-2:])
    margin = reach(encoder.stage(HIGH))
    window = window_around(mask, margin, margin)
    high = run_stage(encoder, HIGH, window.crop(x * mask))
    out.stage[HIGH] = window.place(high, high.new_zeros(high.shape[1]), x.shape[-2:])
    return out


def run_stage(encoder: Encoder, i: int, x_bchw: Tensor) -> Tensor:
    """Return the output of one stage of an encoder in evaluation mode, after its last ReLU."""
    stage = encoder.stage(i)
    if i > 0 and isinstance(encoder, ResNetEncoder):
        for block in stage:
            x_bchw = F.relu(residual(block, x_bchw), inplace=True)
        return x_bchw
    layers = list(stage)
    for layer, following in zip(layers, [*layers[1:], None]):
        if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            x_bchw = conv_norm(layer, following, x_bchw)
        elif not isinstance(layer, nn.BatchNorm2d):  # those are part of the convolution before them
            x_bchw = layer(x_bchw)
    return x_bchw


def reach(stage: nn.Module) -> int:
    """Return the number of positions over which a stage without stride carries information, at most."""
    convolutions = (module for module in stage.modules() if isinstance(module, nn.Conv2d))
    return sum(int(conv.dilation[0]) * (conv.kernel_size[0] // 2) for conv in convolutions)
