"""The presence of a class in a test's photos: its score, the decision to show a mask, and both beside the truth."""

from collections import ChainMap
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from model.episode import IGNORE, Output
from util.evaluate.calibration import Calibration, presence_inputs
from util.loop.metrics import FINAL, NETWORK
from util.loop.processes import ProcessGroup
from util.loop.score import WITHOUT_PRESENCE, Place


class PresenceRecord(NamedTuple):
    """The presence of an episode's class, as a test counts it."""

    present: bool  # whether the query shows the class
    score: float
    shown: bool  # whether the final mask shows it


class Presence:
    """Decides for each episode whether its class is there, and keeps what it decided.

    ``calibration`` is the network's: masks of queries below its threshold are empty. Without one every mask is shown.
    """

    def __init__(self, calibration: Calibration | None):
        self.calibration = calibration
        self.records: dict[int, PresenceRecord] = {}  # by the episode's number

    def decide(self, number: int, predictions: dict[str, Tensor], label_hw: Tensor, place: Place) -> None:
        """Note the presence score of an episode, and empty its final mask (1, H, W) if the score is too low."""
        inputs = presence_inputs_in(*place)
        mask = predictions[FINAL]
        is_present = (label_hw == 1).any()
        is_visible = ((mask[0] > 0) & (label_hw != IGNORE)).any()  # pixels in the padding do not count
        *values, present, visible = torch.cat([inputs, torch.stack([is_present, is_visible])]).tolist()
        score = values[0]  # without a calibration: the largest quantile of the margin
        if self.calibration is not None:
            score = self.calibration.presence(np.array(values, np.float32))
            predictions[WITHOUT_PRESENCE] = mask
            if score < self.calibration.threshold:
                for name in {FINAL, NETWORK} & predictions.keys():
                    predictions[name] = torch.zeros_like(mask)
                visible = 0.0
        self.records[number] = PresenceRecord(bool(present), score, bool(visible))

    def gather(self, world: ProcessGroup) -> dict[str, float]:
        """Take the episodes of all processes, by number, and return their ``presence_scores``."""
        self.records = dict(sorted(ChainMap(*world.gather(self.records)).items()))
        return presence_scores(*zip(*self.records.values()))


def presence_inputs_in(output: Output, item: int, shown: tuple[int, int]) -> Tensor:
    """Return the inputs (F,) of the presence score of one query of a batch, of which ``shown`` (h, w) is no padding."""
    height, width = shown
    logits = output.extra.get(NETWORK, output.logits)
    background, foreground = logits[item, :, :height, :width].float()
    features = None if output.presence_features is None else output.presence_features[item, 0]
    return presence_inputs(foreground - background, features)


def presence_scores(present: ArrayLike, score: ArrayLike, shown: ArrayLike) -> dict[str, float]:
    """Return in percent how often photos with and without the class are told apart.

    ``presence_accuracy`` compares whether each query shows its class and whether its prediction does;
    ``presence_auroc`` takes the score of its presence, and is there if there are queries of both kinds.
    """
    truth = np.array(present, bool)
    scores = np.array(score)
    right = truth == np.array(shown, bool)
    out = {"presence_accuracy": 100.0 * float(right.mean())}
    if truth.any() and not truth.all():
        from scipy.stats import mannwhitneyu  # takes a second

        wins = mannwhitneyu(scores[truth], scores[~truth]).statistic  # ties are half a win
        pairs = truth.sum() * (~truth).sum()
        out["presence_auroc"] = 100.0 * float(wins / pairs)
    return out
