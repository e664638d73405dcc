"""Losses as means over the whole batch, also when the batch is spread over processes."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from model.contract import IGNORE
from model.ops import in_float32


def batch_mean(total: Tensor, count: Tensor) -> Tensor:
    """Return total / count such that the *mean over processes* of its gradients is that of the whole batch.

    Processes see different numbers of valid pixels, so each divides by the mean count: DistributedDataParallel,
    which averages gradients, then gives what one process would with all the episodes. 0 where nothing counts.
    """
    count = count.detach().to(total.dtype)
    if distributed.is_available() and distributed.is_initialized():
        count = count.clone()
        distributed.all_reduce(count)
        count = count / distributed.get_world_size()
    return torch.where(count > 0, total / count.clamp(min=torch.finfo(total.dtype).tiny), total * 0)


@in_float32
def cross_entropy(logits_bnhw: Tensor, label_bhw: Tensor) -> Tensor:
    """Return the mean cross-entropy over all pixels of the batch that are not 255."""
    target = label_bhw.long()
    total = F.cross_entropy(logits_bnhw, target, ignore_index=IGNORE, reduction="sum")
    return batch_mean(total, (target != IGNORE).sum())
