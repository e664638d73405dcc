"""Pictures of chosen episodes of a test (worst, best, random), drawn on the photos from the predictions it scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from model.common.ops import resize
from model.episode import IGNORE
from util.data.images.labels import binary, numbered
from util.data.images.views import to_photo
from util.data.sampling import EpisodeKey
from util.errors import UserError, nearest
from util.evaluate.evaluate import BASE, FINAL, NUMBER, iou_of
from util.evaluate.jobs import Job
from util.evaluate.kept_predictions import BEST, KINDS, RANDOM, WORST, Kept, random_episodes
from util.report.charts import BARS, CURVE
from util.report.contact_sheet import Entry, thumbnail, write_sheet
from util.report.figure import SUFFIXES, write_figure
from util.report.overlay import PREDICTION_COLOUR, SUPPORT_COLOUR, TRUTH_COLOUR, Colour, class_map, heat, overlay
from util.report.pictures import PANEL_HEIGHT, Board, draw, panel_size

FOLDER, SHEET = "pictures", "index.html"
EPISODES = "episodes"  # beside every result, with the curve and the bars
BASE_NAMES = 2  # base classes named in a caption
PHOTOS = 256  # kept in the size of a panel, 0.3 MiB each
Records = dict[int, dict[str, np.ndarray]]  # seed -> output -> (episodes, 6) counts, see evaluation.py


def parse_kinds(text: str) -> dict[str, int]:
    """Return the kinds of episodes and their numbers, such as ``worst:20,best:20,random:20``.

    Raises:
        UserError: an unknown kind, or no number.
    """
    out = {}
    for part in filter(None, text.split(",")):
        kind, _, count = part.partition(":")
        if kind not in KINDS:
            raise UserError(f"--save-images {part}: '{kind}' is unknown{nearest(kind, KINDS)}")
        if not count.isdecimal() or int(count) < 1:
            raise UserError(f"--save-images {part}: write {kind}:20, with a number of at least 1")
        out[kind] = int(count)
    return out


def choose(records: Records, wanted: dict[str, int]) -> dict[tuple[int, int], list[str]]:
    """Return the chosen episodes, (seed, number) -> kinds, by the final output's IoU."""
    numbers = {seed: np.unique(outputs[FINAL][:, NUMBER]).tolist() for seed, outputs in records.items()}
    ranked = sorted((iou_of(_episode(records[s][FINAL], n)), s, n) for s, of_seed in numbers.items() for n in of_seed)
    order = [entry[1:] for entry in ranked]
    drawn = random_episodes({seed: len(of_seed) for seed, of_seed in numbers.items()}, wanted.get(RANDOM, 0))
    chosen: dict[tuple[int, int], list[str]] = {}
    for kind, episodes in ((WORST, order), (BEST, order[::-1]), (RANDOM, drawn)):
        for episode in episodes[: wanted.get(kind, 0)]:
            chosen.setdefault(episode, []).append(kind)
    return chosen


def _episode(records: np.ndarray, number: int) -> np.ndarray:
    """Return the records of one episode."""
    return records[records[:, NUMBER] == number]


def remove_pictures(folder: Path) -> None:
    """Remove the pictures of an earlier test from the folder of a result."""
    old = [folder / FOLDER / SHEET]
    for suffix in SUFFIXES:
        old += (folder / FOLDER).glob(f"seed*_episode*.{suffix}")
        old += (folder / f"{name}.{suffix}" for name in (CURVE, BARS, EPISODES))
    for path in old:
        path.unlink(missing_ok=True)
    if (folder / FOLDER).is_dir() and not any((folder / FOLDER).iterdir()):
        (folder / FOLDER).rmdir()


def save_pictures(
    job: Job,
    records: Records,
    wanted: dict[str, int],
    kept: dict[tuple[int, int], Kept],
    folder: Path,
    title: str,
    figures: str | None = None,
) -> None:
    """Draw the chosen episodes of a job into ``folder/pictures``, with an index.html that shows them.

    Args:
        wanted: kind (worst, best, random) -> number of episodes.
        kept: (seed, number) -> predictions of the chosen episodes, at least.
        figures: a second format of every picture, pdf or svg.
    """
    out, photo = folder / FOLDER, lru_cache(maxsize=PHOTOS)(partial(_photo, job))
    names, index = job.context.config.data.classes, job.images.index
    entries = []
    for (seed, number), kinds in tqdm(choose(records, wanted).items(), desc="draw", unit="picture", leave=False):
        ious = {name: iou_of(_episode(table, number)) for name, table in records[seed].items()}
        key = job.samplers[seed](number)
        name, query = ", ".join(names[c - 1] for c in key.classes), index.names[key.query]
        caption = f"{title}, {name}, query {query}, seed {seed}, episode {number}"
        panels = [*_supports(job, key, names, photo), *_query(job, key, photo(key.query), kept[seed, number], ious)]
        path = out / f"seed{seed}_episode{number:05d}"
        picture = write_figure(path, draw([Board(caption, panels)]), figures)
        entries.append(Entry(f"{path.name}.png", name, ious[FINAL], kinds, query, thumbnail(picture)))
    write_sheet(out / SHEET, title, entries)


@dataclass(frozen=True)
class Photo:
    """A photo in the size of a panel: (H, W, 3) and its class ids (H, W), uint8; and its height and width as stored."""

    image: np.ndarray
    classes: np.ndarray
    stored: tuple[int, int]


def _photo(job: Job, row: int) -> Photo:
    """Return an image of the job's index."""
    image, classes = job.images.index.pair(row)
    width, height = panel_size(image)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if height < len(image) else cv2.INTER_CUBIC)
    labels = cv2.resize(classes, (width, height), interpolation=cv2.INTER_NEAREST)
    return Photo(small, labels, (image.shape[0], image.shape[1]))


def _supports(
    job: Job, key: EpisodeKey, names: list[str], photo: Callable[[int], Photo]
) -> list[tuple[str, np.ndarray]]:
    panels = []
    for value, way in enumerate(key.ways, 1):
        for number, support in enumerate(map(photo, way.supports), 1):
            label = binary(support.classes, job.images.index.value_of(way.class_id)).numpy()
            shown = _drawn(support.image, np.where(label == 1, value, label), SUPPORT_COLOUR, key)
            panels.append((f"support {number}: {names[way.class_id - 1]}", shown))
    return panels


def _drawn(image: np.ndarray, label: np.ndarray, colour: Colour, key: EpisodeKey) -> np.ndarray:
    """Return an image with its label: the classes of several ways have colours of their own, one class the given."""
    if key.others:
        return class_map(image, np.where(label == IGNORE, 0, label))
    return overlay(image, label, colour)


def _query(job: Job, key: EpisodeKey, query: Photo, kept: Kept, ious: dict[str, float]) -> list[tuple[str, np.ndarray]]:
    """Return the query's panels: photo, truth, maps, the base classes, and every two-channel output with its IoU."""
    values = [job.images.index.value_of(class_id) for class_id in key.classes]
    image, truth = query.image, numbered(query.classes, values).numpy()
    panels = [("query", image), ("truth", _drawn(image, truth, TRUTH_COLOUR, key))]

    def on_photo(scored: np.ndarray) -> np.ndarray:
        """Return a map (H', W') of the scored label's size on the panel's pixels (H, W)."""
        full = to_photo(scored, query.stored, job.view.rule, job.scored_on, job.view.side)
        how = cv2.INTER_NEAREST if scored.dtype == np.uint8 else cv2.INTER_LINEAR
        return cv2.resize(full, (image.shape[1], PANEL_HEIGHT), interpolation=how)

    predictions = {name: packed.array() for name, packed in kept.predictions.items()}
    predictions[FINAL] = predictions.pop(FINAL)  # drawn last
    for name, packed in kept.maps.items():
        kept_map = torch.from_numpy(packed.array().astype(np.float32))[None, None]
        shown = resize(kept_map, predictions[FINAL].shape)[0, 0].numpy()
        panels.append((f"{name} (blue 0, red 1)", heat(image, on_photo(shown))))
    if BASE in predictions:
        ids = on_photo(predictions.pop(BASE))
        panels.append((f"base: {_base_names(job, ids)}", class_map(image, ids)))
    for name, mask in predictions.items():
        if name in ious:
            panels.append((f"{name}, IoU {ious[name]:.1f} %", _drawn(image, on_photo(mask), PREDICTION_COLOUR, key)))
    return panels


def _base_names(job: Job, ids: np.ndarray) -> str:
    """Return the names of the base classes that cover most of a map."""
    found, counts = np.unique(ids[ids > 0], return_counts=True)
    names = job.context.config.data.classes
    largest = [names[job.context.fold.base[int(found[i]) - 1] - 1] for i in np.argsort(-counts)[:BASE_NAMES]]
    return ", ".join(largest) or "nothing"
