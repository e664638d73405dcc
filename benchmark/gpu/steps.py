"""The measured functions: evaluation and training step of a network at a batch size and a precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from benchmark.synthetic import SIZES, build, episode
from benchmark.ways import NAIVE, TRAINED, Run
from model.contract import FewShotModel, Trainable
from model.episode import Episode
from model.registry import models
from util.engine.device import autocast

BACKBONE, QUICK_BACKBONE = "resnet50", "resnet10_narrow"
QUICK_SIDE = 33  # pixels, or the next larger side that a method takes
MIN_CELLS = 3  # along a side of the grid of a method's size rule: objects vanish on smaller ones
LEARNING_RATE = 1e-5  # random weights must not diverge


def side_of(name: str, quick: bool) -> int:
    """Return the side in pixels at which a method is measured: the published one, of baselines Sym-Net's."""
    model_class = models()[name]
    settings = model_class.Settings()
    if not quick:
        return model_class.sizes_around(SIZES.get(name, SIZES["symnet"]), settings)[0]
    step, rest = model_class.rule(settings)
    least = max(QUICK_SIDE, (MIN_CELLS - 1) * step + 1)
    return next(side for side in range(least, least + step) if side % step == rest % step)


def network_of(name: str, quick: bool, device: torch.device) -> FewShotModel:
    """Return a one-shot network of random weights on the device, in evaluation mode."""
    return build(name, QUICK_BACKBONE if quick else BACKBONE, side_of(name, quick), 1).to(device)


def reference_of(name: str, network: FewShotModel, training: bool) -> nn.Module:
    """Return the plain implementation over the network's weights, or the network where there is none."""
    known = name in (TRAINED if training else NAIVE)
    return NAIVE[name](network) if known else network


def evaluation(run: nn.Module, on: Episode, precision: str) -> Run:
    """Return one forward pass without a graph."""

    @torch.inference_mode()
    def call() -> None:
        with autocast(on.query.device, precision):
            run(on)

    return call


def training_step(network: Trainable, run: nn.Module, precision: str) -> Callable[[Episode], None]:
    """Return forward, backward and the optimiser's step; ``run`` computes the losses of the network's weights."""
    network.train()
    groups = [{"params": group.params} for group in network.param_groups()]
    optimizer = torch.optim.SGD(groups, lr=LEARNING_RATE, momentum=0.9)

    def call(on: Episode) -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(on.query.device, precision):
            losses = run(on).losses
        sum(losses.values()).backward()
        optimizer.step()

    return call


def episodes(network: FewShotModel, device: torch.device, batch: int) -> Episode:
    """Return drawn one-shot episodes for a network."""
    return episode(network.task.size, network.task.shots, device, batch)


@torch.inference_mode()
def with_features(network: FewShotModel, on: Episode, precision: str) -> Episode | None:
    """Return the episodes with the features of all their images, as a test keeps them; None for a model without."""
    with autocast(on.query.device, precision):
        queries: list[Any] = [network.cache_query(query[None]) for query in on.query]
        supports: list[Any] = [
            network.cache_support(image[None, None], label[None, None])
            for images, labels in zip(on.support, on.support_label)
            for image, label in zip(images, labels)
        ]
    if None in (queries[0], supports[0]):
        return None
    return replace(on, cached_query=queries, cached_support=supports)
