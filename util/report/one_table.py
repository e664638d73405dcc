"""Which results share a table: ``check_one_table`` refuses others; and why the mean of some is doubtful."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.decides import Decides
from util.config.same import deciding
from util.evaluate.schema import NOT_STATED, Result, read_results
from util.evaluate.titles import departures, protocol_title, track_text
from util.files.errors import UserError
from util.report.results import row_name, trained_precision, training_seed

TRAINING_FREE = "training-free"  # the checkpoint of a method that learns nothing
FOLD_SETTINGS = ("list_file", "fold")  # settings that may differ between folds of a mean


def results_by_table(paths: list[Path], protocols: Sequence[str]) -> Iterator[tuple[dict[Path, Result], list[str]]]:
    """Yield the results below some paths that share a table, protocol by protocol, and notes on those left out.

    A table shows tests of its protocol's own episodes with weights of their fold. Quick looks and tests of other seeds
    are only shown where there is nothing better.

    Args:
        paths: result files, or folders.
        protocols: in their order; none: all that there are.

    Raises:
        UserError: there is none, or none of a protocol; or as ``check_one_table``.
    """
    found = read_results(paths, protocols)
    own = {path: result for path, result in found.items() if is_own_test(result)}
    for protocol in protocols or dict.fromkeys(result["protocol"] for result in own.values()) or [""]:
        shown = _best_of_cells(_of_protocol(own, protocol))
        if not shown:
            which = f"no result to show {protocol and f'of protocol {protocol} '}"
            raise UserError(f"{', '.join(map(str, paths))}: {which}(replays and weights of another fold are left out)")
        check_one_table(shown)
        elsewhere = [path for path, result in _of_protocol(found, protocol).items() if result["fold_mismatch"]]
        yield shown, [f"left out: {path}, scored with weights of another fold." for path in elsewhere]


def is_own_test(result: Result) -> bool:
    """Return whether a result is of its protocol's own episodes, and of weights of its fold."""
    return not (result["replayed"] or result["fold_mismatch"])


def _of_protocol(results: dict[Path, Result], protocol: str) -> dict[Path, Result]:
    """Return those of some results that are of a protocol."""
    return {path: result for path, result in results.items() if result["protocol"] == protocol}


def _best_of_cells(results: dict[Path, Result]) -> dict[Path, Result]:
    """Return the results without those of a cell that has better ones: no quick looks, no other seeds."""
    ranks = {path: (result["quick_look"], result["other_seeds"]) for path, result in results.items()}
    best: dict[tuple, tuple[bool, bool]] = {}
    for path, result in results.items():
        best[_cell(result)] = min(ranks[path], best.get(_cell(result), ranks[path]))
    return {path: result for path, result in results.items() if ranks[path] == best[_cell(result)]}


def _cell(result: Result) -> tuple:
    """Return the place of a result in a table."""
    seed = training_seed(result)
    return row_name(result), result["protocol"], result["shot"], result["dataset"], result["fold"], seed


def are_across(results: dict[Path, Result]) -> bool:
    """Return whether a table has columns of data sets without folds, as in the cross-domain benchmark."""
    data_sets = {result["dataset"] for result in results.values()}
    return len(data_sets) > 1 and all(result["folds"] == 1 for result in results.values())


def check_one_table(results: dict[Path, Result]) -> None:
    """Refuse results, by their files, that differ where a table, a column, a row or a cell shows one value.

    UserError: names two results, and what they differ in.
    """
    across = are_across(results)
    first: dict[tuple, tuple[Path, Any]] = {}
    for path, result in results.items():
        for term, value in _terms(path, result, across).items():
            other, known = first.setdefault(term, (path, value))
            if value != known:
                part, name, *_ = term
                raise UserError(f"{other} and {path}: {part} shows one {name} ({known}; {value}): name fewer runs")


def _terms(path: Path, result: Result, across: bool) -> dict[tuple, Any]:
    """Return what results have in common, by the part of a table that shows it, its name, and which part it is.

    Data sets without folds may have different image sides.
    """
    dataset, shot = result["dataset"], result["shot"]
    column = dataset, result["fold"], shot  # rare classes that are skipped depend on shots
    settings = {key: v for key, v in result["protocol_settings"].items() if key not in ("list_file", "side")}
    name = row_name(result)
    terms: dict[tuple, Any] = {
        ("a cell", f"result of {name}, {shot}-shot, fold {result['fold']}", *_cell(result)): path,
        ("a table", "protocol"): protocol_title(result),
        ("a table", "protocol's settings"): settings,
        ("a table", "whole test list", dataset): result["whole_list"],
        ("a table", "content of the photos or masks of the whole test list", dataset): result["whole_content"],
        ("a column", "test list", *column): result["list"],
        ("a column", "content of the photos or masks", *column): result["content"],
        ("a row", "track", name, shot): track_text({shot: result["track"]}),
    }
    terms |= {("a table", f"metric {name}"): facts for name, facts in result.get("metrics", {}).items()}
    if not across:
        terms["a table", "data set"] = dataset
        terms["a table", "number of folds"] = result["folds"]
        terms["a table", "data.fold_classes"] = str(result["config"]["data"].get("fold_classes"))
        terms["a table", "data.min_pixels"] = result["min_pixels"]
        terms["a table", "image side"] = result["input_side"]
    return {term: value for term, value in terms.items() if value is not None}  # which is not known


def doubts_of(results: Sequence[Result], differences: Sequence[str]) -> tuple[str, ...]:
    """Return the reasons why the mean of some results of a row is not the protocol's number.

    ``differences``: of several, the reason of ``differences_of``.
    """
    reasons = [reason for result in results for reason in departures(result)]
    reasons += differences
    precisions = {"trained": map(trained_precision, results), "tested": (result["precision"] for result in results)}
    for verb, values in precisions.items():
        names = [value or NOT_STATED for value in dict.fromkeys(values)]
        if len(names) > 1:
            reasons.append(f"{verb} in different precisions: {', '.join(names)}")
    return tuple(dict.fromkeys(reasons))


def differences_of(results: Sequence[Result], across: bool) -> list[str]:
    """Return the reason, in words, why results of a row are not of one method's trainings; none if they are."""
    facts: dict[str, list[Any]] = {
        "made with different settings": [_settings_of(result, across) for result in results],
        "made by different code of the method": [result["code"] for result in results],
        "made with different text vectors": [result.get("vectors") for result in results],
    }
    for reason, values in facts.items():
        known = [value for value in values if value]
        if any(value != known[0] for value in known):
            return [reason]
    return []


def _settings_of(result: Result, across: bool) -> dict[str, Any]:
    """Return how a result was trained and tested, but for precision, fold, seeds and the start of the encoder."""
    stages = []
    for stage in result["training"]:
        of_stage = {key: value for key, value in stage["settings"].items() if key not in FOLD_SETTINGS}
        stages.append((stage["batch"], stage["size"], of_stage))
    return {
        "size": result["size"],
        "text": result["text"],
        "input": result["input"],
        "stages": stages,
        "training lists": _list_settings(result["trained_with"] or {}),
        "test lists": {} if across else _list_settings(result["config"]["data"]),
        "model": deciding(result["config"], Decides.WEIGHTS)["model"],
        "fixed weights": result["weights"] if result["checkpoint"] == TRAINING_FREE else "",
    }


def _list_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Return data settings that decide lists, without what names the fold."""
    others = (*FOLD_SETTINGS, "root", "shot", "model", "precision")
    fold = rf"(?<!\d){data.get('fold')}(?!\d)"
    settings = {}
    for key, value in deciding({"data": data}, Decides.SCORES)["data"].items():
        if key not in others:
            settings[key] = re.sub(fold, "{fold}", value) if isinstance(value, str) else value
    return settings
