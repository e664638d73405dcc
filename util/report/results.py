"""Results of tests as rows of one frame of pandas, read from their files alone, and their names in words.

pandas is imported where the first frame is made.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.decides import Decides
from util.config.same import deciding
from util.data.lists.manifest import counts_of, read_manifest
from util.evaluate.schema import MANIFEST, NOT_STATED, SCORED_ON, Result, read_results
from util.evaluate.titles import departures, protocol_title, seen_text, track_text
from util.files.errors import UserError, check_known
from util.loop.mask_metrics import METRICS, ScoreFacts
from util.loop.metrics import BASE, MIOU, per_class

if TYPE_CHECKING:
    from pandas import DataFrame

FB_IOU, SECONDS = "fb_iou", "seconds"  # of a test's time for an episode
SCORES = {
    MIOU: ScoreFacts(title="mIoU", unit="%", scale=100.0, smaller_is_better=False),
    FB_IOU: ScoreFacts(title="FB-IoU", unit="%", scale=100.0, smaller_is_better=False),
    SECONDS: ScoreFacts(title="s / episode", unit="", scale=1.0, smaller_is_better=True),
}
DEVIATION = "standard deviation (of a sample, n - 1)"
SCORE_COLUMNS = ["file", "seed", "output", "class", "score", "value", "title", "unit", "smaller_is_better"]
AS_THEY_ARE = [
    *("method", "encoder", "dataset", "fold", "shot", "protocol", "precision", "episodes", "device", "run"),
    *("list", "content", "whole_list", "whole_content"),
    *("folds", "fold_rule", "input", "input_side", "min_pixels", "quick_look", "other_seeds"),
]
SHARED_COLUMNS = [*AS_THEY_ARE, "row", "place", "training_seed", "draw", "mark", "seeds", "weights", "date", "commit"]
TRAINING_FREE = "training-free"  # the checkpoint of a method that learns nothing
FOLD_SETTINGS = ("list_file", "fold")  # settings that may differ between folds of a mean


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
    return frame_of(read_results([Path(path) for path in paths], protocols))


def frame_of(by_file: dict[Path, Result]) -> DataFrame:
    """Return the frame of ``results``."""
    import pandas

    rows = list[tuple]()
    for path, result in by_file.items():
        for seed, outputs in zip(result["seeds"], result["per_seed"], strict=True):
            rows += [(str(path), seed, *score) for score in _scores(result, outputs)]
    scores = pandas.DataFrame(rows, columns=SCORE_COLUMNS).astype({"smaller_is_better": object})
    return scores.merge(facts_of(by_file)[SHARED_COLUMNS], left_on="file", right_index=True)


def overall_scores(by_file: dict[Path, Result], output: str) -> DataFrame:
    """Return the rows of the frame of all classes together, of one output; UserError: a result lacks it."""
    for path, result in by_file.items():
        check_known(output, result["mean"], f"{path}: has no output '{output}'")
    scores = frame_of(by_file)
    return scores[(scores["output"] == output) & (scores["class"] == "") & scores["value"].notna()]


def _scores(result: Result, of_seed: dict[str, Any]) -> Iterator[tuple]:
    """Yield the scores of one seed, in the columns from ``output`` on; NaN: nothing was counted of a further metric."""
    names = result["novel"]
    for output, scores in of_seed.items():
        for score, facts in scores_of(result).items():
            is_known = score in result["mean"][output] or (score in result.get("metrics", {}) and output != BASE)
            if not is_known:
                continue
            about = facts["title"], facts["unit"], facts["smaller_is_better"]
            yield output, "", score, scores.get(score, math.nan), *about
            of_classes = {} if output == BASE else scores.get(per_class(score), {})
            uncounted = dict.fromkeys(scores[per_class(MIOU)], math.nan) if of_classes else {}
            for class_id, value in {**uncounted, **of_classes}.items():
                yield output, names.get(class_id, class_id), score, value, *about


def scores_of(*results: Result) -> dict[str, ScoreFacts]:
    """Return what is known of scores by their names, in their order; a result says it of its own further metrics."""
    known = SCORES | {name: metric.facts for name, metric in METRICS.items()}
    for result in results:
        known |= result.get("metrics", {})
    return known


def facts_of(by_file: dict[Path, Result]) -> DataFrame:
    """Return a row for each result, by its file: the columns that its scores share, and what tables ask of it."""
    import pandas

    files = pandas.Index(map(str, by_file), name="file")
    rows = [_facts(result) for result in by_file.values()]
    return pandas.DataFrame(rows, files).astype({"training_seed": "Int64", "minutes": float})


def _facts(result: Result) -> dict[str, Any]:
    """Return the columns of a result; settings that have to agree are texts."""
    as_they_are = {name: result.get(name) for name in AS_THEY_ARE}
    return {**as_they_are, **_names_of(result), **_how_scored(result), **_how_trained(result)}


def _names_of(result: Result) -> dict[str, Any]:
    """Return the columns that tell a result from others."""
    return {
        "row": row_name(result),
        "place": result["dataset"] if result["folds"] == 1 else f"fold {result['fold']}",
        "training_seed": training_seed(result),
        "draw": result["protocol_settings"].get("draw", "own"),
        "mark": _mark(result),
        "seeds": " ".join(map(str, result["seeds"])),
        "weights": result["weights"][:12],
        "date": result["date"][:10],
        "commit": str(result["environment"].get("commit", ""))[:8],
    }


def _how_scored(result: Result) -> dict[str, Any]:
    """Return the columns on the protocol and the metrics that a result was scored by, and on the time it took."""
    seconds = 60 * result["minutes"] * result["processes"]  # summed over processes
    protocol = _without(result["protocol_settings"], "list_file", "side")
    of_metrics = {f"metric {name}": _text({**facts}) for name, facts in result.get("metrics", {}).items()}
    return of_metrics | {
        "is_replay": result["replayed"] is not None,
        "scored on": SCORED_ON[result["scored_on"]],
        "title": protocol_title(result),
        "protocol_settings": _text(protocol),
        "fold_classes": str(result["config"]["data"].get("fold_classes")),
        "tested": result["precision"],
        "seconds": seconds / (result["episodes"] * len(result["seeds"])),  # an episode
    }


def _how_trained(result: Result) -> dict[str, Any]:
    """Return the columns on a method, its weights and how they were trained."""
    return {
        "track": result["track"],
        "track_text": track_text({result["shot"]: result["track"]}),
        "departures": [*departures(result)],
        "trained": trained_precision(result) or NOT_STATED,
        "stages": stages_text(result),
        "settings": _text(_settings_of(result)),
        "code": _text(result["code"]),
        "vectors": result.get("vectors") or "",
        "training_list": "".join((stage.get("list") or "")[:8] for stage in result["training"][-1:]),
        "minutes": result.get("cost", {}).get("processor_minutes", math.nan),
        "mib": result.get("cost", {}).get("peak_mib", math.nan),
        "parameters": f"{_millions(result['parameters'])} ({_millions(result['learnt_parameters'])})",
    }


def differences(facts: DataFrame, names: Mapping[str, str]) -> dict[str, str]:
    """Return in which columns of facts results differ, by the columns' names in words, with the values that they have.

    What a result does not know (None, '') is no difference.
    """
    found = {}
    for column, name in names.items():
        known = facts[column].replace("", None).dropna().unique()
        if len(known) > 1:
            found[name] = "; ".join(map(str, known))
    return found


def _text(values: dict[str, Any] | None) -> str:
    """Return values as a text that equal ones share; '' for none."""
    return json.dumps(values, sort_keys=True, default=str) if values else ""


def _without(settings: dict[str, Any], *keys: str) -> dict[str, Any]:
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
        "stages": [(each["batch"], each["size"], _without(each["settings"], *FOLD_SETTINGS)) for each in stages],
        "training lists": _list_settings(result["trained_with"] or {}),
        "test lists": _list_settings(test_data),
        "model": deciding(result["config"], Decides.WEIGHTS)["model"],
        "fixed weights": result["weights"] if result["checkpoint"] == TRAINING_FREE else "",
    }


def _list_settings(data: dict[str, Any]) -> dict[str, Any]:
    """Return data settings that decide lists, without what names the fold."""
    fold = rf"(?<!\d){data.get('fold')}(?!\d)"
    deciding_lists = deciding({"data": data}, Decides.SCORES)["data"]
    settings = _without(deciding_lists, *FOLD_SETTINGS, "root", "shot", "model", "precision")
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
    weights = result["weights_mark"]
    if weights == "foreign":  # of which there may be many
        weights += f" {result['checkpoint']}"
    return "; ".join(filter(None, [weights, *departures(result)]))


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


def how_made(path: Path, result: Result) -> str:
    """Return the line that says how a measured number was made, and of which photos its weights learnt."""
    r = result
    seeds = ", ".join(map(str, r["seeds"]))
    what = f"{row_name(r)}, {r['shot']}-shot, {r['dataset']} fold {r['fold']}: {r['episodes']} episodes, seeds {seeds}"
    made = f"list {r['list'][:8]} of {r['list_images']}, weights {r['weights'][:8]}, {r['date'][:10]}, {r['device']}"
    seed = training_seed(r)
    training = [stages_text(r), "" if seed is None else f"seed {seed}", trained_precision(r)]
    trained = f"trained: {', '.join(filter(None, training))}" if r["training"] else ""
    encoder = {**r["config"], **(r["trained_with"] or {})}["model"].get("encoder", {})
    start = f"encoder's weights {encoder['weights'] or 'random'}, stem {encoder['stem']}" if "stem" in encoder else ""
    words = [what, r["input"], trained, start, f"tested in {r['precision']}", made, seen_text(r)]
    return f"{'; '.join(filter(None, words))}: {path}"


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
