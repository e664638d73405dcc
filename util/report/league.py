"""The league: methods on the equal terms of ``config/laptop``, over their trainings, beside a reference and papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from model.decides import Decides
from model.encoders.registry import title_of
from util.config.compose import find_config
from util.config.folder import LOCAL, in_configs
from util.config.read import from_dict, read_config, to_dict
from util.config.same import differences
from util.config.settings import Config
from util.config.tree import key_of
from util.evaluate.schema import Result
from util.evaluate.titles import departures
from util.files.errors import UserError
from util.files.table import Table
from util.loop.metrics import FINAL, MIOU
from util.loop.observers import OBSERVERS
from util.report.compare import Compared, check_episodes, difference, read_scored
from util.report.one_table import Term, check_one_table
from util.report.published import MEAN, published
from util.report.results import Row, grouped, rows_of

LEAGUE, NET, ENCODER = "laptop", "lite0", "EfficientNet-Lite0"  # the place of its terms, and the encoder of all
REFERENCE = "ssp"  # the method that others are compared with
NOT_ON_TERMS = f"is not on the terms of config/{LEAGUE}"
PAPERS = "ResNet-50"  # the encoder of the published numbers
OF_A_PLACE = ("protocols", "data.root")  # what no terms say: the photos of the folder have digests
OF_A_METHOD = (  # what a file of one's own says for its method; all else is as the reference has it
    *("data.size", "data.text", "model.encoder.stem", "model.encoder.output_stride", "model.encoder.learn"),
    *("meta_stage.epochs", "meta_stage.epoch_length", "meta_stage.optimizers", "meta_stage.views"),
)
Columns = dict[str, Callable[[Sequence["Entry"]], str]]  # title of a column, and its cell of a method's results
MOST = 2  # how many times the minutes of another method a training may take; and a minute more
SHARED = [Term("a table", ("fold",), "training list (VOC's photos, or SBD's too)", lambda row: _training_list(row))]
SCORES_NOTE = (
    "+-: standard deviation (n - 1) over the trainings with these seeds, and their range. Minus SSP: on the same "
    "episodes, with a 95 % interval over query images and, where there are several, trainings; ~: it contains 0. "
    f"Paper: 1-shot mIoU on PASCAL-5i with {PAPERS}, mean of four folds; ranks: of the methods that have one."
)
COSTS_NOTE = (
    "Minutes: of the processor, base stage included. MiB: largest memory of a training. Px: side of images and masks."
)


@dataclass(frozen=True)
class Entry(Row):
    """A result with its episodes."""

    scored: Compared


def league_tables(paths: list[Path], protocols: Sequence[str] = (), overrides: Sequence[str] = ()) -> list[Table]:
    """Return the league's table of each fold: a row for each method, best first.

    Args:
        paths: result files, or folders.
        protocols: only results of these; none: all.
        overrides: of the league's configs, such as ``meta_stage.epochs=1``.

    Raises:
        UserError: a result is not on the league's terms, or results share no table; it names what differs.
    """
    rows = rows_of(paths, protocols)
    for row in rows:
        if others := _other_terms(row.file, row.result, overrides):
            raise UserError(f"{row.file}: {NOT_ON_TERMS}: {'; '.join(others)}")
    check_one_table([replace(row, input_side=None) for row in rows], SHARED)  # a config may have another side
    entries = [Entry(**vars(row), scored=read_scored(row.file, FINAL)) for row in rows]
    _check_minutes(entries)
    ordered = sorted(entries, key=lambda entry: (entry.shot, entry.training_seed or math.inf))
    return [table for every in grouped(ordered, "fold").values() for table in _of_fold(every)]


def check_terms(config: Config) -> None:
    """Refuse (UserError) a training whose results the table would refuse, whatever minutes it will take."""
    encoder = title_of(config.model.backbone())
    made, run = to_dict(config), str(config.run.name)
    others = _other_settings(made, run, _terms(made, run, config.given), encoder)
    number = config.protocols[config.test.protocol].number(config.data.fold)
    if config.test.episodes not in (None, number):
        others.append(f"quick look ({config.test.episodes} of {number} episodes)")
    observers = [name for name in config.observers or OBSERVERS if getattr(OBSERVERS[name], "decides", True)]
    others += [f"own observer {name}" for name in observers]
    if others:
        fix = f"leave these out; a file of your own has base: config/{LEAGUE}/{LEAGUE}.yaml"
        raise UserError(f"{config.source}: {NOT_ON_TERMS}: {'; '.join(others)}", fix=fix)


def _other_terms(path: Path, result: Result, overrides: Sequence[str]) -> list[str]:
    """Return in words what a result has otherwise than its terms, and why it is not the number of its protocol."""
    stages = {f"{stage['stage']}_stage": stage["settings"] for stage in result["training"]}
    made = to_dict(from_dict({**result["config"], **stages}, str(path)))
    terms = _terms(made, result["run"], overrides)
    is_of_terms = result["protocol_settings"] == terms["protocols"].get(result["protocol"])
    changes = [] if is_of_terms else result.get("protocol_changes", [])
    measured: Result = {**result, "other_seeds": False, "protocol_changes": changes}  # the config names seeds
    marks = {result["weights_mark"]: "", **departures(measured)}
    if result["training"] and not result.get("cost"):
        marks["no processor minutes"] = "on record: train it again"
    found = _other_settings(made, result["run"], terms, result["encoder"])
    return found + [f"{reason} {details}".strip() for reason, details in marks.items() if reason]


def _terms(made: dict[str, Any], run: str, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the config that states a run's terms.

    It is the league's of its method or of the file that its run is named by; of a run of one's own the reference's, but
    for what a method has of its own.
    """
    fold = made["data"]["fold"]
    names = _terms_of(run, made["model"]["name"], fold)
    given = [text for text in overrides if names or not key_of(text).startswith(("model.", *OF_A_METHOD))]
    of_run = f"run.seed={made['run']['seed']}", f"data.fold={fold}", f"data.shot={made['data']['shot']}"
    source = find_config(*names or (f"split{fold}", LEAGUE, REFERENCE, NET))
    terms = to_dict(read_config(source, [*given, *of_run]))
    if not names:
        terms["model"] = {"encoder": terms["model"]["encoder"]}
    return terms


def _other_settings(made: dict[str, Any], run: str, terms: dict[str, Any], encoder: str) -> list[str]:
    """Return in words what the config of a run has otherwise than its terms."""
    names = _terms_of(run, made["model"]["name"], made["data"]["fold"])
    found = differences(terms, made, Decides.SCORES, OF_A_PLACE if names else OF_A_PLACE + OF_A_METHOD)
    others = [f"{key} = {mine}, not {ours}" for key, (ours, mine) in found.items()]
    return others if encoder == ENCODER else [*others, f"encoder {encoder}, not {ENCODER}"]


def _terms_of(run: str, method: str, fold: int) -> tuple[str, ...]:
    """Return the words of the config that states a run's terms in the league; none for a run of one's own."""
    own = run.removesuffix(f"_split{fold}")
    if in_configs(LOCAL / LEAGUE / f"{own}.yaml").exists():
        return own, LEAGUE
    return (f"split{fold}", LEAGUE, method, NET) if run.startswith(f"{LEAGUE}_split") else ()


def _training_list(row: Row) -> str:
    """Return the beginning of the digest of the list that a result's weights were trained on; '' where none is."""
    return "".join((stage.get("list") or "")[:8] for stage in row.result["training"][-1:])


def _check_minutes(entries: Sequence[Entry]) -> None:
    """Refuse (UserError) methods of which a training took far longer than that of others, on average."""
    minutes = {row: _minutes(own) for (row,), own in grouped(entries, "row").items()}
    known = sorted((value, row) for row, value in minutes.items() if not math.isnan(value))
    if known and known[-1][0] > MOST * known[0][0] + 1:
        both = ", ".join(f"{row} {value:.1f}" for value, row in (known[-1], known[0]))
        raise UserError(
            f"processor minutes of a training: {both}: the league has one budget",
            fix=f"write other steps into config/{LEAGUE}, and train again",
        )


def _of_fold(every: Sequence[Entry]) -> list[Table]:
    """Return the tables of a fold: scores, with ranks here and in papers and their correlation; and what they cost."""
    import pandas

    of_shots = grouped(every, "shot")
    for of_shot in of_shots.values():
        check_episodes([each.scored for each in of_shot])
    methods = sorted(grouped(every, "row").values(), key=_first_miou, reverse=True)
    reference = [each for each in every if each.run.endswith(f"_{REFERENCE}_{NET}")]
    first = every[0]
    papers = {
        number.method: number.value
        for number in published(first.dataset, [1], first.fold_rule)
        if (number.place, number.score) == (MEAN, MIOU)
    }
    in_papers = {_name(own): papers.get(f"{_name(own)} {PAPERS}", math.nan) for own in methods}
    both = pandas.DataFrame({"here": {_name(own): _first_miou(own) for own in methods}, "paper": in_papers})
    ranks = both.dropna().rank(ascending=False)
    scores: Columns = {"method": _name, "seeds": _seeds}
    costs: Columns = {"method": _name}
    for (shot,) in of_shots:
        scores[f"{shot}-shot mIoU"] = partial(_miou, shot)
        scores[f"{shot}-shot minus SSP"] = partial(_minus, shot, reference)
        costs[f"{shot}-shot s / episode"] = partial(_seconds, shot)
    scores["paper"] = lambda own: _number(in_papers[_name(own)], 1)
    scores["rank"] = lambda own: _number(ranks["here"].get(_name(own), math.nan))
    scores["paper's rank"] = lambda own: _number(ranks["paper"].get(_name(own), math.nan))
    costs["minutes"] = lambda own: _number(_minutes(own), 1)
    costs["MiB"] = lambda own: _number(max(_cost(each, "peak_mib") for each in own))
    costs["parameters M (learnt)"] = lambda own: own[0].parameters
    costs["px"] = lambda own: str(own[0].input_side)
    correlation = f"Spearman's correlation of the ranks: {ranks.corr().iloc[0, 1]:.2f} (n = {len(ranks)})."
    notes = [SCORES_NOTE, *([correlation] if len(ranks) > 1 else []), *_notes_on_own(every, reference)]
    above = [f"Fold {first.fold} of {first.dataset}, {first.title}, training list {_training_list(first)}"]
    return [
        Table([*columns], [[cell(own) for cell in columns.values()] for own in methods], above=above, notes=of_table)
        for columns, of_table in ((scores, notes), (costs, [COSTS_NOTE]))
    ]


def _notes_on_own(every: Sequence[Entry], reference: Sequence[Entry]) -> Iterator[str]:
    """Yield a line on each method of one's own beside the reference, with the fewest shots."""
    for own in grouped(every, "row").values():
        shot = own[0].shot
        if not _terms_of(own[0].run, own[0].method, own[0].fold):
            apart = _minus(shot, reference, own)
            yield f"{_name(own)}: {_miou(shot, own)}, SSP {_miou(shot, reference)}, difference {apart}"


def _number(value: float, digits: int = 0) -> str:
    """Return the cell of a number; '-' of NaN."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _name(own: Sequence[Entry]) -> str:
    """Return a method's name."""
    first = own[0]
    return first.row.replace(f" {first.encoder}", "").replace(f", {LEAGUE}", "")


def _seeds(own: Sequence[Entry]) -> str:
    """Return the seeds of a method's trainings."""
    return " ".join(dict.fromkeys(str(each.training_seed) for each in own if each.training_seed is not None))


def _first_miou(own: Sequence[Entry]) -> float:
    """Return the mean mIoU of a method with the fewest shots."""
    return fmean(_mious(own[0].shot, own))


def _mious(shot: int, own: Sequence[Entry]) -> list[float]:
    return [each.result["mean"][FINAL][MIOU] for each in own if each.shot == shot]


def _miou(shot: int, own: Sequence[Entry]) -> str:
    """Return the mean mIoU of a method, with the spread of several trainings."""
    mious = _mious(shot, own)
    if len(mious) < 2:
        return "".join(map("{:.1f}".format, mious)) or "-"
    return f"{fmean(mious):.1f} +- {stdev(mious):.1f} ({min(mious):.1f} to {max(mious):.1f})"


def _seconds(shot: int, own: Sequence[Entry]) -> str:
    """Return the seconds of an episode."""
    seconds = [each.seconds for each in own if each.shot == shot]
    return _number(fmean(seconds), 3) if seconds else "-"


def _cost(entry: Entry, name: str) -> float:
    """Return what a training took, NaN where it is not known."""
    return entry.result.get("cost", {}).get(name, math.nan)


def _minutes(own: Sequence[Entry]) -> float:
    """Return the processor minutes of a method's training, on average."""
    return fmean(_cost(each, "processor_minutes") for each in own)


def _minus(shot: int, reference: Sequence[Entry], own: Sequence[Entry]) -> str:
    """Return the difference of a method to the reference with its interval; '-' of itself, or without one."""
    sides = [[each.scored.sums for each in side if each.shot == shot] for side in (own, reference)]
    if not all(sides) or own[0].row == reference[0].row:
        return "-"
    a, b, low, high = difference(*sides)
    return f"{a - b:+.1f} ({low:+.1f} to {high:+.1f}){'~' if low <= 0 <= high else ''}"
