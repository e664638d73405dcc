"""Whether a result agrees with itself and with its episodes: edited scores are refused instead of printed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from util.data.manifest import Manifest, ways_of
from util.errors import UserError
from util.report.scores import mean_iou, over_seeds

TOLERANCE = 1e-6  # percentage points; scores are written with all digits
FULL = 100.0
MAX_COUNT = 2**63 - 1  # of pixels: the largest int64
SHOWN = 40  # characters of a wrong value in a message
MEND = "it was edited or mixed up; score the run again"


def check_scores(result: dict[str, Any], source: str) -> None:
    """Refuse a result whose scores cannot be, or whose mean and deviation are not those of its seeds.

    Raises:
        UserError: names the output and the score.
    """
    for number, of_seed in enumerate(result["per_seed"]):
        for name, scores in of_seed.items():
            where = f"{source}: per_seed[{number}].{name}"
            values = [*scores.get("per_class", {}).values(), *(v for k, v in scores.items() if k != "per_class")]
            odd = next((v for v in values if not 0 <= v <= FULL), None)  # NaN is not in the range either
            if odd is not None:
                raise UserError(f"{where} has the score {odd:g}, which is not between 0 and {FULL:g}; {MEND}")
            per_class = list(scores.get("per_class", {}).values())
            if per_class and "miou" in scores:
                agree(scores["miou"], sum(per_class) / len(per_class), f"{where}.miou", "the mean of its classes")
    expected = over_seeds(result["per_seed"])
    for key, of_outputs in expected.items():
        if of_outputs.keys() != result[key].keys():
            raise UserError(f"{source}: '{key}' and 'per_seed' are of different outputs; {MEND}")
        for name, scores in of_outputs.items():
            if scores.keys() != result[key][name].keys():
                raise UserError(f"{source}: {key}.{name} and 'per_seed' have different scores; {MEND}")
            for score, value in scores.items():
                agree(result[key][name][score], value, f"{source}: {key}.{name}.{score}", "that of its seeds")


def check_episodes(result: dict[str, Any], manifest: Manifest, source: str, path: Path) -> None:
    """Refuse a result whose scores are not those of the episodes beside it.

    Raises:
        UserError: names the seed, the output and the score, or the line whose counts cannot be.
    """
    of_seeds: dict[int, dict[str, list[tuple[list[int], list[int]]]]] = {}
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        outputs = episode.get("outputs")
        if not isinstance(outputs, dict):
            return  # episodes without counts, which others wrote
        seed = of_seeds.setdefault(episode.get("seed", 0), {})
        classes = [class_id for class_id, _ in ways_of(episode)]
        for name in outputs:
            seed.setdefault(name, []).append((classes, counts_of(outputs, name, f"{path}:{line}", len(classes))))
    if set(of_seeds) != set(result["seeds"]):
        raise UserError(f"{source}: has the seeds {result['seeds']}, {path.name} has {sorted(of_seeds)}; {MEND}")
    for number, seed in enumerate(result["seeds"]):
        for name, rows in of_seeds[seed].items():
            scores = result["per_seed"][number].get(name)
            if scores is None or any(len(counts) != columns(len(classes)) for classes, counts in rows):
                continue
            where = f"{source}: per_seed[{number}].{name}"
            for score, value in _scores_of(rows).items():
                if score in scores:
                    agree(scores[score], value, f"{where}.{score}", f"that of {path.name}")
            for class_id, value in _iou_of_classes(rows).items():
                if class_id in scores.get("per_class", {}):
                    agree(scores["per_class"][class_id], value, f"{where}.per_class.{class_id}", f"that of {path.name}")


def check_counted(result: dict[str, Any], manifest: Manifest, path: Path) -> None:
    """Refuse episodes that lack counts of an output with scores; ``check_episodes`` compares those that are there.

    Raises:
        UserError: names the line and the output.
    """
    scored = {
        seed: [name for name, scores in of_seed.items() if "fb_iou" in scores]
        for seed, of_seed in zip(result["seeds"], result["per_seed"], strict=True)
    }
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        outputs, wanted = episode.get("outputs"), columns(len(ways_of(episode)))
        for name in scored.get(episode.get("seed", 0), []):
            counts = outputs.get(name) if isinstance(outputs, dict) else None
            if not isinstance(counts, list) or len(counts) != wanted:
                raise UserError(f"{path}:{line}: this episode has no counts of '{name}'; {MEND}")


def columns(ways: int) -> int:
    """Return how many counts an episode has: I, U of each class, of the background, and of any class if several."""
    return 2 * ways + (2 if ways == 1 else 4)


def counts_of(outputs: dict[str, Any], name: str, where: str, ways: int = 1) -> list[int]:
    """Return an output's counts of one episode, as ``util/data/manifest.py`` describes; one way may lack background.

    Raises:
        UserError: they are no counts.
    """
    values = outputs[name]
    if not _are_counts(values) or (ways > 1 and len(values) != columns(ways)):
        shown = json.dumps(values)[:SHOWN]
        raise UserError(
            f"{where}: counts of '{name}' must be whole numbers [I, U, ...] with 0 <= I <= U < 2**63, not {shown}; "
            "score the run again"
        )
    return values


def _are_counts(values: Any) -> bool:
    if not isinstance(values, list) or len(values) < 2 or len(values) % 2 or any(type(v) is not int for v in values):
        return False
    return all(0 <= i <= u <= MAX_COUNT for i, u in zip(values[::2], values[1::2], strict=True))


def _scores_of(rows: list[tuple[list[int], list[int]]]) -> dict[str, float]:
    """Return ``miou`` and ``fb_iou`` of one seed's episodes, each (classes, counts)."""
    _, row_of, sums = _sums(rows)
    sides = [FULL * i / max(u, 1) for i, u in np.sum([_pairs(values)[-2:] for _, values in rows], axis=0)]
    return {"miou": float(mean_iou(sums[:, 0], sums[:, 1], np.bincount(row_of))), "fb_iou": float(sum(sides) / 2)}


def _iou_of_classes(rows: list[tuple[list[int], list[int]]]) -> dict[str, float]:
    """Return the IoU in percent of each class of one seed's episodes, by class id as text."""
    classes, _, sums = _sums(rows)
    return {str(c): float(FULL * i / max(u, 1)) for c, (i, u) in zip(classes.tolist(), sums.tolist(), strict=True)}


def _sums(rows: list[tuple[list[int], list[int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the classes of episodes, the row of each way's class there, and its summed intersection and union."""
    classes, row_of = np.unique([class_id for of_episode, _ in rows for class_id in of_episode], return_inverse=True)
    counts = np.array([pair for of_episode, values in rows for pair in _pairs(values)[: len(of_episode)]], np.int64)
    sums = np.zeros((len(classes), 2), np.int64)
    np.add.at(sums, row_of, counts)
    return classes, row_of, sums


def _pairs(values: list[int]) -> list[tuple[int, int]]:
    """Return counts as (intersection, union); the last two pairs are foreground and background."""
    return list(zip(values[::2], values[1::2], strict=True))


def agree(given: float, expected: float, where: str, what: str) -> None:
    """Refuse a score that is not the expected one.

    Raises:
        UserError: names it as ``where``, and the expected one as ``what``.
    """
    if not math.isclose(given, expected, rel_tol=0, abs_tol=TOLERANCE):
        raise UserError(f"{where} is {given:.4f}, {what} is {expected:.4f}; {MEND}")
