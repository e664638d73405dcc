"""``python -m util.report verify RUN``: whether a result can be trusted, from its files, its data and its weights.

Scores are counted again from ``episodes.jsonl``; episodes are compared with their digest and with those that the
protocol draws from the list; list and weights are read again where data and checkpoint are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from util.checkpoints.weights import load_weights
from util.config.read import from_dict
from util.data.lists.manifest import Manifest, digest_of_rows, read_manifest
from util.errors import UserError
from util.evaluate.calibration import presence_scores
from util.evaluate.evaluate import ALL_FOREGROUND
from util.evaluate.jobs import own_config
from util.report.schema import MANIFEST, find_results, read_result
from util.report.scores import FINAL, counts_of, mean_iou, over_seeds
from util.report.table import departures, text_table, title
from util.run.context import RunContext, make_run_context
from util.run.data import images_for_test, protocol_sampler
from util.run.input_size import view_of

AGREES, DIFFERS, UNCHECKED = "agrees", "DIFFERS", "not checked"
Result = dict[str, Any]


@dataclass(frozen=True)
class Verification:
    """All checks of one result: subject -> (``AGREES``, ``DIFFERS`` or ``UNCHECKED``, reason)."""

    path: Path
    result: Result
    checks: dict[str, tuple[str, str]]

    @property
    def agrees(self) -> bool:
        """Whether no check found a difference."""
        return all(outcome != DIFFERS for outcome, _ in self.checks.values())

    @property
    def verdict(self) -> str:
        """The conclusion, as a sentence."""
        if not self.agrees:
            return "not to be trusted: score the run again"
        unchecked = ", ".join(subject for subject, (outcome, _) in self.checks.items() if outcome == UNCHECKED)
        whole = f"scores and episodes agree; not checked: {unchecked}" if unchecked else "can be trusted"
        marks = ", ".join(departures(self.result))
        return f"{whole}; not the protocol's number ({marks})" if marks else whole

    def text(self) -> str:
        """Return title, table of the checks and verdict."""
        rows = [[subject, outcome, reason] for subject, (outcome, reason) in self.checks.items()]
        head = f"{self.path}: {title(self.result)}"
        missing = self.result["classes_without_episodes"]
        note = [f"{missing} classes have no episode and are in no mean"] if missing else []
        return "\n".join([head, text_table(["check", "outcome", "reason"], rows), *note, self.verdict])


def verify(paths: Sequence[Path]) -> list[Verification]:
    """Return the verification of every result below some paths.

    Raises:
        UserError: a path holds no result, or a file that is none.
    """
    return [_verified(path, read_result(path)) for path in find_results(list(paths))]


def _verified(path: Path, result: Result) -> Verification:
    checks: dict[str, tuple[str, str]] = {}

    def check(subject: str, difference: Callable[[], str], on_error: str) -> None:
        try:
            reason = difference()
        except (UserError, KeyError, TypeError, ValueError) as error:
            checks[subject] = on_error, str(error) or repr(error)
        else:
            checks[subject] = (DIFFERS, reason) if reason else (AGREES, "")

    def of_episodes(difference: Callable[[Result, Manifest], str]) -> str:
        return difference(result, read_manifest(path.parent / MANIFEST))

    check("scores", lambda: of_episodes(_score_difference), DIFFERS)
    check("episodes", lambda: of_episodes(_episode_difference), DIFFERS)
    try:
        config = own_config(from_dict(result["config"], str(path)), result["protocol"], result["shot"])
        context = make_run_context(config)
        images = images_for_test(context, False, config.protocols[result["protocol"]])
    except UserError as error:
        return Verification(path, result, checks | dict.fromkeys(("list", "draw", "weights"), (UNCHECKED, str(error))))
    check("list", lambda: "" if images.digest == result["list"] else f"is {images.digest[:8]} today", UNCHECKED)
    if result["replayed"] is None and checks["list"][0] == AGREES:
        check("draw", lambda: _draw_difference(result, context, images), UNCHECKED)
    else:
        checks["draw"] = UNCHECKED, "a replay has no draw of its own" if result["replayed"] else "other list"
    check("weights", lambda: _weights_difference(result, context), UNCHECKED)
    return Verification(path, result, checks)


def _score_difference(result: Result, manifest: Manifest) -> str:
    """Return in words which score is not that of the episodes' counts, '' if all are."""
    for seed, of_seed in zip(result["seeds"], result["per_seed"], strict=True):
        rows = [row for row in manifest.episodes if row.get("seed", 0) == seed]
        for name, scores in of_seed.items():
            if "fb_iou" not in scores:
                continue  # of a base learner, whose counts an episode does not hold
            counted = _counted(rows, name)
            if name == FINAL and "presence_accuracy" in scores:
                counted |= _presence(rows)
            given = {**scores, **{f"class {c}": value for c, value in scores["per_class"].items()}}
            if difference := _difference({key: given.get(key) for key in counted}, counted):
                return f"seed {seed}, {name}: {difference}"
    for key, outputs in over_seeds(result["per_seed"]).items():
        for name, scores in outputs.items():
            if difference := _difference(result[key].get(name, {}), scores):
                return f"{key} of {name}: {difference}"
    return ""


def _difference(given: dict[str, Any], counted: dict[str, float]) -> str:
    for key, value in counted.items():
        if given.get(key) is None or not math.isclose(given[key], value, abs_tol=1e-6):
            return f"{key} is {given.get(key)}, the episodes have {value:.4f}"
    return ""


def _counted(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Return ``miou``, ``fb_iou`` and the IoU of each class (``class 3``) in percent, from one seed's episodes."""
    entries = [(class_id, *pair) for row in rows for class_id, *pair in counts_of(row, name)]
    classes, place = np.unique([entry[0] for entry in entries], return_inverse=True)
    sums = np.zeros((len(classes), 2), np.int64)
    np.add.at(sums, place, np.array([entry[1:] for entry in entries], np.int64))
    sides = np.sum([row["outputs"][name][-4:] for row in rows], axis=0)
    return {
        "miou": float(mean_iou(sums[:, 0], sums[:, 1], np.bincount(place))),
        "fb_iou": float(50 * (sides[0] / max(sides[1], 1) + sides[2] / max(sides[3], 1))),
        **{f"class {c}": 100 * i / max(u, 1) for c, (i, u) in zip(classes, sums.tolist(), strict=True)},
    }


def _presence(rows: list[dict[str, Any]]) -> dict[str, float]:
    pixels = [row["outputs"][ALL_FOREGROUND][0] for row in rows]  # of the class in each query
    shown = [sum(row["outputs"][FINAL][:2]) > own for row, own in zip(rows, pixels, strict=True)]
    return presence_scores([own > 0 for own in pixels], [float(row["presence"]) for row in rows], shown)


def _episode_difference(result: Result, manifest: Manifest) -> str:
    """Return in words how the episodes differ from the result's digests, '' if they do not."""
    for seed, expected in zip(result["seeds"], result["episode_digests"], strict=True):
        rows = [row for row in manifest.episodes if row.get("seed", 0) == seed]
        if digest_of_rows(rows) != expected:
            return f"seed {seed}: {len(rows)} episodes with other images or classes than the result's"
    return ""


def _draw_difference(result: Result, context: RunContext, images: Any) -> str:
    protocol = context.config.protocols[result["protocol"]]
    samplers = [protocol_sampler(context, images, protocol, seed) for seed in result["seeds"]]
    drawn = [sampler.digest(result["episodes"]) for sampler in samplers]
    return "" if drawn == result["episode_digests"] else "the protocol draws other episodes from this list"


def _weights_difference(result: Result, context: RunContext) -> str:
    view = view_of(context.config, context.config.protocols[result["protocol"]])
    _, weights = load_weights(context, view.side or None)
    if weights.digest != result["weights"]:
        return f"{weights.source} holds {weights.digest[:8]} today"
    return "" if weights.training == result["training"] else "their training is not the one that the result states"
