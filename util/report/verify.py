"""``python report.py verify RUN``: a result beside its files, its data and its weights.

Scores are counted again from ``episodes.jsonl``; episodes are compared with their digest and with those that the
protocol draws from the list; list and weights are read again where data and checkpoint are there.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from util.config.read import from_dict
from util.config.same import known_today
from util.data.lists.manifest import counts_of, digest, digest_of_rows
from util.evaluate.done import facts_today
from util.evaluate.evaluation import Evaluation
from util.evaluate.result import photos_trained_on
from util.evaluate.schema import Result, SeedScores, find_results, over_seeds, read_result
from util.evaluate.titles import classes_in_no_mean, departures, draw_text, seen_text, title
from util.files.errors import UserError
from util.files.table import Table
from util.loop.metrics import BASE, CLASS, episode_scores
from util.report.results import episodes_by_seed, scores_of
from util.run.data import photos_listed
from util.weights.origin import Origin

AGREES, DIFFERS, UNCHECKED = "agrees", "DIFFERS", "not checked"
Checks = dict[str, tuple[str, str]]  # subject -> outcome, reason


def verify(paths: Sequence[Path], form: str = "markdown", overrides: Sequence[str] = ()) -> int:
    """Print tables of the checks of every result below some paths, and a verdict; return 1 if one differs.

    Args:
        paths: result files, or folders.
        form: of the tables, one of ``util.files.table.FORMATS``.
        overrides: of the results' configs, such as ``data.root=data/VOC2012``.

    Raises:
        UserError: a path holds no result, or a file that is none.
    """
    texts = list[str]()
    differs = False
    for path in find_results(list(paths)):
        result = read_result(path)
        checks = checks_of(path, result, overrides)
        table = Table(["check", "outcome", "reason"], [[subject, *outcome] for subject, outcome in checks.items()])
        lines = [f"{path}: {title(result)}", format(table, form), *classes_in_no_mean(result)]
        if unknown := _record(result)[1]:
            shown = ", ".join(f"{key} = {value}" for key, value in unknown.items())
            lines.append(f"settings of a former version, not read: {shown}")
        texts.append("\n".join([*lines, _verdict(result, checks)]))
        differs = differs or bool(_subjects(checks, DIFFERS))
    print("\n\n".join(texts))
    return int(differs)


def _verdict(result: Result, checks: Checks) -> str:
    """Return in a line what the checks of a result say together."""
    if failed := _subjects(checks, DIFFERS):
        return f"verification failed ({failed}): score the run again"
    unchecked = _subjects(checks, UNCHECKED)
    verdict = f"scores and episodes agree; not checked: {unchecked}" if unchecked else "all checks passed"
    if marks := departures(result):
        verdict += f"; not the protocol's number ({', '.join(marks)})"
    return verdict


def _subjects(checks: Checks, wanted: str) -> str:
    """Return the subjects whose check has an outcome, separated by commas; '' if there are none."""
    return ", ".join(subject for subject, (outcome, _) in checks.items() if outcome == wanted)


def checks_of(path: Path, result: Result, overrides: Sequence[str] = ()) -> Checks:
    """Return the checks of a result file: of its counts, and each of what else is here: data, code, weights."""
    test = cache(lambda: evaluation_of(path, result, overrides))
    draw = ": ".join(filter(None, [draw_text(result), result["draw_note"]]))
    return {
        "scores": _check(lambda: _score_difference(path, result), on_error=DIFFERS),
        "episodes": _check(
            lambda: _digest_difference(result, map(digest_of_rows, episodes_by_seed(path, result))), on_error=DIFFERS
        ),
        "list": _check(lambda: _other_facts(result, test(), "list", "content")),
        "draw": _check(lambda: _other_draw(result, test()), agreed=draw),
        "code": _check(lambda: _other_facts(result, test(), "code")),
        "weights": _check(lambda: _other_facts(result, test(), "weights", "training")),
        "training photos": _check(lambda: _photos_difference(result, test()), agreed=seen_text(result)),
    }


def _check(difference: Callable[[], str], on_error: str = UNCHECKED, agreed: str = "") -> tuple[str, str]:
    """Return outcome and reason of a check, which returns a difference in words, or '' for none.

    A UserError says why it cannot be done; ``agreed``: what is said where there is no difference.
    """
    try:
        reason = difference()
    except (UserError, KeyError, TypeError, ValueError) as error:
        return on_error, str(error) or repr(error)
    return (DIFFERS, reason) if reason else (AGREES, agreed)


def _other_facts(result: Result, evaluation: Evaluation, *names: str) -> str:
    """Say which of some facts of a result are not those of today."""
    origin = Origin.of(result)
    if not any(getattr(origin, name) for name in names):
        raise UserError(f"the result does not state its {names[0]}")
    today = facts_today(evaluation)
    return ", ".join(origin.differences(Origin(**{name: today[name]() for name in names})))


def _other_draw(result: Result, evaluation: Evaluation) -> str:
    """Say which seeds have other episodes than the protocol draws from the list, if that is the result's."""
    if result["replayed"] is not None:
        raise UserError("a replay has no draw of its own")
    if reason := _other_facts(result, evaluation, "list", "content"):
        raise UserError(reason)
    drawn = [digest(evaluation.sampler(seed), result["episodes"]) for seed in result["seeds"]]
    return _digest_difference(result, drawn)


def _photos_difference(result: Result, evaluation: Evaluation) -> str:
    """Say whether the result has other numbers of test photos that are in the training list, or were trained on."""
    today: Any = {
        "photos_listed": photos_listed(evaluation.images, evaluation.config.data),
        "photos_trained_on": photos_trained_on(evaluation),
    }
    if {*today.values()} == {None}:
        raise UserError("neither weights nor data say which photos were trained on")
    known = {**result}
    differs = any(None not in (known[key], value) and known[key] != value for key, value in today.items())
    return f"now {seen_text({**result, **today}) or 'none'}" if differs else ""


def evaluation_of(path: Path, result: Result, overrides: Sequence[str] = ()) -> Evaluation:
    """Return the test that repeats a result of this file, of the run that it lies in.

    UserError: the settings of its record are none of this version.
    """
    record, unknown = _record(result)
    if other := [key for key, value in unknown.items() if key.startswith("protocols.") and value]:
        raise UserError(f"{path}: its protocol is one of a former version ({', '.join(other)})")
    config = from_dict(record, str(path), list(overrides))
    return Evaluation.of(config, result["protocol"], result["shot"])


def _record(result: Result) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the config of a result as far as this version knows it, and its other settings by their keys."""
    protocol = result["protocol"]
    return known_today({**result["config"], "protocols": {protocol: result["config"]["protocols"][protocol]}})


def _score_difference(path: Path, result: Result) -> str:
    """Say which score is not that of the episodes' counts, '' if all are."""
    known = {name: facts for name, facts in scores_of(result).items() if facts["smaller_is_better"] is not None}
    by_seed = zip(result["seeds"], episodes_by_seed(path, result), result["per_seed"], strict=True)
    for seed, rows, outputs in by_seed:
        further = {name: known[name]["scale"] for name in rows[0] if name in known}
        for name, scores in outputs.items():
            if name == BASE:  # whose counts episodes do not hold
                continue
            if difference := _difference(scores, _scores_of_rows(rows, name, further)):
                return f"seed {seed}, {name}: {difference}"
    per_seed: list[SeedScores] = result["per_seed"]
    return _difference(result, {**over_seeds(per_seed)})


def _difference(stated: Any, counted: dict[str, Any]) -> str:
    """Describe the first number of (nested) scores that is not the one stated, '' if all are."""
    for key, value in counted.items():
        stated_value = stated.get(key)
        if isinstance(value, dict):
            if difference := _difference(stated_value, value):
                return f"{key}: {difference}"
        elif stated_value is None or not math.isclose(stated_value, value, abs_tol=1e-6):
            return f"{key} is {stated_value}, the episodes have {value:.4f}"
    return ""


def _scores_of_rows(rows: list[dict[str, Any]], name: str, scales: Mapping[str, float]) -> dict[str, Any]:
    """Return an output's scores from the counts of one seed's episodes; ``scales``: of their further metrics."""
    records = list[list[Any]]()
    for number, row in enumerate(rows):
        records += _records_of_row(number, row, name, scales)
    classes = max(record[CLASS] for record in records)
    return episode_scores(np.array(records), classes, scales)


def _records_of_row(number: int, row: dict[str, Any], name: str, further: Iterable[str]) -> list[list[Any]]:
    """Return the records of one episode, a class each, in the columns of ``util/loop/metrics.py``."""
    *_, foreground_hit, foreground_union, background_hit, background_union = row["outputs"][name]
    sides = [background_hit, background_union, foreground_hit, foreground_union]
    records = []
    for way, (class_id, intersection, union) in enumerate(counts_of(row, name)):
        record = [number, class_id, intersection, union, *sides]
        columns = slice(2 * way, 2 * way + 2)
        for metric in further:
            record += row[metric][name][columns]
        records.append(record)
    return records


def _digest_difference(result: Result, digests: Iterable[str]) -> str:
    """Return the seeds whose episodes are not those of the result, in words; '' if there are none."""
    wrong = []
    for seed, stated, other in zip(result["seeds"], result["episode_digests"], digests):
        if stated != other:
            wrong.append(str(seed))
    return f"other images or classes than the result's, seed {', '.join(wrong)}" if wrong else ""
