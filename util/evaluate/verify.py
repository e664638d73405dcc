"""``python report.py verify RUN``: a result beside its files, its data and its weights.

Scores are counted again from ``episodes.jsonl``; episodes are compared with their digest and with those that the
protocol draws from the list; list and weights are read again where data and checkpoint are there.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from util.checkpoints.run import Run
from util.config.read import from_dict
from util.data.lists.image_list import ImageList
from util.data.lists.manifest import digest, digest_of_rows, read_manifest, ways_of
from util.errors import UserError
from util.evaluate.calibration import presence_scores
from util.evaluate.evaluate import ALL_FOREGROUND
from util.evaluate.mask_metrics import METRICS
from util.evaluate.metrics import episode_scores, generalised_scores
from util.evaluate.test import Test, own_config
from util.report.result_table import MADE_FROM_MASKS, departures, episodes_in_words, title
from util.report.schema import BASE, FINAL, MANIFEST, counts_of, find_results, over_seeds, read_result
from util.report.table import Table

AGREES, DIFFERS, UNCHECKED = "agrees", "DIFFERS", "not checked"
Result = dict[str, Any]
Checks = dict[str, tuple[str, str]]  # subject -> outcome, reason


def verify(paths: Sequence[Path], form: str = "markdown") -> int:
    """Print tables of the checks of every result below some paths, and a verdict; return 1 if one differs.

    UserError: a path holds no result, or a file that is none.
    """
    texts, differs = list[str](), False
    for path in find_results(list(paths)):
        result = read_result(path)
        checks, missing = checks_of(path, result), result["classes_without_episodes"]
        table = Table(["check", "outcome", "reason"], [[subject, *outcome] for subject, outcome in checks.items()])
        note = [f"{missing} classes have no episode and are excluded from every mean"] if missing else []
        wrong = ", ".join(subject for subject, (outcome, _) in checks.items() if outcome == DIFFERS)
        unchecked = ", ".join(subject for subject, (outcome, _) in checks.items() if outcome == UNCHECKED)
        verdict = f"scores and episodes agree; not checked: {unchecked}" if unchecked else "all checks passed"
        verdict += f"; not the protocol's number ({', '.join(marks)})" if (marks := departures(result)) else ""
        verdict = f"verification failed ({wrong}): score the run again" if wrong else verdict
        texts.append("\n".join([f"{path}: {title(result)}", format(table, form), *note, verdict]))
        differs |= bool(wrong)
    print("\n\n".join(texts))
    return int(differs)


def checks_of(path: Path, result: Result) -> Checks:
    """Return the checks of a result file."""
    out: Checks = {}

    def check(subject: str, difference: Callable[[], str], on_error: str = UNCHECKED) -> None:
        try:
            reason = difference()
            out[subject] = (DIFFERS, reason) if reason else (AGREES, "")
        except (UserError, KeyError, TypeError, ValueError) as error:
            out[subject] = on_error, str(error) or repr(error)

    def by_seed() -> list[list[dict[str, Any]]]:
        episodes = read_manifest(path.parent / MANIFEST).episodes
        return [[row for row in episodes if row.get("seed", 0) == seed] for seed in result["seeds"]]

    check("scores", lambda: _score_difference(result, by_seed()), DIFFERS)
    check("episodes", lambda: _digest_difference(result, map(digest_of_rows, by_seed())), DIFFERS)
    try:
        test = test_of(path, result)
        _ = test.images, test.view
    except UserError as error:
        return out | dict.fromkeys(("list", "draw", "weights"), (UNCHECKED, str(error)))
    check("list", lambda: _list_difference(result, test.images))
    if result["replayed"] is None and out["list"][0] == AGREES:
        drawn = (digest(test.sampler(seed), result["episodes"]) for seed in result["seeds"])
        check("draw", lambda: _digest_difference(result, drawn))
        if out["draw"][0] == AGREES:
            out["draw"] = AGREES, ": ".join(filter(None, [episodes_in_words(result), result["draw_note"]]))
    else:
        out["draw"] = UNCHECKED, "a replay has no draw of its own" if result["replayed"] else "other list"
    check("weights", lambda: _weights_difference(result, test))
    return out


def test_of(path: Path, result: Result) -> Test:
    """Return the test that repeats a result of this file, whose run may have another name today."""
    config = own_config(from_dict(result["config"], str(path)), result["protocol"], result["shot"])
    stage = path.absolute().parent.parent
    if result["weights_mark"] in ("", "last") and stage.name == Run(config).folder("test").name:
        config = replace(config, run=replace(config.run, folder=str(stage.parent.parent), name=stage.parent.name))
    if result["replayed"] is not None and result["list_source"] == MADE_FROM_MASKS:
        unlisted = replace(config.protocols[result["protocol"]], list_file=None)
        config = replace(config, protocols={**config.protocols, result["protocol"]: unlisted})
    return Test(config)


def changed_since(test: Test, result: Result) -> str:
    """Return in words what of a result's list, photos, weights or calibration is another today; '' if nothing is known.

    The test is the one that would be scored today.
    """
    with suppress(UserError):
        with suppress(UserError):  # no data
            if reason := _list_difference(result, test.images):
                return f"its list {reason}"
        return _weights_difference(result, test)
    return ""


def _score_difference(result: Result, by_seed: list[list[dict[str, Any]]]) -> str:
    """Return in words which score is not that of the episodes' counts, '' if all are."""
    for seed, rows, of_seed in zip(result["seeds"], by_seed, result["per_seed"], strict=True):
        for name, scores in of_seed.items():  # of the base classes an episode holds no counts
            if name != BASE and (difference := _difference(scores, _counted(rows, name))):
                return f"seed {seed}, {name}: {difference}"
    return _difference(result, over_seeds(result["per_seed"]))


def _difference(given: Any, counted: dict[str, Any]) -> str:
    """Return in words the first number of (nested) scores that is not the one given, '' if all are."""
    for key, value in counted.items():
        own = given.get(key)
        if isinstance(value, dict):
            if difference := _difference(own or {}, value):
                return f"{key}: {difference}"
        elif own is None or not math.isclose(own, value, abs_tol=1e-6):
            return f"{key} is {own}, the episodes have {value:.4f}"
    return ""


def _counted(rows: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return an output's scores in percent from one seed's episodes, which name the novel classes."""
    if isinstance(rows[0]["outputs"][name], dict):
        novel = [class_id for class_id, _ in ways_of(rows[0])]
        counts = [(i, int(c), *pair) for i, row in enumerate(rows) for c, pair in row["outputs"][name].items()]
        return generalised_scores(np.array(counts), sorted({c for _, c, *_ in counts} - {0, *novel}), novel)
    records, further = [], [metric for metric in METRICS if metric in rows[0]]
    for number, row in enumerate(rows):
        sides = row["outputs"][name][-4:]  # foreground and background
        for i, (_, *way) in enumerate(counts_of(row, name)):
            pairs = [count for metric in further for count in row[metric][name][2 * i : 2 * i + 2]]
            records.append((number, *way, *sides[2:], *sides[:2], *pairs))
    out = episode_scores(np.array(records), max(class_id for _, class_id, *_ in records), further)
    if name == FINAL and "presence" in rows[0]:
        pixels = [row["outputs"][ALL_FOREGROUND][0] for row in rows]  # of the class in each query
        shown = [sum(row["outputs"][FINAL][:2]) > own for row, own in zip(rows, pixels)]
        out |= presence_scores([own > 0 for own in pixels], [float(row["presence"]) for row in rows], shown)
    return out


def _digest_difference(result: Result, digests: Iterable[str]) -> str:
    """Return the seeds whose episodes are not those of the result, in words; '' if there are none."""
    wrong = [str(s) for s, own, other in zip(result["seeds"], result["episode_digests"], digests) if own != other]
    return f"other images or classes than the result's, seed {', '.join(wrong)}" if wrong else ""


def _list_difference(result: Result, images: ImageList) -> str:
    if images.digest != result["list"]:
        return f"is {images.digest[:8]} today"
    return "" if images.files_digest == result["content"] else "has other photos or masks today"


def _weights_difference(result: Result, test: Test) -> str:
    weights = test.weights
    if weights.digest != result["weights"]:
        return f"{weights.source} holds {weights.digest[:8]} today"
    if weights.training != result["training"]:
        return "their training is not the one that the result states"
    calibration = test.calibration()
    facts = None if calibration is None else calibration.facts()
    return "" if facts == result["calibration"] else "their calibration is another one today"
