"""Encoders with batch-norm statistics of their own, so that exchanged layers change the output."""

import torch
from torch import nn

from model.encoders.encoder import Encoder
from model.encoders.settings import EncoderSettings, build_encoder
from model.hdmnet.decoder import FixedNorm
from tests.helpers.skip_init import skip_init
from tests.model.seeded import seed_weights


def varied_encoder(backbone: str, stem: str = "plain", scale: float = 1.0) -> Encoder:
    """Return a convolutional encoder with drawn weights, in evaluation mode."""
    with skip_init():  # above all for VGG's classifier, which the encoder leaves out
        encoder = seed_weights(build_encoder(EncoderSettings(backbone=backbone, stem=stem))).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter *= scale
    return encoder


def vary_norms(network: nn.Module) -> nn.Module:
    """Give every batch norm, also those with fixed statistics, its own statistics and weights."""
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, FixedNorm)):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return network


def bare_encoder(backbone: str, stem: str) -> Encoder:
    """Return an encoder without values, to look at its layers."""
    with torch.device("meta"), skip_init():
        return build_encoder(EncoderSettings(backbone=backbone, stem=stem))
