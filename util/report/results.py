"""Results of tests as rows, read from their files alone; the frame of their scores, and their names in words.

pandas is imported where the first frame is made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from model.decides import Decides
from util.config.same import deciding
from util.data.draws import OWN
from util.data.lists.manifest import counts_of, read_manifest
from util.evaluate.schema import MANIFEST, Result, read_results
from util.evaluate.titles import departures, protocol_title, seen_text
from util.files.errors import UserError, check_known
from util.loop.mask_metrics import METRICS, ScoreFacts
from util.loop.metrics import BASE, MIOU, per_class

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")
FB_IOU, SECONDS = "fb_iou", "seconds"  # of a test's time for an episode
SCORES = {
    MIOU: ScoreFacts(title="mIoU", unit="%", scale=100.0, smaller_is_better=False),
    FB_IOU: ScoreFacts(title="FB-IoU", unit="%", scale=100.0, smaller_is_better=False),
    SECONDS: ScoreFacts(title="s / episode", unit="", scale=1.0, smaller_is_better=True),
}
DEVIATION = "standard deviation (of a sample, n - 1)"
TRAINING_FREE = "training-free"  # the checkpoint of a method that learns nothing
FOLD_SETTINGS = ("list_file", "fold")  # settings that may differ between folds of a mean


@dataclass(frozen=True)
class Row:
    """A result as tables, comparisons and the frame read it; settings that have to agree are texts."""

    file: Path
    result: Result
    row: str  # its name in tables
    method: str
    encoder: str  # '' without one
    dataset: str
    fold: int
    folds: int
    fold_rule: str
    place: str  # its column: the fold, or the data set without folds
    shot: int
    protocol: str  # name of the entry
    title: str  # of the protocol, with folds, list and draw
    run: str
    training_seed: int | None  # None: no training
    seeds: str  # of the test
    precision: str  # of the test
    input_side: int | None  # pixels; None: original sizes
    list: str  # digest of the test list
    content: str  # digest of its photos and masks
    code: str  # digests
    settings: str  # of training and test
    parameters: str  # in millions, and those learnt
    seconds: float  # of an episode, summed over processes


# Columns of the frame of ``results``: of scores, and of results; lists and contents are digests
SCORE_COLUMNS = ("file", "seed", "output", "class", "score", "value", "title", "unit", "smaller_is_better")
COLUMNS: dict[str, Callable[[Row], Any]] = {
    "method": lambda row: row.method,
    "encoder": lambda row: row.encoder,
    "dataset": lambda row: row.dataset,
    "fold": lambda row: row.fold,
    "shot": lambda row: row.shot,
    "protocol": lambda row: row.protocol,
    "precision": lambda row: row.precision,
    "episodes": lambda row: row.result["episodes"],
    "device": lambda row: row.result["device"],
    "run": lambda row: row.run,
    "list": lambda row: row.list,
    "content": lambda row: row.content,
    "whole_list": lambda row: row.result["whole_list"],
    "whole_content": lambda row: row.result["whole_content"],
    "folds": lambda row: row.folds,
    "fold_rule": lambda row: row.fold_rule,
    "input": lambda row: row.result["input"],
    "input_side": lambda row: row.input_side,
    "min_pixels": lambda row: row.result["min_pixels"],
    "quick_look": lambda row: row.result["quick_look"],
    "other_seeds": lambda row: row.result["other_seeds"],
    "row": lambda row: row.row,
    "place": lambda row: row.place,
    "training_seed": lambda row: row.training_seed,
    "draw": lambda row: row.result["protocol_settings"].get("draw", OWN),
    "mark": lambda row: _mark(row.result),
    "seeds": lambda row: row.seeds,
    "weights": lambda row: row.result["weights"][:12],
    "date": lambda row: row.result["date"][:10],
    "commit": lambda row: str(row.result["environment"].get("commit", ""))[:8],
}


def results(paths: Sequence[Path | str], protocols: Sequence[str] = ()) -> DataFrame:
    """Return every score of the results below some paths, a row for each result, seed, output, class and score.

    ``value`` is in ``unit``; ``smaller_is_better`` is the direction.
    ``class`` is empty in rows of all classes together; with a class the score ``miou`` is its IoU. ``output`` is
    ``final`` for the prediction, ``seed`` that of the test, ``training_seed`` that of the training, ``row`` the
    result's name in tables, ``file`` the result's. ``list``, ``content`` and those of the whole test list are digests.
    Further columns are those of ``report.py table --rows results``.

    Args:
        paths: result files, or folders.
        protocols: only results of these; none: all.

    Raises:
        UserError: there is no result, or none of a protocol.
    """
    return frame_of(rows_of(paths, protocols))


def frame_of(rows: Sequence[Row]) -> DataFrame:
    """Return the frame of ``results``."""
    import pandas

    lines = list[tuple]()
    for row in rows:
        known, of_result = scores_of(row.result), [value(row) for value in COLUMNS.values()]
        for *which, name, value in scores_in(row.result):
            about = known[name]["title"], known[name]["unit"], known[name]["smaller_is_better"]
            lines.append((str(row.file), *which, name, value, *about, *of_result))
    frame = pandas.DataFrame(lines, columns=[*SCORE_COLUMNS, *COLUMNS])
    return frame.astype({"smaller_is_better": object, "training_seed": "Int64"})


def rows_of(paths: Sequence[Path | str], protocols: Sequence[str] = ()) -> list[Row]:
    """Return the rows of the results below some paths; arguments and UserError as ``results``."""
    by_file = read_results([Path(path) for path in paths], protocols)
    return [row_of(path, result) for path, result in by_file.items()]


def row_of(file: Path, result: Result) -> Row:
    """Return the row of a result."""
    seconds = 60 * result["minutes"] * result["processes"]
    return Row(
        file=file,
        result=result,
        row=row_name(result),
        method=result["method"],
        encoder=result["encoder"],
        dataset=result["dataset"],
        fold=result["fold"],
        folds=result["folds"],
        fold_rule=result["fold_rule"],
        place=result["dataset"] if result["folds"] == 1 else f"fold {result['fold']}",
        shot=result["shot"],
        protocol=result["protocol"],
        title=protocol_title(result),
        run=result["run"],
        training_seed=training_seed(result),
        seeds=" ".join(map(str, result["seeds"])),
        precision=result["precision"],
        input_side=result["input_side"],
        list=result["list"],
        content=result["content"],
        code=text_of(result["code"]),
        settings=text_of(_settings_of(result)),
        parameters=f"{_millions(result['parameters'])} ({_millions(result['learnt_parameters'])})",
        seconds=seconds / (result["episodes"] * len(result["seeds"])),
    )


def scores_in(result: Result) -> Iterator[tuple[int, str, str, str, float]]:
    """Yield seed, output, class ('': all together), name and value of each score of a result.

    The value is NaN where nothing was counted of a further metric.
    """
    further = result.get("metrics", {})
    for seed, outputs in zip(result["seeds"], result["per_seed"], strict=True):
        for output, name in product(outputs, scores_of(result)):
            if name in result["mean"][output] or (name in further and output != BASE):
                for class_name, value in _values_of(result, output, outputs[output], name):
                    yield seed, output, class_name, name, value


def _values_of(result: Result, output: str, scores: dict[str, Any], name: str) -> Iterator[tuple[str, float]]:
    """Yield a score of all classes together ('') and of each, with the names of these."""
    yield "", scores.get(name, math.nan)
    of_classes = {} if output == BASE else scores.get(per_class(name), {})
    uncounted = dict.fromkeys(scores[per_class(MIOU)], math.nan) if of_classes else {}
    for class_id, value in {**uncounted, **of_classes}.items():
        yield result["novel"].get(class_id, class_id), value


def overall_scores(row: Row, output: str) -> list[tuple[int, str, float]]:
    """Return seed, name and value of each score of all classes together; UserError: the result lacks the output."""
    check_known(output, row.result["mean"], f"{row.file}: has no output '{output}'")
    scores = ((seed, name, value) for seed, *which, name, value in scores_in(row.result) if which == [output, ""])
    return [score for score in scores if not math.isnan(score[-1])]


def scores_of(*results: Result) -> dict[str, ScoreFacts]:
    """Return what is known of scores by their names, in their order; a result says it of its own further metrics."""
    known = SCORES | {name: metric.facts for name, metric in METRICS.items()}
    for result in results:
        known |= result.get("metrics", {})
    return known


def grouped(things: Iterable[T], *names: str) -> dict[tuple, list[T]]:
    """Return things by the values of some of their fields (``row.fold``: of the row of a thing), in order."""
    groups: dict[tuple, list[T]] = {}
    for thing in things:
        groups.setdefault(tuple(attrgetter(name)(thing) for name in names), []).append(thing)
    return groups


def by_value(things: Iterable[T], fact: Callable[[T], Any]) -> dict[Any, T]:
    """Return the first thing of each value of a fact; None and '' are not known, and no values."""
    values: dict[Any, T] = {}
    for thing in things:
        values.setdefault(fact(thing), thing)
    return {value: thing for value, thing in values.items() if value not in (None, "")}


def differences(things: Sequence[T], facts: Mapping[str, Callable[[T], Any]]) -> dict[str, str]:
    """Return in which of some facts rows, or what holds these, differ, by names in words, with the values."""
    found = {name: by_value(things, fact) for name, fact in facts.items()}
    return {name: "; ".join(map(str, values)) for name, values in found.items() if len(values) > 1}


def text_of(values: Mapping[str, Any] | None) -> str:
    """Return values as a text that equal ones share; '' for none."""
    return json.dumps(values, sort_keys=True, default=str) if values else ""


def without(settings: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return settings but for some."""
    return {key: value for key, value in settings.items() if key not in keys}


def _millions(count: int) -> str:
    """Return a number in millions: tenths, or two digits of a small one."""
    return f"{count / 1e6:.2g}" if count < 1e5 else f"{count / 1e6:.1f}"


def _settings_of(result: Result) -> dict[str, Any]:
    """Return how a result was trained and tested, but for precision, fold, seeds and the start of the encoder."""
    stages = result["training"]
    test_data = result["config"]["data"] if result["folds"] > 1 else {}  # without folds each has a list of its own
    return {
        "size": result["size"],
        "text": result["text"],
        "input": result["input"],
        "stages": [(each["batch"], each["size"], without(each["settings"], *FOLD_SETTINGS)) for each in stages],
        "training lists": _list_settings(result["trained_with"] or {}),
        "test lists": _list_settings(test_data),
        "model": deciding(result["config"], Decides.WEIGHTS)["model"],
        "fixed weights": result["weights"] if result["checkpoint"] == TRAINING_FREE else "",
    }


def _list_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Return data settings that decide lists, without what names the fold."""
    fold = rf"(?<!\d){data.get('fold')}(?!\d)"
    deciding_lists = deciding({"data": data}, Decides.SCORES)["data"]
    settings = without(deciding_lists, *FOLD_SETTINGS, "root", "shot", "model", "precision")
    return {key: re.sub(fold, "{fold}", value) if isinstance(value, str) else value for key, value in settings.items()}


def counts(path: Path, output: str) -> DataFrame:
    """Return the counts of a result's episodes, a row for each class of each: seed, number, query, class, pixels.

    UserError: the manifest beside the result is missing or damaged, or lacks the output.
    """
    import pandas

    rows = list[tuple]()
    place = path.with_name(MANIFEST)
    manifest = read_manifest(place)
    for line, episode in zip(manifest.lines, manifest.episodes, strict=True):
        check_known(output, episode.get("outputs", {}), f"{place}:{line}: has no output '{output}'")
        about = episode["seed"], episode.get("number"), episode["query"]
        rows += [(*about, *way) for way in counts_of(episode, output)]
    return pandas.DataFrame(rows, columns=["seed", "number", "query", "class", "intersection", "union"])


def episodes_by_seed(path: Path, result: Result) -> list[list[dict[str, Any]]]:
    """Return the episodes beside a result as its manifest has them, a list for each of its seeds.

    UserError: the manifest is missing or damaged, or has other seeds than the result.
    """
    episodes = read_manifest(path.with_name(MANIFEST)).episodes
    seeds = sorted({row["seed"] for row in episodes})
    if seeds != sorted(result["seeds"]):
        raise UserError(f"{path}: seeds {result['seeds']}, its {MANIFEST} has episodes of {seeds}")
    return [[row for row in episodes if row["seed"] == seed] for seed in result["seeds"]]


def _mark(result: Result) -> str:
    """Return what distinguishes a result from its protocol's number by its run's best weights; '' for that."""
    source = result["checkpoint"] if result["weights_mark"] == "foreign" else ""  # of which there may be many
    return "; ".join(filter(None, [f"{result['weights_mark']} {source}".strip(), *departures(result)]))


def training_seed(result: Result) -> int | None:
    """Return the seed of the training of a result's weights; None without one."""
    return result["training"][-1].get("seed") if result["training"] else None


def row_name(result: Result) -> str:
    """Return the row's name: method, encoder, other words of the run's name, weights unless the best."""
    method = f"{result['method']} {result['encoder']}".strip()
    name = ", ".join(filter(None, [method, _further_words(result)]))
    weights = _weights_text(result)
    return f"{name} ({weights})" if weights else name


def _further_words(result: Result) -> str:
    """Return the words of a run's name that are not its data set, method, encoder, fold or seed."""
    backbone = str(result["backbone"])
    forms = backbone, backbone.replace("/", "-"), backbone.replace("/", "--")  # in names of runs
    known = re.split("[_/]", "_".join((result["dataset"], result["model"], *forms)))
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


def how_made(row: Row) -> str:
    """Return the line that says how a measured number was made, and of which photos its weights learnt."""
    result = row.result
    what = f"{row.row}, {row.shot}-shot, {row.dataset} fold {row.fold}: {result['episodes']} episodes"
    seeds = f"seeds {', '.join(map(str, result['seeds']))}"
    made = f"list {row.list[:8]} of {result['list_images']}, weights {result['weights'][:8]}, {result['date'][:10]}"
    seed = "" if row.training_seed is None else f"seed {row.training_seed}"
    training = ", ".join(filter(None, [stages_text(result), seed, trained_precision(result)]))
    trained = f"trained: {training}" if result["training"] else ""
    encoder = {**result["config"], **(result["trained_with"] or {})}["model"].get("encoder", {})
    start = f"encoder's weights {encoder['weights'] or 'random'}, stem {encoder['stem']}" if "stem" in encoder else ""
    tested = f"tested in {row.precision}", f"{made}, {result['device']}", seen_text(result)
    return f"{'; '.join(filter(None, [f'{what}, {seeds}', result['input'], trained, start, *tested]))}: {row.file}"


def stages_text(result: Result) -> str:
    """Return steps, batch and photos of each stage that trained a result's weights, in words; '' if none is known.

    Of a training that is not finished the steps that it did, and those that were planned.
    """
    texts = []
    for stage in result["training"]:
        done = stage.get("step", stage["steps"])
        is_whole = done == stage["steps"] or (result.get("finished", True) and not stage.get("ended_by"))
        steps = stage["steps"] if is_whole else f"{done} of {stage['steps']}"
        note = f" ({stage['list_note']})" if stage.get("list_note") else ""
        photos = f" on {stage['images']} photos{note}" if "images" in stage else ""
        texts.append(f"{stage['stage']} stage {steps} steps with batch {stage['batch']}{photos}")
    return ", ".join(texts)


def trained_precision(result: Result) -> str:
    """Return in which precision the weights of a result were trained, of all stages; '' if nothing says it."""
    of_stages = [stage.get("computed_in") or [stage.get("precision")] for stage in result["training"]]
    return " and ".join(dict.fromkeys(filter(None, chain.from_iterable(of_stages))))
