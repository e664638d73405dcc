"""The rows of the paper's tables: their names and cells, what they may not mix, and why a number is doubtful."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from pathlib import Path
from typing import Any, NamedTuple

from model.decides import Decides
from util.config.same import deciding
from util.evaluate.schema import NOT_STATED, Track
from util.evaluate.titles import BEYOND, departures, protocol_title, seen_text, track_text
from util.files.errors import UserError
from util.report.one_result import DEVIATION
from util.report.table import Marked
from util.run.origin import Origin, one_of_each

TRAINING_FREE = "training-free"  # the checkpoint of a method that learns nothing
OF_FOLD = ("list_file", "fold")  # settings that may differ between folds of a mean
PARTS_OF_TABLE = {"test list": "a column", "track": "a row"}  # that show one of a term; of others the table does
MEAN = "mean"  # the place of a mean over folds or data sets
SECONDS = "seconds"  # the score of a test's time for an episode
MEASURED, DOUBTFUL = "*", "?"  # marks of cells
Result = dict[str, Any]


class Column(NamedTuple):
    """The terms that numbers share when methods can be compared by them."""

    shot: int
    place: Any  # a fold, a data set, or ``MEAN``
    score: str
    name: str = ""  # of a class; '' for all together


@dataclass
class Cell:
    """A number of a table."""

    value: float
    spread: float = nan  # standard deviation
    doubts: tuple[str, ...] = ()  # why it is not the protocol's number
    best: bool = False  # of the rows that it is compared with


@dataclass
class Row:
    """A method of a table: measured here, or published in ``source``."""

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
    def has_classes(self) -> bool:
        """Whether it has numbers of single classes."""
        return any(column.name for column in self.cells)

    @property
    def over(self) -> str:
        """The seeds that its cells spread over, in words."""
        return "; ".join(f"{shot}-shot: {seeds}" for shot, seeds in self.seeds.items())

    @property
    def doubts(self) -> list[str]:
        """The reasons why numbers of it are doubtful, each once."""
        return list(dict.fromkeys(reason for cell in self.cells.values() for reason in cell.doubts))

    def shown(self, column: Column) -> Marked:
        """Return its number in a column with the mark of a doubt; a dash if there is none."""
        cell = self.cells.get(column)
        if cell is None:
            return Marked("-")
        return Marked(number_text(column, cell), DOUBTFUL if cell.doubts else "", cell.best)

    def shown_with_spread(self, column: Column) -> Marked:
        """Return the same; if it is measured, with its spread and the mark of that too."""
        shown = self.shown(column)
        if self.source or column not in self.cells:
            return shown
        spread = self.cells[column].spread
        words = "" if isnan(spread) else f" +- {spread:.1f}"
        return replace(shown, mark=f"{words}{MEASURED}{shown.mark}")


def number_text(column: Column, cell: Cell) -> str:
    """Return the number of a cell as it is printed."""
    return format(cell.value, ".3g" if column.score == SECONDS else ".1f")


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
    if result.get("edges", False):
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
    if result["config"]["test"].get("trained_on") not in (None, result["dataset"]):
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
    of_data_set = {
        "data set": cell.dataset,
        "number of folds": result["folds"],
        "data.fold_classes": result["config"]["data"].get("fold_classes"),
        "data.min_pixels": result["min_pixels"],
    }
    terms: dict[tuple, Any] = {} if across else {(name,): value for name, value in of_data_set.items()}
    terms["protocol",] = protocol_title(result)
    # the side is of the network: notes state it, and means mark another
    settings = {key: v for key, v in result["protocol_settings"].items() if key not in ("list_file", "side")}
    terms["protocol settings",] = settings
    # rare classes that are skipped depend on shots
    terms["test list", cell.dataset, cell.fold, cell.shot] = result.get("list")
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


def doubts(results: Sequence[Result], differences: Sequence[str]) -> tuple[str, ...]:
    """Return the reasons why the number of some results is not the protocol's.

    Args:
        results: whose mean it is; one, or several of one row and number of shots.
        differences: of several, the reasons of ``differences_of``.
    """
    reasons = [reason for result in results for reason in departures(result) if reason != BEYOND]
    reasons += differences
    reasons += _mixed_precision("trained", map(trained_precision, results))
    reasons += _mixed_precision("tested", (result["precision"] for result in results))
    return tuple(dict.fromkeys(reasons))


def differences_of(results: Sequence[Result], place_key: str, is_uneven: bool) -> list[str]:
    """Return the reasons, in words, why results are not of one method's trainings, tested on one data set.

    Args:
        results: of one row and number of shots.
        place_key: the key of a result that names its place: ``fold`` or ``dataset``.
        is_uneven: whether trainings with different seeds have different numbers of places.
    """
    first = _settings_of(results[0], place_key)
    codes = [result["code"] for result in results if result.get("code")]
    reasons = []
    if is_uneven:
        reasons.append("not every training has all folds")
    elif any(_settings_of(result, place_key) != first for result in results):
        reasons.append("made with different settings")
    elif any(code != codes[0] for code in codes):
        reasons.append("made by different code of the method")
    if place_key == "fold" and len(one_of_each(map(Origin.of, results), "whole_content")) > 1:
        reasons.append("folds tested on other photos or masks")
    return reasons


def _mixed_precision(verb: str, precisions: Iterable[str]) -> list[str]:
    """Return the doubt about results that were trained, or tested, in different precisions; none if they were not."""
    names = [name or NOT_STATED for name in dict.fromkeys(precisions)]
    return [f"{verb} in different precisions: {', '.join(names)}"] if len(names) > 1 else []


def trained_precision(result: Result) -> str:
    """Return in which precision the weights of a result were trained, of all stages; '' if nothing says it."""
    stages = (stage.get("precision") for stage in result["training"])
    return " and ".join(dict.fromkeys(filter(None, stages)))


def stages_text(result: Result) -> str:
    """Return the steps and batch of each stage that trained a result's weights, in words; '' if none is known."""
    stages = result.get("training", [])
    return ", ".join(f"{stage['stage']} stage {stage['steps']} steps with batch {stage['batch']}" for stage in stages)


def how_made(path: Path, result: Result, output: str) -> str:
    """Return the line that says how a measured number was made."""
    r = result
    seeds = ", ".join(map(str, r["seeds"]))
    if len(r["seeds"]) > 1:
        spread = r["deviation"][output]["miou"]
        seeds += f", {DEVIATION} over them {spread:.2f}"
    what = f"{row_name(r)}, {r['shot']}-shot, {r['dataset']} fold {r['fold']}: {r['episodes']} episodes, seeds {seeds}"
    made = f"list {r['list'][:8]} of {r['list_images']}, weights {r['weights'][:8]}, {r['date'][:10]}, {r['device']}"
    words = [what, r["input"], _trained_text(r), f"tested in {r['precision']}", made]
    return f"{'; '.join(filter(None, words))}: {path}"


def _trained_text(result: Result) -> str:
    """Return how the weights of a result were trained, in words; '' without a training."""
    if not (stages := stages_text(result)):
        return ""
    seed = result["training"][-1].get("seed")
    words = [stages, "" if seed is None else f"seed {seed}", trained_precision(result)]
    return f"trained: {', '.join(filter(None, words))}"


def _settings_of(result: Result, place_key: str) -> dict[str, Any]:
    """Return how a result was trained and tested, but for precision, fold, seeds and the start of the encoder."""
    data = result["config"]["data"]
    learns = result["checkpoint"] != TRAINING_FREE
    stages = []
    for stage in result["training"]:
        of_stage = {key: value for key, value in stage["settings"].items() if key not in OF_FOLD}
        stages.append((stage["batch"], stage["size"], of_stage))
    settings = {key: result[key] for key in ("size", "text", "input")}
    settings["stages"] = stages
    settings["training lists"] = _list_settings(result["trained_with"] or {})
    settings["test lists"] = _list_settings(data) if place_key == "fold" else {}
    settings["model"] = deciding(result["config"], Decides.WEIGHTS)["model"]
    settings["fixed weights"] = "" if learns else result["weights"]
    settings["calibrated"] = result.get("calibration") is not None
    return settings


def _list_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Return data settings that decide lists, without what names the fold."""
    others = (*OF_FOLD, "root", "shot", "model", "precision")
    fold = rf"(?<!\d){data.get('fold')}(?!\d)"
    settings = {}
    for key, value in deciding({"data": data}, Decides.SCORES)["data"].items():
        if key not in others:
            settings[key] = re.sub(fold, "{fold}", value) if isinstance(value, str) else value
    return settings
