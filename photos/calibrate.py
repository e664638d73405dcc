"""Fit a calibration on base classes: ``python predict.py calibrate CONFIG``.

Episodes are those of Sym-Net's protocol, but of base classes on training images: the classes of the test fold and its
images have no part (with ``data.fold_rule: lists``, the images of the test list). Half of the queries lack their class.
Episodes have 1, 3 and 5 supports, where the method takes them, and masks, boxes, points and scribbles in turn: one
score serves all. Regressions are logistic, with a weak quadratic penalty on weights of standardised inputs.

The margins of a network that learnt from base classes are greater for these than for novel ones. Its presence score is
therefore fitted on its own numbers alone (``Output.presence_features``), which come from the encoder, without margins.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import yaml

from model.contract import FewShotMethod
from model.episode import IGNORE, Output
from model.parts.linear import logistic
from model.tensors.ops import resize
from model.trial import Trial
from photos import calibration
from photos.drawn import KINDS, MASK, drawn_label
from util.config.compose import files_of
from util.config.folds import LISTS
from util.data.episodes import TrialDataset
from util.data.lists.image_list import ImageList, check_shots
from util.data.sampling import EpisodeKey, EpisodeSampler, random_stream
from util.data.views import LETTERBOX, View
from util.engine import Engine
from util.files.errors import UserError, log
from util.files.writing import write_atomically
from util.loop.device import episodes_at_once
from util.loop.network import prepare_network
from util.loop.processes import ProcessGroup
from util.loop.score import score
from util.run.data import images_for_training, trials
from util.run.run import Run

EPISODES = 1200  # in all
ABSENT = 0.5  # share of the episodes whose query lacks its class
SHOTS = (1, 3, 5)
PIXELS = 500  # drawn of each query that shows its class
FOUND_SHARE = 0.9  # of photos with the class, whose presence score reaches the threshold
ABSENT_STREAM, PIXEL_STREAM, MARK_STREAM = 5, 6, 7  # of random numbers, beside those of util/data/sampling.py


def calibrate(method: Engine) -> Path:
    """Fit the calibration of a method's weights, write it, and return its path.

    UserError: the data do not fit, or classes cannot be told apart.
    """
    config = method.run.config
    episodes = config.test.episodes or EPISODES
    lists = _training_lists(method, Run(config))
    shots = ", ".join(str(run.config.data.shot) for run, _ in lists)
    part = "training list" if config.data.fold_rule == LISTS else f"base classes of fold {config.data.fold}"
    made_on = f"{config.data.name} {part}"
    print(
        f"config: {files_of(config.source)}\n"
        f"calibrate {method.source} on {episodes} episodes of {made_on}, {shots}-shot, in {method.precision}",
        flush=True,
    )
    side = method.view.side
    view = View(LETTERBOX, side, side)
    world = ProcessGroup(0, 1, method.device)
    collected = Collected()
    for run, images in lists:
        score(
            prepare_network(method.network, method.device, method.precision),
            _Marked.of(run, images, view),
            episodes // len(lists),
            [collected],
            world,
            title="calibrate",
            batch=episodes_at_once(config.test.batch, world.device, run.config.data.shot + 1, side),
            workers=config.data.workers,
        )
    made_on += f", {episodes} episodes, seed {config.run.seed}, {shots}-shot, {view.rule} {side}"
    fitted, scores = collected.fitted(method.network, calibration.key_of(config, method.digest), made_on)
    path = calibration.calibration_path(config, method.source)
    write_atomically(path, yaml.safe_dump(asdict(fitted) | {"precision": method.precision}, sort_keys=False))
    print(f"on these episodes: {scores}\ncalibration: {path}", flush=True)
    return path


def _training_lists(method: Engine, run: Run) -> list[tuple[Run, ImageList]]:
    """Return the training list of each number of shots that the network and the list allow, with its run.

    UserError: the network's number of shots, or the config's, has none.
    """
    required_shot = method.trained_shots or run.config.data.shot
    shots = {required_shot} if method.trained_shots else {required_shot, *SHOTS}
    lists = []
    for shot in sorted(shots):
        run_of_shot = Run(run.config.with_data(shot=shot))
        try:
            images = images_for_training(run_of_shot)
            check_shots(images, run_of_shot.config.data)
            lists.append((run_of_shot, images))
        except UserError as error:  # too few images of a class
            if shot == required_shot:
                raise
            log.warning("calibrate: without %s-shot episodes: %s", shot, error)
    return lists


class HalfAbsent(EpisodeSampler):
    """Draws episodes of a list, of which half have a query without a pixel of their class."""

    @cached_property
    def without(self) -> dict[int, np.ndarray]:
        """Rows of the list's images that show no pixel of each class; UserError: every image shows one."""
        queries = self.images.queries
        areas = self.images.index.areas
        lacking = {class_id: queries[areas[queries, class_id] == 0] for class_id in self.images.classes}
        for class_id, rows in lacking.items():
            if not len(rows):
                raise UserError(f"calibrate: every training image shows class {class_id}; add some without it")
        return lacking

    def __call__(self, number: int) -> EpisodeKey:
        """Return the episode of a number."""
        key = super().__call__(number)
        random = random_stream(self.seed, ABSENT_STREAM, number)
        if random.random() < ABSENT:
            return replace(key, query=int(random.choice(self.without[key.class_id])))
        return key


class _Marked(TrialDataset):
    """Episodes of base classes, with marks of all kinds in turn."""

    @classmethod
    def of(cls, run: Run, images: ImageList, view: View) -> _Marked:
        """Return the episodes of a training list at a run's number of shots."""
        if images.index.one_class_masks:
            raise UserError(f"calibrate: needs masks of all classes, but each of {run.config.data.name} shows one")
        sampler = HalfAbsent(images, "shuffle", run.config.data.shot, run.config.run.seed)
        plain = trials(run, sampler, view, LETTERBOX)
        return cls(plain.episodes, plain.scored_on, play_novel=True)

    def __getitem__(self, number: int) -> Trial:
        trial = super().__getitem__(number)
        (way,) = trial.ways
        kind = KINDS[number % len(KINDS)]
        random = random_stream(0, MARK_STREAM, number)
        marks = [torch.from_numpy(drawn_label(label.numpy(), kind, random)) for label in way.support_label]
        return replace(trial, ways=[replace(way, support_label=torch.stack(marks))])


@dataclass(frozen=True)
class FoundMask:
    """The mask of a query: the episode's place among all, its IoU in 0..1, and margins of pixels."""

    episode: int
    iou: float
    margins: np.ndarray  # 500 of its pixels' at even steps of their order, float32


@dataclass
class Collected:
    """The observer that collects margins of pixels with their labels, masks, and inputs of the presence score."""

    masks: list[FoundMask] = field(default_factory=list)  # of the queries with any
    # Inputs of the presence score, and whether the query shows its class
    presence: list[np.ndarray] = field(default_factory=list)
    pixels: list[np.ndarray] = field(default_factory=list)  # margins and labels, (500, 2), of queries with their class

    def add(self, numbers: list[int], batch: Trial, output: Output) -> None:
        """Collect one batch."""
        for item, number in enumerate(numbers):
            label = batch.label[item]
            height, width = batch.shown[item]  # without padding
            background, foreground = output.logits[item, :, :height, :width].float()
            features = None if output.presence_features is None else output.presence_features[item, 0]
            inputs = calibration.presence_inputs(foreground - background, features)
            row = torch.cat([inputs, (label == 1).any()[None]]).cpu().numpy()
            logits = resize(output.logits[item : item + 1].float(), label.shape)[0]
            margin = (logits[1] - logits[0]).cpu().numpy()
            known_label = label.cpu().numpy()
            inside = (margin > 0) & (known_label != IGNORE)
            if inside.any():
                true = known_label == 1
                iou = float((inside & true).sum() / (inside | true).sum())
                steps = np.quantile(margin[inside], np.linspace(0, 1, PIXELS), method="nearest")
                self.masks.append(FoundMask(len(self.presence), iou, steps))
            self.presence.append(row)
            if row[-1] and KINDS[number % len(KINDS)] == MASK:
                self.pixels.append(_drawn_pixels(margin, known_label, number))

    def fitted(self, network: FewShotMethod, made_for: str, made_on: str) -> tuple[calibration.Calibration, str]:
        """Return the calibration, and its scores in words.

        UserError: all queries or none show their class, or larger margins do not mean the class.
        """
        inputs, shows_class = np.split(np.stack(self.presence), [-1], axis=1)
        present = shows_class[:, 0] > 0
        scale, offset = self._fit_pixels(present)
        weights, bias = _fit_presence(inputs, present, without_margins=network.learns)
        fitted = calibration.Calibration(
            calibration=calibration.FORMAT,
            model=network.title,
            made_for=made_for,
            made_on=made_on,
            scale=scale,
            offset=offset,
            weights=weights,
            bias=bias,
            threshold=0.0,
        )
        scores = np.array([fitted.presence(x) for x in inputs])
        threshold = float(np.quantile(scores[present], 1 - FOUND_SHARE))
        right = np.mean([mask.iou >= calibration.EVEN_OVERLAP for mask in self.masks] or [False])
        words = (
            f"presence accuracy {(present == (scores >= threshold)).mean():.1%}; "
            f"a pixel's probability is sigmoid({scale:.3g} m {offset:+.3g}); masks are right in {right:.1%}"
        )
        return replace(fitted, threshold=threshold, mask=self.fit_masks(fitted, scores)), words

    def fit_masks(self, fitted: calibration.Calibration, presence: np.ndarray) -> calibration.MaskScore | None:
        """Return the weights of a mask's score; None where all masks are right, or none is: it has none then."""
        is_right = np.array([mask.iou >= calibration.EVEN_OVERLAP for mask in self.masks], bool)
        if is_right.all() or not is_right.any():
            return None
        pixels = [float((1 / (1 + np.exp(-fitted.margins(mask.margins)))).mean()) for mask in self.masks]
        inputs = [
            [calibration.logit(presence[mask.episode]), calibration.logit(share)]
            for mask, share in zip(self.masks, pixels, strict=True)
        ]
        (of_presence, of_pixels), bias = fit_logistic(np.array(inputs), is_right)
        return calibration.MaskScore(float(of_presence), float(of_pixels), bias)

    def _fit_pixels(self, present: np.ndarray) -> tuple[float, float]:
        """Return scale and offset of a pixel's probability; ``present`` (n,) bool is whether queries show the class."""
        if self.pixels and present.any() and not present.all():
            margins, labels = np.concatenate(self.pixels).T
            (scale,), offset = fit_logistic(margins[:, None], labels > 0)
            if scale > 0:
                return float(scale), float(offset)
        raise UserError(
            "calibrate: this network does not tell base classes from background",
            fix="train it first, or set a larger test.episodes, to have queries with and without their class",
        )


def _drawn_pixels(margin_hw: np.ndarray, label_hw: np.ndarray, number: int) -> np.ndarray:
    """Return margin and label (1: the class) of random labelled pixels of an episode, (500, 2)."""
    pixels = np.stack([margin_hw.ravel(), label_hw.ravel() == 1], 1)
    return pixels[random_stream(0, PIXEL_STREAM, number).choice(np.flatnonzero(label_hw != IGNORE), PIXELS)]


def _fit_presence(inputs: np.ndarray, present: np.ndarray, without_margins: bool) -> tuple[list[float], float]:
    """Return weights and bias of the presence score.

    Those of the margin's numbers are 0 ``without_margins``, unless there are no other numbers.
    """
    unused = calibration.MARGIN_NUMBERS if without_margins and inputs.shape[1] > calibration.MARGIN_NUMBERS else 0
    weights, bias = fit_logistic(inputs[:, unused:], present)
    return [0.0] * unused + weights.tolist(), bias


def fit_logistic(x_nf: np.ndarray, y_n: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights (F,) and bias, which has no penalty, of the logistic regression of y (n,) on x (n, F)."""
    mean = x_nf.mean(0)
    deviation = x_nf.std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    x = torch.from_numpy((x_nf - mean) / deviation)
    y = torch.from_numpy(np.stack([~y_n, y_n], 1)).to(x)
    head = logistic(x, y, 1, penalty=1.0, steps=200, tolerance=1e-4)  # beside a sum of losses
    weights = head.weight[0].numpy() / deviation
    return weights, float(head.bias) - float(weights @ mean)
