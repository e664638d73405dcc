"""Whether a photo shows a class at all: evidence from the scores of its pixels, and how well a presence score decides.

The evidence of a class is a short vector: statistics of the margin (the class's logit minus the background's) over the
photo's pixels, and the model's own numbers (``Output.evidence``) where it has some. A calibration turns it into a
probability.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from model.common.ops import resize
from model.episode import Output

QUANTILES = (0.99, 0.9, 0.5)  # of the margin
MARGIN_NUMBERS = len(QUANTILES) + 3  # numbers that come from the margin: quantiles, mean, deviation, share above 0
GRID = 128  # longest side of the margin when its statistics are taken, so that they hardly depend on the photo's size
NO_CALIBRATION = 0  # the entry of the evidence that ranks photos without a calibration: the largest quantile


def evidence_of(margin_hw: Tensor, own: Tensor | None) -> Tensor:
    """Return the evidence (F,) float32 of a class: quantiles, mean and deviation of the margin, its share above 0.

    Args:
        margin_hw: (H, W), the photo's pixels alone, without padding.
        own: the model's own numbers (E,), which come last.
    """
    height, width = margin_hw.shape
    shrink = min(GRID / max(height, width), 1)
    size = (max(round(height * shrink), 1), max(round(width * shrink), 1))
    values = resize(margin_hw[None, None].float(), size).flatten()
    quantiles = values.quantile(torch.tensor(QUANTILES, device=values.device))
    rest = torch.stack([values.mean(), values.std(correction=0), (values > 0).float().mean()])
    return torch.cat([quantiles, rest] if own is None else [quantiles, rest, own.float()])


def evidence_in(output: Output, item: int, shown: tuple[int, int]) -> list[Tensor]:
    """Return the evidence (F,) of each class in one query of a batch, of which ``shown`` (h, w) is no padding."""
    height, width = shown
    logits = output.logits[item, :, :height, :width].float()
    own = [None] * (len(logits) - 1) if output.evidence is None else list(output.evidence[item])
    return [evidence_of(logits[c] - logits[0], numbers) for c, numbers in enumerate(own, 1)]


def presence_scores(present: Sequence[bool], score: Sequence[float], shown: Sequence[bool]) -> dict[str, float]:
    """Return in percent how often photos with and without the class are told apart.

    Args:
        present: whether each query shows its class.
        score: of its presence, larger for present.
        shown: whether the prediction says that it does.

    Returns:
        ``presence_accuracy``, and ``presence_auroc`` if there are queries of both kinds.
    """
    truth = np.array(present, bool)
    out = {"presence_accuracy": 100.0 * float((truth == np.array(shown, bool)).mean())}
    with_class, without = int(truth.sum()), int((~truth).sum())
    if with_class and without:
        from scipy.stats import rankdata

        ranks = rankdata(score)  # ties have their mean rank
        wins = ranks[truth].sum() - with_class * (with_class + 1) / 2
        out["presence_auroc"] = 100.0 * float(wins / (with_class * without))
    return out
