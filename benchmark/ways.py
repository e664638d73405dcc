"""The measured functions: evaluation and training step of a model, ours and in its plain implementation."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from benchmark.naive_bam import NaiveBAM
from benchmark.naive_dcama import NaiveDCAMA
from benchmark.naive_hdmnet import NaiveHDMNet
from benchmark.naive_hsnet import NaiveHSNet
from benchmark.naive_sccan import NaiveSCCAN
from benchmark.naive_ssp import NaiveSSP
from benchmark.naive_symnet import NaiveSymNet
from benchmark.plain_encoder import PlainEncoder
from model.common.ops import normalise
from model.common.with_encoder import WithEncoder
from model.contract import FewShotModel
from model.episode import Episode

NAIVE = {
    "symnet": NaiveSymNet,
    "ssp": NaiveSSP,
    "dcama": NaiveDCAMA,
    "hdmnet": NaiveHDMNet,
    "sccan": NaiveSCCAN,
    "hsnet": NaiveHSNet,
    "bam": NaiveBAM,
}
OURS, PLAIN = "ours", "naive"
WAYS = (OURS, PLAIN)
EVALUATION, TRAINING = "evaluation", "training"
STAGES = (EVALUATION, TRAINING)
TRAINED = ("symnet", "hsnet", "bam")  # models whose training step has a plain form here
TRAINING_BATCH = 4  # episodes of a measured step

Run = Callable[[], object]


def make(stage: str, name: str, way: str, network: FewShotModel, on: Episode) -> Run:
    """Return one pass of a stage over a batch of episodes: ``evaluation`` or ``training``."""
    run = network if way == OURS else NAIVE[name](network)
    return torch.inference_mode()(lambda: run(on)) if stage == EVALUATION else _training_step(network, run, on)


def of_classes(network: FewShotModel, on: Episode, classes: int) -> Run:
    """Return one pass of this project's evaluation with several classes, which here have the same supports."""
    return torch.inference_mode()(lambda: network.forward_classes([on] * classes))


def _training_step(network: FewShotModel, run: nn.Module, on: Episode) -> Run:
    """Return forward and backward; no optimiser, gradients are dropped."""

    def step() -> None:
        network.train()
        sum(run(on).losses.values()).backward()
        network.zero_grad(set_to_none=True)
        network.eval()

    return step


def encoder_pass(way: str, network: FewShotModel, on: Episode) -> Run:
    """Return one forward of one image through the model's encoder; the plain one is the unit of ``speed``."""
    own = cast(WithEncoder, network).encoder
    encoder = own if way == OURS else PlainEncoder(own)
    image = normalise(on.query[:1])
    return torch.inference_mode()(lambda: encoder(image))
