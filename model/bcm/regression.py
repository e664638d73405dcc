"""BCM's regressions: balanced samples, the choice of the penalty on five folds, L2 logistic regression."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from model.common.linear import LinearHead, logistic
from model.common.ops import to_device

PENALTIES = [10 ** (-5 + 10 * j / 9) for j in range(10)]  # C, the inverse of the penalty
FOLDS = 5
STEPS, TOLERANCE = 100, 1e-4  # of L-BFGS


@dataclass(frozen=True)
class Regression:
    """A logistic regression of r + 1 targets, 0 for everything but r novel classes."""

    head: LinearHead  # of the targets that it knows
    known: Tensor  # whether it knows each target, (r + 1,) bool
    scores: np.ndarray  # mean average precision by each of ``PENALTIES``
    chosen: int  # the best one

    def on(self, device: torch.device) -> "Regression":
        """Return the regression on a device."""
        return replace(
            self, head=LinearHead(*(to_device(part, device) for part in self.head)), known=to_device(self.known, device)
        )

    def probability(self, x_bchw: Tensor) -> Tensor:
        """Return probabilities (B, r + 1, h, w); of a target that it does not know 0."""
        found = self.head.logits(x_bchw).softmax(1)
        known = self.known.byte().argsort(descending=True, stable=True)[: found.shape[1]]
        return found.new_zeros(len(found), len(self.known), *found.shape[2:]).index_copy_(1, known, found)


def regress(x_mc: Tensor, y_m: Tensor, targets: int, sampling: str, random: np.random.RandomState) -> Regression | None:
    """Return the regression of cells (m, C) float32 with their targets; None where one target alone occurs."""
    x, y = x_mc.numpy(), y_m.numpy()
    fold, scores = stratified_folds(y), []
    for number in range(FOLDS):
        training, test = np.flatnonzero(fold != number), fold == number
        found = _fits(x, y, training[sample(y[training], sampling, random)], PENALTIES)
        of_fold = [average_precision(*one, x[test], y[test]) for one in found]
        scores += [of_fold] if of_fold and np.isfinite(of_fold).all() else []
    mean = np.mean(scores, axis=0) if scores else np.zeros(len(PENALTIES))
    chosen = int(mean.argmax())
    if not (final := _fits(x, y, sample(y, sampling, random), PENALTIES[chosen : chosen + 1])):
        return None
    (head, classes), known = final[0], torch.zeros(targets, dtype=torch.bool)
    known[classes] = True
    return Regression(head, known, mean, chosen)


def _fits(
    x: np.ndarray, y: np.ndarray, rows: np.ndarray, penalties: list[float]
) -> list[tuple[LinearHead, np.ndarray]]:
    """Return for each penalty the head of least mean cross entropy + |W|^2 / (2 C m), and the targets it knows."""
    classes, target = np.unique(y[rows], return_inverse=True)
    shares = np.eye(len(classes), dtype=np.float32)[target] / len(rows)
    cells, out = (torch.from_numpy(x[rows]), torch.from_numpy(shares)), []
    for c in penalties if len(classes) > 1 else ():
        head = logistic(*cells, len(classes) if len(classes) > 2 else 1, 1 / (c * len(rows)), STEPS, TOLERANCE)
        if len(classes) == 2:  # softmax([-d, d]), as published, although the fit has sigmoid(d)
            head = LinearHead(*(torch.cat([-part, part]) for part in head))
        out.append((LinearHead(*(part.float() for part in head)), classes))
    return out


def sample(y_m: np.ndarray, sampling: str, random: np.random.RandomState) -> np.ndarray:
    """Return the rows of a balanced sample of targets, 0 for the background.

    ``us`` keeps of every target as many as the rarest novel one has, ``os`` as many as the most frequent novel one,
    drawn with replacement where there are fewer; ``bg`` all of the novel ones, and of 0 as many as the second target.
    """
    of = [np.flatnonzero(y_m == target) for target in np.unique(y_m)]
    counts = sorted(map(len, of))
    novel = [len(rows) for rows in of if y_m[rows[0]] > 0] or counts
    if sampling == "us":
        of = [rows[random.permutation(len(rows))[: min(novel)]] for rows in of]
    elif sampling == "os":
        most = max(novel)
        of = [r if len(r) == most else random.choice(r, size=most, replace=len(r) < most) for r in of]
    elif len(of) > 1 and y_m[of[0][0]] == 0 and len(of[0]) > counts[-2]:
        of[0] = random.choice(of[0], size=counts[-2], replace=False)
    return np.concatenate(of)


def stratified_folds(y_m: np.ndarray) -> np.ndarray:
    """Return the fold of each sample: each fold has its share of every target, in the order of the samples."""
    targets, first, code = np.unique(y_m, return_index=True, return_inverse=True)
    numbered = np.argsort(np.argsort(first))[code]  # by first appearance
    ordered, out = np.sort(numbered), np.empty(len(y_m), np.int64)
    for number in range(len(targets)):
        sizes = [(ordered[fold::FOLDS] == number).sum() for fold in range(FOLDS)]
        out[numbered == number] = np.repeat(np.arange(FOLDS), sizes)
    return out


def average_precision(head: LinearHead, known: np.ndarray, x_mc: np.ndarray, y_m: np.ndarray) -> float:
    """Return the mean over known targets that occur of the average precision of their probabilities; NaN for none.

    It is the sum over distinct probabilities, descending, of precision times the step of recall.
    """
    probability = head.logits(torch.from_numpy(x_mc)[:, :, None, None]).softmax(1)[:, :, 0, 0].numpy()
    out = []
    for score, target in zip(probability.T, known):
        order = np.argsort(-score, kind="stable")
        score, hits = score[order], np.cumsum(y_m[order] == target)
        last = np.flatnonzero(np.append(score[1:] != score[:-1], True))  # equal scores are one threshold
        if hits[-1]:
            out.append((np.diff(hits[last] / hits[-1], prepend=0) * hits[last] / (last + 1)).sum())
    return float(np.mean(out)) if out else float("nan")
