"""The paper's table from result files: folds, mean and FB-IoU for each number of shots, beside published rows."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml

from util.errors import UserError, nearest
from util.report.schema import find_results, read_result
from util.report.scores import FINAL
from util.report.table import AVERAGED, departures, passes_in_words, protocol_title
from util.report.table_formats import FORMATS, MEASURED_MARK, QUICK_MARK, Row, track_notes
from util.report.track import IN_DOMAIN, NOT_STATED, Track, track_of

PUBLISHED = Path(__file__).with_name("published.yaml")
SAME = "same"  # `train_shot` of a paper that trains for every number of shots
CROSS_DOMAIN = "crossdomain"  # `dataset` of published rows over several data sets


def table(
    paths: list[Path], form: str = "markdown", output: str = FINAL, protocol: str | None = None, across: bool = False
) -> str:
    """Return the table of all results below some paths, as Markdown, LaTeX or CSV.

    Args:
        across: columns are data sets, as in the cross-domain benchmark, and not folds of one.

    Raises:
        UserError: there are no results, or their protocols, data sets or settings differ, so that they cannot share
            a column.
    """
    results = {path: read_result(path) for path in find_results(paths)}
    results = {path: r for path, r in results.items() if r["replayed"] is None and protocol in (None, r["protocol"])}
    other_fold = [path for path, r in results.items() if r["fold_mismatch"]]
    results = {path: r for path, r in results.items() if path not in other_fold}
    if not results:
        what = f"of protocol '{protocol}' " if protocol else ""
        raise UserError(
            f"{', '.join(map(str, paths))}: no result {what}to show "
            "(replayed manifests and weights of another fold are omitted)"
        )
    results = _without_superseded(results)
    _check_columns(results, across)
    first = next(iter(results.values()))
    places = list(dict.fromkeys(map(_place_of(across), results.values()))) if across else list(range(first["folds"]))
    shots = sorted({r["shot"] for r in results.values()})
    published, hidden = published_rows(CROSS_DOMAIN if across else first["dataset"], shots, first["fold_rule"])
    rows = [*published, *_measured_rows(results, output, places, across)]
    columns = [(shot, c) for shot in shots for c in (*places, "mean", *([] if across else ["fb_iou"]))]
    notes = _notes(rows, results, output)
    notes += [f"omitted: {method}, published on other folds ({rule})." for method, rule in hidden]
    notes += [f"omitted: {path}, scored with weights of another fold." for path in other_fold]
    return FORMATS[form](rows, columns, notes)


def _place_of(across: bool) -> Callable[[dict[str, Any]], Any]:
    """Return the function that gives a result's column: its fold, or its data set."""
    return itemgetter("dataset" if across else "fold")


def _cell_of(result: dict[str, Any]) -> tuple:
    """Return the key of a result's cell in the table."""
    return _method(result), result["protocol"], result["shot"], result["dataset"], result["fold"]


def _method(result: dict[str, Any]) -> str:
    """Return the row's name: method, encoder, other words of the run's name, weights unless the best, averaging."""
    model, backbone = result["model"], result["backbone"] or ""
    run = re.sub(r"split\d+_?", "", result["run"].removeprefix(f"{result['dataset']}_"))
    run = re.sub(rf"(^|_){re.escape(model)}(?=_|$)", r"\1", run)
    known = {"", backbone, *model.split("_")}
    words = [word for word in run.split("_") if word not in known and not backbone.endswith(f"_{word}")]
    method = result.get("method") or _names().get(model, model)
    encoder = result.get("encoder") or _names().get(backbone, backbone)
    name = ", ".join(filter(None, [f"{method} {encoder}".strip(), " ".join(words)]))
    mark = result.get("weights_mark")
    foreign = "" if result["config"].get("test", {}).get("trained_on") else f" ({Path(result['checkpoint']).name})"
    weights = {"foreign": foreign}.get(mark, f" ({mark})") if mark else ""
    averaged = f", {passes_in_words(result)}" if result.get("averaged") else ""
    return name + weights + averaged


@functools.cache
def _names() -> dict[str, str]:
    """Return how people write methods and encoders, by their names in configs."""
    return yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))["names"]


def _without_superseded(results: dict[Path, dict[str, Any]]) -> dict[Path, dict[str, Any]]:
    """Return the results without quick looks whose cell has a full result."""
    full = {_cell_of(r) for r in results.values() if not r["quick_look"]}
    return {p: r for p, r in results.items() if not (r["quick_look"] and _cell_of(r) in full)}


def _check_columns(results: dict[Path, dict[str, Any]], across: bool) -> None:
    """Refuse results that cannot share a column."""

    def terms(result: dict[str, Any]) -> dict[str, Any]:
        return {
            "data set": across or result["dataset"],
            "protocol": protocol_title(result),
            "number of folds": across or result["folds"],
            "protocol settings": {k: v for k, v in result["protocol_settings"].items() if k != "list_file"},
            "data.min_pixels": across or result["min_pixels"],
        }

    (path, first), *others = results.items()
    for other_path, other in others:
        for what, value in terms(first).items():
            if terms(other)[what] != value:
                raise UserError(
                    f"{path} and {other_path} differ in {what} ({value}; {terms(other)[what]}): one column holds one; "
                    "name fewer runs, or choose with --protocol"
                )
    _check_rows(results)
    seen: dict[tuple, Path] = {}
    for path, result in results.items():
        before = seen.setdefault(_cell_of(result), path)
        if before != path:
            method, _, shot, _, fold = _cell_of(result)
            raise UserError(f"{before} and {path} are both {method}, {shot}-shot, fold {fold}; name only one of them")
    lists: dict[tuple, tuple[Path, str]] = {}  # depend on shots too: data.rare_classes: skip omits classes
    for path, result in results.items():
        fold, shot = result["fold"], result["shot"]
        before_path, digest = lists.setdefault((result["dataset"], fold, shot), (path, result["list"]))
        if digest != result["list"]:
            raise UserError(f"{before_path} and {path} were scored on different test lists of fold {fold}, {shot}-shot")


def _check_rows(results: dict[Path, dict[str, Any]]) -> None:
    """Refuse folds of one row and number of shots that are of different tracks."""
    rows: dict[tuple, tuple[Path, Track]] = {}
    for path, result in results.items():
        track = track_of(result)
        before, first = rows.setdefault((_method(result), result["shot"]), (path, track))
        if first != track:
            raise UserError(
                f"{before} and {path} are of different tracks ({first.words()}; {track.words()}): one row holds one"
            )


def _measured_rows(results: dict[Path, dict[str, Any]], output: str, places: list[Any], across: bool) -> list[Row]:
    """Return the rows of our own results; mean and FB-IoU are cells only if all folds, or data sets, are there."""
    rows: dict[str, Row] = {}
    fb_iou: dict[tuple[str, int], list[float]] = {}
    for path, r in results.items():
        if output not in r["mean"]:
            raise UserError(f"{path}: output '{output}' is unknown{nearest(output, r['mean'])}")
        method = _method(r)
        row = rows.setdefault(method, Row(method, protocol_title(r), "measured", measured=True))
        place = _place_of(across)(r)
        row.cells[r["shot"], place] = r["mean"][output]["miou"]
        row.tracks[r["shot"]] = track_of(r)
        fb_iou.setdefault((method, r["shot"]), []).append(r["mean"][output].get("fb_iou", float("nan")))
        if why := ", ".join(why for why in departures(r) if why != AVERAGED):
            row.quick |= {(r["shot"], c): why for c in (place, "mean", "fb_iou")}
    for (method, shot), values in fb_iou.items():
        cells = rows[method].cells
        if len(values) == len(places):
            cells[shot, "mean"] = sum(cells[shot, place] for place in places) / len(places)
            cells[shot, "fb_iou"] = sum(values) / len(places)
    return list(rows.values())


def published_rows(dataset: str, shots: list[int], fold_rule: str) -> tuple[list[Row], list[tuple[str, str]]]:
    """Return the published rows, and (method, fold rule) of those that are omitted because their folds differ."""
    content = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))
    rows: dict[tuple, Row] = {}
    hidden: dict[tuple[str, str], None] = {}
    for entry in content["rows"]:
        if entry["dataset"] != dataset or entry["shot"] not in shots:
            continue
        variant = f", {entry['variant']}" if "variant" in entry else ""
        name = f"{entry['paper']} {_names().get(entry['backbone'], entry['backbone'])}{variant}"
        protocol, rule = entry["protocol"] or NOT_STATED, entry.get("fold_rule", fold_rule)
        if rule not in (None, fold_rule):
            hidden[f"{name} by {protocol}", rule] = None
            continue
        if "fold_rule" in entry:
            protocol += f" ({rule or 'unstated'} folds)"
        row = rows.setdefault((name, protocol), Row(name, protocol, content["papers"][entry["paper"]]))
        *folds, mean = entry["miou"]
        row.tracks[entry["shot"]] = _published_track(content, entry)
        row.cells |= {(entry["shot"], f): v for f, v in enumerate(folds)} | {(entry["shot"], "mean"): mean}
        if "fb_iou" in entry:
            row.cells[entry["shot"], "fb_iou"] = entry["fb_iou"]
    return list(rows.values()), list(hidden)


def _published_track(content: dict[str, Any], entry: dict[str, Any]) -> Track:
    """Return the track of a published row, as far as it is known."""
    known = content["tracks"].get(entry["paper"], {})
    shots = known.get("train_shot")
    return Track(
        content["encoder_data"].get(entry["backbone"]),
        known.get("text"),
        content["trained_on"].get(entry["dataset"], IN_DOMAIN),
        known.get("novel_photos"),
        entry["shot"] if shots == SAME else shots,
    )


def _notes(rows: list[Row], results: dict[Path, dict[str, Any]], output: str) -> list[str]:
    """Return the lines below the table: the meaning of the marks, the sources, and each measured result."""
    notes = [f"{MEASURED_MARK} measured here, {output} output; other numbers are quoted from the numbered source."]
    if any(row.quick for row in rows):
        why = ", ".join(dict.fromkeys(why for row in rows for why in row.quick.values()))
        notes.append(f"{QUICK_MARK} ({why}) not to be quoted as the protocol's number of this method.")
    notes += track_notes(rows)
    for number, source in enumerate(dict.fromkeys(r.source for r in rows if not r.measured), 1):
        notes.append(f"[{number}] {source}.")
    for path, r in results.items():
        spread = r["deviation"][output]["miou"]
        several = f", deviation over seeds {spread:.2f}" if len(r["seeds"]) > 1 else ""
        notes.append(
            f"{MEASURED_MARK} {_method(r)}, {r['shot']}-shot, {r['dataset']} fold {r['fold']}: "
            f"{r['episodes']} episodes, seeds {', '.join(map(str, r['seeds']))}{several}; {r['input']}; "
            f"list {r['list'][:8]} of {r['list_images']}, weights {r['weights'][:8]}, {r['date'][:10]}, "
            f"{r['device']}: {path}"
        )
    return notes
