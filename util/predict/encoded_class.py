"""The supports of one class, looked at once and used for every query.

A model whose weights serve any number of shots, or this number, sees all supports at once. One that was trained for a
single shot sees each support alone, and its logits are averaged. Any other number of supports is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.contract import IGNORE, CachedFeatures, Episode
from util.data.datasets import channels_first
from util.engine.device import autocast
from util.errors import UserError
from util.predict.class_embedding import ClassEmbedding
from util.predict.load_model import Opened
from util.predict.supports import Support


@dataclass
class SupportBatch:
    """Supports that a model sees together, (1, K, 3, S, S) and (1, K, S, S), and what it remembers of them."""

    image: Tensor
    label: Tensor
    cached: CachedFeatures | None


@dataclass
class EncodedClass:
    """A class to be found: its name, what it means, and its supports."""

    name: str
    meaning: ClassEmbedding
    batches: list[SupportBatch]
    sources: list[str]

    def episode(self, query: Tensor, supports: SupportBatch, base_labels: bool) -> Episode:
        """Return B queries (B, 3, S, S) with one batch of supports; every pixel of the query labels is ``IGNORE``."""
        count, device = len(query), query.device
        unknown = torch.full((count, *query.shape[-2:]), IGNORE, dtype=torch.uint8, device=device)
        zero = torch.zeros(count, dtype=torch.int64, device=device)
        text = None
        if self.meaning.vector is not None:
            text = torch.from_numpy(self.meaning.vector).to(device).expand(count, -1)
        return Episode(
            query=query,
            query_label=unknown,
            support=supports.image.expand(count, -1, -1, -1, -1),
            support_label=supports.label.expand(count, -1, -1, -1),
            class_id=zero + self.meaning.class_id,
            base_id=zero,
            number=zero,
            query_base_label=unknown if base_labels else None,
            text=text,
            cached_support=None if supports.cached is None else [supports.cached],
        )


@torch.inference_mode()
def encode_supports(name: str, meaning: ClassEmbedding, supports: list[Support], model: Opened) -> EncodedClass:
    """Return a class's supports, sized as the evaluation sizes images and encoded.

    Raises:
        UserError: no supports, more or less than the model can take, or an object too small for the network's input.
    """
    if not supports:
        raise UserError(f"{name}: no supports; give at least one")
    views = [_sized(support, model) for support in supports]
    images, labels = (torch.stack(kind).unsqueeze(0).to(model.device) for kind in zip(*views))
    batches = []
    for some in torch.arange(len(supports)).split(shots_at_once(name, len(supports), model)):
        image, label = images[:, some], labels[:, some]
        with autocast(model.device, model.precision):
            batches.append(SupportBatch(image, label, model.network.cache_support(image, label)))
    return EncodedClass(name, meaning, batches, [s.source for s in supports])


def shots_at_once(name: str, supports: int, model: Opened) -> int:
    """Return how many of a class's supports the model sees together: all, or one at a time.

    Raises:
        UserError: its weights are for another number, more than one.
    """
    made_for = model.network.shots_of(model.network.state_dict())
    if made_for in (None, supports):
        return supports
    if made_for == 1:
        return 1
    raise UserError(
        f"{name}: {supports} support(s), but {model.source} was trained with {made_for} shots and has weights for that "
        f"number; give {made_for}, or take a checkpoint trained with one, which takes any number"
    )


def _sized(support: Support, model: Opened) -> tuple[Tensor, Tensor]:
    """Return a support as the network's input, (3, S, S) float32 and (S, S) uint8."""
    image, label = model.view.sized(support.image, support.label)
    if not (label == 1).any():
        raise UserError(
            f"{support.source}: what is marked vanishes at {model.view.side} pixels, the network's input; "
            "cut the photo closer to the object, or give a larger --resize"
        )
    return channels_first(image), torch.from_numpy(np.ascontiguousarray(label))
