"""Fit a calibration on base classes: ``python test.py CONFIG --calibrate``.

Episodes are those of the protocol ``presence``, but of base classes on training images, sized as in a test: the classes
of the test fold and its images have no part (with ``data.fold_rule: lists``, the images of the test list). They have 1,
3 and 5 supports, where the method takes them, and masks, boxes, points and scribbles in turn: one score serves all.
Both regressions are logistic, with a weak quadratic penalty on weights of standardised inputs, and solved by SciPy.

The margins of a network that learnt from base classes are greater for these than for novel ones. Its presence score is
therefore fitted on its own numbers alone (``Output.presence_features``), which come from the encoder, without margins.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
import yaml

from model.common.linear import logistic
from model.common.ops import resize
from model.contract import FewShotModel
from model.episode import IGNORE, Output
from model.registry import class_of
from util.config.folds import LISTS
from util.config.settings import Config
from util.data.episodes import Trial, TrialDataset
from util.data.lists.image_list import ImageList
from util.data.marks import KINDS, MASK, drawn_mark
from util.data.sampling import EpisodeSampler, random_stream
from util.errors import UserError
from util.evaluate import calibration
from util.evaluate.evaluate import run_pass
from util.evaluate.test import Test, own_config
from util.files import write_atomically
from util.runtime.context import RunContext, make_run_context, with_data
from util.runtime.data import check_sampler, images_for_training, trials
from util.runtime.device import episodes_at_once, precision_of_test
from util.runtime.network import PreparedNetwork, prepare_network
from util.runtime.processes import ProcessGroup, join

log = logging.getLogger("symnet")
PROTOCOL = "presence"  # whose share of absent classes and image sizes are taken
EPISODES, SHOTS, PIXELS = 1200, (1, 3, 5), 500  # in all; supports; drawn of each query that shows its class
PIXEL_STREAM, MARK_STREAM = 6, 7  # of random numbers, beside those of util/data/sampling.py


def calibrate(config: Config) -> Path:
    """Fit the calibration of a run's weights, write it, and return its path.

    UserError: there is no protocol ``presence``, the weights or the data do not fit, or classes cannot be told apart.
    """
    if PROTOCOL not in config.protocols:
        raise UserError(f"--calibrate: this config has no protocol '{PROTOCOL}'; inherit config/protocols.yaml")
    if (cls := class_of(config.model)).generalised:
        raise UserError(f"--calibrate: {cls.title} labels all classes at once and has no presence score")
    config = own_config(with_data(config, decoded_gib=0.0), PROTOCOL, config.data.shot)  # a photo is read once or twice
    test, count = Test(config, progress=True), config.test.episodes or EPISODES
    with join(config.run.device, "test.batch, data.size or data.workers") as world:
        if world.size > 1:
            raise UserError("--calibrate: runs in one process; give one GPU, or 0 for the CPU")
        weights, lists = test.weights, _training_lists(test)
        precision = precision_of_test(config, world.device)
        shots = ", ".join(str(context.config.data.shot) for context, _ in lists)
        part = "training list" if config.data.fold_rule == LISTS else f"base classes of fold {config.data.fold}"
        made_on = f"{config.data.name} {part}"
        print(f"calibrate {weights.source} on {count} episodes of {made_on}, {shots}-shot, in {precision}", flush=True)
        seen = Collected()
        prepared = prepare_network(test.network, world.device, precision, config.run.compile, graphs=config.run.graphs)
        for context, images in lists:
            _collect(test, context, images, count // len(lists), seen, prepared, world)
    made_on += f", {count} episodes, seed {config.run.seed}, {shots}-shot, {test.view.rule} {test.view.side}"
    made, scores = seen.fitted(test.network, calibration.key_of(config, weights.digest), made_on)
    made = replace(made, precision=precision)
    path = calibration.calibration_path(config, weights.source)
    write_atomically(path, yaml.safe_dump(asdict(made), sort_keys=False))
    print(f"on these episodes: {scores}\ncalibration: {path}", flush=True)
    return path


def _training_lists(test: Test) -> list[tuple[RunContext, ImageList]]:
    """Return the training list of each number of shots that the network and the list allow, with its context.

    UserError: the network's own number of shots, or the test's, has none.
    """
    fixed = test.network.shots_of(test.network.state_dict())
    own, out = fixed or test.shot, list[tuple[RunContext, ImageList]]()
    for shot in sorted({own} if fixed else {own, *SHOTS}):
        context = make_run_context(with_data(test.config, shot=shot))
        try:
            out.append((context, images_for_training(context)))
        except UserError as error:  # too few images of a class
            if shot == own:
                raise
            log.warning("--calibrate: without %s-shot episodes: %s", shot, error)
    return out


def _collect(
    test: Test,
    context: RunContext,
    images: ImageList,
    episodes: int,
    seen: Collected,
    prepared: PreparedNetwork,
    world: ProcessGroup,
) -> None:
    """Run the network over episodes of a training list, at the context's number of shots; ``seen`` observes them."""
    config, shot = context.config, context.config.data.shot
    side = test.view.side or config.data.size
    batch = episodes_at_once(config.test.batch, world.device, shot + 1, side)
    sampler = EpisodeSampler(images, "shuffle", shot, config.run.seed, absent=test.protocol.absent)
    check_sampler(images, sampler, PROTOCOL, "the training list")
    data = trials(context, sampler, test.view, (test.scored_on,))
    marked = _Marked(data.episodes, data.scored_on, play_novel=True)
    run_pass(prepared, marked, episodes, [seen], world, "calibrate", batch, config.data.workers)


class _Marked(TrialDataset):
    """Episodes of base classes, with marks of all kinds in turn."""

    def __getitem__(self, number: int) -> Trial:
        trial, random = super().__getitem__(number), random_stream(0, MARK_STREAM, number)
        (way,), kind = trial.ways, KINDS[number % len(KINDS)]
        marked = torch.stack([torch.from_numpy(drawn_mark(x.numpy(), kind, random)) for x in way.support_label])
        return replace(trial, ways=[replace(way, support_label=marked)])


class Collected:
    """The observer that collects margins of pixels with their labels, and inputs of the presence score."""

    def __init__(self) -> None:
        self.presence: list[np.ndarray] = []  # inputs of the presence score, and whether the query shows its class
        self.pixels: list[np.ndarray] = []  # margins and labels, (500, 2), of each query that shows its class

    def add(self, numbers: list[int], batch: Trial, output: Output) -> None:
        """Collect one batch."""
        (labels,) = batch.label.values()
        for item, number in enumerate(numbers):
            inputs, shown = calibration.presence_inputs_in(output, item, batch.shown[item]), (labels[item] == 1).any()
            self.presence.append(torch.cat([inputs, shown[None]]).cpu().numpy())
            if self.presence[-1][-1] and KINDS[number % len(KINDS)] == MASK:
                logits = resize(output.logits[item : item + 1].float(), labels[item].shape)[0]
                margin, label = (x.cpu().numpy().ravel() for x in (logits[1] - logits[0], labels[item]))
                drawn = random_stream(0, PIXEL_STREAM, number).choice(np.flatnonzero(label != IGNORE), PIXELS)
                self.pixels.append(np.stack([margin[drawn], label[drawn] == 1], 1))

    def fitted(self, network: FewShotModel, made_for: str, made_on: str) -> tuple[calibration.Calibration, str]:
        """Return the calibration, and its scores in words.

        UserError: all queries or none show their class, or larger margins do not mean the class.
        """
        inputs, present = np.split(np.stack(self.presence), [-1], axis=1)
        present = present[:, 0] > 0
        scale = offset = 0.0
        if self.pixels and 0 < present.sum() < len(present):
            margins, labels = np.concatenate(self.pixels).T
            (scale,), offset = fit_logistic(margins[:, None], labels > 0)
        if not scale > 0:
            fix = "train it first, or take more --episodes: queries with and without their class are needed"
            raise UserError(f"--calibrate: this network does not tell base classes from background; {fix}")
        unused = calibration.MARGIN_NUMBERS if network.learns and inputs.shape[1] > calibration.MARGIN_NUMBERS else 0
        weights, bias = fit_logistic(inputs[:, unused:], present)
        facts = calibration.FORMAT, network.title, made_for, made_on, float(scale), float(offset)
        made = calibration.Calibration(*facts, [0.0] * unused + weights.tolist(), bias, 0.0)
        score = np.array([made.presence(x) for x in inputs])
        threshold = float(np.quantile(score[present], 1 - 0.9))  # which nine of ten photos with the class reach
        own = calibration.presence_scores(present, score, score >= threshold)
        listed = ", ".join(f"{name.replace('_', ' ')} {value:.1f} %" for name, value in own.items())
        pixel = f"a pixel's probability is sigmoid({made.scale:.3g} m {made.offset:+.3g})"
        return replace(made, threshold=threshold), f"{listed}; {pixel}"


def fit_logistic(x_nf: np.ndarray, y_n: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights (F,) and bias, which has no penalty, of the logistic regression of y (n,) on x (n, F)."""
    mean, deviation = x_nf.mean(0), x_nf.std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    x, y = torch.from_numpy((x_nf - mean) / deviation), torch.from_numpy(np.stack([~y_n, y_n], 1))
    head = logistic(x, y.to(x), 1, penalty=1.0, steps=200, tolerance=1e-4)  # beside a sum of losses
    weights = head.weight[0].numpy() / deviation
    return weights, float(head.bias) - float(weights @ mean)
