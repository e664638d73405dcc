"""The league: methods on the equal terms of ``config/laptop``, over their trainings, beside a reference and papers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from operator import attrgetter
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
from util.evaluate.titles import departures, protocol_title
from util.files.errors import UserError
from util.files.parallel import grouped
from util.files.table import Table
from util.loop.metrics import FINAL, MIOU
from util.loop.observers import OBSERVERS
from util.report.compare import Compared, check_episodes, difference, read_scored
from util.report.frame import COLUMNS, rows_of
from util.report.one_table import Term, check_one_table
from util.report.published import MEAN, published
from util.report.row import Row

LEAGUE, NET, ENCODER = "laptop", "lite0", "EfficientNet-Lite0"  # the place of its terms, and the encoder of all
REFERENCE = "ssp"  # the method that others are compared with
NOT_ON_TERMS = f"is not on the terms of config/{LEAGUE}"
PAPERS, PAPER = "ResNet-50", (1, MEAN, MIOU)  # the encoder of the published numbers; their shots, place and score
OF_A_PLACE = ("protocols", "data.root")  # what no terms say: the photos of the folder have digests
OF_A_METHOD = (  # what a file of one's own says for its method; all else is as the reference has it
    *("data.size", "data.text", "model.encoder.stem", "model.encoder.output_stride", "model.encoder.learn"),
    *("meta_stage.epochs", "meta_stage.epoch_length", "meta_stage.optimizers", "meta_stage.views"),
)
MOST = 2  # how many times the minutes of another method a training may take; and a minute more
SHARED: list[Term] = [
    ("a table", ("fold",), "training list (VOC's photos, or SBD's too)", lambda row: _training_list(row))
]
SCORES_NOTE = (
    "+-: standard deviation (n - 1) over the trainings with these seeds, and their range. Minus SSP: on the same "
    "episodes, with a 95 % interval over query images and, where there are several, trainings; ~: it contains 0. "
    f"Paper: 1-shot mIoU on PASCAL-5i with {PAPERS}, mean of four folds; ranks: of the methods that have one."
)
COSTS = ("minutes", "MiB", "parameters M (learnt)", "px")
COSTS_NOTE = (
    "Minutes: of the processor, base stage included. MiB: largest memory of a training. Px: side of images and masks."
)


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
        if others := _other_terms(row, overrides):
            raise UserError(f"{row.file}: {NOT_ON_TERMS}: {'; '.join(others)}")
    of_any_side = [Row(row.file, {**row.result, "input_side": None}) for row in rows]  # a config may have another
    check_one_table(of_any_side, SHARED)
    scored = [read_scored(row.file, FINAL) for row in rows]
    _check_minutes(scored)
    ordered = sorted(scored, key=_order)
    return [*chain.from_iterable(map(_of_fold, grouped(ordered, COLUMNS["fold"]).values()))]


def check_terms(config: Config) -> None:
    """Refuse (UserError) a training whose results the table would refuse, whatever minutes it will take."""
    made, run = to_dict(config), str(config.run.name)
    _, others = _terms_and_others(made, run, config.given, title_of(config.model.encoder_name()))
    number = config.protocols[config.test.protocol].number(config.data.fold)
    if config.test.episodes not in (None, number):
        others.append(f"quick look ({config.test.episodes} of {number} episodes)")
    observers = [name for name in config.observers or OBSERVERS if getattr(OBSERVERS[name], "decides", True)]
    others += [f"own observer {name}" for name in observers]
    if others:
        raise UserError(
            f"{config.source}: {NOT_ON_TERMS}: {'; '.join(others)}",
            fix=f"leave these out; a file of your own has base: config/{LEAGUE}/{LEAGUE}.yaml",
        )


def _other_terms(row: Row, overrides: Sequence[str]) -> list[str]:
    """Return in words how a result departs from the league's terms, and why it is not its protocol's number."""
    result = row.result
    stages = {f"{stage['stage']}_stage": stage["settings"] for stage in result["training"]}
    made = to_dict(from_dict({**result["config"], **stages}, str(row.file)))
    terms, others = _terms_and_others(made, result["run"], overrides, result["encoder"])
    is_of_terms = result["protocol_settings"] == terms["protocols"].get(result["protocol"])
    changes = [] if is_of_terms else result.get("protocol_changes", [])
    measured: Result = {**result, "other_seeds": False, "protocol_changes": changes}  # the config names seeds
    marks = {result["weights_mark"]: "", **departures(measured)}
    if result["training"] and not result.get("cost"):
        marks["no processor minutes"] = "on record: train it again"
    return others + [f"{reason} {details}".strip() for reason, details in marks.items() if reason]


def _terms_and_others(
    made: dict[str, Any], run: str, overrides: Sequence[str], encoder: str
) -> tuple[dict[str, Any], list[str]]:
    """Return the config that states a run's terms, and in words what the run's own config has otherwise.

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
    found = differences(terms, made, Decides.SCORES, OF_A_PLACE if names else OF_A_PLACE + OF_A_METHOD)
    others = [f"{key} = {mine}, not {ours}" for key, (ours, mine) in found.items()]
    if encoder != ENCODER:
        others.append(f"encoder {encoder}, not {ENCODER}")
    return terms, others


def _terms_of(run: str, method: str, fold: int) -> tuple[str, ...]:
    """Return the words of the config that states a run's terms in the league; none for a run of one's own."""
    own = run.removesuffix(f"_split{fold}")
    if in_configs(LOCAL / LEAGUE / f"{own}.yaml").exists():
        return own, LEAGUE
    return (f"split{fold}", LEAGUE, method, NET) if run.startswith(f"{LEAGUE}_split") else ()


def _order(each: Compared) -> tuple[float, ...]:
    """Return what results are sorted by: fold, shots and the seed of the training, those without one last."""
    seed = each.training_seed
    return each.result["fold"], each.result["shot"], math.inf if seed is None else seed


def _training_list(row: Row) -> str:
    """Return the beginning of the digest of the list that a result's weights were trained on; '' where none is."""
    return "".join((stage.get("list") or "")[:8] for stage in row.result["training"][-1:])


def _check_minutes(scored: Sequence[Compared]) -> None:
    """Refuse (UserError) methods of which a training took far longer than that of others, on average."""
    minutes = {row: _costs(own, "processor_minutes") for row, own in grouped(scored, attrgetter("name")).items()}
    known = sorted((fmean(of_row), row) for row, of_row in minutes.items() if of_row)
    if known and known[-1][0] > MOST * known[0][0] + 1:
        both = ", ".join(f"{row} {value:.1f}" for value, row in (known[-1], known[0]))
        raise UserError(
            f"processor minutes of a training: {both}: the league has one budget",
            fix=f"write other steps into config/{LEAGUE}, and train again",
        )


def _of_fold(every: Sequence[Compared]) -> list[Table]:
    """Return the tables of a fold: scores, with ranks here and in papers and their correlation; and what they cost."""
    by_shot = grouped(every, COLUMNS["shot"])
    for of_shot in by_shot.values():
        check_episodes(of_shot)
    reference = [each for each in every if each.result["run"].endswith(f"_{REFERENCE}_{NET}")]
    best_first = sorted(grouped(every, attrgetter("name")).values(), key=_miou, reverse=True)
    methods = {own[0].name: own for own in best_first}
    first = every[0]
    in_papers, correlation = _ranks(methods, first)
    scores, costs = [], []
    for row, own in methods.items():
        name = _name(own)
        cells = [_of_shot(shot, own, reference) for shot in by_shot]
        of_shots = chain.from_iterable(of_shot[:2] for of_shot in cells)
        seeds = dict.fromkeys(str(each.training_seed) for each in own if each.training_seed is not None)
        scores.append([name, " ".join(seeds), *of_shots, *in_papers.get(row, ["-"] * 3)])
        costs.append([name, *(seconds for *_, seconds in cells), *_cost_cells(own)])
    of_scores = chain.from_iterable((f"{shot}-shot mIoU", f"{shot}-shot minus SSP") for shot in by_shot)
    of_costs = (f"{shot}-shot s / episode" for shot in by_shot)
    notes = [SCORES_NOTE, *correlation, *_notes_on_own(methods, reference)]
    fold = f"Fold {first.result['fold']} of {first.result['dataset']}"
    above = [f"{fold}, {protocol_title(first.result)}, training list {_training_list(first)}"]
    return [
        Table(["method", "seeds", *of_scores, "paper", "rank", "paper's rank"], scores, above=above, notes=notes),
        Table(["method", *of_costs, *COSTS], costs, above=above, notes=[COSTS_NOTE]),
    ]


def _ranks(methods: Mapping[str, Sequence[Compared]], first: Row) -> tuple[dict[str, list[str]], list[str]]:
    """Return number in papers, rank and rank in papers of rows that have one, and the line on their correlation."""
    import pandas

    quoted = published(first.result["dataset"], [1], first.result["fold_rule"])
    papers = {number.method.removesuffix(f" {PAPERS}"): number.value for number in quoted if number.column == PAPER}
    both = {row: (_miou(own), papers[_name(own)]) for row, own in methods.items() if _name(own) in papers}
    ranks = pandas.DataFrame(both).rank(axis="columns", ascending=False)
    cells = {row: [f"{number:.1f}", *map("{:.0f}".format, ranks[row])] for row, (_, number) in both.items()}
    if len(both) < 2:
        return cells, []
    return cells, [f"Spearman's correlation of the ranks: {ranks.T.corr().iloc[0, 1]:.2f} (n = {len(both)})."]


def _cost_cells(own: Sequence[Compared]) -> list[str]:
    """Return minutes, MiB, parameters and image side of a method."""
    minutes, memory = _costs(own, "processor_minutes"), _costs(own, "peak_mib")
    return [
        f"{fmean(minutes):.1f}" if minutes else "-",
        f"{max(memory):.0f}" if memory else "-",
        own[0].parameters,
        str(own[0].result["input_side"] or "-"),
    ]


def _name(own: Sequence[Compared]) -> str:
    """Return a method's name."""
    first = own[0]
    return first.name.replace(f" {first.result['encoder']}", "").replace(f", {LEAGUE}", "")


def _miou(own: Sequence[Compared]) -> float:
    """Return the mean mIoU of a method with the fewest shots."""
    return fmean(each.result["mean"][FINAL][MIOU] for each in _with_shots(own[0].result["shot"], own))


def _with_shots(shot: int, scored: Sequence[Compared]) -> list[Compared]:
    """Return the results with a number of shots."""
    return [each for each in scored if each.result["shot"] == shot]


def _of_shot(shot: int, own: Sequence[Compared], reference: Sequence[Compared]) -> tuple[str, str, str]:
    """Return a method's mIoU, its difference to the reference with its interval, and the seconds of an episode.

    '-' where there is no result; of the reference there is no difference.
    """
    mine = _with_shots(shot, own)
    if not mine:
        return "-", "-", "-"
    mious = [each.result["mean"][FINAL][MIOU] for each in mine]
    spread = f" +- {stdev(mious):.1f} ({min(mious):.1f} to {max(mious):.1f})" if len(mious) > 1 else ""
    return (
        f"{fmean(mious):.1f}{spread}",
        _minus(mine, _with_shots(shot, reference)),
        f"{fmean(each.seconds for each in mine):.3f}",
    )


def _minus(mine: Sequence[Compared], theirs: Sequence[Compared]) -> str:
    """Return the difference of a method to the reference with its interval; '-' of itself, or without one."""
    if not theirs or mine[0].name == theirs[0].name:
        return "-"
    a, b, low, high = difference(mine, theirs)
    return f"{a - b:+.1f} ({low:+.1f} to {high:+.1f}){'~' if low <= 0 <= high else ''}"


def _costs(own: Sequence[Compared], name: str) -> list[float]:
    """Return what those trainings of a method took that state it."""
    costs = [each.result.get("cost", {}) for each in own]
    return [cost[name] for cost in costs if name in cost]


def _notes_on_own(methods: Mapping[str, Sequence[Compared]], reference: Sequence[Compared]) -> Iterator[str]:
    """Yield a line on each method of one's own beside the reference, with the fewest shots."""
    for own in methods.values():
        first = own[0].result
        if not _terms_of(first["run"], first["method"], first["fold"]):
            mine, apart, _ = _of_shot(first["shot"], own, reference)
            theirs, *_ = _of_shot(first["shot"], reference, reference)
            yield f"{_name(own)}: {mine}, SSP {theirs}, difference {apart}"
