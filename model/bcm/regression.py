"""BCM's regressions: balanced samples, the choice of the penalty on five folds, L2 logistic regression."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from model.parts.linear import LinearHead, logistic
from model.tensors.transfers import to_device

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
        head = LinearHead(*(to_device(part, device) for part in self.head))
        return replace(self, head=head, known=to_device(self.known, device))

    def probability(self, x_bchw: Tensor) -> Tensor:
        """Return probabilities (B, r + 1, h, w); of a target that it does not know 0."""
        known_p = self.head.logits(x_bchw).softmax(1)
        batch, count, *size = known_p.shape
        known = self.known.byte().argsort(descending=True, stable=True)[:count]
        return known_p.new_zeros(batch, len(self.known), *size).index_copy_(1, known, known_p)


def regress(x_mc: Tensor, y_m: Tensor, targets: int, sampling: str, random: np.random.RandomState) -> Regression | None:
    """Return the regression of cells (m, C) float32 with their targets; None where one target alone occurs."""
    x, y = x_mc.numpy(), y_m.numpy()
    scores = _penalty_scores(x, y, sampling, random)
    chosen = int(scores.argmax())
    rows = sample(y, sampling, random)
    fits = _fits(x[rows], y[rows], PENALTIES[chosen : chosen + 1])
    if not fits:
        return None
    head, classes = fits[0]
    known = torch.zeros(targets, dtype=torch.bool)
    known[classes] = True
    return Regression(head, known, scores, chosen)


def _penalty_scores(x: np.ndarray, y: np.ndarray, sampling: str, random: np.random.RandomState) -> np.ndarray:
    """Return the mean average precision over the folds by each of ``PENALTIES``; 0 if no fold has any."""
    fold = stratified_folds(y)
    scores = []
    for number in range(FOLDS):
        training = np.flatnonzero(fold != number)
        test = fold == number
        rows = training[sample(y[training], sampling, random)]
        fits = _fits(x[rows], y[rows], PENALTIES)
        of_fold = [average_precision(head, classes, x[test], y[test]) for head, classes in fits]
        if of_fold and np.isfinite(of_fold).all():
            scores.append(of_fold)
    return np.mean(scores, axis=0) if scores else np.zeros(len(PENALTIES))


def _fits(x: np.ndarray, y: np.ndarray, penalties: list[float]) -> list[tuple[LinearHead, np.ndarray]]:
    """Return for each penalty the head of least mean cross entropy + |W|^2 / (2 C m), and the targets it knows.

    The list is empty where one target alone occurs.
    """
    classes, target = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        return []
    cells = torch.from_numpy(x)
    one_hot = np.eye(len(classes), dtype=np.float32)[target]
    shares = torch.from_numpy(one_hot / len(y))
    rows = len(classes) if len(classes) > 2 else 1  # of the weights
    fits = []
    for c in penalties:
        head = logistic(cells, shares, rows, penalty=1 / (c * len(y)), steps=STEPS, tolerance=TOLERANCE)
        if rows == 1:  # softmax([-d, d]), as published, although the fit has sigmoid(d)
            weight, bias = (torch.cat([-part, part]) for part in head)
            head = LinearHead(weight, bias)
        in_float = LinearHead(head.weight.float(), head.bias.float())
        fits.append((in_float, classes))
    return fits


def sample(y_m: np.ndarray, sampling: str, random: np.random.RandomState) -> np.ndarray:
    """Return the rows of a balanced sample of targets, 0 for the background.

    ``us`` keeps of every target as many as the rarest novel one has, ``os`` as many as the most frequent novel one,
    drawn with replacement where there are fewer; ``bg`` all of the novel ones, and of 0 as many as the second target.
    """
    targets, counts = np.unique(y_m, return_counts=True)
    rows = [np.flatnonzero(y_m == target) for target in targets]
    is_novel = targets > 0
    novel_counts = counts[is_novel] if is_novel.any() else counts
    if sampling == "us":
        least = novel_counts.min()
        drawn = [random.permutation(len(r))[:least] for r in rows]
        rows = [r[chosen] for r, chosen in zip(rows, drawn)]
    elif sampling == "os":
        most = novel_counts.max()
        rows = [_of_size(r, most, random) for r in rows]
    elif len(rows) > 1 and targets[0] == 0:
        second = np.sort(counts)[-2]
        rows[0] = _of_size(rows[0], min(counts[0], second), random)
    return np.concatenate(rows)


def _of_size(rows: np.ndarray, size: int, random: np.random.RandomState) -> np.ndarray:
    """Return so many of the rows, drawn with replacement where there are fewer; the rows themselves if as many."""
    if len(rows) == size:
        return rows
    return random.choice(rows, size=size, replace=len(rows) < size)


def stratified_folds(y_m: np.ndarray) -> np.ndarray:
    """Return the fold of each sample: each fold has its share of every target, in the order of the samples."""
    targets, first, code = np.unique(y_m, return_index=True, return_inverse=True)
    numbered = np.argsort(np.argsort(first))[code]  # by first appearance
    ordered = np.sort(numbered)
    folds = np.empty(len(y_m), np.int64)
    for number in range(len(targets)):
        sizes = [(ordered[fold::FOLDS] == number).sum() for fold in range(FOLDS)]
        folds[numbered == number] = np.repeat(np.arange(FOLDS), sizes)
    return folds


def average_precision(head: LinearHead, known: np.ndarray, x_mc: np.ndarray, y_m: np.ndarray) -> float:
    """Return the mean over known targets that occur of the average precision of their probabilities; NaN for none.

    It is the sum over distinct probabilities, descending, of precision times the step of recall.
    """
    logits = head.logits(torch.from_numpy(x_mc)[:, :, None, None])
    probability = logits.softmax(1)[:, :, 0, 0].numpy()
    precisions = []
    for score, target in zip(probability.T, known):
        order = np.argsort(-score, kind="stable")
        score = score[order]
        hits = np.cumsum(y_m[order] == target)
        if not hits[-1]:
            continue
        is_last = np.append(score[1:] != score[:-1], True)  # of equal scores, which are one threshold
        last = np.flatnonzero(is_last)
        hits_until = hits[last]
        recall = hits_until / hits[-1]
        weighted = np.diff(recall, prepend=0) * hits_until / (last + 1)
        precisions.append(weighted.sum())
    return float(np.mean(precisions)) if precisions else float("nan")
