"""``python report.py verify RUN``: a result beside its files, its data and its weights.

Scores are counted again from ``episodes.jsonl``; episodes are compared with their digest and with those that the
protocol draws from the list; list and weights are read again where data and checkpoint are there.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from util.config.read import from_dict
from util.data.lists.manifest import counts_of, digest, digest_of_rows, ways_of
from util.evaluate.done import code_of_test, facts_today
from util.evaluate.evaluation import Evaluation
from util.evaluate.result import photos_trained_on
from util.evaluate.schema import Result, SeedScores, over_seeds
from util.evaluate.titles import classes_in_no_mean, departures, draw_text, seen_text, title
from util.files.errors import UserError
from util.files.parallel import grouped
from util.files.table import Table
from util.loop.mask_metrics import METRICS, check_metrics
from util.loop.metrics import BASE, CLASS, episode_scores
from util.report.frame import rows_of, scores_of
from util.report.manifests import episodes_by_seed
from util.report.row import Row
from util.report.tables import wrapped
from util.run.data import photos_listed
from util.run.folder import UNKNOWN, environment
from util.weights.origin import Origin

AGREES, DIFFERS, OLDER, UNCHECKED = "agrees", "DIFFERS", "older", "not checked"
Checks = dict[str, tuple[str, str]]  # subject -> outcome, reason


def verify(paths: Sequence[Path], form: str = "markdown", overrides: Sequence[str] = ()) -> int:
    """Print tables of the checks of every result below some paths, and verdicts; return 1 if one differs.

    Args:
        paths: result files, or folders.
        form: of the tables, one of ``util.files.table.FORMATS``.
        overrides: of the results' configs, such as ``data.root=data/VOC2012``.

    Raises:
        UserError: a path holds no result, or a file that is none.
    """
    texts, verdicts = list[str](), Counter[str]()
    differs = False
    for row in rows_of(paths):
        checks = checks_of(row, overrides)
        verdict = _verdict(row.result, checks)
        heading = wrapped(f"{row.file}: {title(row.result)}")
        lines = [*heading, format(_table(checks), form), *classes_in_no_mean(row.result)]
        texts.append("\n".join([*lines, *wrapped(verdict)]))
        verdicts[verdict] += 1
        differs = differs or bool(_subjects(checks, DIFFERS))
    if len(texts) > 1:
        counted = [wrapped(f"{count} of {len(texts)} results: {verdict}") for verdict, count in verdicts.most_common()]
        texts.append("\n".join(chain.from_iterable(counted)))
    print("\n\n".join(texts))
    return int(differs)


def _table(checks: Checks) -> Table:
    """Return the table of some checks, with each reason once below it."""
    rows = [[subject, outcome] for subject, (outcome, _) in checks.items()]
    by_reason = grouped(checks, lambda subject: checks[subject][1])
    notes = [wrapped(f"{', '.join(subjects)}: {reason}") for reason, subjects in by_reason.items() if reason]
    return Table(
        ["check", "outcome"],
        rows,
        notes=[*chain.from_iterable(notes)],
        facts={"reason": [reason for _, reason in checks.values()]},
    )


def _verdict(result: Result, checks: Checks) -> str:
    """Return in a line what the checks of a result say together."""
    if failed := _subjects(checks, DIFFERS):
        return f"verification failed ({failed}): score the run again"
    unchecked = _subjects(checks, UNCHECKED)
    verdict = f"scores and episodes agree; not checked: {unchecked}" if unchecked else "all checks passed"
    if _subjects(checks, OLDER):
        verdict += "; the record is older than this code"
    if marks := departures(result):
        verdict += f"; not the protocol's number ({', '.join(marks)})"
    return verdict


def _subjects(checks: Checks, wanted: str) -> str:
    """Return the subjects whose check has an outcome, separated by commas; '' if there are none."""
    return ", ".join(subject for subject, (outcome, _) in checks.items() if outcome == wanted)


def checks_of(row: Row, overrides: Sequence[str] = ()) -> Checks:
    """Return the checks of a result file: of its counts, and each of what else is here: data, code, weights."""
    result = row.result
    test = cache(lambda: evaluation_of(row, overrides))
    rows = cache(lambda: episodes_by_seed(row))
    draw = ": ".join(filter(None, [draw_text(result), result["draw_note"]]))
    checks = {
        "scores": _check(lambda: _score_difference(result, rows()), on_error=DIFFERS),
        "episodes": _check(lambda: _digest_difference(result, map(digest_of_rows, rows())), on_error=DIFFERS),
        "list": _check(lambda: _other_facts(result, test(), "list", "content")),
        "draw": _check(lambda: _other_draw(result, test(), rows()), agreed=draw),
        "code": _check(lambda: _other_code(result, test()), differs=_code_differs(result)),
        "weights": _check(lambda: _other_facts(result, test(), "weights", "training")),
        "training photos": _check(lambda: _photos_difference(result, test()), agreed=seen_text(result)),
    }
    if any(BASE in outputs for outputs in result["per_seed"]):
        checks[BASE] = _check(lambda: _base_difference(test()))
    if foreign := [name for name in result.get("metrics", {}) if name not in METRICS]:
        # Of those that run at the end episodes hold nothing
        checks["metrics at end"] = _check(
            lambda: check_metrics(
                [name for name in foreign if name not in rows()[0][0]], "report.py verify --import FILE"
            )
        )
    return checks


def _check(
    difference: Callable[[], str | None], on_error: str = UNCHECKED, agreed: str = "", differs: str = DIFFERS
) -> tuple[str, str]:
    """Return outcome and reason of a check, which returns a difference in words, or nothing.

    A UserError says why it cannot be done; ``agreed``: what is said where there is no difference; ``differs``: the
    outcome where there is one.
    """
    try:
        reason = difference()
    except (UserError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        return on_error, str(error) or repr(error)
    return (differs, reason) if reason else (AGREES, agreed)


def _other_facts(result: Result, evaluation: Evaluation, *names: str) -> str:
    """Say which of some facts of a result are not those of today."""
    origin = Origin.of(result)
    today = facts_today(evaluation)
    return ", ".join(origin.differences(Origin(**{name: today[name]() for name in names})))


def _other_code(result: Result, evaluation: Evaluation) -> str:
    """Say which modules and folders of the code that a result was scored by are others today."""
    stated = result["code"]
    if not stated:
        raise UserError("the result does not state its code")
    check_metrics(evaluation.config.test.metrics, evaluation.config.source)  # else their code is not here
    today = code_of_test(evaluation)
    changed = [name for name in {**stated, **today} if stated.get(name) != today.get(name)]
    commit = str(result["environment"].get("commit", UNKNOWN))[:8]
    return f"scored at commit {commit}; changed since: {', '.join(changed)}" if changed else ""


def _code_differs(result: Result) -> str:
    """Return the outcome where a result's code is another: DIFFERS if the result claims the code that is here."""
    here, stated = environment(), result["environment"]
    is_here = here["commit"] == stated.get("commit") != UNKNOWN
    return DIFFERS if is_here and here["changed_files"] == stated.get("changed_files") == 0 else OLDER


def _base_difference(evaluation: Evaluation) -> str:
    """Say that the method has no base learner, whose counts the episodes of others do not hold."""
    if evaluation.run.model_class.has_base_stage():
        raise UserError("the episodes hold no counts of this output")
    return f"{evaluation.config.model.name} has no base learner"


def _other_draw(result: Result, evaluation: Evaluation, rows: list[list[dict[str, Any]]]) -> str:
    """Say which seeds have other episodes than the protocol draws from the list, if that is the result's."""
    replayed = "" if result["replayed"] is None else "a replay has no draw of its own"
    if reason := replayed or _other_facts(result, evaluation, "list", "content"):
        raise UserError(reason)
    by_seed = zip(result["seeds"], rows, strict=True)
    return _digest_difference(result, [digest(evaluation.sampler(seed), len(rows)) for seed, rows in by_seed])


def _photos_difference(result: Result, evaluation: Evaluation) -> str:
    """Say whether the result has other numbers of test photos that are in the training list, or were trained on."""
    listed, trained_on = photos_listed(evaluation.images, evaluation.run), photos_trained_on(evaluation)
    pairs = (result["photos_listed"], listed), (result["photos_trained_on"], trained_on)
    known = [pair for pair in pairs if None not in pair]
    if not known:
        raise UserError("result, weights and data do not state which photos were trained on")
    today: Result = {**result, "photos_listed": listed, "photos_trained_on": trained_on}
    return "" if all(stated == now for stated, now in known) else f"now {seen_text(today) or 'none'}"


def evaluation_of(row: Row, overrides: Sequence[str] = ()) -> Evaluation:
    """Return the test that repeats a result of this file, of the run that it lies in.

    UserError: the settings of its record are none of this version.
    """
    config = from_dict(row.result["config"], str(row.file), list(overrides))
    return Evaluation(config, row.result["protocol"], row.result["shot"])


def _score_difference(result: Result, by_seed: list[list[dict[str, Any]]]) -> str:
    """Say which name, number or score of a result is not that of its config and its episodes, '' if all are."""
    if difference := _names_difference(result, by_seed):  # before arrays are made of the numbers of classes
        return difference
    per_seed = list[SeedScores]()
    for rows, stated in zip(by_seed, result["per_seed"], strict=True):
        base = {BASE: stated[BASE]} if BASE in stated else {}  # whose counts episodes do not hold
        per_seed.append({**_scores_of_outputs(rows, result, stated), **base})
    return _difference({**result}, {"per_seed": per_seed, **over_seeds(per_seed)})


def _names_difference(result: Result, by_seed: list[list[dict[str, Any]]]) -> str:
    """Say which classes, number of classes, shots or episodes, or names are not those of config and episodes."""
    data = result["config"]["data"]
    names = {str(number): name for number, name in enumerate(data["classes"], start=1)}
    ways = [way for rows in by_seed for row in rows for way in ways_of(row)]
    shown = {str(class_id) for class_id, _ in ways}
    counted = {
        "shot": max(len(supports) for _, supports in ways),
        "dataset": data.get("name"),
        "fold": data.get("fold"),
        "model": result["config"]["model"].get("name"),
        "novel": {class_id: names.get(class_id, "no class") for class_id in sorted({*result["novel"], *shown})},
        "classes_without_episodes": len(result["novel"]) - len(result["left_out"]) - len(shown),
        "episodes": max(map(len, by_seed)),
    }
    return _difference({**result}, counted)


def _difference(stated: Any, counted: Any, place: str = "") -> str:
    """Describe the first of (nested) values that is not the one stated, '' if all are; ``place``: their keys."""
    if isinstance(counted, list):
        stated, counted = dict(enumerate(stated)), dict(enumerate(counted))
    if isinstance(counted, dict):
        keys = [*counted] if not place else {**stated, **counted}
        differences = (_difference(stated.get(key), counted.get(key), f"{place} {key}".strip()) for key in keys)
        return next(filter(None, differences), "")
    is_number = isinstance(counted, float) and isinstance(stated, float)
    is_equal = math.isclose(stated, counted, abs_tol=1e-6) if is_number else stated == counted
    return "" if is_equal else f"{place} is {stated}, config and episodes have {counted}"


def _scores_of_outputs(rows: list[dict[str, Any]], result: Result, stated: SeedScores) -> SeedScores:
    """Return the scores of every output of the episodes of one seed, from their counts; see ``_scores_of_rows``."""
    known = scores_of(result)
    scales = {name: known[name]["scale"] for name in rows[0] if name in known}
    at_end = [name for name in result.get("metrics", {}) if name not in scales]
    outputs = dict.fromkeys(name for row in rows for name in row["outputs"])
    return {name: _scores_of_rows(rows, name, scales, at_end, stated.get(name, {})) for name in outputs}


def _scores_of_rows(
    rows: list[dict[str, Any]],
    name: str,
    scales: Mapping[str, float],
    at_end: Sequence[str],
    stated: Mapping[str, Any],
) -> dict[str, Any]:
    """Return an output's scores from the counts of one seed's episodes; ``scales``: of their further metrics.

    Those ``at_end`` are as ``stated`` where no metric of their name is registered here.
    """
    records = [record for number, row in enumerate(rows) for record in _records_of_row(number, row, name, scales)]
    classes = max(record[CLASS] for record in records)
    foreign = {name: stated[name] for name in at_end if name not in METRICS}
    return foreign | episode_scores(
        np.array(records, np.float64), classes, scales, [name for name in at_end if name in METRICS]
    )


def _records_of_row(number: int, row: dict[str, Any], name: str, further: Iterable[str]) -> Iterator[list[Any]]:
    """Yield the records of one episode, a class each, in the columns of ``util/loop/metrics.py``."""
    *_, foreground_hit, foreground_union, background_hit, background_union = row["outputs"][name]
    sides = [background_hit, background_union, foreground_hit, foreground_union]
    for way, (class_id, intersection, union) in enumerate(counts_of(row, name)):
        record = [number, class_id, intersection, union, *sides]
        for metric in further:
            record += row[metric][name][2 * way : 2 * way + 2]
        yield record


def _digest_difference(result: Result, digests: Iterable[str]) -> str:
    """Return the seeds whose episodes are not those of the result, in words; '' if there are none."""
    by_seed = zip(result["seeds"], result["episode_digests"], digests, strict=True)
    wrong = [str(seed) for seed, stated, other in by_seed if stated != other]
    return f"other images or classes than the result's, seed {', '.join(wrong)}" if wrong else ""
