"""Pictures of chosen episodes of a test (worst, best, random), drawn on the original photos."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from model.common.ops import resize
from model.contract import Output
from util.data.episodes import Trial, binary, collate
from util.data.sampling import EpisodeKey, random_stream
from util.data.views import to_photo
from util.engine.evaluation import BASE, BINARY, FINAL, INTERSECTION, NUMBER, UNION, scored_outputs
from util.engine.run_data import trials
from util.engine.test_jobs import Job
from util.errors import UserError, nearest
from util.report.contact_sheet import Entry, write_sheet
from util.report.overlay import PREDICTION_COLOUR, SUPPORT_COLOUR, TRUTH_COLOUR, class_map, heat, overlay
from util.report.pictures import board, write_png

KINDS = ("worst", "best", "random")
FOLDER, SHEET = "pictures", "index.html"
CURVE, BARS, EPISODES = DRAWN = "curve.png", "per_class.png", "episodes.png"  # files beside every result
RANDOM = 3  # a stream of random numbers, beside those of util/data/sampling.py
BASE_NAMES = 2  # base classes named in a caption


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


def choose(records: dict[int, dict[str, np.ndarray]], wanted: dict[str, int]) -> dict[tuple[int, int], list[str]]:
    """Return the chosen episodes, (seed, number) -> kinds, by the final output's IoU."""
    rows = [(seed, int(r[NUMBER]), iou_of(r)) for seed, outputs in records.items() for r in outputs[FINAL]]
    order = sorted(range(len(rows)), key=lambda i: (rows[i][2], rows[i][:2]))
    drawn = random_stream(0, RANDOM).permutation(len(rows)).tolist()
    chosen: dict[tuple[int, int], list[str]] = {}
    for kind, ranked in (("worst", order), ("best", order[::-1]), ("random", drawn)):
        for i in ranked[: wanted.get(kind, 0)]:
            chosen.setdefault(rows[i][:2], []).append(kind)
    return chosen


def iou_of(record: np.ndarray) -> float:
    """Return the foreground IoU of an episode's record in percent."""
    return 100.0 * int(record[INTERSECTION]) / max(int(record[UNION]), 1)


def remove_pictures(folder: Path) -> None:
    """Remove the pictures of an earlier test from the folder of a result.

    Raises:
        UserError: they cannot be removed.
    """
    old = [*(folder / FOLDER).glob("seed*_episode*.png"), folder / FOLDER / SHEET]
    try:
        for path in [*old, *(folder / name for name in DRAWN)]:
            path.unlink(missing_ok=True)
        if (folder / FOLDER).is_dir() and not any((folder / FOLDER).iterdir()):
            (folder / FOLDER).rmdir()
    except OSError as error:
        raise UserError(f"{folder}: old pictures cannot be removed ({error.strerror}); remove them by hand") from None


@torch.inference_mode()
def save_pictures(
    job: Job,
    records: dict[int, dict[str, np.ndarray]],
    wanted: dict[str, int],
    folder: Path,
    title: str,
) -> None:
    """Draw the chosen episodes of a job into ``folder/pictures``, with an index.html that shows them.

    Args:
        records: seed -> output -> (episodes, 6) counts, see evaluation.py.
        wanted: kind (worst, best, random) -> number of episodes.
    """
    out = folder / FOLDER
    job.prepared.network.eval()
    entries = []
    for (seed, number), kinds in tqdm(choose(records, wanted).items(), desc="draw", unit="picture", leave=False):
        data = trials(job.context, job.samplers[seed], job.view, (job.scored_on,))
        trial = cast(Trial, collate([data[number]]).to(job.prepared.device))
        output = job.prepared(trial.episode)
        ious = {name: iou_of(t[t[:, NUMBER] == number][0]) for name, t in records[seed].items()}
        key = job.samplers[seed](number)
        names, index = job.context.config.data.classes, job.images.index
        caption = f"{title}, {names[key.class_id - 1]}, query {index.names[key.query]}, seed {seed}, episode {number}"
        picture = board(caption, [*_supports(job, key), *_query(job, key, trial, output, ious)])
        path = out / f"seed{seed}_episode{number:05d}.png"
        write_png(path, picture)
        entries.append(Entry(path.name, names[key.class_id - 1], ious[FINAL], kinds, index.names[key.query], picture))
    write_sheet(out / SHEET, title, entries)


def _supports(job: Job, key: EpisodeKey) -> list[tuple[str, np.ndarray]]:
    name = job.context.config.data.classes[key.class_id - 1]
    panels = []
    for number, row in enumerate(key.supports, 1):
        image, classes = _read(job, row)
        label = binary(classes, key.class_id).numpy()
        panels.append((f"support {number}: {name}", overlay(image, label, SUPPORT_COLOUR)))
    return panels


def _read(job: Job, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of the job's index and its map of class ids, as stored."""
    return job.images.index.pair(row)


def _query(
    job: Job, key: EpisodeKey, trial: Trial, output: Output, ious: dict[str, float]
) -> list[tuple[str, np.ndarray]]:
    """Return the query's panels: photo, truth, maps, the base classes, and every two-channel output with its IoU."""
    image, classes = _read(job, key.query)
    truth = binary(classes, key.class_id).numpy()
    panels = [("query", image), ("truth", overlay(image, truth, TRUTH_COLOUR))]
    label = trial.label[job.scored_on][0]

    def on_photo(map_hw: Tensor) -> np.ndarray:
        """Return a map (H', W') of the scored label's size on the photo's pixels (H, W)."""
        height, width = image.shape[:2]
        return to_photo(map_hw.cpu().numpy(), (height, width), job.view.rule, job.scored_on, job.view.side)

    for name, values in output.maps.items():
        shown = resize(values[:1, None].float(), label.shape)[0, 0]
        panels.append((f"{name} (blue 0, red 1)", heat(image, on_photo(shown))))
    outputs = scored_outputs(output)
    outputs[FINAL] = outputs.pop(FINAL)  # drawn last
    predictions = {
        name: on_photo(resize(logits[:1].float(), label.shape).argmax(1)[0].byte()) for name, logits in outputs.items()
    }
    if BASE in predictions:
        ids = predictions.pop(BASE)
        panels.append((f"base: {_base_names(job, ids)}", class_map(image, ids)))
    two_channel = [n for n, logits in outputs.items() if logits.shape[1] == BINARY]
    for name in (n for n in two_channel if n in predictions):
        panels.append((f"{name}, IoU {ious[name]:.1f} %", overlay(image, predictions[name], PREDICTION_COLOUR)))
    return panels


def _base_names(job: Job, ids: np.ndarray) -> str:
    """Return the names of the base classes that cover most of a map."""
    found, counts = np.unique(ids[ids > 0], return_counts=True)
    names = job.context.config.data.classes
    largest = [names[job.context.fold.base[int(found[i]) - 1] - 1] for i in np.argsort(-counts)[:BASE_NAMES]]
    return ", ".join(largest) or "nothing"
