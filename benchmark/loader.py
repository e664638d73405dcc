"""Measure the training episodes per second of one loader process: from decoded images, from files, and plainly.

The data set consists of synthetic photos of VOC's size, or with --root of the real ones of the config.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import cv2
import torch
from torch.utils.data import Dataset

from benchmark.naive_loader import NaiveEpisodes
from benchmark.reporting import add_common_options, conditions, progress, report, set_up, whole
from benchmark.synthetic_photos import draw
from benchmark.timing import Clock, in_turns
from benchmark.ways import OURS, PLAIN
from util.cli import numbers
from util.config.read import read_config
from util.config.settings import Config
from util.data.episodes import EpisodeDataset
from util.data.folds import Fold
from util.data.index import list_of
from util.engine.loading import batches
from util.engine.run_context import make_run_context, with_data
from util.engine.run_data import images_for_training, training_episodes

CONFIG = "config/pascal/pascal_split0_resnet50.yaml"
PHOTOS = 120  # synthetic
EPISODES = 32  # of a round; every round has other ones
BYTES_PER_KB = 1e3
CPU_DEVICE = torch.device("cpu")
DECODING = "decoding"  # ours without the cache of decoded images, ``data.decoded_gib: 0``
WAYS = (OURS, DECODING, PLAIN)
HEADER = [
    "case",
    *(f"{way} / {unit}" for unit in ("s", "CPU s") for way in WAYS),
    f"{OURS} / {PLAIN}",
    "through the loader / s",
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--config", default=CONFIG, help=f"config of the training to load for; default {CONFIG}")
    parser.add_argument("--root", help="folder of the config's real data set; default: synthetic photos")
    parser.add_argument("--size", type=whole, help="side of the training crops; default the config's")
    parser.add_argument("--shot", default="1,5", help="default 1,5")
    parser.add_argument("--photos", type=whole, default=PHOTOS, help=f"how many to draw; default {PHOTOS}")
    parser.add_argument("--episodes", type=whole, default=EPISODES, help=f"of a round; default {EPISODES}")
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure every number of shots and print the table."""
    clock, shots = set_up(options), numbers("--shot", options.shot)
    measured_under = conditions(clock, 1)
    torch.set_num_threads(1)  # as in a loader process
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        config = config_of(Path(folder), options.config, options.root, options.size, options.photos)
        rows = [row_of(with_data(config, shot=count), options.episodes, options.repeats) for count in shots]
    photos = options.root or "synthetic photos"
    title = f"{photos} of {rows[0]['photo_kb']:.0f} kB, training crops of {config.data.size} px: episodes"
    return report(options, measured_under, {title: (HEADER, [_line(row) for row in rows])}, rows)


def config_of(folder: Path, file: str, root: str | None, size: int | None, photos: int) -> Config:
    """Return a config over the data in ``root``, or over photos that are drawn into ``folder`` first.

    Args:
        folder: also of the cache.
        size: side of the training crops in pixels; None: the config's.
        photos: how many to draw.
    """
    changes = [f"data.cache={folder}/cache", f"data.root={root or folder}", "data.text=names"]
    changes += ["data.decoded_gib=1000"]  # enough for every data set
    changes += [f"data.size={size}"] if size else []
    config = read_config(file, changes)
    if not root:
        progress(f"drawing {photos} synthetic photos")
        data = config.data
        draw(folder, photos, list(Fold.of(data).base), list_of(data, "train"), (data.images, data.masks))
    return config


def row_of(config: Config, episodes: int, rounds: int) -> dict[str, Any]:
    """Return the rates for one number of shots: of the data sets themselves, and through a loader with one process."""
    progress(f"{config.data.shot}-shot")
    context = make_run_context(config)
    images = images_for_training(context, progress=False)
    dataset = training_episodes(context, images)
    from_files = training_episodes(context, replace(images, index=replace(images.index, decoded=None)))
    ways: dict[str, Dataset] = {OURS: dataset, DECODING: from_files, PLAIN: NaiveEpisodes(dataset)}
    readers = {way: _Reader(of_way, episodes) for way, of_way in ways.items()}
    seconds = in_turns(readers, rounds, Clock(CPU_DEVICE))
    rates = {f"{way}_per_second": episodes / median(seconds[way]) for way in ways}
    rates |= {f"{way}_per_cpu_second": episodes / median(readers[way].cpu_seconds) for way in ways}
    return {
        "shots": config.data.shot,
        "size": config.data.size,
        "photos": len(images.queries),
        "photo_kb": mean(images.index.images[row].stat().st_size for row in images.queries) / BYTES_PER_KB,
        **rates,
        "ours_over_naive": rates[f"{OURS}_per_second"] / rates[f"{PLAIN}_per_second"],
        "through_loader_per_second": through_loader(dataset, config.meta_stage.batch, episodes),
    }


class _Reader:
    """Reads the next ``episodes`` items of a data set at each call, and keeps the processor time of each call."""

    def __init__(self, dataset: Dataset, episodes: int):
        self.dataset, self.episodes, self.next = dataset, episodes, 0
        self.cpu_seconds: list[float] = []

    def __call__(self) -> None:
        start = time.process_time()
        for number in range(self.next, self.next + self.episodes):
            self.dataset[number]
        self.next += self.episodes
        self.cpu_seconds.append(time.process_time() - start)


def through_loader(
    dataset: EpisodeDataset, batch: int, episodes: int, workers: int = 1, device: torch.device = CPU_DEVICE
) -> float:
    """Return the episodes per second of the engine's loader with ``workers`` processes, after its first batch."""
    batch_numbers = [list(range(i * batch, (i + 1) * batch)) for i in range(1 + -(-episodes // batch))]
    stream = batches(dataset, batch_numbers, workers, device)
    next(stream)
    clock = Clock(device)
    start = clock()
    count = sum(len(episode.number) for episode in stream)
    return count / (clock() - start)


def _line(row: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    rates = [row[f"{way}_per_{unit}"] for unit in ("second", "cpu_second") for way in WAYS]
    return [
        f"{row['shots']}-shot",
        *(f"{rate:.0f}" for rate in rates),
        f"{row['ours_over_naive']:.2f}",
        f"{row['through_loader_per_second']:.0f}",
    ]
