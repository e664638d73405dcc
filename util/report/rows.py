"""The rows of the paper's tables: their cells, measured or published, their names, and what they may not mix."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache, cached_property
from operator import itemgetter
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import yaml

from util.config.settings import IRRELEVANT
from util.errors import UserError, nearest
from util.report.result_table import AVERAGED, class_ious, departures, passes_in_words, protocol_title
from util.report.schema import NOT_STATED, Track, in_words

PUBLISHED = Path(__file__).with_name("published.yaml")
TRAINING_FREE = "training-free"  # the checkpoint of a method that learns nothing
OF_FOLD = ("list_file", "fold", "typical_epochs")  # settings that may differ between folds of a mean
Result = dict[str, Any]
Column = tuple[int, Any]  # number of shots; a fold, a data set, ``mean``, a score's key, or (fold, class or score)


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
    seeds: dict[int, str] = field(default_factory=dict)  # over which ones cells spread, in words, by number of shots
    parameters: str = "-"  # in millions

    @property
    def track(self) -> str:
        """Its tracks in words."""
        return in_words(self.tracks)

    @property
    def doubts(self) -> list[str]:
        """The doubts about its cells, each once."""
        return list(dict.fromkeys(why for cell in self.cells.values() for why in cell.doubts))

    def text(self, column: Column) -> str:
        """Return the number of a column without its marks, a dash if there is none."""
        form = ".3g" if column[1] == "seconds" else ".1f"
        return f"{self.cells[column].value:{form}}" if column in self.cells else "-"


def cell_of(result: Result) -> tuple:
    """Return the key of a result's cell in the table; the seed of its training, None without one, comes last."""
    stages = result.get("training", [result["config"]["run"]])  # of a planned result as planned
    seed = stages[-1].get("seed") if stages else None
    return row_name(result), *(result[key] for key in ("protocol", "shot", "dataset", "fold")), seed


def row_name(result: Result) -> str:
    """Return the row's name: method, encoder, other words of the run's name, weights unless the best, averaging."""
    backbone = str(result["backbone"])
    forms = backbone, backbone.replace("/", "-"), backbone.replace("/", "--")  # in names of runs
    known = re.split("[_/]", "_".join((result["dataset"], result["model"], *forms)))
    words = [w for w in result["run"].split("_") if w not in known and not re.fullmatch(r"(split|seed)\d+", w)]
    name = ", ".join(filter(None, [f"{result['method']} {result['encoder']}".strip(), " ".join(words)]))
    mark = result["weights_mark"]
    if mark == "foreign":  # named by its place, where folds share a row
        place = re.sub(r"split\d+", "split", "/".join(Path(result["checkpoint"]).parts[-3:]))
        mark = "" if result["config"]["test"].get("trained_on") else place
    return name + (f" ({mark})" if mark else "") + (f", {passes_in_words(result)}" if result["averaged"] else "")


def check_mixture(results: dict[Path, Result], across: bool, fix: str) -> None:
    """Refuse results, or what is known of planned ones, that differ where a table, a column or a row holds one.

    UserError: names two of them, what they differ in, and the fix.
    """
    seen: dict[tuple, tuple[Path, Any]] = {}
    for path, r in results.items():
        method, _, shot, dataset, fold, _ = cell = cell_of(r)
        if cell in seen:
            both = f"{seen[cell][0]} and {path} are both {method}, {shot}-shot, fold {fold}"
            raise UserError(f"{both}; name only one of them")
        seen[cell] = path, None
        terms = {
            ("data set",): across or dataset,
            ("protocol",): protocol_title(r),
            ("number of folds",): across or r["folds"],
            ("data.fold_classes",): across or r["config"]["data"].get("fold_classes"),
            # the side is of the network: notes state it, and means mark another
            ("protocol settings",): {k: v for k, v in r["protocol_settings"].items() if k not in ("list_file", "side")},
            ("data.min_pixels",): across or r["min_pixels"],
            ("test list", dataset, fold, shot): r.get("list"),  # shots decide it where rare classes are skipped
            ("track", method, shot): in_words({shot: r["track"]}) if "track" in r else None,
        }
        for key, value in terms.items():
            before, other = seen.setdefault(key, (path, value))
            if other != value and (value is not None or len(key) == 1):
                differ = f"{before} and {path} differ in {key[0]} ({other}; {value})"
                raise UserError(f"{differ}: one column, or row, holds one; {fix}")


def measured_rows(results: dict[Path, Result], output: str, places: list[Any], by: str) -> list[Row]:
    """Return the rows of our own results; mean and FB-IoU are cells only if all folds, or data sets, are there.

    A cell is the mean over the trainings with different seeds, and its spread their standard deviation; with one
    training that over the seeds of the test. Doubts about a result are about its cells and all means.
    """
    rows, groups = dict[str, Row](), dict[tuple[str, int], list[Result]]()
    for r in results.values():
        groups.setdefault((row_name(r), r["shot"]), []).append(r)
    for (method, shot), of_row in groups.items():
        first = of_row[0]
        row = rows.setdefault(method, Row(method, protocol_title(first), first["encoder"], None))
        _fill(row, shot, Trainings.of(of_row, by), output, places)
    return list(rows.values())


@dataclass(frozen=True)
class Trainings:
    """The results of one row and number of shots, by the training that they are of."""

    results: list[Result]
    by: str  # the key of a result that names its place: fold or dataset
    of_seed: dict[Any, dict[Any, Result]]  # seed of the training -> place -> result; 0 for all if no place has several
    several: bool  # whether a place has several trainings

    @classmethod
    def of(cls, results: list[Result], by: str) -> Trainings:
        """Return the results in groups by training."""
        several = len(results) > len({r[by] for r in results})
        of_seed: dict[Any, dict[Any, Result]] = {}
        for r in results:
            seed = (cell_of(r)[-1] or 0) if several else 0
            of_seed.setdefault(seed, {})[r[by]] = r
        return cls(results, by, of_seed, several)

    @property
    def seeds(self) -> list[int]:
        """The seeds that cells spread over: those of the trainings, or of the test if all results have the same."""
        if self.several:
            return sorted(self.of_seed)
        first = self.results[0]["seeds"]
        return first if all(r["seeds"] == first for r in self.results) else []

    def scores(self, output: str, places: list[Any]) -> tuple[list[dict[Any, float]], list[dict[Any, float]]]:
        """Return the scores of each training, and those of each seed."""
        of_each = [_scores(self.of_seed[seed], output, places) for seed in sorted(self.of_seed)]
        if self.several:
            return of_each, of_each
        return of_each, [_scores(self.of_seed[0], output, places, i) for i in range(len(self.seeds))]

    def at(self, place: Any) -> list[Result]:
        """Return the results that a cell is made of: those of its place; all, if it is a mean."""
        own = [r for r in self.results if r[self.by] == place]
        return own or self.results

    def doubts(self, place: Any) -> tuple[str, ...]:
        """Return the reasons why a cell is not the protocol's number."""
        own = self.at(place)
        out = dict.fromkeys(why for r in own for why in departures(r) if why != AVERAGED)
        if self.several or own is self.results:
            out |= dict.fromkeys(filter(None, [self._unlike]))
        trained, tested = ({of(r): None for r in own} for of in (trained_precision, itemgetter("precision")))
        for words, precisions in (("trained", trained), ("tested", tested)):
            if len(precisions) > 1:
                out[f"{words} in different precisions: {', '.join(name or NOT_STATED for name in precisions)}"] = None
        return tuple(out)

    @cached_property
    def _unlike(self) -> str:
        if len({len(of_places) for of_places in self.of_seed.values()}) > 1:
            return "not every training has all folds"
        first = _made(self.results[0], self.by)
        return "made with different settings" if any(_made(r, self.by) != first for r in self.results) else ""


def _fill(row: Row, shot: int, trainings: Trainings, output: str, places: list[Any]) -> None:
    """Add the cells of a number of shots to a row."""
    results, seeds = trainings.results, trainings.seeds
    of_each, of_seeds = trainings.scores(output, places)
    for column in dict.fromkeys(c for scores in of_each for c in scores):
        values = [scores[column] for scores in of_each if column in scores]
        samples = [scores[column] for scores in of_seeds if column in scores]
        spread = stdev(samples) if len(samples) > 1 else None
        place = column[0] if isinstance(column, tuple) else column
        row.cells[shot, column] = Cell(fmean(values), spread, trainings.doubts(place))
    if len(of_seeds) > 1:
        row.seeds[shot] = f"{'training' if trainings.several else 'test'} seeds {', '.join(map(str, seeds))}"
    first = results[0]
    row.tracks[shot] = first["track"]
    row.parameters = f"{first['parameters'] / 1e6:.1f} ({first['learnt_parameters'] / 1e6:.1f})"
    took = (60 * r["minutes"] * r["processes"] / (r["episodes"] * len(r["seeds"])) for r in results)
    row.cells[shot, "seconds"] = Cell(fmean(took))


def trained_precision(result: Result) -> str:
    """Return in which precision the weights of a result were trained, of all stages; '' if nothing says it."""
    stages = dict.fromkeys(stage["precision"] for stage in result["training"] if stage.get("precision"))
    asked = (result["trained_with"] or {}).get("precision")  # what is known of older checkpoints
    return " and ".join(stages) or asked or ""


def _scores(of_place: dict[Any, Result], output: str, places: list[Any], test: int | None = None) -> dict[Any, float]:
    """Return the scores of a training's results by fold or data set, and their means if all are there.

    They are of one seed of the test by its number; with None their means over seeds, and those of each class.
    """
    out, own = dict[Any, float](), dict[Any, dict[str, float]]()
    for place, r in of_place.items():
        scores = (r["mean"] if test is None else r["per_seed"][test])[output]
        own[place] = {key: value for key, value in scores.items() if key != "per_class"}
        more = class_ious(r, output) if test is None else {}
        out |= {place: scores["miou"], **{(place, name): value for name, value in (own[place] | more).items()}}
    if len(own) == len(places):
        everywhere = set.intersection(*map(set, own.values()))
        out |= {key: fmean(scores[key] for scores in own.values()) for key in everywhere}
        out["mean"] = out["miou"]
    return out


def _made(result: Result, by: str) -> list[Any]:
    """Return how a result was trained and tested, but for precision, fold, seeds and the start of the encoder."""
    data, model = result["config"]["data"], result["config"]["model"]
    start = ("weights", "partial", "pretraining")
    encoder = {key: value for key, value in (model.get("encoder") or {}).items() if key not in start}
    stages = [
        (s["batch"], s["size"], {k: v for k, v in s["settings"].items() if k not in OF_FOLD})
        for s in result["training"]
    ]
    lists = [_lists(result["trained_with"] or {}), _lists(data) if by == "fold" else {}]
    weights = result["weights"] if result["checkpoint"] == TRAINING_FREE else ""
    how = [result[key] for key in ("size", "text", "input")]
    return [stages, *lists, model | {"encoder": encoder}, weights, result["calibration"] is None, *how]


def _lists(data: dict[str, Any]) -> dict[str, Any]:
    """Return data settings that decide lists, without what names the fold."""
    others = (*IRRELEVANT, *OF_FOLD, "root", "text_dir", "shot", "model", "precision")
    left = {k: v for k, v in data.items() if k not in others}
    fold = rf"(?<!\d){data.get('fold')}(?!\d)"
    return {k: re.sub(fold, "{fold}", v) if isinstance(v, str) else v for k, v in left.items()}


@cache
def _published() -> dict[str, Any]:
    return yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))


def published_rows(
    dataset: str, shots: list[int], fold_rule: str, generalised: int | None = None, chosen: str | None = None
) -> tuple[list[Row], list[str]]:
    """Return the published rows, and notes on those that are omitted because their folds differ.

    Args:
        generalised: only those of generalised segmentation on so many folds; None: none of them.
        chosen: papers, with commas, or ``none``; None: all. UserError if one is not known.
    """
    content = _published()
    known = [paper.lower() for paper in content["papers"]]
    named = {word.strip() for word in (chosen or "").lower().split(",")} - {"", "none"}
    wanted = known if chosen is None else named
    if unknown := sorted(named.difference(known)):
        raise UserError(f"--published {unknown[0]}: no such paper{nearest(unknown[0], known)}")
    rows, omitted = [], list[str]()
    for entry in [*content["rows"], *content["foundation"]]:
        paper, encoder = entry["paper"], entry["encoder"]
        known_shots = [shot for shot in shots if shot in entry["miou"] and paper.lower() in wanted]
        if entry["dataset"] != dataset or not known_shots or entry.get("generalised") != generalised:
            continue
        name = ", ".join(filter(None, [f"{paper} {encoder}", entry.get("variant")]))
        protocol, rule = entry["protocol"] or NOT_STATED, entry.get("fold_rule", fold_rule)
        if rule not in (None, fold_rule):
            omitted.append(f"omitted: {name} by {protocol}, published on other folds ({rule}).")
            continue
        if "fold_rule" in entry:
            protocol += f" ({rule or 'unstated'} folds)"
        rows.append(row := Row(name, protocol, encoder, content["papers"][paper]))
        track: Any = {**content["tracks"][paper], "encoder_data": content["encoder_data"].get(encoder)}
        for shot in known_shots:
            *folds, mean = entry["miou"][shot]
            values: dict[Any, float] = {**dict(enumerate(folds)), "mean": mean}
            for key in ("base", "novel") if generalised else ():
                *folds, values[key] = entry[key][shot]
                values |= {(fold, key): value for fold, value in enumerate(folds)}
            for fold, of_classes in enumerate(entry.get("classes", {}).get(shot, ())):
                values |= {(fold, name): float(iou) for name, iou in of_classes.items()}
            if "fb_iou" in entry:
                values["fb_iou"] = entry["fb_iou"][shot]
            row.cells |= {(shot, column): Cell(value) for column, value in values.items()}
            row.tracks[shot] = track | {"train_shot": track["train_shot"].get(shot)}
    return rows, omitted
