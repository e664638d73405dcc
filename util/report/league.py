"""The league: methods on the equal terms of ``config/laptop``, over their trainings, beside a reference and papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.decides import Decides
from model.encoders.registry import title_of
from util.config.compose import find_config
from util.config.folder import LOCAL, in_configs
from util.config.read import from_dict, read_config, to_dict
from util.config.same import differences
from util.config.settings import Config
from util.config.tree import key_of
from util.evaluate.schema import Result, read_results
from util.evaluate.titles import departures
from util.files.errors import UserError
from util.files.table import Table
from util.loop.metrics import FINAL, MIOU
from util.loop.observers import OBSERVERS
from util.report.compare import check_episodes, difference, read_scored
from util.report.one_table import check_one_table
from util.report.published import MEAN, published
from util.report.results import facts_of

if TYPE_CHECKING:
    from pandas import DataFrame

LEAGUE, NET, ENCODER = "laptop", "lite0", "EfficientNet-Lite0"  # the place of its terms, and the encoder of all
REFERENCE = "ssp"  # the method that others are compared with
NOT_ON_TERMS = f"is not on the terms of config/{LEAGUE}"
PAPERS = "ResNet-50"  # the encoder of the published numbers
OF_A_PLACE = ("protocols", "data.root")  # what no terms say: the photos of the folder have digests
OF_A_METHOD = (  # what a file of one's own says for its method; all else is as the reference has it
    *("data.size", "data.text", "model.encoder.stem", "model.encoder.output_stride", "model.encoder.learn"),
    *("meta_stage.epochs", "meta_stage.epoch_length", "meta_stage.optimizers", "meta_stage.views"),
)
MOST = 2  # how many times the minutes of another method a training may take; and a minute more
SHARED = [("a table", ["fold"], "training_list", "training list (VOC's photos, or SBD's too)")]
FORMS = {"minutes": "{:.1f}", "MiB": "{:.0f}", "paper": "{:.1f}", "rank": "{:.0f}", "paper's rank": "{:.0f}"}
COSTS = ("s / episode", "minutes", "MiB", "parameters M (learnt)", "px")  # how columns of the second table end
SCORES_NOTE = (
    "+-: standard deviation (n - 1) over the trainings with these seeds, and their range. Minus SSP: on the same "
    "episodes, with a 95 % interval over query images and, where there are several, trainings; ~: it contains 0. "
    f"Paper: 1-shot mIoU on PASCAL-5i with {PAPERS}, mean of four folds; ranks: of the methods that have one."
)
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
    by_file = read_results(paths, protocols)
    for path, result in by_file.items():
        if others := _other_terms(path, result, overrides):
            raise UserError(f"{path}: {NOT_ON_TERMS}: {'; '.join(others)}")
    facts = facts_of(by_file)
    facts["miou"] = [result["mean"][FINAL][MIOU] for result in by_file.values()]
    facts["scored"] = [read_scored(path, FINAL) for path in by_file]
    check_one_table(facts.assign(input_side=None), SHARED)  # a config may have another side
    _check_minutes(facts)
    return [
        part for _, every in facts.groupby("fold") for part in _of_fold(every.sort_values(["shot", "training_seed"]))
    ]


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


def _check_minutes(facts: DataFrame) -> None:
    """Refuse (UserError) methods of which a training took far longer than that of others, on average."""
    minutes = facts.groupby("row")["minutes"].mean().dropna()
    if minutes.max() > MOST * minutes.min() + 1:
        most, least = (f"{row} {minutes[row]:.1f}" for row in (minutes.idxmax(), minutes.idxmin()))
        raise UserError(
            f"processor minutes of a training: {most}, {least}: the league has one budget",
            fix=f"write other steps into config/{LEAGUE}, and train again",
        )


def _of_fold(facts: DataFrame) -> list[Table]:
    """Return the tables of a fold: scores, with ranks here and in papers and their correlation; and what they cost."""
    import pandas

    for _, every in facts.groupby("shot"):
        check_episodes(every["scored"].tolist())
    reference = facts[facts["run"].str.endswith(f"_{REFERENCE}_{NET}")]
    rows = [_line(own, reference) for _, own in facts.groupby("row")]
    lines = pandas.DataFrame(rows).sort_values(MIOU, ascending=False)
    first = facts.iloc[0]
    papers = {
        number["method"]: number["value"]
        for number in published(first["dataset"], [1], first["fold_rule"])
        if (number["place"], number["score"]) == (MEAN, MIOU)
    }
    lines["paper"] = (lines["method"] + f" {PAPERS}").map(papers)
    ranks = lines.dropna(subset="paper")[[MIOU, "paper"]].rank(ascending=False)
    lines[["rank", "paper's rank"]] = ranks
    for column, form in FORMS.items():
        lines[column] = lines[column].map(form.format, na_action="ignore")
    cells = lines.drop(columns=MIOU).fillna("-").astype(str)
    correlation = f"Spearman's correlation of the ranks: {ranks.corr().iloc[0, 1]:.2f} (n = {len(ranks)})."
    above = [f"Fold {first['fold']} of {first['dataset']}, {first['title']}, training list {first['training_list']}"]
    costs = cells[["method", *(column for end in COSTS for column in cells if column.endswith(end))]]
    scores = cells.drop(columns=[*costs][1:])
    notes = [SCORES_NOTE, *([correlation] if len(ranks) > 1 else []), *_notes_on_own(facts, reference)]
    return [
        Table([*scores], scores.values.tolist(), above=above, notes=notes),
        Table([*costs], costs.values.tolist(), above=above, notes=[COSTS_NOTE]),
    ]


def _notes_on_own(facts: DataFrame, reference: DataFrame) -> Iterator[str]:
    """Yield a line on each method of one's own beside the reference, with the fewest shots."""
    is_own = [not _terms_of(*run) for run in zip(facts["run"], facts["method"], facts["fold"])]
    for _, own in facts[is_own].groupby("row"):
        shot = own["shot"].min()
        mine, theirs = (_line(each[each["shot"] == shot], reference) for each in (own, reference))
        score, apart = f"{shot}-shot mIoU", f"{shot}-shot minus SSP"
        yield f"{mine['method']}: {mine[score]}, {theirs['method']} {theirs[score]}, difference {mine[apart]}"


def _line(own: DataFrame, reference: DataFrame) -> dict[str, Any]:
    """Return the cells of a method's row, and its mIoU with the fewest shots."""
    first = own.iloc[0]
    line = {
        "method": first["row"].replace(f" {first['encoder']}", "").replace(f", {LEAGUE}", ""),
        MIOU: own.loc[own["shot"] == first["shot"], "miou"].mean(),
        "seeds": " ".join(map(str, own["training_seed"].dropna().unique())),
    }
    for shot, every in own.groupby("shot"):
        mious = every["miou"]
        spread = f" +- {mious.std():.1f} ({mious.min():.1f} to {mious.max():.1f})" if len(mious) > 1 else ""
        line[f"{shot}-shot mIoU"] = f"{mious.mean():.1f}{spread}"
        line[f"{shot}-shot minus SSP"] = _minus(every, reference[reference["shot"] == shot])
        line[f"{shot}-shot s / episode"] = f"{every['seconds'].mean():.3f}"
    return line | {
        "minutes": own["minutes"].mean(),
        "MiB": own["mib"].max(),
        "parameters M (learnt)": first["parameters"],
        "px": first["input_side"],
    }


def _minus(own: DataFrame, reference: DataFrame) -> str:
    """Return the difference of a method to the reference with its interval; '-' of itself, or without one."""
    if reference.empty or own["row"].iloc[0] == reference["row"].iloc[0]:
        return "-"
    a, b, low, high = difference(*([each.sums for each in side["scored"]] for side in (own, reference)))
    return f"{a - b:+.1f} ({low:+.1f} to {high:+.1f}){'~' if low <= 0 <= high else ''}"
