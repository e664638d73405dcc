"""The paper's tables: folds, mean and FB-IoU beside published rows, the IoU of each class, and what references do.

Measured and published numbers are rows of one frame, a row for each method, number of shots, place, class and score;
a table is a pivot of it. ``check_one_table`` refuses results that share no table.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any, NamedTuple

from model.decides import Decides
from util.config.same import deciding
from util.evaluate.schema import NOT_STATED, Result, check_output, read_results
from util.evaluate.titles import DRAWN_HERE, departures, protocol_title, track_text
from util.files.errors import UserError, nearest
from util.files.table import Marked, Table
from util.loop.mask_metrics import ScoreFacts
from util.loop.metrics import BASE, FINAL, MIOU
from util.report.published import MEAN, published, published_entries
from util.report.results import (
    DEVIATION,
    FB_IOU,
    REFERENCES,
    SECONDS,
    frame_of,
    heading,
    how_made,
    references,
    row_name,
    scores_of,
    trained_precision,
    training_seed,
)

if TYPE_CHECKING:
    from pandas import DataFrame, Series

TRAINING_FREE = "training-free"  # the checkpoint of a method that learns nothing
FOLD_SETTINGS = ("list_file", "fold")  # settings that may differ between folds of a mean
MEASURED, DOUBTFUL = "*", "?"  # marks of cells
PARTS_OF_TABLE = {"test list": "a column", "photos or masks": "a column", "track": "a row"}  # others: the table
CROSS_DOMAIN = {"fss1000", "deepglobe", "isic", "chestxray"}  # whose mean the published rows of the benchmark are
COLUMNS_NOTE = (
    "Parameters: of the method and of the encoder up to the deepest stage that it reads. "
    "Seconds: as the machine was, other programs included."
)
REFERENCES_NOTE = (
    "Over the references of a query, then mean over queries: deviation (of a sample, n - 1) and its ratio to the mean "
    "IoU (variation; queries that no reference segments have none), and the mean IoU with the worst and the best tenth "
    "of the references. Published variations are of the authors' queries and references."
)


class Column(NamedTuple):
    """The terms that numbers share when methods can be compared by them."""

    shot: int
    place: Any  # a fold, a data set, or ``MEAN``
    score: str
    name: str = ""  # of a class; '' for all together


@dataclass
class Row:
    """A method of a table: what its numbers share, and its numbers by their columns."""

    facts: Any  # method, protocol, parameters, source ('' where it is measured), track, over
    cells: dict[Column, Any]  # value, spread, doubts, best

    @property
    def doubts(self) -> list[str]:
        """The reasons why numbers of it are doubtful, each once."""
        return list(dict.fromkeys(reason for cell in self.cells.values() for reason in cell.doubts))

    def shown(self, column: Column) -> Marked:
        """Return its number in a column with the mark of a doubt; a dash if there is none."""
        cell = self.cells.get(column)
        if cell is None:
            return Marked("-")
        return Marked(_printed(cell.score, cell.value), DOUBTFUL if cell.doubts else "", cell.best)

    def shown_with_spread(self, column: Column) -> Marked:
        """Return the same; if it is measured, with its spread and the mark of that too."""
        shown = self.shown(column)
        cell = self.cells.get(column)
        if self.facts.source or cell is None:
            return shown
        words = "" if cell.spread is None else f" +- {cell.spread:.1f}"
        return Marked(shown.text, f"{words}{MEASURED}{shown.mark}", shown.best)


def _printed(score: str, value: float) -> str:
    """Return a number as a table prints it."""
    return format(value, ".3g" if score == SECONDS else ".1f")


def are_across(results: dict[Path, Result]) -> bool:
    """Return whether a table has columns of data sets without folds, as in the cross-domain benchmark."""
    data_sets = {result["dataset"] for result in results.values()}
    return len(data_sets) > 1 and all(result["folds"] == 1 for result in results.values())


def check_one_table(results: dict[Path, Result], fix: str = "name fewer runs") -> None:
    """Refuse results that differ where a table, a column or a row shows one value.

    Args:
        results: by their files; of data sets without folds they may have different image sides.
        fix: the end of the message.

    Raises:
        UserError: names two results, what they differ in, and the fix.
    """
    across = are_across(results)
    cells: dict[tuple, Path] = {}
    terms: dict[tuple, tuple[Path, Any]] = {}
    for path, result in results.items():
        other = cells.setdefault(_cell(result), path)
        if other != path:
            both = f"{other} and {path} are both {row_name(result)}, {result['shot']}-shot, fold {result['fold']}"
            raise UserError(f"{both}; name only one of them")
        for term, value in _terms(result, across).items():
            first_path, first = terms.setdefault(term, (path, value))
            if value != first:
                name, *_ = term
                differ = f"{first_path} and {path} differ in {name} ({first}; {value})"
                raise UserError(f"{differ}: {PARTS_OF_TABLE.get(name, 'a table')} shows one {name}: {fix}")


def _cell(result: Result) -> tuple:
    """Return the place of a result in a table."""
    seed = training_seed(result)
    return row_name(result), result["protocol"], result["shot"], result["dataset"], result["fold"], seed


def _terms(result: Result, across: bool) -> dict[tuple, Any]:
    """Return what results of a table have in common, by name and, where only a part of the table has it, that part."""
    dataset, shot = result["dataset"], result["shot"]
    column = dataset, result["fold"], shot  # rare classes that are skipped depend on shots
    settings = {key: v for key, v in result["protocol_settings"].items() if key not in ("list_file", "side")}
    terms: dict[tuple, Any] = {
        ("protocol",): protocol_title(result),
        ("protocol settings",): settings,
        ("whole test list", dataset): result["whole_list"],
        ("photos or masks of the whole test list", dataset): result["whole_content"],
        ("test list", *column): result["list"],
        ("photos or masks", *column): result["content"],
        ("track", row_name(result), shot): track_text({shot: result["track"]}),
    }
    terms |= {(f"metric {name}",): facts for name, facts in result.get("metrics", {}).items()}
    if not across:
        terms["data set",] = dataset
        terms["number of folds",] = result["folds"]
        terms["data.fold_classes",] = str(result["config"]["data"].get("fold_classes"))
        terms["data.min_pixels",] = result["min_pixels"]
        terms["image side",] = result["input_side"]
    return {term: value for term, value in terms.items() if value is not None}  # which is not known


@dataclass(frozen=True)
class Shown:
    """The results of a table, by their files, after checking that they can share it."""

    results: dict[Path, Result]
    output: str  # whose scores are shown
    across: bool  # whether columns are data sets, and not folds
    left_out: list[str]  # notes on results of another fold

    @classmethod
    def of(cls, paths: list[Path], output: str, protocol: str | None) -> Shown:
        """Return the results of a table; arguments and errors as of ``table``."""
        own, left_out = _own_tests(paths, protocol)
        shown = cls(_best_of_cells(own), output, are_across(own), left_out)
        protocols = list(dict.fromkeys(result["protocol"] for result in own.values()))
        fix = "add " + " or ".join(f"--protocol {name}" for name in protocols)
        check_one_table(shown.results, fix if len(protocols) > 1 else "name fewer runs")
        for path, result in shown.results.items():
            check_output(path, output, result["mean"])
        if not shown.quoted_from:
            left_out.append(f"left out: published means, which are of {', '.join(sorted(CROSS_DOMAIN))}.")
        return shown

    @property
    def first(self) -> Result:
        """The first result, with which all share their protocol."""
        return next(iter(self.results.values()))

    @property
    def scores(self) -> dict[str, ScoreFacts]:
        """What is known of scores by their names."""
        known: dict[str, ScoreFacts] = {}
        for result in self.results.values():
            for score, facts in scores_of(result).items():
                if score not in known or known[score]["smaller_is_better"] is None:
                    known[score] = facts
        return known

    @property
    def shots(self) -> list[int]:
        """The numbers of shots, ascending."""
        return sorted({result["shot"] for result in self.results.values()})

    @property
    def folds(self) -> list[int]:
        """The folds that are there, ascending."""
        return sorted({result["fold"] for result in self.results.values()})

    @property
    def places(self) -> list[Any]:
        """All folds, or the data sets."""
        if self.across:
            return list(dict.fromkeys(result["dataset"] for result in self.results.values()))
        return list(range(self.first["folds"]))

    @property
    def quoted_from(self) -> str:
        """The data set whose published rows stand beside the results; '' for none."""
        if self.across:
            return "crossdomain" if {*self.places} == CROSS_DOMAIN else ""
        return self.first["dataset"]

    def notes(self) -> list[str]:
        """Return a line for each result that says how its numbers were made."""
        return [how_made(path, result, self.output) for path, result in self.results.items()]


def _own_tests(paths: list[Path], protocol: str | None) -> tuple[dict[Path, Result], list[str]]:
    """Return the results below some paths that a table may show, and notes on those of weights of another fold.

    UserError: there is none.
    """
    tests = read_results(paths, [protocol] if protocol else [])
    own = {path: result for path, result in tests.items() if is_own_test(result)}
    if not own:
        of_protocol = f" of protocol {protocol}" if protocol else ""
        others = "(replayed manifests and weights of another fold are left out)"
        raise UserError(f"{', '.join(map(str, paths))}: no result to show{of_protocol} {others}")
    elsewhere = [path for path, result in tests.items() if result["fold_mismatch"]]
    return own, [f"left out: {path}, scored with weights of another fold." for path in elsewhere]


def is_own_test(result: Result) -> bool:
    """Return whether a result is of its protocol's own episodes, and of weights of its fold: a table shows it."""
    return not (result["replayed"] or result["fold_mismatch"])


def protocols_shown(paths: list[Path]) -> list[str | None]:
    """Return the protocols of the results below some paths that a table shows; [None] if it shows none."""
    shown = [result["protocol"] for result in read_results(paths).values() if is_own_test(result)]
    return list(dict.fromkeys(shown)) or [None]


def _best_of_cells(results: dict[Path, Result]) -> dict[Path, Result]:
    """Return the results without those of a cell that has better ones: no quick looks, no other seeds."""
    ranks = {path: (result["quick_look"], result["other_seeds"]) for path, result in results.items()}
    best: dict[tuple, tuple[bool, bool]] = {}
    for path, result in results.items():
        best[_cell(result)] = min(ranks[path], best.get(_cell(result), ranks[path]))
    return {path: result for path, result in results.items() if ranks[path] == best[_cell(result)]}


def numbers_of(shown: Shown, papers: str | None = None) -> tuple[DataFrame, list[str]]:
    """Return the numbers of a table, published then measured ones, and notes on published rows that are left out.

    Columns: method, protocol, encoder, source, track, parameters, over (the seeds of spreads); shot, place, score,
    class, value, spread, doubts (why it is not the protocol's number), best (of the numbers that it is compared with).
    """
    import pandas

    quoted, left_out = published(shown.quoted_from, shown.shots, shown.first["fold_rule"], papers)
    frame = pandas.DataFrame(quoted).assign(parameters="-", over="", spread=None, doubts=[()] * len(quoted))
    numbers = pandas.concat([frame.astype(object), measured(shown).astype(object)], ignore_index=True)
    numbers["best"] = _are_best(numbers, shown.scores)
    return numbers, left_out


def measured(shown: Shown) -> DataFrame:
    """Return the numbers of results; with means over places only if all of these are there.

    A number is the mean over the trainings with different seeds, and its spread their standard deviation (of a sample:
    n - 1); with one training that over the seeds of the test. Doubts about a result are about its numbers and all
    means.
    """
    import pandas

    place_key = "dataset" if shown.across else "fold"
    frame = frame_of(shown.results)
    frame = frame[frame["output"] == shown.output].assign(place=frame[place_key])
    parts = []
    for (_, shot), scores in frame.groupby(["row", "shot"], sort=False):
        of_part = [shown.results[Path(file)] for file in scores["file"].unique()]
        parts.append(_of_row_and_shot(scores, of_part, len(shown.places), place_key).assign(shot=shot))
    numbers = pandas.concat(parts)
    shots = {row: dict(zip(part["shot"], part["track"], strict=True)) for row, part in numbers.groupby("method")}
    overs = {row: dict(zip(part["shot"], part["over"], strict=True)) for row, part in numbers.groupby("method")}
    return numbers.assign(
        source="",
        track=numbers["method"].map(lambda row: track_text(shots[row])),
        over=numbers["method"].map(lambda row: "; ".join(f"{k}-shot: {s}" for k, s in overs[row].items() if s)),
    )


def _of_row_and_shot(scores: DataFrame, results: list[Result], places: int, place_key: str) -> DataFrame:
    """Return the numbers of a row's results with one number of shots, of so many places in all."""
    first = results[0]
    kind, samples = _samples(scores)
    counts = scores.groupby("training_seed", dropna=False)["place"].nunique()
    repeated = kind == "training"
    differences = differences_of(results, place_key, is_uneven=repeated and counts.nunique() > 1)
    numbers = _means(scores.assign(sample=samples), places)
    numbers.loc[len(numbers)] = {"place": MEAN, "class": "", "score": SECONDS, "value": _seconds(results)}
    doubts = {MEAN: _doubts(results, differences)}
    for place in scores["place"].unique():
        of_place = [result for result in results if {**result}[place_key] == place]
        doubts[place] = _doubts(of_place, differences if repeated else ())
    are_seconds = numbers["score"] == SECONDS
    return numbers.assign(
        method=row_name(first),
        protocol=protocol_title(first),
        encoder=first["encoder"],
        track=[first["track"]] * len(numbers),
        parameters=f"{_millions(first['parameters'])} ({_millions(first['learnt_parameters'])})",
        over=f"{kind} seeds {', '.join(map(str, samples.unique()))}" if samples.nunique() > 1 else "",
        spread=numbers["spread"].astype(object).where(numbers["spread"].notna(), None),
        doubts=[() if second else doubts[place] for place, second in zip(numbers["place"], are_seconds, strict=True)],
    )


def _samples(scores: DataFrame) -> tuple[str, Series]:
    """Return which seeds numbers spread over, and the seed of each score.

    They are those of the trainings where a place has several, or those of the test, if all results have the same.
    """
    if scores.groupby("place")["file"].nunique().max() > 1:
        return "training", scores["training_seed"].fillna(0).astype(int)
    seeds = scores.groupby("file")["seed"].unique()
    if seeds.map(tuple).nunique() == 1:
        return "test", scores["seed"]
    return "", scores["seed"] * 0


def _means(scores: DataFrame, places: int) -> DataFrame:
    """Return value and spread of each score of a place or class, and of the means of scores of so many places."""
    import pandas

    by_sample = scores.groupby(["place", "class", "score", "sample"])["value"].mean().unstack("sample")
    of_places = by_sample.xs("", level="class").groupby("score")
    means = of_places.mean().where(of_places.count() == places).dropna(how="all")
    both = pandas.concat([by_sample, pandas.concat({(MEAN, ""): means}, names=["place", "class"])])
    numbers = pandas.DataFrame({"value": both.mean(axis=1), "spread": both.std(axis=1)})
    return numbers.reset_index().astype({"place": object})


def _millions(count: int) -> str:
    """Return a number in millions: tenths, or two digits of a small one."""
    return f"{count / 1e6:.2g}" if count < 1e5 else f"{count / 1e6:.1f}"


def _seconds(results: list[Result]) -> float:
    """Return the mean seconds of tests for an episode, summed over their processes."""
    seconds = [60 * r["minutes"] * r["processes"] / (r["episodes"] * len(r["seeds"])) for r in results]
    return sum(seconds) / len(seconds)


def _doubts(results: Sequence[Result], differences: Sequence[str]) -> tuple[str, ...]:
    """Return the reasons why the mean of some results of a row is not the protocol's number.

    ``differences``: of several, the reasons of ``differences_of``.
    """
    reasons = [reason for result in results for reason in departures(result)]
    reasons += differences
    reasons += _mixed_precision("trained", map(trained_precision, results))
    reasons += _mixed_precision("tested", (result["precision"] for result in results))
    return tuple(dict.fromkeys(reasons))


def _mixed_precision(verb: str, precisions: Iterable[str]) -> list[str]:
    """Return the doubt about results that were trained, or tested, in different precisions; none if they were not."""
    names = [name or NOT_STATED for name in dict.fromkeys(precisions)]
    return [f"{verb} in different precisions: {', '.join(names)}"] if len(names) > 1 else []


def differences_of(results: Sequence[Result], place_key: str, is_uneven: bool) -> list[str]:
    """Return the reason, in words, why results are not of one method's trainings; none if they are.

    Args:
        results: of one row and number of shots.
        place_key: the key of a result that names its place: ``fold`` or ``dataset``.
        is_uneven: whether trainings with different seeds have different numbers of places.
    """
    first = _settings_of(results[0], place_key)
    codes = [result["code"] for result in results if result["code"]]
    vectors = {result.get("vectors") for result in results} - {None}
    if is_uneven:
        return ["not every training has all folds"]
    if any(_settings_of(result, place_key) != first for result in results):
        return ["made with different settings"]
    if any(code != codes[0] for code in codes):
        return ["made by different code of the method"]
    return ["made with different text vectors"] if len(vectors) > 1 else []


def _settings_of(result: Result, place_key: str) -> dict[str, Any]:
    """Return how a result was trained and tested, but for precision, fold, seeds and the start of the encoder."""
    data = result["config"]["data"]
    learns = result["checkpoint"] != TRAINING_FREE
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
        "test lists": _list_settings(data) if place_key == "fold" else {},
        "model": deciding(result["config"], Decides.WEIGHTS)["model"],
        "fixed weights": "" if learns else result["weights"],
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


def _are_best(numbers: DataFrame, scores: dict[str, ScoreFacts]) -> Series:
    """Return which numbers are the best, the largest or, of some scores, the smallest, as they are printed.

    They are the best among at least two of one protocol, encoder and track, on the same episodes; others are not
    comparable, and nothing is the best of a score whose direction is not known.
    """
    signs = {name: -1.0 if facts["smaller_is_better"] else 1.0 for name, facts in scores.items()}
    signs = {name: sign for name, sign in signs.items() if scores[name]["smaller_is_better"] is not None}
    printed = [float(_printed(*number)) for number in zip(numbers["score"], numbers["value"], strict=True)]
    ranks = numbers["score"].map(signs) * printed
    protocol = numbers["protocol"].str.partition(" (")[0]
    drawn = numbers["protocol"].str.contains(DRAWN_HERE)
    columns = [numbers[key] for key in ("shot", "place", "score", "class", "encoder", "track", "doubts")]
    groups = ranks.groupby([protocol, drawn, *columns], sort=False)
    is_best = (groups.transform("max") == ranks) & (groups.transform("size") > 1)
    return is_best & (protocol != NOT_STATED)


def _rows(numbers: DataFrame, scores: dict[str, ScoreFacts], sort: str | None) -> list[Row]:
    """Return the rows of a table in their order; errors as of ``table``."""
    rows = []
    for _, part in numbers.groupby(["method", "protocol", "source"], sort=False):
        cells = [*part.rename(columns={"class": "name"}).itertuples()]
        rows.append(Row(cells[0], {Column(cell.shot, cell.place, cell.score, cell.name): cell for cell in cells}))
    return rows if sort is None else _sorted(rows, scores, sort)


def _sorted(rows: list[Row], scores: dict[str, ScoreFacts], name: str) -> list[Row]:
    """Return rows by their values in what is called ``name``, best first, those without one last; errors as ``table``.

    ``name`` is a class, whose IoU decides, ``miou`` or another score, or a column such as ``fold 1``; of the fewest
    shots, unless it says others (``5-shot fold 1``).
    """
    columns = _columns_called(name, rows, scores)
    smaller_is_better = scores[columns[0].score]["smaller_is_better"]
    if smaller_is_better is None:
        raise UserError(f"--sort {name}: the results do not say whether small values are good; --import its module")
    sign = 1 if smaller_is_better else -1

    def rank(row: Row) -> tuple[bool, float]:
        column = next(filter(row.cells.__contains__, columns), None)
        return column is None, sign * row.cells[column].value if column else 0.0

    return sorted(rows, key=rank)


def _columns_called(name: str, rows: list[Row], scores: dict[str, ScoreFacts]) -> list[Column]:
    """Return the columns of rows that have a name as of ``_sorted``, of the fewest shots; UserError: none has."""
    *shot, wanted = name.lower().split("-shot ", maxsplit=1)
    columns = dict.fromkeys(column for row in rows for column in row.cells)
    names = {column: _name(column, scores).lower() for column in columns if not shot or str(column.shot) == shot[0]}
    if wanted == MIOU:
        wanted = _measured_miou(rows, names)
    called = [column for column, name in names.items() if name == wanted]
    if not called:
        known = {*names.values()} - {""}
        raise UserError(f"--sort {name}: no class, score or column of this table{nearest(wanted, known)}")
    fewest = min(column.shot for column in called)
    return [column for column in called if column.shot == fewest]


def _measured_miou(rows: list[Row], names: dict[Column, str]) -> str:
    """Return the name of the mIoU that measured rows have: their mean's or, without one, that of their first fold."""
    measured_names = {names.get(column, "") for row in rows if not row.facts.source for column in row.cells}
    folds = [name for name in measured_names if re.fullmatch(r"fold \d+", name)]
    return MIOU if MIOU in measured_names else min(folds, default=MIOU)


def _name(column: Column, scores: dict[str, ScoreFacts]) -> str:
    """Return what a column is called: its class, its score, or its fold and, unless that is mIoU, its score."""
    if column.name:
        return column.name if column.score == MIOU else ""
    if column.place == MEAN:
        return column.score
    place = _heading(column._replace(score=MIOU), scores)
    return place if column.score == MIOU else f"{place} {column.score}"


def table(
    paths: list[Path],
    output: str = FINAL,
    protocol: str | None = None,
    *,
    papers: str | None = None,
    sort: str | None = None,
) -> Table:
    """Return the table of all results below some paths, by folds, or by data sets without folds.

    A column without a number is left out.

    Args:
        paths: result files, or folders.
        output: name of the output whose scores are shown.
        protocol: only results of it; None: all.
        papers: whose published rows are shown, with commas, or ``none``; default all.
        sort: the class, score or column by which methods stand, best first; default quoted rows, then measured ones.

    Raises:
        UserError: there are no results, or their protocols, data sets or settings differ, so that they cannot share a
            column, or nothing is called as ``sort``.
    """
    shown = Shown.of(paths, output, protocol)
    numbers, left_out = numbers_of(shown, papers)
    rows = _rows(numbers, shown.scores, sort)
    filled = set().union(*(row.cells for row in rows))
    columns = [column for column in _columns(shown) if column in filled]
    letters = _letters(rows)
    sources = _source_numbers(rows)
    header = ["method", "protocol", "parameters M (learnt)", *(_heading(column, shown.scores) for column in columns)]
    out = Table(header, [], groups=["", "", "", *(f"{column.shot}-shot" for column in columns)])
    for row in rows:
        method = Marked(row.facts.method, sources[row.facts.source] + letters[row.facts.track])
        out.rows.append([method, row.facts.protocol, row.facts.parameters, *map(row.shown_with_spread, columns)])
    if sort is None:
        out.ruled = {sum(bool(row.facts.source) for row in rows)} - {0}
    out.facts = _facts(rows, dict(zip(out.headings()[3:], columns, strict=True)))
    quoted = "; other numbers are quoted from the numbered source" if any(sources.values()) else ""
    out.notes = [f"{MEASURED} measured here, {output} output{quoted}. {COLUMNS_NOTE}", *_explanations(rows, letters)]
    overs = dict.fromkeys(row.facts.over for row in rows if row.facts.over)
    out.notes += [f"+-: {DEVIATION} over {over}." for over in overs]
    out.notes += [f"{number.strip()} {source}." for source, number in sources.items() if source]
    out.notes += [*(f"{MEASURED} {note}" for note in shown.notes()), *left_out, *shown.left_out]
    return out


def _source_numbers(rows: list[Row]) -> dict[str, str]:
    """Return the mark of each source, its number; '' for rows that are measured here."""
    sources = dict.fromkeys(row.facts.source for row in rows if row.facts.source)
    return {source: f" [{number}]" for number, source in enumerate(sources, start=1)} | {"": ""}


def _columns(shown: Shown) -> list[Column]:
    """Return what the table may have columns of: places, scores of places, means over places, the time."""
    means = [result["mean"][shown.output] for result in shown.results.values()]
    further = [] if shown.across else [FB_IOU, *sorted(set().union(*means) - {MIOU, FB_IOU})]
    columns: list[tuple[Any, str]] = [(place, MIOU) for place in shown.places]
    if len(shown.folds) == 1 and len(shown.places) > 1:
        columns += product(shown.folds, further)
    columns += [(MEAN, score) for score in (MIOU, *further, SECONDS)]
    return [Column(shot, *column) for shot, column in product(shown.shots, columns)]


def _heading(column: Column, scores: dict[str, ScoreFacts]) -> str:
    """Return the heading of a column below its number of shots."""
    place = f"fold {column.place}" if isinstance(column.place, int) else str(column.place)
    if column.score == MIOU:
        return place
    score = heading(scores[column.score]).removesuffix(" %")
    return score if column.place == MEAN else f"{place} {score}"


def _letters(rows: list[Row]) -> dict[str, str]:
    """Return the mark of each track of some rows, '' if there is one."""
    tracks = list(dict.fromkeys(row.facts.track for row in rows))
    if len(tracks) == 1:
        return {tracks[0]: ""}
    letters = map("".join, product(("", *ascii_lowercase), ascii_lowercase))
    return {track: f" ({letter})" for track, letter in zip(tracks, letters)}


def _explanations(rows: list[Row], letters: dict[str, str]) -> list[str]:
    """Return the notes that explain doubtful cells and tracks."""
    notes = []
    if doubts := dict.fromkeys(reason for row in rows for reason in row.doubts):
        notes.append(f"{DOUBTFUL} ({', '.join(doubts)}) not to be quoted as the protocol's number of this method.")
    return notes + [f"{letter.strip() or 'all'}: {track}." for track, letter in letters.items()]


def _facts(rows: list[Row], columns: dict[str, Column]) -> dict[str, list[str]]:
    """Return the columns that CSV has in place of marks and notes; ``columns`` are those of numbers by their names."""
    facts = defaultdict[str, list[str]](list)
    for row in rows:
        doubts = f" ({', '.join(row.doubts)})" if row.doubts else ""
        cells = {name: row.cells[column] for name, column in columns.items() if column in row.cells}
        spreads = [f"{name} {cell.spread:.2f}" for name, cell in cells.items() if cell.spread is not None]
        facts["track"].append(row.facts.track)
        facts["origin"].append(("quoted" if row.facts.source else "measured") + doubts)
        facts["source"].append(row.facts.source)
        facts["standard deviation"].append("; ".join(spreads))
        facts["over"].append(row.facts.over)
    if not any(facts["over"]):
        del facts["standard deviation"], facts["over"]
    return dict(facts)


def class_table(
    paths: list[Path],
    output: str = FINAL,
    protocol: str | None = None,
    *,
    papers: str | None = None,
    sort: str | None = None,
) -> Table:
    """Return the IoU of each class: rows by fold, a column for each method and shots, also of published runs by class.

    Arguments and errors as of ``table``.
    """
    if output == BASE:
        raise UserError(f"--output {BASE} --rows classes: this output has no novel class; leave out one of them")
    shown = Shown.of(paths, output, protocol)
    numbers, _ = numbers_of(shown, papers)
    has_classes = numbers.groupby(["method", "source"])["class"].transform("any")
    rows = _rows(numbers[has_classes | (numbers["source"] == "")], shown.scores, sort)
    letters = _letters(rows)
    columns, headings = _class_columns(rows, shown, letters)
    out = Table(
        ["fold", "class", *headings], [], ["", "", *(f"{shot}-shot" for _, shot, _ in columns)], facts={"mark": []}
    )
    for fold in shown.folds:
        out.ruled.add(len(out.rows))
        novel = [result["novel"].values() for result in shown.results.values() if result["fold"] == fold]
        for name in (*dict.fromkeys(name for names in novel for name in names), ""):
            cells = [(row, Column(shot, fold, score, name)) for row, shot, score in columns]
            out.rows.append([str(fold), name or "mean", *(row.shown(column) for row, column in cells)])
            out.facts["mark"].append("; ".join(_doubtful(cells, out.headings()[2:])))
    out.ruled -= {0}
    out.notes = [f"IoU % by {protocol_title(shown.first)}, {output} output, mean over seeds; mean: mIoU."]
    out.notes += _explanations(rows, letters)
    quoted = [row.facts for row in rows if row.facts.source]
    out.notes += [f"{facts.method}: {facts.protocol}, quoted from {facts.source}." for facts in quoted]
    out.notes += [*shown.notes(), *shown.left_out]
    return out


def _class_columns(
    rows: list[Row], shown: Shown, letters: dict[str, str]
) -> tuple[list[tuple[Row, int, str]], list[str]]:
    """Return the columns of the table of classes: rows, with each number of shots and score that their classes have.

    And their headings.
    """
    columns, headings = [], []
    for shot, row in product(shown.shots, rows):
        of_classes = {column.score for column in row.cells if column.name and column.shot == shot}
        for score in filter(of_classes.__contains__, shown.scores):
            method = row.facts.method + letters[row.facts.track]
            columns.append((row, shot, score))
            title = shown.scores[score]
            headings.append(method if score == MIOU else f"{method}, {heading(title)}")
    return columns, headings


def _doubtful(cells: Sequence[tuple[Row, Column]], headings: list[str]) -> list[str]:
    """Return the reasons why numbers of a line are doubtful, each with its heading."""
    reasons = []
    for (row, column), title in zip(cells, headings, strict=True):
        if column in row.cells and row.cells[column].doubts:
            reasons.append(f"{title}: {', '.join(row.cells[column].doubts)}")
    return reasons


def reference_table(paths: list[Path], output: str = FINAL, protocols: Sequence[str] = ()) -> Table:
    """Return the table of what references do: rows of each result in all and of each class, then published variations.

    Arguments as of ``result_table``. UserError: there is no result of a protocol with references, or no such output;
    or results that share no table.
    """
    by_file = read_results(paths, protocols)
    found = {path: r for path, r in by_file.items() if r["protocol_settings"].get("references", 1) > 1}
    if not found:
        fix = "score a run by one first: python test.py CONFIG --protocol references"
        raise UserError(f"{', '.join(map(str, paths))}: no result of a protocol with references; {fix}")
    check_one_table(found)
    out = Table(["method", "shots", "class", "queries", "references", *REFERENCES], [], notes=[REFERENCES_NOTE])
    for path, result in sorted(found.items(), key=lambda item: (row_name(item[1]), item[1]["shot"])):
        check_output(path, output, result["mean"])
        for row in references(path, result, output).fillna(0.0).to_dict("records"):
            counts = str(result["shot"]), row["class"], str(row["queries"]), str(row["references"])
            out.rows.append([row_name(result), *counts, *(f"{row[name]:.1f}" for name in REFERENCES)])
        out.notes.append(how_made(path, result, output))
    for dataset in sorted({result["dataset"] for result in found.values()}):
        for paper, variation in published_entries()["references"].get(dataset, {}).items():
            out.rows.append([f"{paper} (published)", "1", "all", "-", "50", "-", "-", str(variation), "-", "-"])
    return out
