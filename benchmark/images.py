"""Measure the cost of a data set's size: index, lists and sampling of drawn indices, up to ten times published COCO.

Each size has a process of its own. Its index is drawn: ``CLASSES`` classes, of which each image shows a few. Photos and
masks do not exist; reading them once for the index is linear in their number, and not measured here.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmark.linear_fit import HEADER, linear_fit
from benchmark.process import Measurement, measure
from benchmark.reporting import Rows, add_common_options, conditions, progress, report, set_up
from benchmark.ways import Run
from util.cli import numbers
from util.config.settings import DataSettings
from util.data.folds import Fold
from util.data.index import Index, read_cache, write_cache
from util.data.lists import train_list
from util.data.sampling import EpisodeSampler

COCO = 82_081  # images of train2014 with an annotation
SIZES = f"{COCO // 10},{COCO},{10 * COCO}"
CLASSES, FOLDS = 80, 4
SHOWN = 2.9 / CLASSES  # probability that an image shows a class
AREA = (8.5, 1.5)  # mean and deviation of the logarithm of a class's pixels in an image
EPISODES = 1000
INDEX, LIST, DRAW = "index", "list", "episodes"
STEPS = {INDEX: "read the index", LIST: "make the list", DRAW: f"draw {EPISODES} episodes"}
SIDE, THOUSAND = 500, 1000


@dataclass(frozen=True, kw_only=True)
class ImagesCase(Measurement):
    """One step over an index of so many images."""

    images: int
    step: str

    def prepare(self, device: torch.device) -> Run:
        """Return the step; what comes before it exists then."""
        index = drawn_index(self.images)
        if self.step == INDEX:
            folder = tempfile.TemporaryDirectory()
            path = Path(folder.name) / "index.npz"
            write_cache(path, index.fingerprint, np.asarray(index.areas), index.sizes)

            def read() -> object:
                found = read_cache(path, index.fingerprint, self.images, CLASSES)
                assert found is not None and folder.name  # which keeps the folder
                return found

            return read
        classes = [f"class {i}" for i in range(1, CLASSES + 1)]
        data = DataSettings(name="drawn", root="", train_list="drawn", test_list=None, classes=classes, folds=FOLDS)
        if self.step == LIST:
            return lambda: train_list(index, Fold.of(data), data)
        images = train_list(index, Fold.of(data), data)
        return lambda: EpisodeSampler(images, "shuffle", 1, seed=0).digest(EPISODES)


def drawn_index(images: int) -> Index:
    """Return an index of images that do not exist; each shows a class with the probability ``SHOWN``."""
    random = np.random.default_rng(0)
    shape = images, CLASSES
    pixels = np.where(random.random(shape) < SHOWN, random.lognormal(*AREA, shape), 0)
    pixels = (pixels * np.minimum(SIDE**2 / pixels.sum(1, keepdims=True).clip(1), 1)).astype(np.int64)
    areas = np.concatenate([np.zeros((images, 1), np.int64), pixels], axis=1)
    names = tuple(f"COCO_train2014_{number:012d}" for number in range(images))
    nowhere = (Path(),) * images
    return Index(names, areas, nowhere, nowhere, "drawn", np.full((images, 2), SIDE, np.int64))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--images", default=SIZES, help=f"numbers of images; default {SIZES}")
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure every step at every number of images and print the tables."""
    counts, clock = numbers("--images", options.images), set_up(options)
    measured_under = conditions(clock, options.threads)
    rows: Rows = []
    fits = []
    for step, words in STEPS.items():
        seconds = {}
        for count in counts:
            progress(f"{words}, {count} images")
            case = ImagesCase(images=count, step=step, calls=options.repeats, warm_up=True, clock=clock.kind)
            (outcome,) = measure([case])
            seconds[count / THOUSAND] = outcome.seconds
            above = max(outcome.peaks) - outcome.before
            rows.append({"step": step, "at": count, "seconds": median(outcome.seconds), "mib": above})
        fit = linear_fit(seconds)
        fits += [fit.line(f"{words}, thousand images")] if fit else []
    lines = [[STEPS[r["step"]], str(r["at"]), f"{r['seconds']:.4f}", f"{r['mib']:.0f}"] for r in rows]
    tables = {"drawn indices": (["step", "images", "s", "MiB above the index"], lines)}
    return report(options, measured_under, tables | ({"linear fits, s": (HEADER, fits)} if fits else {}), rows)
