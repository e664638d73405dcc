"""The rows of the paper's tables: their cells, measured or published, their names, and what they may not mix."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from model.decides import Decides
from util.config.same import deciding
from util.evaluate.schema import MIOU, NOT_STATED, Track
from util.evaluate.titles import BEYOND, departures, protocol_title, seen_text, track_text
from util.files.errors import UserError, nearest
from util.files.yaml_text import read_yaml
from util.report.result_table import class_score_titles, class_scores
from util.run.origin import Origin, one_of_each

PUBLISHED = Path(__file__).with_name("published.yaml")
TRAINING_FREE = "training-free"  # the checkpoint of a method that learns nothing
OF_FOLD = ("list_file", "fold")  # settings that may differ between folds of a mean
OF_DATA_SET = ("data set", "number of folds", "data.fold_classes", "data.min_pixels")  # may differ across data sets
PARTS_OF_TABLE = {"test list": "a column", "track": "a row"}  # that show one of a term; of others the table does
Result = dict[str, Any]
Column = tuple[int, Any]  # number of shots; a fold, a data set, ``mean``, a score's key, (fold, score), or ``OfClass``


class OfClass(NamedTuple):
    """The place of a class's number in a column of one number of shots."""

    fold: Any  # or data set
    name: str
    score: str  # miou: its IoU; or a further metric


class Cell(NamedTuple):
    """A number of a table."""

    value: float
    spread: float | None = None  # its standard deviation over seeds (of a sample: n - 1); None with one seed
    doubts: tuple[str, ...] = ()  # the reasons why it is not the protocol's number


@dataclass
class Row:
    """The cells of a method: measured here, or published in ``source``."""

    method: str
    protocol: str
    encoder: str
    source: str | None
    cells: dict[Column, Cell] = field(default_factory=dict)
    tracks: dict[int, Track] = field(default_factory=dict)  # by number of shots
    seeds: dict[int, str] = field(default_factory=dict)  # that cells spread over, in words, by number of shots
    parameters: str = "-"  # in millions
    warnings: list[str] = field(default_factory=list)  # why it lacks means

    @property
    def track(self) -> str:
        """Its tracks in words."""
        return track_text(self.tracks)

    @property
    def doubts(self) -> list[str]:
        """The doubts about its cells, each once."""
        return list(dict.fromkeys(why for cell in self.cells.values() for why in cell.doubts))

    @property
    def class_scores(self) -> set[tuple[int, str]]:
        """The numbers of shots and the scores of which it has cells of classes."""
        return {(shot, place.score) for shot, place in self.cells if isinstance(place, OfClass)}

    def text(self, column: Column) -> str:
        """Return the number of a column without its marks, a dash if there is none."""
        form = ".3g" if column[1] == "seconds" else ".1f"
        return f"{self.cells[column].value:{form}}" if column in self.cells else "-"


class CellKey(NamedTuple):
    """The place of a result in a table."""

    row: str
    protocol: str
    shot: int
    dataset: str
    fold: int
    seed: int | None  # of the training; None without one


def cell_key(result: Result) -> CellKey:
    """Return the place of a result, or of what is known of a planned one."""
    stages = result.get("training", [result["config"]["run"]])  # of a planned result as planned
    return CellKey(
        row=row_name(result),
        protocol=result["protocol"],
        shot=result["shot"],
        dataset=result["dataset"],
        fold=result["fold"],
        seed=stages[-1].get("seed") if stages else None,
    )


def row_name(result: Result) -> str:
    """Return the row's name: method, encoder, other words of the run's name, weights unless the best, edges."""
    method = f"{result['method']} {result['encoder']}".strip()
    name = ", ".join(filter(None, [method, _further_words(result)]))
    if weights := _weights_text(result):
        name += f" ({weights})"
    if result["edges"]:
        name += ", edges"
    return name


def _further_words(result: Result) -> str:
    """Return the words of a run's name that are not its data set, method, encoder, fold or seed."""
    backbone = str(result["backbone"])
    forms = backbone, backbone.replace("/", "-"), backbone.replace("/", "--")  # in names of runs
    usual = "_".join((result["dataset"], result["model"], *forms))
    known = re.split("[_/]", usual)
    words = [word for word in result["run"].split("_") if word not in known]
    return " ".join(word for word in words if not re.fullmatch(r"(split|seed)\d+", word))


def _weights_text(result: Result) -> str:
    """Return which weights a result is of; '' for the run's best ones, and for those of a configured other data set."""
    if result["weights_mark"] != "foreign":
        return result["weights_mark"]
    if result["config"]["test"].get("trained_on"):
        return ""
    place = "/".join(Path(result["checkpoint"]).parts[-3:])
    return re.sub(r"split\d+", "split", place)  # folds share a row


def check_mixture(results: dict[Path, Result], across: bool, fix: str) -> None:
    """Refuse results, or what is known of planned ones, that differ where a table, a column or a row shows one value.

    Args:
        results: by their files.
        across: whether columns are data sets, which may have different folds.
        fix: the end of the message.

    Raises:
        UserError: names two results, what they differ in, and the fix.
    """
    cells: dict[CellKey, Path] = {}
    terms: dict[tuple, tuple[Path, Any]] = {}
    for path, result in results.items():
        cell = cell_key(result)
        if cell in cells:
            both = f"{cells[cell]} and {path} are both {cell.row}, {cell.shot}-shot, fold {cell.fold}"
            raise UserError(f"{both}; name only one of them")
        cells[cell] = path
        for term, value in _common_terms(result, cell, across).items():
            first_path, first_value = terms.setdefault(term, (path, value))
            name, *part = term
            is_unknown = bool(part) and value is None
            if value != first_value and not is_unknown:
                differ = f"{first_path} and {path} differ in {name} ({first_value}; {value})"
                raise UserError(f"{differ}: {PARTS_OF_TABLE.get(name, 'a table')} shows one {name}: {fix}")


def _common_terms(result: Result, cell: CellKey, across: bool) -> dict[tuple, Any]:
    """Return what results of a table have in common, by name and, where only a part of the table has it, that part."""
    # the side is of the network: notes state it, and means mark another
    settings = {key: v for key, v in result["protocol_settings"].items() if key not in ("list_file", "side")}
    whole_table = {
        "data set": cell.dataset,
        "protocol": protocol_title(result),
        "number of folds": result["folds"],
        "data.fold_classes": result["config"]["data"].get("fold_classes"),
        "protocol settings": settings,
        "data.min_pixels": result["min_pixels"],
    }
    terms: dict[tuple, Any] = {}
    for name, value in whole_table.items():
        if not across or name not in OF_DATA_SET:
            terms[(name,)] = value
    terms["test list", cell.dataset, cell.fold, cell.shot] = result.get(
        "list"
    )  # rare classes that are skipped depend on shots
    track = result.get("track")  # unknown of a planned result
    terms["track", cell.row, cell.shot] = track and track_text({cell.shot: track})
    return terms


def data_warnings(results: dict[Path, Result]) -> list[str]:
    """Return lines on results beside each other that were scored on other photos, and on photos seen in training."""
    lines = []
    firsts: dict[tuple, tuple[Path, Result]] = {}
    for path, result in results.items():
        place = result["dataset"], result["fold"], result["shot"]
        first_path, first = firsts.setdefault(place, (path, result))
        shorts = one_of_each(map(Origin.of, (first, result)), "content")
        if len(shorts) > 1:
            where = f"{result['dataset']} fold {result['fold']}, {result['shot']}-shot"
            lines.append(f"warning: {where}: other photos or masks ({', '.join(shorts)}): {first_path} and {path}")
    for path, result in results.items():
        if seen := seen_text(result):
            lines.append(f"warning: {row_name(result)}, {result['dataset']} fold {result['fold']}: {seen}: {path}")
    return lines


def measured_rows(results: dict[Path, Result], output: str, places: list[Any], place_key: str) -> list[Row]:
    """Return the rows of our results; mean and FB-IoU are cells only if all places are there.

    A cell is the mean over the trainings with different seeds, and its spread their standard deviation; with one
    training that over the seeds of the test. Doubts about a result are about its cells and all means.

    Args:
        results: by their files.
        output: name of the output whose scores are shown.
        places: all folds, or all data sets.
        place_key: the key of a result that names its place: ``fold`` or ``dataset``.
    """
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results.values():
        groups.setdefault((row_name(result), result["shot"]), []).append(result)
    rows: dict[str, Row] = {}
    for (method, shot), group in groups.items():
        first = group[0]
        if method not in rows:
            rows[method] = Row(method, protocol_title(first), first["encoder"], source=None)
        _fill(rows[method], shot, Trainings.of(group, place_key), output, places)
    return list(rows.values())


@dataclass(frozen=True)
class Trainings:
    """The results of one row and number of shots, by the training that they are of."""

    results: list[Result]
    place_key: str  # the key of a result that names its place: fold or dataset
    by_seed: dict[Any, dict[Any, Result]]  # seed of the training -> place -> result; 0 for all if no place has several
    repeated: bool  # whether a place has several trainings

    @classmethod
    def of(cls, results: list[Result], place_key: str) -> Trainings:
        """Return the results in groups by training."""
        places = {result[place_key] for result in results}
        repeated = len(results) > len(places)
        by_seed: dict[Any, dict[Any, Result]] = {}
        for result in results:
            seed = (cell_key(result).seed or 0) if repeated else 0
            by_seed.setdefault(seed, {})[result[place_key]] = result
        return cls(results, place_key, by_seed, repeated)

    @property
    def seeds(self) -> list[int]:
        """The seeds that cells spread over: those of the trainings, or of the test if all results have the same."""
        if self.repeated:
            return sorted(self.by_seed)
        first = self.results[0]["seeds"]
        is_common = all(result["seeds"] == first for result in self.results)
        return first if is_common else []

    def scores(self, output: str, places: list[Any]) -> tuple[list[dict[Any, float]], list[dict[Any, float]]]:
        """Return the scores of each training, and those of each seed."""
        of_trainings = [_scores(self.by_seed[seed], output, places) for seed in sorted(self.by_seed)]
        if self.repeated:
            return of_trainings, of_trainings
        return of_trainings, [_scores(self.by_seed[0], output, places, index) for index in range(len(self.seeds))]

    def at(self, place: Any) -> list[Result]:
        """Return the results that a cell is made of: those of its place; all, if it is a mean."""
        return [result for result in self.results if result[self.place_key] == place] or self.results

    def doubts(self, place: Any) -> tuple[str, ...]:
        """Return the reasons why a cell is not the protocol's number."""
        results = self.at(place)
        reasons = [reason for result in results for reason in departures(result) if reason != BEYOND]
        if self.repeated or results is self.results:
            reasons.append(self._difference)
            reasons += self._other_data
        reasons.append(_mixed_precision("trained", map(trained_precision, results)))
        reasons.append(_mixed_precision("tested", (result["precision"] for result in results)))
        return tuple(dict.fromkeys(filter(None, reasons)))

    @cached_property
    def lists(self) -> list[str]:
        """The whole test lists, short, of which the lists of the folds are parts: none known, one, or several."""
        return one_of_each(map(Origin.of, self.results), "whole_list")

    @property
    def _other_data(self) -> list[str]:
        """The reason, in words, why the folds are not of one data set's photos and masks; none if they are."""
        is_of_folds = self.place_key == "fold"
        contents = one_of_each(map(Origin.of, self.results), "whole_content")
        return ["folds tested on other photos or masks"] if is_of_folds and len(contents) > 1 else []

    @cached_property
    def _difference(self) -> str:
        """The reason, in words, why the results are not of one method's trainings; '' if they are."""
        counts = {len(by_place) for by_place in self.by_seed.values()}
        if len(counts) > 1:
            return "not every training has all folds"
        first = _settings_of(self.results[0], self.place_key)
        if any(_settings_of(result, self.place_key) != first for result in self.results):
            return "made with different settings"
        codes = [result["code"] for result in self.results if result.get("code")]
        if any(code != codes[0] for code in codes):
            return "made by different code of the method"
        return ""


def _mixed_precision(verb: str, precisions: Iterable[str]) -> str:
    """Return the doubt about results that were trained, or tested, in different precisions; '' if they were not."""
    names = [name or NOT_STATED for name in dict.fromkeys(precisions)]
    return f"{verb} in different precisions: {', '.join(names)}" if len(names) > 1 else ""


def _fill(row: Row, shot: int, trainings: Trainings, output: str, places: list[Any]) -> None:
    """Add the cells of a number of shots to a row."""
    results = trainings.results
    first = results[0]
    of_trainings, of_seeds = trainings.scores(output, places)
    if trainings.place_key == "fold" and len(trainings.lists) > 1:
        of_trainings, of_seeds = map(_without_means, (of_trainings, of_seeds))
        lists = ", ".join(trainings.lists)
        row.warnings.append(
            f"no mean of {row.method}, {shot}-shot: its folds are parts of different test lists ({lists})"
        )
    for column in dict.fromkeys(column for scores in of_trainings for column in scores):
        values = _values(of_trainings, column)
        samples = _values(of_seeds, column)
        spread = stdev(samples) if len(samples) > 1 else None
        place = column[0] if isinstance(column, tuple) else column
        row.cells[shot, column] = Cell(fmean(values), spread, trainings.doubts(place))
    if len(of_seeds) > 1:
        kind = "training" if trainings.repeated else "test"
        row.seeds[shot] = f"{kind} seeds {', '.join(map(str, trainings.seeds))}"
    row.tracks[shot] = first["track"]
    row.parameters = f"{_millions(first['parameters'])} ({_millions(first['learnt_parameters'])})"
    row.cells[shot, "seconds"] = Cell(fmean(map(_seconds_per_episode, results)))


def _millions(count: int) -> str:
    """Return a number in millions: tenths, or two digits of a small one."""
    return f"{count / 1e6:.2g}" if count < 1e5 else f"{count / 1e6:.1f}"


def _without_means(scores: list[dict[Any, float]]) -> list[dict[Any, float]]:
    """Return scores of trainings without those that are means over places, whose columns are called by the score."""
    return [{column: value for column, value in one.items() if not isinstance(column, str)} for one in scores]


def _values(scores: list[dict[Any, float]], column: Any) -> list[float]:
    return [values[column] for values in scores if column in values]


def _seconds_per_episode(result: Result) -> float:
    """Return the seconds of a test for an episode, summed over its processes."""
    seconds = 60 * result["minutes"] * result["processes"]
    return seconds / (result["episodes"] * len(result["seeds"]))


def trained_precision(result: Result) -> str:
    """Return in which precision the weights of a result were trained, of all stages; '' if nothing says it."""
    stages = dict.fromkeys(stage["precision"] for stage in result["training"] if stage.get("precision"))
    asked = (result["trained_with"] or {}).get("precision")  # what is known of older checkpoints
    return " and ".join(stages) or asked or ""


def _scores(by_place: dict[Any, Result], output: str, places: list[Any], test: int | None = None) -> dict[Any, float]:
    """Return the scores of a training's results by fold or data set, and their means if all are there.

    They are of the test of one seed, by its index; with None means over the seeds, and those of each class.
    """
    columns: dict[Any, float] = {}
    of_places: list[dict[str, float]] = []
    for place, result in by_place.items():
        means = result["mean"] if test is None else result["per_seed"][test]
        scores = {key: value for key, value in means[output].items() if not isinstance(value, dict)}
        columns[place] = scores[MIOU]
        columns |= {(place, key): value for key, value in scores.items()}
        if test is None:
            columns |= _class_columns(result, output, place)
        of_places.append(scores)
    if len(of_places) == len(places):
        for key in of_places[0]:
            values = _values(of_places, key)
            if len(values) == len(places):
                columns[key] = fmean(values)
        columns["mean"] = columns[MIOU]
    return columns


def _class_columns(result: Result, output: str, place: Any) -> dict[Any, float]:
    """Return the scores of each class of a result, which is of a fold or data set."""
    columns = {}
    for score in class_score_titles():
        for name, value in class_scores(result, output, score).items():
            columns[OfClass(place, name, score)] = value
    return columns


def _settings_of(result: Result, place_key: str) -> dict[str, Any]:
    """Return how a result was trained and tested, but for precision, fold, seeds and the start of the encoder."""
    data = result["config"]["data"]
    learns = result["checkpoint"] != TRAINING_FREE
    stages = []
    for stage in result["training"]:
        settings = {key: value for key, value in stage["settings"].items() if key not in OF_FOLD}
        stages.append((stage["batch"], stage["size"], settings))
    return {
        "stages": stages,
        "training lists": _list_settings(result["trained_with"] or {}),
        "test lists": _list_settings(data) if place_key == "fold" else {},
        "model": deciding(result["config"], Decides.WEIGHTS)["model"],
        "fixed weights": "" if learns else result["weights"],
        "calibrated": result["calibration"] is not None,
        "size": result["size"],
        "text": result["text"],
        "input": result["input"],
    }


def _list_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Return data settings that decide lists, without what names the fold."""
    others = (*OF_FOLD, "root", "shot", "model", "precision")
    fold = rf"(?<!\d){data.get('fold')}(?!\d)"
    settings = {}
    for key, value in deciding({"data": data}, Decides.SCORES)["data"].items():
        if key not in others:
            settings[key] = re.sub(fold, "{fold}", value) if isinstance(value, str) else value
    return settings


@cache
def _published() -> dict[str, Any]:
    return read_yaml(PUBLISHED.read_text(encoding="utf-8"))


def published_rows(
    dataset: str, shots: list[int], fold_rule: str, papers: str | None = None
) -> tuple[list[Row], list[str]]:
    """Return the published rows, and notes on those that are left out because their folds differ.

    Args:
        dataset: that the rows are of.
        shots: numbers of shots; rows with none of them are left out.
        fold_rule: of the folds that rows are compared on.
        papers: whose rows are shown, with commas, or ``none``; None: all.

    Raises:
        UserError: a paper is not known.
    """
    content = _published()
    shown = _papers_shown(papers, [paper.lower() for paper in content["papers"]])
    rows: list[Row] = []
    left_out: list[str] = []
    for entry in [*content["rows"], *content["foundation"]]:
        entry_shots = [shot for shot in shots if shot in entry["miou"]]
        is_same_data = entry["dataset"] == dataset
        is_shown = entry["paper"].lower() in shown
        if not (is_same_data and is_shown and entry_shots):
            continue
        row = _published_row(entry, entry_shots)
        rule = entry.get("fold_rule", fold_rule)
        if rule in (None, fold_rule):
            rows.append(row)
        else:
            protocol = entry["protocol"] or NOT_STATED
            left_out.append(f"left out: {row.method} by {protocol}, published on other folds ({rule}).")
    return rows, left_out


def _papers_shown(asked: str | None, known: list[str]) -> set[str]:
    """Return the papers that ``--published`` names, in lower case; UserError if one is not known."""
    if asked is None:
        return set(known)
    papers = {word.strip() for word in asked.lower().split(",")} - {"", "none"}
    if unknown := sorted(papers.difference(known)):
        raise UserError(f"--published {unknown[0]}: no such paper{nearest(unknown[0], known)}")
    return papers


def _published_row(entry: dict[str, Any], shots: list[int]) -> Row:
    """Return the row of an entry of ``PUBLISHED`` with some of its numbers of shots."""
    content = _published()
    paper, encoder = entry["paper"], entry["encoder"]
    protocol = entry["protocol"] or NOT_STATED
    if "fold_rule" in entry:
        protocol += f" ({entry['fold_rule'] or 'unstated'} folds)"
    name = ", ".join(filter(None, [f"{paper} {encoder}", entry.get("variant")]))
    row = Row(name, protocol, encoder, source=content["papers"][paper])
    track: Any = {**content["tracks"][paper], "encoder_data": content["encoder_data"].get(encoder)}
    for shot in shots:
        for column, value in _published_scores(entry, shot).items():
            row.cells[shot, column] = Cell(value)
        row.tracks[shot] = track | {"train_shot": track["train_shot"].get(shot)}
    return row


def _published_scores(entry: dict[str, Any], shot: int) -> dict[Any, float]:
    """Return the scores of an entry of ``PUBLISHED`` by fold, class, or name of a mean."""
    *folds, mean = entry["miou"][shot]
    scores: dict[Any, float] = {**dict(enumerate(folds)), "mean": mean}
    for fold, classes in enumerate(entry.get("classes", {}).get(shot, ())):
        scores |= {OfClass(fold, name, MIOU): float(iou) for name, iou in classes.items()}
    if "fb_iou" in entry:
        scores["fb_iou"] = entry["fb_iou"][shot]
    return scores
